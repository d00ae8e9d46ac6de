"""Folders as runs and sweeps leave them, small: for the tests of the result browser."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from raydd.data.distilled import DistilledInfo, DistilledRow
from raydd.data.distilled_writer import seal, write_images
from raydd.data.preprocessing import Preprocessing
from raydd.ops.intervals import mean_and_interval

CLASSES = ("zero", "one", "<b>two</b>")
SIDE = 8
SERIES = ("distilled", "random")


def config(
    method: str = "ccfs", ipc: int = 10, alpha: float = 0.2, seed: int = 0
) -> dict[str, Any]:
    return {
        "method": {"name": method, "ipc": ipc, "alpha": alpha, "synthesis": {"steps": 20}},
        "dataset": {"name": "digits", "mean": [0.5, 0.5, 0.5]},
        "protocol": {"name": "cpu", "architectures": [{"name": "convnet3", "width": 8}]},
        "seed": seed,
    }


def training(images: str, seed: int, last: float, epochs: int = 4) -> dict[str, Any]:
    curve = [{"epoch": e, "loss": 1 / e, "top1": last * e / epochs} for e in range(1, epochs + 1)]
    return {"architecture": "convnet3-w8", "images": images, "seed": seed, "top1_last": last,
            "top1_best": last, "curve": curve, "seconds": 12.5}  # fmt: skip


def report(about: dict[str, Any], top1: float, random: float = 0.4) -> dict[str, Any]:
    """As a run with two judge seeds writes it; they lie a point around the accuracy."""
    results = [
        training(images, seed, value + (-0.01, 0.01)[seed])
        for images, value in (("distilled", top1), ("random", random))
        for seed in (0, 1)
    ]

    def part(images: str) -> dict[str, Any]:
        values = [r["top1_last"] for r in results if r["images"] == images]
        return dict(zip(("mean", "half_width"), mean_and_interval(values), strict=True)) | {
            "values": values
        }

    return {
        "name": "run", "method": about["method"]["name"], "dataset": "digits",
        "seed": about["seed"], "ipc": about["method"]["ipc"],
        "num_classes": 3, "num_images": 6, "config": about,
        "headline": {"architecture": "convnet3-w8", **{name: part(name) for name in SERIES}},
        "results": results,
        "stages": [{"name": "squeeze teacher", "seconds": 60.0, "cached": True},
                   {"name": "synthesize", "seconds": 30.0, "cached": False}],
        "bytes": {"images": 2048, "labels": 0, "teacher": 1 << 20},
        "teacher": {"name": "thin", "top1": None, "top1_train": 0.9},
    }  # fmt: skip


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_run(folder: Path, about: dict[str, Any], top1: float | None = None) -> Path:
    """A run; without an accuracy it has only begun."""
    write_json(folder / "config.json", about)
    if top1 is not None:
        write_json(folder / "report.json", report(about, top1))
    return folder


def write_trial(
    sweep: Path, name: str, overrides: dict[str, Any], top1: float | None = None, **marks: Any
) -> Path:
    """A trial whose overrides are keys of :func:`config`, e.g. ``method.alpha``."""
    about = config(**{key.split(".")[-1]: value for key, value in overrides.items()})
    folder = write_run(sweep / "trials" / name, about, top1)
    write_json(folder / "trial.json", {"sweep": sweep.name, "overrides": overrides, **marks})
    return folder


def write_journal(folder: Path, epochs: int, time: float = 1000.0) -> None:
    """Events of two networks that train; the last line is torn, as a kill leaves it."""
    lines = [
        json.dumps({"time": time + epoch, "stage": "evaluate", "architecture": "convnet3-w8",
                    "images": "distilled", "seed": seed, "epochs": 4,
                    "epoch": epoch, "loss": 1 / epoch, "top1": 0.1 * epoch + 0.01 * seed})
        for epoch in range(1, epochs + 1)
        for seed in (0, 1)
    ]  # fmt: skip
    synthesis = json.dumps({"time": time, "stage": "synthesize", "step": 3, "loss": 2.0})
    (folder / "metrics.jsonl").write_text("\n".join([synthesis, *lines, '{"time": 99']))


def write_distilled(
    folder: Path, ipc: int = 4, classes: tuple[str, ...] = CLASSES, real: int = 0
) -> None:
    """A set of two curricula; a pixel's red is its class, green its slot, blue its curriculum.

    The last ``real`` slots are of real images.
    """
    rows = [
        DistilledRow(
            np.full((SIDE, SIDE, 3), (label, slot, int(slot >= ipc // 2)), np.uint8),
            label, slot, int(slot >= ipc // 2), "real" if slot >= ipc - real else "synthetic",
        )
        for slot in range(ipc)
        for label in range(len(classes))
    ]  # fmt: skip
    counts = write_images(
        folder, iter(rows), num_rows=len(rows), class_names=classes, resolution=SIDE
    )
    seen = Preprocessing(SIDE, SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    seal(folder, DistilledInfo(classes, seen, counts, {}, {}, {}, {}, {}))
