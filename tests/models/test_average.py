"""The running average is torch's, without its copies to the device."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from raydd.models.average import running_average


def test_weights_and_statistics_equal_torchs_average():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    ours = running_average(network, 0.9)
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(4):
        network(torch.randn(2, 3, 5, 5))
        with torch.no_grad():
            network[0].weight.add_(torch.randn_like(network[0].weight))
        ours.update_parameters(network)
        theirs.update_parameters(network)
    expected = theirs.state_dict()
    assert list(ours.state_dict()) == list(expected)  # a training of an older version goes on
    for name, value in ours.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, expected[name]), name
    assert ours.n_averaged == 4


def test_a_decay_of_zero_averages_nothing():
    assert running_average(nn.Linear(1, 1), 0.0) is None
