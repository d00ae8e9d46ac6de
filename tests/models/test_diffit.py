"""DiffFit: which weights move, and what is left of the scales."""

import torch

from raydd.models.diffit import ScaledLinear, fold_scales, start_diffit
from small_generator import small_generator


def inputs():
    torch.manual_seed(0)
    return torch.randn(3, 3, 16, 16), torch.tensor([0, 400, 999]), torch.tensor([1, 2, 10])


def test_biases_class_embeddings_and_scales_of_the_first_half_move():
    transformer = small_generator().transformer
    start_diffit(transformer)
    moving = {name for name, w in transformer.named_parameters() if w.requires_grad}
    assert {name.rsplit(".", 1)[-1] for name in moving} == {"bias", "weight", "gamma"}
    matrices = {name for name in moving if name.endswith("weight")}
    assert len(matrices) == 2
    assert all("class_embedder" in name for name in matrices)
    scales = [name for name in moving if name.endswith("gamma")]
    assert len(scales) == 2
    assert all(name.startswith("transformer_blocks.0.") for name in scales)


def test_scales_begin_without_effect_and_are_folded_into_the_weights():
    generator = small_generator()
    names = set(generator.transformer.state_dict())
    with torch.no_grad():
        before = generator(*inputs())
        start_diffit(generator.transformer)
        torch.testing.assert_close(generator(*inputs()), before)
        for module in generator.modules():
            if isinstance(module, ScaledLinear):
                module.gamma.normal_()
        scaled = generator(*inputs())
        fold_scales(generator.transformer)
        folded = generator(*inputs())
    assert not torch.allclose(scaled, before, atol=1e-2)
    torch.testing.assert_close(folded, scaled, atol=1e-4, rtol=1e-4)
    assert set(generator.transformer.state_dict()) == names
