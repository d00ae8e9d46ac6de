import torch

from raydd.ops.adam import Adam


def test_steps_are_those_of_the_optimiser_to_the_bit():
    draws = torch.Generator().manual_seed(0)
    values = torch.randn(4, 3, 8, 8, generator=draws)
    ours, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
    adam = Adam(ours, (0.5, 0.9))
    reference = torch.optim.Adam([theirs], betas=(0.5, 0.9), fused=True)
    for step in range(20):
        gradient = torch.randn(values.shape, generator=draws)
        reference.param_groups[0]["lr"] = 0.1 / (step + 1)
        theirs.grad = gradient
        reference.step()
        adam.step(gradient, 0.1 / (step + 1))
        assert torch.equal(ours, theirs)
    assert not torch.equal(ours, values)
