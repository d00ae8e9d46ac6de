"""Generators on disk, adopted from the hub's layout, and matched to the source's classes."""

import json
import shutil
from dataclasses import asdict, replace

import pytest
import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel
from timm.data import ImageNetInfo
from torchvision.models._meta import _IMAGENET_CATEGORIES
from upath import UPath

from raydd.engine.generator.adopt import adopt_generator, fresh_generator
from raydd.engine.generator.checkpoint import load_generator, save_generator
from raydd.engine.generator.classes import match_described_classes
from raydd.engine.generator.config import GeneratorConfig, GeneratorRecipe, MinimaxConfig
from raydd.engine.generator.cost import generator_sizes
from raydd.engine.generator.stage import generator
from raydd.errors import Refused
from raydd.models.diffusion import create_transformer
from small_engine import make_engine
from small_generator import NAMES, small_generator, small_vae

WOOF = (
    *("n02096294", "n02093754", "n02111889", "n02088364", "n02086240"),
    *("n02089973", "n02087394", "n02115641", "n02099601", "n02105641"),
)
WOOF_IDS = (193, 182, 258, 162, 155, 167, 159, 273, 207, 229)
LABELS = dict(enumerate(ImageNetInfo("imagenet-1k").label_descriptions()))


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """What lies on the hub for DiT, only small: 16 pixels, latents of 8, 1,000 classes."""
    folder = tmp_path_factory.mktemp("hub") / "DiT"
    torch.manual_seed(0)
    create_transformer(4, 8, 1000, 2, 2, 16, 2).save_pretrained(folder / "transformer")
    small_vae().save_pretrained(folder / "vae")
    index = {"_class_name": "DiTPipeline", "vae": ["diffusers", "AutoencoderKL"]}
    index["id2label"] = {str(number): text for number, text in LABELS.items()}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def config(path, **change):
    return GeneratorConfig(path=str(path), licence="mit", **change)


@pytest.mark.parametrize("latent", [False, True])
def test_a_saved_generator_comes_back_bit_for_bit(tmp_path, latent):
    saved = small_generator(latent=latent)
    save_generator(UPath(tmp_path), saved)
    loaded = load_generator(UPath(tmp_path))
    assert loaded.card == saved.card
    one, two = saved.state_dict(), loaded.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not loaded.training


def test_diffusers_opens_what_raydd_saves(tmp_path):
    saved = small_generator(latent=True)
    save_generator(UPath(tmp_path), saved)
    transformer = DiTTransformer2DModel.from_pretrained(tmp_path / "transformer")
    vae = AutoencoderKL.from_pretrained(tmp_path / "vae")
    for ours, theirs in ((saved.transformer, transformer), (saved.vae, vae)):
        one, two = ours.state_dict(), theirs.state_dict()
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_whole_folder_is_a_pipeline_of_diffusers(tmp_path):
    from diffusers import DiTPipeline

    save_generator(UPath(tmp_path), small_generator(latent=True))
    pipeline = DiTPipeline.from_pretrained(tmp_path)
    assert pipeline.labels["7"] == 7
    assert pipeline.scheduler.config.variance_type == "learned_range"


def test_public_weights_are_adopted_for_ten_dogs(public):
    generator = adopt_generator(config(public), WOOF, 16)
    card = generator.card
    assert card.class_ids == WOOF_IDS
    assert (card.class_names, card.resolution, card.licence) == (WOOF, 16, "mit")
    assert card.scaling_factor == pytest.approx(0.18215)
    assert generator.null_class == 1000
    assert generator.latent_shape == (4, 8, 8)


def test_another_vae_replaces_the_weights_own(public, tmp_path):
    torch.manual_seed(1)
    other = small_vae()
    other.save_pretrained(tmp_path / "vae")
    generator = adopt_generator(config(public, vae=str(tmp_path / "vae")), WOOF, 16)
    one, two = generator.vae.state_dict(), other.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_does_not_fit_is_refused_in_a_sentence(public, tmp_path):
    for names, resolution, message in (
        (
            ("n01440764", "n99999999", "cat"),
            16,
            r"not know 2 of the classes: n99999999, cat\.",
        ),
        (NAMES, 16, "0, 1, 2 and 7 more"),
        (WOOF, 32, "set dataset.resolution=16"),
    ):
        with pytest.raises(Refused, match=message):
            adopt_generator(config(public), names, resolution)
    with pytest.raises(Refused, match=r"generator\.licence must name"):
        adopt_generator(replace(config(public), licence=None), WOOF, 16)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match=r"no readable model_index\.json"):
        adopt_generator(config(tmp_path / "empty"), WOOF, 16)


