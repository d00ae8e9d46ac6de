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
from typing import Any

from upath import UPath

from raydd.store.files import uncached, write_atomic
from raydd.store.memory import release_memory
from raydd.store.progress import Progress

FORMAT = 2  # raise when a stage's files change meaning: older folders are then left alone


MANIFEST = "manifest.json"


Guard = Callable[[str], AbstractContextManager[None]]


@contextmanager
def free(key: str) -> Iterator[None]:
    """The guard of a run that is alone: nobody else makes a stage meanwhile."""
    yield


@dataclass(frozen=True)
class Artifact:
    """A finished stage folder.

    Attributes:
        folder: where its files lie.
        key: hash of stage, inputs, configuration and seed; names the artifact everywhere.
        summary: what the stage returned, as json values.
    """

    folder: UPath
    key: str
    summary: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)


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

    def __init__(self, storage: UPath, progress: Progress, guard: Guard = free) -> None:
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
        title: str = "",
        units: int = 0,
        count_done: Callable[[UPath], int] | None = None,
    ) -> Artifact:
        """Return the artifact of a stage, running ``work`` only if it is not finished.

        Args:
            name: stage name, the first part of the folder's name.
            work: fills the folder it is given and returns a json-able summary. It may be
                called again after a kill and must then continue from what lies there.
            inputs: artifacts (or fingerprints) that the result depends on.
            config: the configuration section that the result depends on, and nothing else.
            seed: the run seed.
            title: what the progress line says.
            units: how many units the stage has, for the progress line.
            count_done: counts finished units in the folder, polled for the progress line.
        """
        key = digest(name, config, [_key(item) for item in inputs], seed)
        folder = self.root / f"{name}-{key[:16]}"
        label = f"{name} {title}".strip()
        if key in self._finished:
            return self._finished[key]
        if found := self._found(folder, key, label):
            return found
        with self.guard(key):
            if found := self._found(folder, key, label):  # made by the run that was waited for
                return found
            started = time.perf_counter()
            folder.mkdir(parents=True, exist_ok=True)
            with self.progress.stage(
                label, units, (lambda: count_done(folder)) if count_done else None
            ):
                summary = dict(work(folder))
            release_memory()
            seconds = time.perf_counter() - started
            origin = {"seed": seed, "config": plain(config), "inputs": [_key(i) for i in inputs]}
            manifest = {"stage": name, "key": key, "format": FORMAT, "seconds": seconds, **origin}
            content = json.dumps({**manifest, "summary": summary}, indent=1)
            write_atomic(folder / MANIFEST, content.encode())
        return self._finish(label, Artifact(folder, key, summary), seconds, False)

    def _found(self, folder: UPath, key: str, label: str) -> Artifact | None:
        if not (folder / MANIFEST).exists():
            return None
        manifest = json.loads((folder / MANIFEST).read_text())
        self.progress.cached(label)
        artifact = Artifact(folder, key, manifest["summary"])
        return self._finish(label, artifact, manifest["seconds"], True)

    def _finish(self, label: str, artifact: Artifact, seconds: float, cached: bool) -> Artifact:
        self._finished[artifact.key] = artifact
        self.records.append(StageRecord(label, seconds, cached, artifact.key))
        return artifact


def digest(*parts: Any) -> str:
    """Hash json-able values and dataclasses; equal for equal content on every machine."""
    text = json.dumps([FORMAT, *map(plain, parts)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """Dataclasses as dictionaries, everything else as it is."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _key(item: Artifact | str) -> str:
    return item.key if isinstance(item, Artifact) else item
