"""The bench of the judge: a distilled set, its rivals, and trainings on all of them alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from upath import UPath

from raydd.cluster.tasks import run_many
from raydd.data.any_set import AnySet
from raydd.data.labels import INFO
from raydd.engine.cost import Cost, count_images
from raydd.engine.engine import Engine
from raydd.engine.labels.data import LABELS, TEACHER, LabelConfig, differing_views, read_info
from raydd.engine.passes.decode import list_images
from raydd.engine.passes.embed import embed
from raydd.engine.passes.score import check_floor
from raydd.engine.selection.fetch import fetch, random_images
from raydd.engine.training.teacher import TeacherConfig, make_teacher, squeeze
from raydd.errors import Refused
from raydd.judge.herding import HerdingConfig, herd
from raydd.judge.measure import MeasureJob, measure
from raydd.judge.protocol import Judging, ProtocolConfig, ask_judges, train_judges
from raydd.store.artifacts import Artifact
from raydd.store.checkpoint import CARD


@dataclass
class Bench:
    """What is trained on, and with whose labels.

    Attributes:
        engine: of the real data set, seen by the teacher.
        given: the set that is judged.
        protocol: resolved; its architectures are those of the headline's kind of labels.
        teacher: gives soft labels and features; None where neither is asked for.
        real: table of the real images; its summary counts the broken ones.
        sets: image artifacts of each seed, by name.
    """

    engine: Engine
    given: AnySet
    protocol: ProtocolConfig
    teacher: Artifact | None
    real: Artifact
    sets: dict[str, Sequence[Sequence[Artifact]]] = field(default_factory=dict)

    def train(self, asked: Sequence[Judging]) -> list[Artifact]:
        """Networks on several sets, or with several kinds of labels, in one queue."""
        return train_judges(self.engine, asked)

    def ask(self, kind: str, name: str) -> Judging:
        """Networks of every architecture and seed on a set, with "soft" or "hard" labels."""
        return self._ask(self.engine, replace(self.protocol, labels=kind), name)

    def ask_first(self, kind: str, name: str, plain: bool) -> Judging:
        """The same for the first architecture alone; ``plain`` is without any augmentation."""
        first = replace(self.protocol, labels=kind, architectures=self.protocol.architectures[:1])
        if not plain:
            return self._ask(self.engine, first, name)
        recipe = replace(first.recipe, crop="none", mix="none", color_jitter=0.0, lighting=0.0)
        return self._ask(replace(self.engine, flip=0.0), replace(first, recipe=recipe), name)

    def own_labels(self, engine: Engine, protocol: ProtocolConfig) -> Artifact | None:
        """The labels that the set brings, if they are of this protocol's views."""
        labels = self.given.folder / LABELS
        if protocol.labels == "hard" or not self.given.distilled or not (labels / INFO).exists():
            return None
        differing = differing_views(
            read_info(labels),
            protocol.recipe,
            engine.flip,
            engine.preprocessing,
            len(engine.class_names),
        )
        return None if differing else Artifact(self.given.folder, self.given.fingerprint)

    def _ask(self, engine: Engine, protocol: ProtocolConfig, name: str) -> Judging:
        own = self.own_labels(engine, protocol)
        if own:  # the rivals get labels of the same form from the same teacher
            info = read_info(own.folder / LABELS)
            form = LabelConfig(info.form, info.top_k, info.epochs, info.logits)
            engine = replace(engine, labels=form)
        brought = own if name == "distilled" else None
        return ask_judges(engine, self.sets[name], protocol, self.teacher, name, brought)


def set_up(
    engine: Engine,
    given: AnySet,
    images: Artifact,
    protocol: ProtocolConfig,
    herding: HerdingConfig | None,
    is_taught: bool,
) -> Bench:
    """Find a teacher where one is needed, and choose the rivals.

    Args:
        engine: of the real data set.
        given: the set that is judged.
        images: the same, adopted.
        protocol: resolved.
        herding: how a rival is chosen by herding; None leaves it out.
        is_taught: whether soft labels are asked for.
    Raises:
        Refused: a class of the set has more images than there are real ones to compare with.
    """
    counts = images.summary["counts"]
    _check_supply(engine, counts)
    teacher = _teacher(engine, given) if is_taught or herding else None
    engine = engine.seen_by(teacher) if teacher else engine
    real = embed(engine, teacher, "real images") if teacher and herding else list_images(engine)
    bench = Bench(engine, given, protocol, teacher, real)
    seeds = range(protocol.seeds)
    bench.sets["distilled"] = [[images] for _ in seeds]
    bench.sets["random"] = [[random_images(engine, real, counts, draw)] for draw in seeds]
    if teacher and not (has_teacher(given) or engine.teacher.is_trained):
        _try_teacher(engine, teacher, bench.sets["random"][0][0])
    if herding:
        chosen = herd(engine, real, counts, herding, "real images")
        herded = fetch(engine, chosen, [], 0, "herding")
        bench.sets["herding"] = [[herded] for _ in seeds]
    return bench


def _check_supply(engine: Engine, counts: Sequence[int]) -> None:
    real = engine.train_source.class_counts()
    if real is None:  # the choice of real images will tell
        return
    for name, asked, have in zip(engine.class_names, counts, real.tolist(), strict=True):
        if asked > have:
            raise Refused(
                f"the set has {asked} images of class {name!r}, but there are only {have} real "
                "ones to compare them with."
            )


def has_teacher(given: AnySet) -> bool:
    """Whether a set brings its own teacher."""
    return given.distilled is not None and (given.folder / TEACHER / CARD).exists()


def _teacher(engine: Engine, given: AnySet) -> Artifact:
    """The set's own teacher, else the configured one, which must know the classes."""
    if has_teacher(given):
        own = TeacherConfig(checkpoint=str(given.folder / TEACHER))
        return make_teacher(engine, own, "teacher")
    return squeeze(engine)


def _try_teacher(engine: Engine, teacher: Artifact, images: Artifact) -> None:
    """Stage ``try``: a given teacher must know the classes of some real images."""
    job = MeasureJob(
        folder="",
        checkpoint=str(teacher.folder),
        images=(str(images.folder),),
        class_names=engine.class_names,
        resolution=engine.preprocessing.resolution,
        per_class=False,
        batch=engine.data.score_batch,
        device=engine.resources.device,
    )

    def work(folder: UPath) -> dict[str, Any]:
        (found,) = run_many(measure, [replace(job, folder=str(folder))], engine.resources)
        return {"top1": sum(found["right"]) / max(1, sum(found["images"]))}

    tried = engine.stages.run(
        "try",
        work,
        inputs=[teacher, images],
        config=None,
        seed=0,
        cost=lambda: Cost(reads=count_images([images]) * engine.pixel_bytes),
        expected=lambda: {"top1": 1.0},
        title="teacher",
    )
    check_floor(engine, tried.summary["top1"])
