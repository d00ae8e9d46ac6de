"""Stage folders: what is finished is never run again, by this run, the next one or a sweep.

A stage is a pure function of its input artifacts, its section of the configuration and the seed.
Its folder carries the hash of the three, and ``manifest.json``, written last, says that it is
finished. A folder without a manifest is work in progress: the stage continues in it.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from upath import UPath

from raydd.ops.configs import settled
from raydd.store.files import alone, uncached, write_atomic
from raydd.store.memory import release_memory
from raydd.store.progress import Progress
from raydd.store.units import Marker

if TYPE_CHECKING:
    from raydd.engine.cost import Cost

FORMAT = 2  # raise when a stage's files change meaning: older folders are then left alone
MANIFEST = "manifest.json"

Guard = Callable[[str], AbstractContextManager[None]]
Together = Callable[[Mapping[str, UPath]], Mapping[str, Mapping[str, Any]]]  # by key


@contextmanager
def unguarded(key: str) -> Iterator[None]:
    """The guard of a run that is alone: nobody else makes a stage meanwhile."""
    yield


@dataclass(frozen=True)
class Artifact:
    """A finished stage folder.

    Attributes:
        folder: where its files lie.
        key: hash of stage, inputs, configuration and seed; names the artifact everywhere.
        summary: what the stage returned, as json values.
        stage: name of the stage that made it: says what kind of artifact it is.
    """

    folder: UPath
    key: str
    summary: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    stage: str = ""


@dataclass
class StageRecord:
    """One line of the report's stage table.

    Attributes:
        name: of the stage.
        seconds: wall time of making it.
        cached: whether it was found finished.
        key: of its artifact: runs that share a stage name the same.
    """

    name: str
    seconds: float
    cached: bool
    key: str


@dataclass(frozen=True)
class Stage:
    """A stage that a run asks for.

    Attributes:
        name: of the stage, the first part of the folder's name.
        inputs: artifacts (or fingerprints) that the result depends on.
        config: the configuration section that the result depends on, and nothing else.
        seed: the run seed.
        cost: what the work takes; asked by a plan alone.
        expected: what later stages read of the summary, as far as it is known before the work;
            asked by a plan alone.
        title: what the progress line says.
        units: how many units the stage has.
        done: what says that a unit is done; counted once, for the progress line.
    """

    name: str
    inputs: Sequence[Artifact | str]
    config: Any
    seed: int
    cost: "Callable[[], Cost]"
    expected: Callable[[], Mapping[str, Any]]
    title: str = ""
    units: int = 1
    done: Sequence[Marker] = ()

    @cached_property
    def key(self) -> str:
        """Hash of everything that the stage is a function of."""
        return digest_stage(self.name, self.config, self.inputs, self.seed)

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.name} {self.title}".strip()


class Stages:
    """Runs stages in ``<storage>/stages`` and remembers what this run asked for.

    Args:
        storage: of all runs.
        progress: says what is done.
        guard: entered by key before a stage is made; waits while another run makes the same one.
        begin: called before a stage is made.
    """

    def __init__(
        self,
        storage: UPath,
        progress: Progress,
        guard: Guard = unguarded,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self.root = uncached(storage) / "stages"
        self.progress, self.guard, self.begin = progress, guard, begin
        self.records: list[StageRecord] = []
        self._finished: dict[str, Artifact] = {}

    def run(
        self,
        name: str,
        work: Callable[[UPath], Mapping[str, Any]],
        *,
        inputs: Sequence[Artifact | str],
        config: Any,
        seed: int,
        cost: "Callable[[], Cost]",
        expected: Callable[[], Mapping[str, Any]],
        title: str = "",
        units: int = 1,
        done: Sequence[Marker] = (),
    ) -> Artifact:
        """Return the artifact of a stage, running ``work`` only if it is not finished.

        ``work`` fills the folder it is given and returns a json-able summary. It may be called
        again after a kill and must then continue from what lies there. The others are those of a
        :class:`Stage`.
        """
        stage = Stage(name, inputs, config, seed, cost, expected, title, units, done)
        return self.run_together([stage], lambda folders: {stage.key: work(folders[stage.key])})[0]

    def run_together(self, asked: Sequence[Stage], work: Together) -> list[Artifact]:
        """The same of several stages, those that are not finished as one piece of work.

        Args:
            asked: none depends on another.
            work: fills the folders of the unfinished ones, by key, and returns their summaries.
        """
        if todo := {stage.key: stage for stage in asked if not self._is_known(stage)}:
            self._make(list(todo.values()), work)
        return [self._finished[stage.key] for stage in asked]

    def _is_known(self, stage: Stage) -> bool:
        """Whether a stage is finished, by this run or another one, which is said."""
        if stage.key in self._finished:
            return True
        if found := self.find(stage.name, stage.key):
            self.progress.cached(stage.label)
            self._finish(stage, *found, cached=True)
        return bool(found)

    def _make(self, asked: Sequence[Stage], work: Together) -> None:
        with ExitStack() as held:
            for stage in sorted(asked, key=lambda stage: stage.key):  # or two runs wait for good
                held.enter_context(self.guard(stage.key))
                waits = partial(self.progress.waiting, stage.label)
                held.enter_context(alone(self._folder(stage.name, stage.key), waits))
            # others may have been made by the run that was waited for
            if todo := [stage for stage in asked if not self._is_known(stage)]:
                self._carry_out(todo, work)

    def _carry_out(self, todo: Sequence[Stage], work: Together) -> None:
        self.begin()
        folders = {stage.key: self._folder(stage.name, stage.key) for stage in todo}
        units = sum(stage.units for stage in todo if stage.done)
        label = f"{todo[0].name} {', '.join(stage.title for stage in todo)}".strip()

        found = sum(_count(folders[stage.key], stage.done) for stage in todo)
        started = time.perf_counter()
        with self.progress.stage(label, units, found):
            summaries = work(folders)
        release_memory()
        seconds = time.perf_counter() - started
        whole = sum(stage.units for stage in todo)
        for stage in todo:
            # of several stages the time is divided as their units are
            part = seconds * (stage.units / whole if whole else 1 / len(todo))
            summary = dict(summaries[stage.key])
            self._write(stage, folders[stage.key], part, summary)
            artifact = Artifact(folders[stage.key], stage.key, summary, stage.name)
            self._finish(stage, artifact, part, cached=False)

    def _write(
        self, stage: Stage, folder: UPath, seconds: float, summary: Mapping[str, Any]
    ) -> None:
        inputs = [_key(item) for item in stage.inputs]
        origin = {"seed": stage.seed, "config": settled(stage.config), "inputs": inputs}
        about = {"stage": stage.name, "key": stage.key, "format": FORMAT, "seconds": seconds}
        content = json.dumps({**about, **origin, "summary": summary}, indent=1)
        write_atomic(folder / MANIFEST, content.encode())

    def find(self, name: str, key: str) -> tuple[Artifact, float] | None:
        """The finished artifact of a stage and the seconds that it took; None where it is not."""
        folder = self._folder(name, key)
        if not (folder / MANIFEST).exists():
            return None
        manifest = json.loads((folder / MANIFEST).read_text())
        return Artifact(folder, key, manifest["summary"], name), manifest["seconds"]

    def _folder(self, name: str, key: str) -> UPath:
        return self.root / f"{name}-{key[:16]}"

    def _finish(self, stage: Stage, artifact: Artifact, seconds: float, cached: bool) -> None:
        self._finished[stage.key] = artifact
        self.records.append(StageRecord(stage.label, seconds, cached, stage.key))


def digest(*parts: Any) -> str:
    """Hash json-able values and configurations; equal for equal content on every machine."""
    text = json.dumps([FORMAT, *map(settled, parts)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_stage(name: str, config: Any, inputs: Sequence[Artifact | str], seed: int) -> str:
    """Key of a stage: the hash of everything that it is a function of."""
    return digest(name, config, [_key(item) for item in inputs], seed)


def _key(item: Artifact | str) -> str:
    return item.key if isinstance(item, Artifact) else item


def _count(folder: UPath, done: Sequence[Marker]) -> int:
    return sum(len(marker.found(folder)) for marker in done)
