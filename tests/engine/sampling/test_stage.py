"""Sampling units: the same bytes for any number of workers, every prefix of the slots a result."""

import hashlib
from dataclasses import replace

import pytest
import torch
from upath import UPath

from raydd.engine.generator.checkpoint import save_generator
from raydd.engine.sampling.config import AdversaryConfig, SampleConfig
from raydd.engine.sampling.latents import read_memory
from raydd.engine.sampling.stage import sample
from raydd.errors import Refused
from raydd.models.registry import create_model
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import CheckpointCard, save_checkpoint
from raydd.store.images import pick_pixels
from raydd.store.journal import read_events
from raydd.store.tables import part_files, read_table
from small_engine import PREPROCESSING, TINY, make_engine
from small_generator import SIDE, pixel_generator

CONFIG = SampleConfig(
    steps=4,
    batch_size=4,
    precision="fp32",
    adversary=AdversaryConfig(energy="plain", deviation=50.0),
)
DIGITS = tuple(str(number) for number in range(10))


@pytest.fixture(scope="module")
def networks(ray4, tmp_path_factory):
    """A generator, a discriminator and a reference."""
    folder = UPath(tmp_path_factory.mktemp("networks"))
    generator = Artifact(folder / "generator", "generator", stage="generator")
    generator.folder.mkdir()
    save_generator(generator.folder, pixel_generator(DIGITS))
    return generator, _judge(folder, "discriminator", DIGITS), _judge(folder, "reference", DIGITS)


def _judge(folder, name, class_names):
    torch.manual_seed(len(name))
    (folder / name).mkdir()
    network = create_model(TINY, len(class_names), SIDE)
    network(torch.randn(64, 3, SIDE, SIDE))
    save_checkpoint(folder / name, network, CheckpointCard(TINY, class_names, PREPROCESSING))
    return Artifact(folder / name, name, stage="train")


@pytest.fixture(scope="module")
def calm(networks, tmp_path_factory):
    """Two curricula: an unguided one and one with everything switched on."""
    folder = tmp_path_factory.mktemp("calm")
    return folder, curricula(make_engine(folder), networks)


def curricula(engine, networks):
    generator, discriminator, _ = networks
    first = sample(engine, generator, None, None, CONFIG, range(2), 0)
    second = sample(engine, generator, discriminator, None, CONFIG, range(2, 5), 1, [first])
    return [first, second]


def files(artifact):
    return sorted((artifact.folder / "latents").glob("*.parquet")) + part_files(artifact.folder)


def digests(artifacts):
    paths = [path for artifact in artifacts for path in files(artifact)]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.slow
def test_images_are_the_same_bytes_for_two_workers(calm, networks):
    folder, artifacts = calm
    before = digests(artifacts)
    guided = artifacts[1]
    for path in [*files(guided), guided.folder / "manifest.json"]:
        path.unlink()
    again = curricula(make_engine(folder, num_workers=2), networks)
    assert digests(again) == before


def test_only_missing_units_are_made_again(calm, networks):
    folder, artifacts = calm
    before = digests(artifacts)
    times = {path: path.stat().st_mtime_ns for path in part_files(artifacts[1].folder)}
    lost = part_files(artifacts[1].folder)[2]
    lost.unlink()
    (artifacts[1].folder / "manifest.json").unlink()
    again = curricula(make_engine(folder), networks)
    assert digests(again) == before
    assert [p for p in times if p.stat().st_mtime_ns != times[p]] == [lost]


def test_rows_name_slot_curriculum_and_class(calm):
    _, (first, second) = calm
    rows = [row for path in part_files(second.folder) for row in read_table(path).to_pylist()]
    pairs = {(row["class_index"], row["slot"]) for row in rows}
    assert pairs == {(label, slot) for label in range(10) for slot in range(2, 5)}
    assert {(row["curriculum"], row["origin"], row["id"]) for row in rows} == {
        (1, "synthetic", None)
    }
    assert first.summary == {"curriculum": 0, "slots": [0, 2], "counts": [2] * 10}
    assert second.summary == {"curriculum": 1, "slots": [2, 5], "counts": [3] * 10}


