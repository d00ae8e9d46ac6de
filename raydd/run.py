"""Distil a data set: compose a configuration, start Ray, call the driver, judge the product.

python -m raydd.run                                  # curricular on the embedded digits
python -m raydd.run dataset=cifar10 method.ipc=50    # any key of the configuration
python -m raydd.run plan=true                        # what would be done, and how large it is
"""

import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf
from upath import UPath

from raydd.composing import ConfigError, compose_tree
from raydd.config import RunConfig, compose_config, run_name, what
from raydd.data.sources import Source
from raydd.engine.cluster import Resources, connect
from raydd.engine.engine import Engine
from raydd.engine.errors import Refused
from raydd.engine.judge import build_report, judge
from raydd.engine.plan import Planner
from raydd.engine.plan_table import plan_lines
from raydd.engine.product import Product
from raydd.engine.progress import Progress
from raydd.engine.stages import is_local
from raydd.engine.storage import open_storage
from raydd.engine.writer import write_product, write_report
from raydd.methods import DRIVERS
from raydd.opening import check_networks, claim_folder, make_engine, open_sources, preprocessing_of

USAGE = """usage: python -m raydd.run [--cfg job] [key=value ...]

Groups: method, dataset, teacher, protocol, cluster; +experiment=NAME for a measured recipe.
Every key: python -m raydd.run --cfg job"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (2 for input that cannot be run)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    try:
        if words[:2] == ["--cfg", "job"]:
            print(OmegaConf.to_yaml(compose_tree(words[2:])), end="")
            return 0
        run(compose_config(words))
    except (ConfigError, Refused) as error:
        print(f"raydd: {error}", file=sys.stderr)
        return 2
    return 0


def run(config: RunConfig) -> dict[str, Any] | None:
    """Distil, judge and report.

    Returns:
        The report, or None for a plan.
    Raises:
        Refused: the request cannot be carried out; nothing was written.
    """
    progress = Progress(config.verbose)
    sources = open_sources(config.dataset)
    _check_request(config, sources[0])
    if config.plan:
        _print_plan(config, sources, progress)
        return None
    resources = connect(config.cluster)
    folder = claim_folder(config.storage, run_name(config), what(config))
    engine = make_engine(Engine, config, sources, resources, progress, folder, config.labels)
    progress.say(
        f"[bold]{folder.name}[/bold]  {config.method.name} on {config.dataset.name}, "
        f"ipc {config.method.ipc}"
    )
    product = _distil(engine, config)
    results = judge(engine, product, config.protocol) if config.evaluate else []
    sizes = write_product(
        folder / "distilled", engine, product, results, _about(config), config.export
    )
    report = build_report(engine, product, results, config.protocol, sizes, _about(config))
    write_report(folder, report, product, engine)
    _say_result(progress, folder, report)
    return report


def _distil(engine: Engine, config: RunConfig) -> Product:
    """Call the driver; then label what it made, where the product shall carry labels."""
    product: Product = DRIVERS[type(config.method)](engine, config.method)
    recipe = config.protocol.resolve(product.counts).recipe
    product.labels = engine.relabel(product.images, product.teacher, recipe, "distilled")
    return product


def _check_request(config: RunConfig, train: Source) -> None:
    try:
        check_networks(config, preprocessing_of(config.dataset), len(train.class_names))
    except ValueError as error:
        raise Refused(str(error)) from error
    counts = train.class_counts()
    if counts is None:
        return
    smallest = int(counts.argmin())
    if counts[smallest] < config.method.ipc:
        raise Refused(
            f"method.ipc={config.method.ipc} is more than class {train.class_names[smallest]!r} "
            f"has: {counts[smallest]} training images."
        )


def _print_plan(config: RunConfig, sources: tuple[Source, Source], progress: Progress) -> None:
    nothing, storage = Resources(0, False, 1, 1, 0), open_storage(config.storage)
    planner = make_engine(Planner, config, sources, nothing, progress, storage, config.labels)
    product = _distil(planner, config)
    if config.evaluate:
        judge(planner, product, config.protocol)
    for line in plan_lines(planner.rows):
        progress.say(line)


def _about(config: RunConfig) -> dict[str, Any]:
    return {
        "name": run_name(config),
        "method": config.method.name,
        "dataset": config.dataset.name,
        "licence": config.dataset.licence,
        "seed": config.seed,
        "ipc": config.method.ipc,
        "config": what(config),
    }


def _say_result(progress: Progress, folder: UPath, report: dict[str, Any]) -> None:
    progress.say(f"\n{report['num_images']} images in [bold]{folder / 'distilled'}[/bold]")
    best = report["headline"]
    if best:
        for images in ("distilled", "random"):
            mean, half = best[images]["mean"], best[images]["half_width"]
            label = "distilled images" if images == "distilled" else "random real images"
            spread = "% top-1, one seed" if half is None else f"+- {100 * half:.1f} % top-1"
            network = f"({best['architecture']}, last epoch)"
            progress.say(f"{label:<19} {100 * mean:5.1f} {spread} {network}")
    progress.say(f"report: {folder / 'report.html'}")
    local = f'datasets.load_dataset("{folder / "distilled"}") or ' if is_local(folder) else ""
    progress.say(f'load it: {local}raydd.load("{folder / "distilled"}")')


if __name__ == "__main__":
    sys.exit(main())
