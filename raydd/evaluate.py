"""Judge any distilled set: train networks on it and on real images of the same size.

python -m raydd.evaluate runs/mine/distilled                       # a set of the embedded digits
python -m raydd.evaluate /data/theirs dataset=cifar10 protocol=dc  # an image folder, hard labels
python -m raydd.evaluate hf://datasets/someone/set dataset=in1k protocol=rded judge=full
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from upath import UPath

from raydd.cluster.connect import connect_when_needed
from raydd.config.compose import (
    ConfigError,
    compose_tree,
    config_dir,
    refuse_passwords,
    to_typed,
)
from raydd.config.dataset import open_sources, preprocessing_of
from raydd.config.describe import describe_splits, enter_folder, judged_on
from raydd.config.options import describe_option, split_options
from raydd.config.paths import literal
from raydd.config.sweep import spell
from raydd.config.tree import (
    CommonConfig,
    check_networks,
    decisive_values,
    make_engine,
    short_digest,
)
from raydd.data.any_set import AnySet
from raydd.data.distilled import read_distilled
from raydd.data.sources import Source, all_class_names
from raydd.errors import Refused, exit_code
from raydd.judge.adopt import adopt
from raydd.judge.any_set import judge_set
from raydd.judge.config import JudgeConfig
from raydd.report.gather import build_evaluation
from raydd.report.verdict import verdict
from raydd.report.write import write_evaluation
from raydd.store.artifacts import Stages
from raydd.store.failure import kept_error
from raydd.store.files import open_storage
from raydd.store.progress import Progress
from raydd.store.tensor_set import open_given_set

PRIMARY = "evaluate"
USAGE = """usage: python -m raydd.evaluate FOLDER [key=value ...]      also: raydd evaluate ...

