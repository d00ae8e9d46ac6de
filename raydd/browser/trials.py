"""Runs and sweeps on disk as trial records: what the result browser knows of them.

Nothing here needs the run to be over: a trial is whatever its folder says at this moment.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from upath import UPath

from raydd.browser.curves import JudgeTraining, journal_trainings, report_trainings
from raydd.errors import Refused
from raydd.report.arms import varied_by
from raydd.store.failure import ERROR
from raydd.store.files import is_local, uncached
from raydd.store.journal import read_events

STATUSES = ("finished", "unfinished", "stopped", "failed")
_READERS = 16  # threads: small files of an object store answer slowly, but many at once
_ERROR_CHARACTERS = 4000


@dataclass(frozen=True)
class Sweep:
    """A sweep folder.

    Attributes:
        name: as it calls itself.
        search: "grid", "random", "asha" or "bayes".
        planned: how many trials it will have; None where that is open.
        space: the swept keys, as the configuration spells them.
        arms: named sets of keys and values that belong together.
    """

    name: str
    search: str
    planned: int | None
    space: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Trial:
    """A run, alone or in a sweep.

    Attributes:
        name: of its folder.
        folder: where it lies.
        path: the same below the folder that was asked for.
        status: one of ``STATUSES``; "unfinished" is running or killed, nobody can tell which.
        sweep: name of its sweep, or None.
        config: what was asked for, nested; empty where it cannot be read.
        overrides: what the sweep set, by dotted key.
        varied: the same in few words: ``arm``, where the sweep has arms, and what no arm sets.
        report: ``report.json``, of finished trials only.
        trainings: the judge's networks: of the report, else as far as the journal tells.
        heard: when its journal last grew, seconds since the epoch; None: finished, or no journal.
        error: what went wrong; None where nothing did.
    """

    name: str
    folder: UPath
    path: str
    status: str
    sweep: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    varied: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] | None = None
    trainings: Sequence[JudgeTraining] = ()
    heard: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class _Place:
    folder: UPath
    path: str
    sweep: Sweep | None


def read_trials(roots: Iterable[str]) -> tuple[list[Trial], list[Sweep]]:
    """Read every run and sweep in some folders.

    Args:
        roots: runs, sweeps, or storages that hold them; local or URIs.
    Returns:
        The trials, in the order of the roots and then of their names, each folder once; the sweeps.
    Raises:
        Refused: a root that does not exist, cannot be reached or holds neither run nor sweep.
    """
    places: dict[str, _Place] = {}
    sweeps: dict[str, Sweep] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        for name in roots:
            found = _look_into(open_folder(name), pool)
            places |= {str(place.folder): place for place in found[0]}
            sweeps |= found[1]
        trials = [trial for trial in pool.map(_read_trial, places.values()) if trial]
    return trials, list(sweeps.values())


def open_folder(name: str) -> UPath:
    """The folder of a name.

    Raises:
        Refused: it does not exist or its store cannot be reached.
    """
    try:
        folder = uncached(UPath(name).absolute())
        exists = folder.is_dir() if is_local(folder) else any(folder.iterdir())
    except Exception as error:  # every store has its own kinds
        raise Refused(f"{name} cannot be reached: {error}.") from error
    if not exists:
        raise Refused(f"{name} is no folder; name a run, a sweep or a storage that holds them.")
    return folder


def _look_into(root: UPath, pool: ThreadPoolExecutor) -> tuple[list[_Place], dict[str, Sweep]]:
    """A root's runs, and sweeps with their trials."""
    kind = _kind(root)
    children = [] if kind else [child for child in _children(root) if child.name != "stages"]
    folders = [root] if kind else children
    kinds = [kind] if kind else list(pool.map(_kind, children))
    places, sweeps = [], {}
    for folder, each in zip(folders, kinds, strict=True):
        if each == "run":
            places.append(_Place(folder, _below(folder, root), None))
        elif each == "sweep":
            sweep = _read_sweep(folder)
            sweeps[str(folder)] = sweep
            trials = _children(folder / "trials")
            runs = zip(trials, pool.map(_kind, trials), strict=True)
            places += [_Place(t, _below(t, root), sweep) for t, is_run in runs if is_run]
    if not places and not sweeps:
        raise Refused(f"{root} holds neither a run (config.json) nor a sweep (sweep.json).")
    return places, sweeps


def _kind(folder: UPath) -> str | None:
    if (folder / "sweep.json").exists():
        return "sweep"
    return "run" if (folder / "config.json").exists() else None


def _children(folder: UPath) -> list[UPath]:
    found = folder.iterdir() if folder.exists() else []
    return sorted(found, key=lambda path: path.name)


def _below(folder: UPath, root: UPath) -> str:
    return str(folder).removeprefix(str(root.parent)).strip("/")


def _read_sweep(folder: UPath) -> Sweep:
    try:
        record = _read_object(folder / "sweep.json") or {}
    except ValueError:  # its trials are read all the same
        record = {}
    space, arms = (v if isinstance(v, Mapping) else {} for v in map(record.get, ("space", "arms")))
    return Sweep(
        str(record.get("name") or folder.name),
        str(record.get("search") or "unknown"),
        record.get("trials"),
        space,
        arms,
    )


def _read_trial(place: _Place) -> Trial | None:
    """A trial; None for what `python -m raydd.evaluate` left, which is a judgement of another."""
    folder, sweep = place.folder, place.sweep
    name, arms = (sweep.name, sweep.arms) if sweep else (None, {})
    try:
        config = _read_object(folder / "config.json") or {}
        marks = _read_object(folder / "trial.json") or {}
        report = _read_object(folder / "report.json")
    except ValueError as error:
        return Trial(folder.name, folder, place.path, "failed", name, error=str(error))
    if report and report.get("kind") == "evaluation":
        return None
    heard = None
    if report:
        trainings = report_trainings(report)
    else:
        trainings, heard = journal_trainings(read_events(folder))
    failure = None if report else _read_error(folder / ERROR)
    status = "finished" if report else "failed" if failure else "unfinished"
    if status == "unfinished" and marks.get("stopped"):
        status = "stopped"
    overrides = marks.get("overrides") or {}
    return Trial(
        folder.name, folder, place.path, status, marks.get("sweep") or name, config,
        overrides, varied_by(overrides, arms), report, trainings, heard, failure,
    )  # fmt: skip


def _read_error(path: UPath) -> str | None:
    """The end of a traceback: its last line is the message."""
    try:
        return path.read_bytes()[-_ERROR_CHARACTERS:].decode(errors="replace").strip() or "unknown"
    except FileNotFoundError:
        return None


def _read_object(path: UPath) -> dict[str, Any] | None:
    """A json object, or None where there is no such file; ValueError for anything else."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is damaged: it is no json object.")
    return content
