"""Distil a data set: compose a configuration, start Ray, call the driver, judge the product.

python -m raydd.run                                  # curricular on the embedded digits
python -m raydd.run dataset=cifar10 method.ipc=50    # any key of the configuration
python -m raydd.run plan=true                        # what would be done, and how large it is
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, TypeVar

from omegaconf import OmegaConf
from upath import UPath

from raydd.config import (
    ConfigError,
    RunConfig,
    compose_config,
    compose_tree,
    differing_keys,
    run_name,
    what,
)
from raydd.data.classes import read_class_names
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources import Source, open_source
from raydd.engine.cluster import Resources, connect
from raydd.engine.engine import Engine
from raydd.engine.errors import Refused
from raydd.engine.judge import build_report, judge
from raydd.engine.plan import Planner
from raydd.engine.plan_table import plan_lines
from raydd.engine.product import Product
from raydd.engine.progress import Progress
from raydd.engine.stages import Stages, is_local, write_atomic
from raydd.engine.storage import open_storage
from raydd.engine.writer import write_product, write_report
from raydd.methods import DRIVERS
from raydd.models.registry import ModelConfig, create_meta_model

EngineKind = TypeVar("EngineKind", bound=Engine)

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
    train, test = _open_sources(config)
    _check_request(config, train)
    if config.plan:
        _print_plan(config, train, test, progress)
        return None
    resources = connect(config.cluster)
    folder = _claim_folder(config)
    engine = _engine(Engine, config, train, test, resources, progress, folder)
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


def _open_sources(config: RunConfig) -> tuple[Source, Source]:
    data = config.dataset
    read = partial(
        open_source,
        data.kind,
        data.root,
        image_column=data.image_column,
        label_column=data.label_column,
    )
    try:
        names = read_class_names(data.classes_file) if data.classes_file else None
        train = read(data.split_train, class_names=names, num_classes=data.num_classes)
        test = read(data.split_test, class_names=train.class_names)
    except ValueError as error:
        gated = " (this data set is gated: accept its licence on the Hub and log in)"
        raise Refused(f"{error}{gated if data.gated else ''}") from error
    return train, test


def _check_request(config: RunConfig, train: Source) -> None:
    try:
        preprocessing = _preprocessing(config)
        for model in _models(config):
            create_meta_model(model, len(train.class_names), preprocessing.resolution)
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


def _models(config: Any) -> Iterator[ModelConfig]:
    """Every network that a configuration names."""
    if isinstance(config, ModelConfig):
        yield config
    elif isinstance(config, list):
        for item in config:
            yield from _models(item)
    elif is_dataclass(config):
        for entry in fields(config):
            yield from _models(getattr(config, entry.name))


def _preprocessing(config: RunConfig) -> Preprocessing:
    data = config.dataset
    return Preprocessing(data.resolution, data.resize, data.mean, data.std)


def _claim_folder(config: RunConfig) -> UPath:
    """Make the run's folder, or continue in it if it belongs to the same configuration."""
    folder = open_storage(config.storage) / run_name(config)
    record = folder / "config.json"
    if record.exists():
        keys = differing_keys(json.loads(record.read_text()), what(config))
        if keys:
            raise Refused(
                f"the run {folder.name!r} exists with another configuration; these keys differ: "
                f"{', '.join(keys)}. Choose another name=."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(record, json.dumps(what(config), indent=1).encode())
    return folder


def _engine(
    kind: type[EngineKind],
    config: RunConfig,
    train: Source,
    test: Source,
    resources: Resources,
    progress: Progress,
    folder: UPath,
) -> EngineKind:
    return kind(
        stages=Stages(open_storage(config.storage), progress),
        train_source=train,
        test_source=test,
        preprocessing=_preprocessing(config),
        flip=config.dataset.flip,
        teacher=config.teacher,
        data=config.data,
        resources=resources,
        seed=config.seed,
        journal=str(folder / "metrics.jsonl"),
        labels=config.labels,
    )


def _print_plan(config: RunConfig, train: Source, test: Source, progress: Progress) -> None:
    nothing = Resources(0, False, 1, 1, 0)
    planner = _engine(Planner, config, train, test, nothing, progress, open_storage(config.storage))
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
