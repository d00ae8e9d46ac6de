"""Distil a data set: compose a configuration, start Ray, call the driver, judge the product.

python -m raydd.run                                  # curricular on the embedded digits
python -m raydd.run dataset=cifar10 method.ipc=50    # any key of the configuration
python -m raydd.run plan=true                        # what would be done, and how large it is
python -m raydd.run method=ccfs sweep=ipc_alpha      # the same, once per trial
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from upath import UPath

from raydd.config.compose import compose_tree
from raydd.config.options import describe_option, split_options
from raydd.config.tree import compose_config
from raydd.data.card import publish_command
from raydd.errors import exit_code
from raydd.plan.planner import plan
from raydd.report.verdict import verdict
from raydd.session import run, run_folder
from raydd.store.files import is_local
from raydd.store.progress import Progress

USAGE = """usage: python -m raydd.run [key=value ...]      also: raydd run [key=value ...]

Without words: curricular on the embedded digits, one or two minutes. What a command would take:
plan=true; every key: --cfg job. A sweep varies any key: sweep.space.method.ipc=[10,20] (lists,
interval(0.1,0.4), ...). The choices of every group:
"""
_OWN = "raydd run dataset=imagefolder dataset.root=FOLDER plan=true"
_GROUPS = ("method", "dataset", "teacher", "protocol", "sweep", "+experiment")
_REAL = ("dataset", "data.", "storage=")  # words about the real images, and what is kept of them
_SHOWN_REASONS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (2 for input that cannot be run)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return exit_code(lambda: _carry_out(words))


def _carry_out(words: Sequence[str]) -> int:
    words, option = split_options(words)
    if text := describe_option(option, USAGE, _GROUPS):
        print(text)
        return 0
    if option == "cfg":
        print(OmegaConf.to_yaml(compose_tree(words)), end="")
        return 0
    config = compose_config(words)
    progress = Progress(config.verbose)
    if config.sweep:
        from raydd.sweep.sweep import sweep  # Ray Tune takes a second to import

        return 1 if sweep(words, config, progress) else 0
    if config.plan:
        plan(config, progress)
    else:
        _say_result(progress, run_folder(config), run(config, progress), words)
    return 0


def _say_result(
    progress: Progress, folder: UPath, report: dict[str, Any], words: Sequence[str]
) -> None:
    progress.say(f"\n{report['num_images']} images in ", (f"{folder / 'distilled'}", "bold"))
    best = report["headline"]
    if best:
        for images in ("distilled", "random"):
            mean, half = best[images]["mean"], best[images]["half_width"]
            label = "distilled images" if images == "distilled" else "random real images"
            spread = "% top-1, one seed" if half is None else f"+- {100 * half:.1f} % top-1"
            network = f"({best['architecture']}, last epoch)"
            progress.say(f"{label:<19} {100 * mean:5.1f} {spread} {network}")
        progress.say(f"judged on {report['judged_on']}")
        sizes = report["num_images"], report["num_classes"]
        progress.say((verdict(best["distilled"], best["random"], *sizes).text, "bold"))
    _say_rejected(progress, folder.parent, report["rejected"])
    progress.say(f"report: {folder / 'report.html'}")
    local = f' or datasets.load_dataset("{folder / "distilled"}")' if is_local(folder) else ""
    progress.say(f'load it: raydd.load("{folder / "distilled"}"){local}')
    progress.say(f"publish it: {publish_command(folder / 'distilled', folder.name)}")
    same = [word for word in words if word.startswith(_REAL)]
    judging = shlex.join(["raydd", "evaluate", str(folder / "distilled"), *same])
    progress.say(f"judge it otherwise: {judging}")
    progress.say(f"next: raydd browse {folder.parent}, or your own images: {_OWN}")


def _say_rejected(progress: Progress, storage: UPath, rejected: dict[str, Any]) -> None:
    if count := rejected["count"]:
        noun = "image" if count == 1 else "images"
        place = storage / rejected["ids"]
        reasons = _reasons(rejected["reasons"])
        progress.say(f"{count:,} training {noun} could not be used ({reasons}): {place} names them")


def _reasons(counts: Mapping[str, int]) -> str:
    """The commonest reasons, with their counts where there are several."""
    if len(counts) == 1:
        return next(iter(counts))
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,}: {reason}" for reason, count in common[:_SHOWN_REASONS]]
    others = sum(count for _, count in common[_SHOWN_REASONS:])
    return "; ".join([*shown, *([f"{others:,}: others"] if others else [])])


if __name__ == "__main__":
    sys.exit(main())
