"""Weights as people save them: unwrapped, fitted by name, refused in one sentence."""

import argparse
import collections
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn
from upath import UPath

from raydd.errors import Refused
from raydd.models.networks.convnet import ConvNet
from raydd.models.registry import ModelConfig, create_model
from raydd.store.weights import load_weights, read_weights

THIN = ModelConfig("resnet10_thin", width=8)


def network(num_classes: int = 3) -> nn.Module:
    return create_model(THIN, num_classes, 16)


def put(start: str, state: dict) -> dict:
    return {start + name: value for name, value in state.items()}


def save(folder: Path, content: Any, legacy: bool = False) -> UPath:
    path = folder / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return UPath(path)


def refusal(path: UPath, into: nn.Module | None = None) -> str:
    with pytest.raises(Refused) as caught:
        load_weights(into or network(), path, f"teacher.checkpoint={path}")
    said = str(caught.value)
    assert said.startswith(f"teacher.checkpoint={path} ")
    assert "\x1b" not in said
    assert "\n" not in said
    assert len(said) < 500 + len(str(path))
    return said


class Settings(dict):
    """A configuration class as yacs and easydict have: a dict with attributes."""


def settings() -> Settings:
    made = Settings(depth=18)
    made.frozen = True  # type: ignore[attr-defined]
    return made


def optimizer_state() -> dict:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    sum(p.sum() for p in model.parameters()).backward()
    sgd.step()
    return sgd.state_dict()


SAVED = {
    "a plain state_dict": lambda s: s,
    "DataParallel": lambda s: put("module.", s),
    "torch.compile": lambda s: put("_orig_mod.", s),
    "both, below a key": lambda s: {"state_dict": put("module._orig_mod.", s), "epoch": 3},
    "torch.compile of a part": lambda s: {
        n.replace("layer1.", "layer1._orig_mod."): v for n, v in s.items()
    },
    "torchvision's references": lambda s: {
        "model": s, "optimizer": optimizer_state(), "args": argparse.Namespace(lr=0.1),
    },
    "the examples of PyTorch": lambda s: {
        "arch": "resnet18", "state_dict": put("module.", s), "best_acc1": torch.tensor(70.0),
    },
    "timm": lambda s: {
        "state_dict": s, "state_dict_ema": put("module.", {n: v + 1 for n, v in s.items()}),
        "args": argparse.Namespace(a=1), "metric": np.float64(3),
    },
    "Lightning": lambda s: {
        "state_dict": {**put("model.", s), "loss.weight": torch.ones(3)}, "callbacks": {},
        "hyper_parameters": {"lr": 0.1}, "pytorch-lightning_version": "2.4.0",
    },
    "SRe2L": lambda s: {"state_dict": put("module.", s), "acc": 90.0, "epoch": 1},
    "only averaged": lambda s: {"model_ema": put("module.", s), "n": 3},
    "averaged by SWA": lambda s: {"n_averaged": torch.tensor(2), **put("module.", s)},
    "a key of their own": lambda s: {"resnet": s, "best": 3, "optimizer": optimizer_state()},
    "two keys deep": lambda s: {"checkpoint": {"model_state_dict": put("backbone.", s)}},
    "a configuration": lambda s: {"model": s, "config": settings()},
    "meters": lambda s: {"model": s, "meters": collections.defaultdict(list, top1=[1])},
    "a profiler's counters": lambda s: {
        **s, "total_ops": torch.zeros(1), "fc.total_params": torch.ones(1),
    },
    "an average beside it": lambda s: put("net.", s) | put("net_ema.", s),
    "no batch counters": lambda s: {n: v for n, v in s.items() if "num_batches" not in n},
}  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", SAVED)
def test_what_people_save_is_unwrapped(tmp_path: Path, name: str, legacy: bool) -> None:
    theirs, ours = network(), network()
    path = save(tmp_path, SAVED[name](theirs.state_dict()), legacy)
    load_weights(ours, path, "teacher.checkpoint")
    expected = theirs.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_safetensors_are_known_by_their_content(tmp_path: Path, suffix: str) -> None:
    theirs, ours = network(), network()
    path = UPath(tmp_path / f"model{suffix}")
    safetensors.torch.save_file(put("model.", theirs.state_dict()), str(path))
    load_weights(ours, path, "teacher.checkpoint")
    assert torch.equal(ours.fc.weight, theirs.fc.weight)
    assert "model.fc.weight" in read_weights(path, "it")


