"""benchmarks/gpu.py runs from end to end, on a CPU and in small: nobody has a GPU to try it on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(*words):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


@pytest.mark.slow
def test_every_section_ends_without_ray_and_the_json_names_the_marks(tmp_path):
    done = run("--tiny", "--out", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "found.json").read_text())
    sections = found["sections"]
    failed = {name: own["error"] for name, own in sections.items() if "error" in own}
    assert not failed
    assert set(sections) == {
        "equal", "syncs", "recover_32", "recover_224", "scoring", "squeeze", "judges", "sampling"
    }  # fmt: skip
    assert sections["equal"]["equal"]
    for student in ("with student", "without student"):
        assert sections["recover_32"][student]["over transcription"] > 0
    assert sections["judges"]["one by one"] > 0
    assert not found["ray imported"]
    assert found["marks"]["recover, image-iterations/s"] == {
        "CDA, RTX 4090, ImageNet-1K": 1916,
        "aim": 20000,
    }


def test_a_section_that_fails_says_why_and_the_next_one_begins(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    def fail(machine):
        raise RuntimeError("no kernel\nmore")

    found = [
        gpu.bounded(own, gpu.Machine("cpu", True, gpu.time.monotonic() + 9))
        for own in (fail, lambda m: {"a": 1})
    ]
    assert found[0]["error"] == "RuntimeError: no kernel"
    assert found[1]["a"] == 1
