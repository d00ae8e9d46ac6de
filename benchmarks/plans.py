"""The table of clusters/PLANS.md: hours of ImageNet-21K-P on a named machine, stage by stage.

    python benchmarks/plans.py --methods curricular --ipc 10

Starts no Ray and reads no data; all hours are assumed, see ``raydd/plan/machines.py``. Two tables:
of photographs as they are, and of images that were resized beforehand.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Sequence

from raydd.config.tree import compose_config
from raydd.plan.machines import Machine, PlanRow, named_machine, plan_hours
from raydd.plan.planner import walk
from raydd.store.progress import Progress

R18 = "{name: torchvision/resnet18, width: null}"
COMMON = [
    "plan=true", "dataset=in21k", "dataset.root=/nowhere", "teacher=resnet18_in21k",
    "protocol=cudd", f"protocol.architectures=[{R18}]", "labels.form=seeded",
]  # fmt: skip
METHODS = {
    "curricular": [
        "method.synthesis.steps=2000", "method.synthesis.batch_size=100",
        "method.synthesis.roll=[0,32]", f"method.student.model={R18}",
        "method.student.recipe.batch_size=128",
    ],
    "ccfs": [
        "method.synthesis.steps=2000", f"method.filter_model.model={R18}",
        "method.filter_model.recipe.batch_size=128",
    ],
    "edc": [
        f"method.observers=[{R18},{{name: torchvision/mobilenet_v2}},"
        "{name: torchvision/shufflenet_v2_x0_5}]",
        "method.statistics.patch=16", "method.synthesis.steps=2000",
        "method.synthesis.batch_size=80", "method.synthesis.start=rded", "method.crops.tiles=2",
    ],
    "acs": [
        "dataset.resolution=256", "dataset.resize=256",
        "method.generator.vae=stabilityai/sd-vae-ft-mse", "method.generator.layers=12",
        "method.generator.heads=12", "method.generator.width=768", "method.generator.patch=2",
        "method.generator.recipe.steps=400000", "method.generator.recipe.batch_size=256",
        "method.sampling.guidance_scale=4", "method.sampling.guided_channels=3",
        f"method.discriminator.model={R18}", "method.discriminator.recipe.batch_size=128",
        "method.diagnosis=null",
    ],
}  # fmt: skip
BOUNDARIES = {10: "[5]", 20: "[5,10,15]"}  # of curricular
GROUPS = {
    "squeeze": "squeeze", "ensemble": "squeeze", "latents": "generator", "generator": "generator",
    "tune": "generator", "score": "passes", "statistics": "passes", "embed": "passes",
    "decode": "passes", "list": "passes", "count": "passes", "synthesize": "synthesize",
    "sample": "synthesize", "crop": "synthesize", "train": "students",
    "evaluate": "judge", "relabel": "judge",
}  # fmt: skip


def plan_rows(method: str, ipc: int) -> list[PlanRow]:
    """The stages of a run."""
    words = [*COMMON, f"method={method}", f"method.ipc={ipc}", *METHODS[method]]
    if method == "curricular":
        words.append(f"method.boundaries={BOUNDARIES[ipc]}")
    with tempfile.TemporaryDirectory() as storage:
        return walk(compose_config([*words, f"storage={storage}"]), Progress())[1]


def hours(rows: Sequence[PlanRow], machine: Machine) -> dict[str, float]:
    """Hours of each group of stages."""
    found: dict[str, float] = defaultdict(float)
    for row, taken in zip(rows, plan_hours(rows, machine), strict=True):
        found[GROUPS.get(row.stage.split()[0], "other")] += taken
        found["all"] += taken
    return found


def main() -> None:
    """Print a row for each group and a column for each method and number of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machine", default="8xh200")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--ipc", nargs="+", type=int, choices=[10, 20], default=[10, 20])
    chosen = parser.parse_args()
    columns = [(method, ipc) for method in chosen.methods for ipc in chosen.ipc]
    planned = [plan_rows(*column) for column in columns]
    for small in (False, True):
        print("\nimages resized beforehand" if small else "\nphotographs as they are")
        print("| | " + " | ".join(f"`{method}` {ipc}" for method, ipc in columns) + " |")
        found = [hours(rows, named_machine(chosen.machine, small)) for rows in planned]
        for group in (*dict.fromkeys(GROUPS.values()), "other", "all"):
            print(f"| {group} | " + " | ".join(f"{own.get(group, 0):.1f}" for own in found) + " |")


if __name__ == "__main__":
    main()