def test_other_layouts_are_refused(public, tmp_path):
    shutil.copytree(public, tmp_path / "swapped")
    shutil.rmtree(tmp_path / "swapped" / "transformer")
    shutil.copytree(public / "vae", tmp_path / "swapped" / "transformer")
    with pytest.raises(Refused, match="DiTTransformer2DModel"):
        adopt_generator(config(tmp_path / "swapped"), WOOF, 16)
    index = json.loads((public / "model_index.json").read_text())
    shutil.copytree(public, tmp_path / "order")
    index["id2label"] = {str(999 - number): text for number, text in LABELS.items()}
    (tmp_path / "order" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(Refused, match="not in ImageNet's order"):
        adopt_generator(config(tmp_path / "order"), WOOF, 16)


def test_classes_are_found_by_their_words_where_these_are_unique():
    names = ("tench, Tinca tinca", "Goldfish", "n02086240", "maillot")
    assert match_described_classes(names, LABELS) == (0, 1, 155, 638)
    with pytest.raises(Refused, match="crane"):  # a bird and a machine
        match_described_classes(("crane",), LABELS)


def test_every_class_of_imagenet_agrees_with_another_list_of_its_names():
    labels = dict(enumerate(_IMAGENET_CATEGORIES))
    labels |= {134: "crane", 639: "maillot, tank suit"}  # torchvision tells namesakes apart
    names = ImageNetInfo("imagenet-1k").label_names()
    assert match_described_classes(names, labels) == tuple(range(1000))


def test_a_generator_of_raydd_is_matched_by_the_names_of_its_classes(tmp_path):
    save_generator(UPath(tmp_path), small_generator(latent=True))
    own = GeneratorConfig(path=str(tmp_path))
    generator = adopt_generator(own, ("7", "2"), 16)
    assert generator.card.class_ids == (7, 2)
    assert (generator.card.licence, generator.card.scaling_factor) == ("mit", 0.18215)
    with pytest.raises(Refused, match="does not know 1 of the classes: cat"):
        adopt_generator(own, ("7", "cat"), 16)


def test_a_fresh_generator_works_in_pixels_or_in_a_vaes_latents(tmp_path):
    small = GeneratorConfig(layers=2, heads=2, width=16)
    pixels = fresh_generator(small, NAMES, 16, seed=0)
    assert pixels.latent_shape == (3, 16, 16)
    small_vae().save_pretrained(tmp_path)
    latent = fresh_generator(replace(small, vae=str(tmp_path)), NAMES, 16, seed=0)
    assert latent.latent_shape == (4, 8, 8)
    again = fresh_generator(small, NAMES, 16, seed=0)
    assert all(
        torch.equal(*pair) for pair in zip(pixels.parameters(), again.parameters(), strict=True)
    )
    with pytest.raises(Refused, match="patch=5"):
        fresh_generator(replace(small, patch=5), NAMES, 16, seed=0)


def test_other_weights_under_the_same_path_are_another_generator(tmp_path):
    engine = make_engine(tmp_path)
    keys = []
    for seed in (0, 1):
        save_generator(UPath(tmp_path / "mine"), small_generator(seed=seed))
        artifact = generator(engine, GeneratorConfig(path=str(tmp_path / "mine")))
        keys.append(artifact.key)
    assert keys[0] != keys[1]
    assert artifact.summary["licence"] == "mit"
    assert load_generator(artifact.folder).card.class_names == NAMES


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (GeneratorConfig, {"width": 10}),
        (GeneratorConfig, {"layers": 0}),
        (GeneratorConfig, {"revision": "main"}),
        (GeneratorRecipe, {"steps": 0}),
        (GeneratorRecipe, {"average_decay": 1.0}),
        (GeneratorRecipe, {"class_dropout": -0.1}),
        (GeneratorRecipe, {"precision": "fp8"}),
        (GeneratorRecipe, {"learning_rate": -1.0}),
        (MinimaxConfig, {"memory": 0}),
        (MinimaxConfig, {"diverse_weight": -1.0}),
    ],
)
def test_bad_values_are_refused_before_any_work(kind, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**wrong)


def test_how_often_is_saved_decides_no_weight():
    one, two = GeneratorRecipe(checkpoint_seconds=1.0), GeneratorRecipe()
    assert one.key() == two.key()
    assert asdict(one) != asdict(two)


def test_a_plan_counts_weights_without_making_them(tmp_path, public):
    small = GeneratorConfig(layers=2, heads=2, width=16)
    sizes = generator_sizes(small, 10, 16)
    made = fresh_generator(small, NAMES, 16, seed=0)
    assert sizes.weights == 4 * sum(weight.numel() for weight in made.parameters())
    assert sizes.activations > 4 * 2 * 64 * 16
    save_generator(UPath(tmp_path), made)
    saved = generator_sizes(config(tmp_path), 10, 16)
    assert (saved.weights, saved.activations) == (sizes.weights, sizes.activations)
    assert sizes.flops > 2 * 2 * 64 * 16 * 16  # tokens through more than one square matrix
    assert generator_sizes(config(public), 10, 16).weights > 4 * 2 * 1001 * 16
    with pytest.raises(Refused, match="holds no transformer"):
        generator_sizes(config(tmp_path / "none"), 10, 16)
