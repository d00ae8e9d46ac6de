"""The virtual device refuses what CUDA refuses, and counts what makes the host wait."""

import pytest
import torch
from torch import nn

from device.virtual import DEVICE, MixedDevices, per_step, virtual


@pytest.fixture
def there():
    with virtual() as counts:
        values = torch.arange(12.0).view(3, 4).to(DEVICE)
        counts.copies.clear()
        yield values, counts


SEEDED = {
    "a sum": lambda x: x + torch.ones(4),
    "a product of matrices": lambda x: x @ torch.ones(4, 2),
    "a layer that stayed behind": lambda x: nn.Linear(4, 2)(x),
    "a norm that stayed behind": lambda x: nn.BatchNorm1d(4)(x),
    "labels of the host": lambda x: nn.functional.cross_entropy(x, torch.arange(3)),
    "joining": lambda x: torch.cat([x, torch.ones(1, 4)]),
    "an index of the device into the host": lambda x: torch.ones(12)[x.long().flatten()],
    "values written": lambda x: x.index_put((torch.arange(1).to(DEVICE),), torch.ones(1, 4)),
    "a mask": lambda x: torch.where(torch.ones(4, dtype=torch.bool), x, 0.0),
    "numpy": lambda x: x.numpy(),
}


@pytest.mark.parametrize("name", SEEDED)
def test_host_and_device_do_not_mix(name, there):
    with pytest.raises((MixedDevices, TypeError)):
        SEEDED[name](there[0])


COPIES = {
    "to": lambda x: torch.ones(3).to(DEVICE),
    "a tensor of numbers": lambda x: torch.tensor([1.0, 2.0], device=DEVICE),
    "an index of the host": lambda x: x[torch.tensor([0, 2])],
    "copy_": lambda x: x.copy_(torch.zeros(3, 4)),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_counted(name, there):
    values, counts = there
    COPIES[name](values)
    assert counts.copies.total() == 1
    assert not counts.reads


READS = {
    "cpu": lambda x: x.cpu(),
    "float": lambda x: float(x.sum()),
    "a condition": lambda x: bool((x > 1).any()),
    "tolist": lambda x: x.tolist(),
    "unique": lambda x: x.unique(),
    "a mask as index": lambda x: x[x > 3],
    "nonzero": lambda x: x.nonzero(),
    "eigenvalues": lambda x: torch.linalg.eigvalsh(x.T @ x),
    "equal": lambda x: torch.equal(x, x),
}


@pytest.mark.parametrize("name", READS)
def test_a_read_is_counted(name, there):
    values, counts = there
    READS[name](values)
    assert counts.reads.total() == 1
    assert not counts.copies


def test_numbers_in_python_and_what_is_made_there_are_free(there):
    values, counts = there
    made = torch.full((3, 4), 2.0, device=DEVICE)
    result = (values * 3 + made).view(2, 6)[:, 1:]
    assert not counts.copies
    assert not counts.reads
    assert counts.launches == {"full": 1, "mul": 1, "add": 1}
    assert torch.equal(result.cpu(), torch.arange(12.0).view(2, 6)[:, 1:] * 3 + 2)


def test_gradients_and_changes_in_place_are_those_of_the_cpu(there):
    values, _ = there
    leaf = values.requires_grad_(True)
    (slope,) = torch.autograd.grad((leaf**2).sum(), leaf)
    with torch.no_grad():
        leaf -= slope
    assert torch.equal(leaf.detach().cpu(), -torch.arange(12.0).view(3, 4))


def test_a_step_is_a_long_run_less_a_short_one():
    def run(steps):
        values = torch.ones(2).to(DEVICE)  # paid once
        for _ in range(steps):
            values = values * 2 + torch.tensor([1.0, 2.0], device=DEVICE)

        return values.tolist()

    step, result = per_step(run, 1, 3)
    assert step.copies.total() == 1
    assert step.launches == {"mul": 1, "add": 1}
    assert result == [15, 22]
