"""The floors of the house hold: on paper (import-linter) and in a running interpreter."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_imports_run_one_way() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("raydd", ("torch", "ray", "hydra", "pyarrow")),
        ("raydd.data", ("torch", "torchvision", "ray", "hydra")),
        ("raydd.ops", ("ray", "hydra")),
        ("raydd.models", ("ray", "hydra")),
    ],
)
def test_importing_a_floor_does_not_load(package: str, forbidden: tuple[str, ...]) -> None:
    """Every module of the floor is imported in a fresh process; then sys.modules is looked at."""
    folder = ROOT.joinpath(*package.split("."))
    files = [folder / "__init__.py"] if package == "raydd" else sorted(folder.rglob("*.py"))
    names = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in files
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print(*sorted({set(forbidden)!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_a_command_starts_without_what_only_its_work_needs() -> None:
    """A run that is found finished, or refused, would wait for them for seconds."""
    code = """
import sys

import raydd.run
import raydd.browse
import raydd.evaluate

heavy = {"ray.data", "ray.train", "ray.tune", "pandas", "triton", "diffusers", "timm"}
print(*sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_worker_that_makes_images_starts_without_what_it_does_not_need() -> None:
    """Every one would pay 0.3 GB and two seconds for torch's compiler, Ray Data and pandas."""
    code = """
import sys

import torch

import raydd.engine.labels.relabel
import raydd.engine.passes.statistics
import raydd.engine.sampling.stage
import raydd.engine.synthesis.crop
import raydd.engine.synthesis.stage
from raydd.engine.synthesis.loop import Recovery
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherObjective
from raydd.models.registry import ModelConfig, create_model

config = SynthesisConfig(steps=1, start="noise", start_weight=0.0)
network = create_model(ModelConfig("resnet10_thin", width=8), 10, 16).eval()
objective = TeacherObjective(network, None, config, "cpu")
recovery = Recovery(objective, config, (0, 0, 0), (1, 1, 1), 16, "cpu")
recovery.run(None, torch.arange(2), (0, "unit"))
print(*{"torch._dynamo", "torchvision", "ray.data", "ray.train", "pandas"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_a_worker_that_trains_starts_without_torchs_compiler() -> None:
    """Torch's own optimisers bring it along: 100 MB and two seconds of every such process."""
    code = """
import sys

import torch

import raydd.engine.training.loop
import raydd.engine.generator.train
from raydd.ops.optimizers import SGD, AdamW

for make in (AdamW, SGD):
    network = torch.nn.Linear(2, 2)
    groups = [{"params": network.parameters(), "weight_decay": 0.1}]
    optimizer = make(groups, lr=0.1, fused=True)
    optimizer.zero_grad()
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
print(*{"torch._dynamo", "triton", "sympy", "torchvision"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_a_driver_reads_like_the_algorithm_of_its_paper() -> None:
    """150 lines at most: what does not fit belongs to the engine."""
    for file in (ROOT / "raydd" / "methods").glob("*.py"):
        assert len(file.read_text("utf-8").splitlines()) <= 150, file.name