def test_the_networks_of_ccfs_fit_the_small_resnet(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18(num_classes=5)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    ours = create_model(ModelConfig("resnet18_small"), 5, 32)
    load_weights(ours, save(tmp_path, {"model": put("module.", theirs.state_dict())}), "it")
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def of_rded(match: re.Match) -> str:
    block, place = divmod(int(match[1]), 4)
    return f"layers.{('conv', 'norm')[place]}.{block}"


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_convnets_of_other_code_answer_as_they_did(tmp_path: Path, norm: str) -> None:
    """RDED keeps lists of layers, DC one sequence; both have a bias before each norm."""
    theirs = ConvNet(4, 16, 2, 8, norm)
    for index in (0, 4):
        theirs.features[index].bias = nn.Parameter(torch.randn(8))
        if norm == "batch":
            theirs.features[index + 1].running_mean.normal_()
    images = torch.randn(2, 3, 16, 16)
    expected, state = theirs.eval()(images), theirs.state_dict()
    listed = {re.sub(r"features\.(\d)", of_rded, name): value for name, value in state.items()}
    assert "layers.norm.1.weight" in listed
    for content in (state, {"model": listed}):
        ours = ConvNet(4, 16, 2, 8, norm)
        load_weights(ours, save(tmp_path, content), "it")
        torch.testing.assert_close(ours.eval()(images), expected)


def test_another_number_of_classes_is_said(tmp_path: Path) -> None:
    said = refusal(save(tmp_path, network(1000).state_dict()))
    assert "fc.weight is [1000, 64] in the file, the network has [3, 64]" in said
    assert said.endswith(": the file knows 1000 classes.")


def test_another_width_is_a_shape_not_a_list(tmp_path: Path) -> None:
    wider = create_model(ModelConfig("resnet10_thin", width=16), 3, 16)
    said = refusal(save(tmp_path, wider.state_dict()))
    assert re.search(r"conv1\.weight is \[16, 3, 3, 3\] .* has \[8, 3, 3, 3\], and \d+ more", said)


def test_another_network_is_counted_with_one_example(tmp_path: Path) -> None:
    said = refusal(save(tmp_path, torchvision.models.vgg11(num_classes=3).state_dict()))
    assert re.search(r"\d+ of its \d+ names are not in the file \(conv1\.weight\)", said)
    assert re.search(r"and \d+ in the file are not its own \(features\.0\.weight\)", said)


def test_a_deeper_network_of_the_same_shapes_is_not_cut(tmp_path: Path) -> None:
    deeper = create_model(ModelConfig("resnet18_small", width=8), 3, 16)
    assert "in the file are not its own" in refusal(save(tmp_path, deeper.state_dict()))


def test_several_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    state = network().state_dict()
    said = refusal(save(tmp_path, put("student.", state) | put("teacher.", state)))
    assert "holds several networks that fit (student., teacher.)" in said


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("below_a_key", [False, True])
def test_a_pickled_network_is_refused(tmp_path: Path, legacy: bool, below_a_key: bool) -> None:
    content = {"model": network()} if below_a_key else network()
    said = refusal(save(tmp_path, content, legacy))
    assert "is not a plain weight file: it holds a whole pickled network" in said
    assert "raydd.models.networks.resnet_small" in said


class Attack:
    def __init__(self, call: Any, text: str) -> None:
        self.call, self.text = call, text

    def __reduce__(self) -> Any:
        return self.call, (self.text,)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("call", [eval, __import__("os").system])
def test_nothing_in_a_file_is_ever_run(tmp_path: Path, call: Any, legacy: bool) -> None:
    text = f"touch {tmp_path}/ran" if call is not eval else f"open('{tmp_path}/ran', 'w')"
    state = {"state_dict": network().state_dict(), "hook": Attack(call, text)}
    said = refusal(save(tmp_path, state, legacy))
    assert re.search(r"asks to run \w+\.(eval|system), which no weights need", said)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "damaged, cut off or no file of torch.save"),
        (b"hello", "damaged, cut off or no file of torch.save"),
        (b"PK\x03\x04 and no more", "damaged, cut off or no file of torch.save"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    assert words in refusal(UPath(tmp_path / "weights.pt"))


def test_a_cut_file_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, network().state_dict())
    path.write_bytes(path.read_bytes()[:5000])
    assert "cut off" in refusal(path)
    (tmp_path / "x.safetensors").write_bytes(b"abc")
    assert "is damaged" in refusal(UPath(tmp_path / "x.safetensors"))


def test_a_script_and_a_file_without_weights_are_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    assert "a TorchScript program" in refusal(UPath(tmp_path / "script.pt"))
    assert "its keys are epoch, acc" in refusal(save(tmp_path, {"epoch": 1, "acc": torch.ones(())}))
    assert "holds no weights but list" in refusal(save(tmp_path, [1, 2]))
    endless: dict = {}
    endless["endless"] = endless
    assert "holds no weights" in refusal(save(tmp_path, endless))
    assert "does not exist" in refusal(UPath(tmp_path / "none.pt"))
    assert "is no file" in refusal(UPath(tmp_path))
