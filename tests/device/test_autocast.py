"""Dtypes under CUDA's autocast, in a process of its own: torch ends one that has both devices."""

import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("autocast_cases.py")


def test_dtypes_under_cudas_autocast():
    words = ["-q", "-p", "no:cacheprovider", "--durations=0", str(CASES)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "16 passed" in done.stdout
