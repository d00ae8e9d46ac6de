"""Judge a set that another tool made: here a folder of images, 00000/00000.png or CLASS/*.png.

    python examples/judge_someone_elses_set.py FOLDER [KEY=VALUE ...]

is ``python -m raydd.evaluate FOLDER`` from Python, for a table of one's own. Without further words
the classes are those of the embedded digits; ``dataset=cifar10 protocol=dc`` judges a set of
CIFAR-10 with hard labels.
"""

import sys
from typing import Any

from raydd.config.compose import compose_tree, to_typed
from raydd.evaluate import PRIMARY, EvaluateConfig, evaluate


def main(folder: str, *words: str) -> dict[str, Any]:
    """Judge the set beside real images of the same size; returns the report."""
    tree = compose_tree(["judge.leak=true", *words], PRIMARY)
    tree.folder = folder
    report = evaluate(to_typed(tree, EvaluateConfig))
    print(f"\n{'images':<12} {'seeds':>5}  top-1 at the last epoch")
    for images, part in report["headline"]["sets"].items():
        half = "" if part["half_width"] is None else f" +- {100 * part['half_width']:.1f}"
        print(f"{images:<12} {len(part['values']):>5}  {100 * part['mean']:.1f}{half} %")
    return report


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
