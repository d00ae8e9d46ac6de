"""Stage folders: what is finished is never run again, by this run, the next one or a sweep.

A stage is a pure function of its input artifacts, its section of the configuration and the seed.
Its folder carries the hash of the three, and ``manifest.json``, written last, says that it is
finished. A folder without a manifest is work in progress: the stage continues in it.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any

from upath import UPath

from raydd.store.files import alone, uncached, write_atomic
from raydd.store.memory import release_memory
from raydd.store.progress import Progress
from raydd.store.units import Marker

if TYPE_CHECKING:
    from raydd.engine.cost import Cost

FORMAT = 2  # raise when a stage's files change meaning: older folders are then left alone
MANIFEST = "manifest.json"

Guard = Callable[[str], AbstractContextManager[None]]


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


class Stages:
    """Runs stages in ``<storage>/stages`` and remembers what this run asked for.

    Args:
        storage: of all runs.
        progress: says what is done.
        guard: context manager by key, entered before a stage is made: it waits while another run
            makes the same one.
    """

    def __init__(self, storage: UPath, progress: Progress, guard: Guard = unguarded) -> None:
        self.root = uncached(storage) / "stages"
        self.progress, self.guard = progress, guard
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

        Args:
            name: stage name, the first part of the folder's name.
            work: fills the folder it is given and returns a json-able summary. It may be
                called again after a kill and must then continue from what lies there.
            inputs: artifacts (or fingerprints) that the result depends on.
            config: the configuration section that the result depends on, and nothing else.
            seed: the run seed.
            cost: what the work takes; asked by a plan alone.
            expected: what later stages read of the summary, as far as it is known before the work;
                asked by a plan alone.
            title: what the progress line says.
            units: how many units the stage has.
            done: what says that a unit is done; counted for the progress line.
        """
        key = digest_stage(name, config, inputs, seed)
        label = f"{name} {title}".strip()
        if key in self._finished:
            return self._finished[key]
        if found := self.find(name, key):
            return self._cached(label, *found)
        folder = self._folder(name, key)
        with self.guard(key), alone(folder, lambda: self.progress.waiting(label)):
            if found := self.find(name, key):  # made by the run that was waited for
                return self._cached(label, *found)
            started = time.perf_counter()
            count = (lambda: _count(folder, done)) if done else None
            with self.progress.stage(label, units if done else 0, count):
                summary = dict(work(folder))
            release_memory()
            seconds = time.perf_counter() - started
            origin = {"seed": seed, "config": plain(config), "inputs": [_key(i) for i in inputs]}
            manifest = {"stage": name, "key": key, "format": FORMAT, "seconds": seconds, **origin}
            content = json.dumps({**manifest, "summary": summary}, indent=1)
            write_atomic(folder / MANIFEST, content.encode())
        return self._finish(label, Artifact(folder, key, summary, name), seconds, False)

    def find(self, name: str, key: str) -> tuple[Artifact, float] | None:
        """The finished artifact of a stage and the seconds that it took; None where it is not."""
        folder = self._folder(name, key)
        if not (folder / MANIFEST).exists():
            return None
        manifest = json.loads((folder / MANIFEST).read_text())
        return Artifact(folder, key, manifest["summary"], name), manifest["seconds"]

    def _folder(self, name: str, key: str) -> UPath:
        return self.root / f"{name}-{key[:16]}"

    def _cached(self, label: str, artifact: Artifact, seconds: float) -> Artifact:
        self.progress.cached(label)
        return self._finish(label, artifact, seconds, True)

    def _finish(self, label: str, artifact: Artifact, seconds: float, cached: bool) -> Artifact:
        self._finished[artifact.key] = artifact
        self.records.append(StageRecord(label, seconds, cached, artifact.key))
        return artifact


def digest(*parts: Any) -> str:
    """Hash json-able values and dataclasses; equal for equal content on every machine."""
    text = json.dumps([FORMAT, *map(plain, parts)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_stage(name: str, config: Any, inputs: Sequence[Artifact | str], seed: int) -> str:
    """Key of a stage: the hash of everything that it is a function of."""
    return digest(name, config, [_key(item) for item in inputs], seed)


def plain(value: Any) -> Any:
    """Dataclasses as dictionaries, everything else as it is."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _key(item: Artifact | str) -> str:
    return item.key if isinstance(item, Artifact) else item


def _count(folder: UPath, done: Sequence[Marker]) -> int:
    return sum(len(marker.found(folder)) for marker in done)
