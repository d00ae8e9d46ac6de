"""A fresh transformer starts as DiT's does."""

import torch

from raydd.models.diffusion import create_transformer


def test_a_fresh_transformer_predicts_nothing_and_hears_the_timestep_before_the_class():
    torch.manual_seed(0)
    network = create_transformer(3, 16, 10, 2, 2, 32, 4).eval()
    noisy, times = torch.randn(8, 3, 16, 16), torch.arange(8) * 100
    classes = torch.arange(8)
    with torch.no_grad():
        assert not network(noisy, times, classes, return_dict=False)[0].any()
        embed = network.transformer_blocks[0].norm1.emb
        by_time = embed(times, classes * 0, hidden_dtype=torch.float32).std(0).mean()
        by_class = embed(times * 0, classes, hidden_dtype=torch.float32).std(0).mean()
    assert by_time > 5 * by_class
