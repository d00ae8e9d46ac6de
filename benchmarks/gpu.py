"""Everything that one GPU can tell in eight minutes; prints one JSON, needs no Ray.

    python benchmarks/gpu.py                                  # eight minutes on one GPU
    python benchmarks/gpu.py --seconds 120 --only recover_32 equal
    python benchmarks/gpu.py --cifar10 /data/cifar10          # also a whole run, where Ray is there
    python benchmarks/gpu.py --tiny                           # on a CPU, to see that it runs

Every section has a share of the time. One that fails says why in the JSON, and the next one
begins; what is finished is written to ``--out`` after each section, so that a killed run leaves it.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gpu_loops
import gpu_trainings
import torch
from gpu_loops import Machine

# Of others, each on its own hardware and counted as in its source.
MARKS = {
    "recover, image-iterations/s": {"CDA, RTX 4090, ImageNet-1K": 1916, "aim": 20000},
    "whole run, images/s at ipc 10": {"EDC": 79.1},
    "DiT-XL/2 with guidance, images/s": {"aim": 15},
}
SECTIONS: dict[str, tuple[float, Callable[[Machine], dict[str, Any]]]] = {
    "equal": (1, gpu_loops.equal),
    "syncs": (0.5, gpu_loops.syncs),
    "recover_32": (3, partial(gpu_loops.recover, side=32)),
    "recover_224": (4, partial(gpu_loops.recover, side=224)),
    "scoring": (1, gpu_trainings.scoring),
    "squeeze": (1.5, gpu_trainings.squeeze),
    "judges": (3, gpu_trainings.judges),
    "sampling": (5, gpu_loops.sampling),
}
_WHOLE_SECONDS = 60.0  # a whole run is not begun with less


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=470.0, help="for all sections together")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), help="these sections alone")
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 as parquet, for a whole run of edc")
    parser.add_argument("--out", type=Path, help="file that gets the JSON after each section")
    parser.add_argument("--tiny", action="store_true", help="small sizes, on the CPU")
    return parser.parse_args()


def about(device: str) -> dict[str, Any]:
    """The device and the libraries."""
    found: dict[str, Any] = {"device": device, "torch": torch.__version__}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "name": properties.name,
            "memory": properties.total_memory,
            "capability": list(torch.cuda.get_device_capability(0)),
            "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def bounded(section: Callable[[Machine], dict[str, Any]], machine: Machine) -> dict[str, Any]:
    """What a section found, or why it failed; it is broken off some time after its end."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError("took too long")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(max(1, int(1.3 * machine.left) + 5))
    begin = time.monotonic()
    try:
        found = section(machine)
    except Exception as error:  # the other sections go on
        found = {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
    finally:
        signal.alarm(0)
    if machine.device == "cuda":
        torch.cuda.empty_cache()
    return {**found, "seconds": round(time.monotonic() - begin, 1)}


def whole(root: Path, seconds: float) -> dict[str, Any]:
    """A whole run of ``edc`` on CIFAR-10 at ipc 10, by the command line; needs Ray."""
    words = ["+experiment=edc_cifar10_cpu", f"dataset.root={root}", "method.ipc=10"]
    with tempfile.TemporaryDirectory() as storage:
        command = [sys.executable, "-m", "raydd.run", *words, f"storage={storage}"]
        begin = time.monotonic()
        done = subprocess.run(command, timeout=seconds, capture_output=True, text=True, check=False)
        taken = time.monotonic() - begin
    lines = (done.stderr or done.stdout).strip().splitlines()[-3:]
    if done.returncode:
        return {"error": " ".join(lines), "seconds": round(taken, 1)}
    return {"command": words, "said": lines, "seconds": round(taken, 1)}


def main() -> None:
    """Run the sections and print the JSON."""
    chosen = options()
    device = "cuda" if torch.cuda.is_available() and not chosen.tiny else "cpu"
    if device == "cpu" and not chosen.tiny:
        raise SystemExit("torch finds no GPU; --tiny runs on the CPU.")
    end = time.monotonic() + chosen.seconds
    names = chosen.only or list(SECTIONS)
    result: dict[str, Any] = {**about(device), "marks": MARKS, "sections": {}}
    for number, name in enumerate(names):
        waiting = sum(SECTIONS[other][0] for other in names[number:])
        share = SECTIONS[name][0] / waiting * (end - time.monotonic())
        machine = Machine(device, chosen.tiny, time.monotonic() + max(1.0, share))
        result["sections"][name] = bounded(SECTIONS[name][1], machine)
        _write(chosen.out, result)
    result["ray imported"] = "ray" in sys.modules
    if chosen.cifar10 and (left := end - time.monotonic()) > _WHOLE_SECONDS:
        try:
            result["whole run"] = whole(chosen.cifar10, left)
        except subprocess.TimeoutExpired:
            result["whole run"] = {"error": f"not done in {left:.0f} s"}
    _write(chosen.out, result)
    print(json.dumps(result, indent=1))


def _write(path: Path | None, result: dict[str, Any]) -> None:
    if path:
        path.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