FOLDER holds a distilled set: ours, an image folder (CLASS/*.png, 00000/*.png or
new000/class000_id000.jpg), parquet files, or tensors (images*.pt and labels*.pt).
Every key: --cfg job. The choices of every group:
"""
_PLACES = ("root", "classes_file")
_GROUPS = ("dataset", "protocol", "judge", "teacher")
_LABELS = {"distilled": "the set", "random": "random real images", "herding": "herded real images"}


@dataclass
class EvaluateConfig(CommonConfig):
    """Everything ``python -m raydd.evaluate`` can be told; :class:`CommonConfig` has the rest.

    The teacher is asked where soft labels or features are needed and the set brings none; its
    recipe trains the network on the whole real set that LRS needs.

    Attributes:
        folder: of the set, the first word of the command line.
        judge: what is measured.
    """

    folder: str = ""
    judge: JudgeConfig = field(default_factory=JudgeConfig)


_store = ConfigStore.instance()
_store.store(name="evaluate_schema", node=EvaluateConfig)
_store.store(group="judge", name="judge_schema", node=JudgeConfig)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (2 for input that cannot be judged)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return exit_code(lambda: _carry_out(words))


def _carry_out(words: Sequence[str]) -> int:
    words, option = split_options(words or ["--help"])
    if text := describe_option(option, USAGE, _GROUPS):
        print(text)
        return 0
    tree = _compose(words, needs_folder=option != "cfg")
    if option == "cfg":
        print(OmegaConf.to_yaml(tree), end="")
    else:
        evaluate(to_typed(tree, EvaluateConfig))
    return 0


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Judge a set and report.

    Returns:
        The report.
    Raises:
        Refused: the request cannot be carried out.
    """
    progress = Progress(config.verbose)
    sources = open_sources(config.dataset)
    given = _open(config, sources[0])
    decisive = {**decisive_values(config), "folder": given.fingerprint}  # wherever it lies now
    name = config.name or _name(config, decisive)
    folder = enter_folder(open_storage(config.storage) / name, decisive, sources, progress)
    progress.note(describe_splits(*sources))
    with kept_error(folder):
        report = _judge(config, sources, given, folder, progress)
    _say_result(progress, folder, report)
    return report


def _judge(
    config: EvaluateConfig,
    sources: tuple[Source, Source],
    given: AnySet,
    folder: UPath,
    progress: Progress,
) -> dict[str, Any]:
    """Do the work and write the report into the folder."""
    resources, begin = connect_when_needed(config.cluster, say=progress.note)
    stages = Stages(open_storage(config.storage), progress, begin=begin)
    engine = make_engine(config, sources, resources, stages, folder)
    progress.say(
        (folder.name, "bold"), f"  {config.folder}, {given.layout}, as {config.dataset.name}"
    )
    images = adopt(engine, given)
    if resized := images.summary["resized"]:
        progress.say(f"{resized:,} images have another size: resized as the data set's are")
    found = judge_set(engine, given, images, config.protocol, config.judge)
    engine = engine.seen_by(found.teacher) if found.teacher else engine
    about = {
        "name": folder.name,
        "dataset": config.dataset.name,
        "licence": config.dataset.licence,
        "seed": config.seed,
        "folder": config.folder,
        "judged_on": judged_on(config.dataset, sources[1]),
        "config": decisive_values(config),
    }
    report = build_evaluation(engine, found, about)
    write_evaluation(folder, report, found, engine)
    return report


def _compose(words: Sequence[str], needs_folder: bool = True) -> DictConfig:
    """The tree of a command line: a folder and keys."""
    folders = [word for word in words if "=" not in word or UPath(word).exists()]
    if not folders and not needs_folder:
        return compose_tree(words, PRIMARY)
    if len(folders) != 1:
        found = f", got {' and '.join(folders)}" if folders else ""
        raise ConfigError(f"name the folder of one distilled set as the first word{found}.")
    refuse_passwords(folders[0], "folder")
    keys = [word for word in words if word not in folders]
    tree = compose_tree([*_made_from(literal(folders[0]), keys), *keys], PRIMARY)
    tree.folder = literal(folders[0]).replace("${", r"\${")
    return tree


def _made_from(folder: str, words: Sequence[str]) -> list[str]:
    """Words for the data set that a set of ours was made from, where the command line names none.

    Where the real images lie is not among them: a set does not say it.
    """
    if any(word.startswith("dataset=") for word in words):
        return []
    try:
        config = read_distilled(folder).info.config
    except Exception:  # every store has its own kinds
        return []  # of another tool; what else is wrong with it is said where it is opened
    if not (recorded := config.get("dataset")):
        return []
    data = {key: value for key, value in recorded.items() if key not in _PLACES}
    if isinstance(data.get("classes"), str):  # a file's name
        del data["classes"]
    known = (config_dir() / "dataset" / f"{data['name']}.yaml").exists()
    return [
        f"dataset={data['name'] if known else data['kind']}",
        *(spell(f"dataset.{key}", value) for key, value in data.items()),
        spell("data.max_rejected", config["data"]["max_rejected"]),
    ]


def _open(config: EvaluateConfig, train: Source) -> AnySet:
    """Open the set, and see whether it and the networks fit the data set."""
    judge, preprocessing = config.judge, preprocessing_of(config.dataset)
    try:
        given = open_given_set(
            config.folder,
            train.class_names,
            judge.image_column,
            judge.label_column,
            preprocessing,
            judge.pixels,
            all_class_names(train),
        )
        check_networks(config, preprocessing, len(train.class_names))
    except ValueError as error:
        raise Refused(str(error)) from error
    if given.distilled:
        side = given.distilled.info.preprocessing.resolution
        if side != preprocessing.resolution:
            raise Refused(
                f"{config.folder} has images of {side} px, the data set "
                f"{preprocessing.resolution} px; set dataset.resolution and dataset.resize."
            )
    return given


def _name(config: EvaluateConfig, decisive: dict[str, Any]) -> str:
    path = UPath(config.folder).absolute()
    stem = path.parent.name if path.name == "distilled" else path.name
    words = ("judge", stem, config.dataset.name, config.protocol.name, f"s{config.seed}")
    return "-".join([*words, short_digest(decisive)])


def _say_result(progress: Progress, folder: UPath, report: dict[str, Any]) -> None:
    best = report["headline"]
    progress.say(
        f"\n{report['num_images']:,} images of ",
        (report["folder"], "bold"),
        f", {best['labels']} labels, {best['architecture']}, last epoch:",
    )
    for images, part in best["sets"].items():
        half = part["half_width"]
        spread = "% top-1, one seed" if half is None else f"+- {100 * half:.1f} % top-1"
        progress.say(f"{_LABELS[images]:<19} {100 * part['mean']:5.1f} {spread}")
    ours, random, sizes = best["sets"]["distilled"], best["sets"]["random"], report["num_images"]
    progress.say((verdict(ours, random, sizes, report["num_classes"]).text, "bold"))
    if scores := report["scores"]:
        progress.say(f"LRS {scores['lrs']:.3f}, ARS {scores['ars']:.3f}")
    progress.say(f"judged on {report['judged_on']}; report: {folder / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
