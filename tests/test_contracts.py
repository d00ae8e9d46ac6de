"""Each import contract of pyproject.toml can fail: a copy of the package is spoilt on purpose."""

import shutil
import subprocess
import sys
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


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("ops/losses.py", "import raydd.models.registry", "floors"),
        ("ops/losses.py", "import raydd.data.images", "floors"),
        ("models/registry.py", "import raydd.cluster.connect", "floors"),
        ("store/artifacts.py", "import raydd.methods", "floors"),
        ("methods/curricular.py", "import raydd.config.tree", "floors"),
        ("unplaced.py", "import raydd.config.tree", "floors"),
        ("models/registry.py", "import raydd.data.images", "models read no data formats"),
        (
            "methods/curricular.py",
            "import ray",
            "only the cluster, passes, training and sweeps import ray",
        ),
        (
            "models/registry.py",
            "import ray.data",
            "only the cluster, passes, training and sweeps import ray",
        ),
        ("ops/losses.py", "import ray", "only the cluster, passes, training and sweeps import ray"),
        ("data/images.py", "import torch", "data formats need neither torch nor ray"),
        ("data/images.py", "import ray", "data formats need neither torch nor ray"),
        ("methods/curricular.py", "import hydra", "only config and doors import hydra"),
        ("methods/other.py", "import raydd.methods.curricular", "methods do not import each other"),
    ],
)
def test_a_forbidden_import_is_found(tree, file, line, contract):
    path = tree / "raydd" / file
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    found = broken_contracts(tree)
    assert any(name.startswith(contract) for name in found), found
