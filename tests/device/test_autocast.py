"""The cases of :mod:`.autocast_cases`, in a process that has no virtual device.

Torch asks the one accelerator that it knows for a stream, and the virtual one has none for CUDA.
"""

import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("autocast_cases.py")


def test_dtypes_under_cudas_autocast():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    found = subprocess.run(
        command, cwd=CASES.parents[2], capture_output=True, text=True, timeout=280, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "9 passed" in found.stdout
