"""Each import contract of pyproject.toml can fail: a copy of the package is spoilt on purpose."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINT = (
    "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
)


@pytest.fixture
def tree(tmp_path):
    """A package that a test may spoil, with the contracts beside it."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "raydd", tmp_path / "raydd", ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken_contracts(tree):
    """Names of the contracts that the tree breaks."""
    result = subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = result.stdout.splitlines()
    names = [line.split(" BROKEN")[0] for line in lines if " BROKEN" in line]
    assert (result.returncode == 0) == (not names), result.stdout + result.stderr
    return names


def test_an_untouched_copy_breaks_nothing(tree):
    assert broken_contracts(tree) == []


FLOORS, ROOMS = "floors", "rooms of the engine"
RAY = "only cluster, passes, training and sweeps import ray"
WORKER = "a worker that makes images loads neither Ray Data nor Ray Train nor pandas"
MODELS, DATA = "models read no data formats", "data formats need neither torch nor ray"
HYDRA, METHODS = "only config and doors import hydra", "methods do not import each other"
SPOILT = [
    ("ops/losses.py", "import raydd.models.registry", FLOORS),
    ("ops/losses.py", "import raydd.data.images", FLOORS),
    ("models/registry.py", "import raydd.cluster.connect", FLOORS),
    ("store/artifacts.py", "import raydd.methods", FLOORS),
    ("engine/engine.py", "import raydd.judge.protocol", FLOORS),
    ("methods/curricular.py", "import raydd.config.tree", FLOORS),
    ("unplaced.py", "import raydd.config.tree", FLOORS),
    ("engine/passes/score.py", "import raydd.engine.training.stage", ROOMS),
    ("engine/sampling/stage.py", "import raydd.engine.synthesis.stage", ROOMS),
    ("engine/cost.py", "import raydd.engine.passes.score", ROOMS),
    ("engine/unplaced.py", "import raydd.ops.losses", ROOMS),
    ("methods/curricular.py", "import ray", RAY),
    ("judge/protocol.py", "import ray", RAY),
    ("models/registry.py", "import ray.data", RAY),
    ("ops/losses.py", "import ray", RAY),
    ("engine/synthesis/stage.py", "import ray", RAY),
    ("engine/synthesis/crop.py", "import pandas", WORKER),
    ("store/images.py", "import raydd.engine.selection.shortlist", WORKER),
    ("engine/sampling/stage.py", "import raydd.engine.passes.score", WORKER),
    ("cluster/pool.py", "import raydd.cluster.fit", WORKER),
    ("models/registry.py", "import raydd.data.images", MODELS),
    ("data/images.py", "import torch", DATA),
    ("data/images.py", "import ray", DATA),
    ("methods/curricular.py", "import hydra", HYDRA),
    ("engine/training/teacher.py", "import omegaconf", HYDRA),
    ("methods/other.py", "import raydd.methods.curricular", METHODS),
]


def test_every_contract_is_spoilt_here():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert {contract["name"] for contract in settings["contracts"]} == {row[2] for row in SPOILT}


@pytest.mark.parametrize(("file", "line", "contract"), SPOILT)
def test_a_forbidden_import_is_found(tree, file, line, contract):
    path = tree / "raydd" / file
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    found = broken_contracts(tree)
    assert any(name.startswith(contract) for name in found), found