def test_the_journal_tells_the_gain_of_every_guided_unit(calm):
    folder, (_, second) = calm
    events = list(read_events(UPath(folder)))
    plain = [event for event in events if event["curriculum"] == 0]
    guided = [event for event in events if event["curriculum"] == 1]
    assert {event["unit"] for event in guided} == {p.stem for p in part_files(second.folder)}
    assert not any("gain" in event for event in plain)
    for event in guided:
        assert event["gain"] == pytest.approx(event["last"] - event["first"])


def test_the_first_slots_do_not_depend_on_how_many_follow(calm, networks, tmp_path):
    _, (first, _) = calm
    longer = sample(make_engine(tmp_path), networks[0], None, None, CONFIG, range(4), 0)
    labels, slots = [*range(10)] * 2, [0] * 10 + [1] * 10
    short, long = (pick_pixels(item.folder, labels, slots, SIDE) for item in (first, longer))
    assert torch.equal(short, long)
    rest = pick_pixels(longer.folder, labels, [slot + 2 for slot in slots], SIDE)
    assert not torch.equal(short, rest)


def test_another_batch_size_changes_roundings_only(calm, networks, tmp_path):
    _, (first, _) = calm
    config = replace(CONFIG, batch_size=20)
    other = sample(make_engine(tmp_path), networks[0], None, None, config, range(2), 0)
    labels, slots = [*range(10)] * 2, [0] * 10 + [1] * 10
    pixels = [pick_pixels(item.folder, labels, slots, SIDE).int() for item in (first, other)]
    assert (pixels[0] - pixels[1]).abs().max() <= 1


def test_latents_are_found_by_class_in_the_order_of_the_slots(calm):
    _, artifacts = calm
    folders = [str(artifact.folder) for artifact in artifacts]
    memory = read_memory(folders, [7, 0, 7], (3, SIDE, SIDE))
    assert memory.shape == (3, 5, 3, SIDE, SIDE)
    assert torch.equal(memory[0], memory[2])
    for row, label in ((0, 7), (1, 0)):
        for artifact, slots in zip(artifacts, (range(2), range(2, 5)), strict=True):
            pixels = pick_pixels(artifact.folder, [label] * len(slots), [*slots], SIDE)
            # the latents of a generator of pixels are its images, in float16
            kept = ((memory[row, slots.start : slots.stop].clamp(-1, 1) + 1) * 127.5).round()
            assert (kept - pixels).abs().max() <= 1


def test_every_switch_that_is_off_leaves_the_key_alone(calm, networks):
    folder, (first, second) = calm
    generator, discriminator, reference = networks
    engine = make_engine(folder)
    off = AdversaryConfig(scale=0.0, gradient="cheap")
    for config in (replace(CONFIG, adversary=AdversaryConfig(window=(0.1, 0.2))), CONFIG):
        again = sample(engine, generator, None, reference, config, range(2), 0, [])
        assert again.key == first.key
    config = replace(CONFIG, adversary=off)
    again = sample(engine, generator, discriminator, reference, config, range(2), 0, [second])
    assert again.key == first.key
    again = sample(engine, generator, discriminator, reference, CONFIG, range(2, 5), 1, [first])
    assert again.key == second.key  # a plain energy has no use for a reference


def test_guidance_and_deviation_each_change_the_images(calm, networks, tmp_path):
    _, (first, second) = calm
    engine = make_engine(tmp_path)
    generator, discriminator, _ = networks
    labels, slots = [*range(10)], [2] * 10
    no_deviation = replace(CONFIG, adversary=replace(CONFIG.adversary, deviation=0.0))
    made = [
        second,
        sample(engine, generator, None, None, CONFIG, range(2, 5), 1),
        sample(engine, generator, None, None, CONFIG, range(2, 5), 1, [first]),
        sample(engine, generator, discriminator, None, no_deviation, range(2, 5), 1, [first]),
    ]
    images = {pick_pixels(item.folder, labels, slots, SIDE).numpy().tobytes() for item in made}
    assert len(images) == 4


def test_networks_that_do_not_fit_are_refused(networks, tmp_path):
    engine = make_engine(tmp_path)
    generator, discriminator, _ = networks
    anchored = replace(CONFIG, adversary=AdversaryConfig())
    with pytest.raises(Refused, match="needs a reference"):
        sample(engine, generator, discriminator, None, anchored, range(1), 0)
    letters = _judge(UPath(tmp_path), "letters", tuple("abcdefghij"))
    with pytest.raises(Refused, match="discriminator"):
        sample(engine, generator, letters, None, CONFIG, range(1), 0)
