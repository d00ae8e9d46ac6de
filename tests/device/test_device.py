"""The cases of this folder, in processes that know one device beside the CPU and no Ray.

Torch's gradients know the devices that were there when the process asked for the first one, and it
asks the one accelerator that it knows for a stream: the virtual one has none for CUDA.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LOOPS = ("virtual", "repeatable", "synthesis", "training", "generators", "passes")


def run_cases(*names: str) -> str:
    files = [str(HERE / f"{name}_cases.py") for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    found = subprocess.run(
        command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=280, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_hot_loops_on_a_virtual_device():
    assert {f"{name}_cases.py" for name in (*LOOPS, "autocast")} == {
        path.name for path in HERE.glob("*_cases.py")
    }
    assert " passed" in run_cases(*LOOPS)


def test_dtypes_under_cudas_autocast():
    assert "9 passed" in run_cases("autocast")
