"""From trial records to the one json block of the result browser's page.

The page itself computes means and intervals, for it does so over whatever its filter leaves; the
quantiles that it needs are in the block.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from raydd.browser.trials import Sweep, Trial
from raydd.ops.intervals import quantile
from raydd.report.run_page import flatten

IPC = "method.ipc"
# They have columns of their own, and a name says nothing.
_NO_COLUMNS = ("seed", "name", "method", "method.name", "dataset", "dataset.name")
_MOST_SWEPT, _MOST_OTHER = 12, 6
_MOST_CHARACTERS = 40  # of a value that is worth a column


def page_model(
    trials: Sequence[Trial],
    sweeps: Sequence[Sweep],
    pictures: Sequence[Sequence[Mapping[str, Any]]],
    title: str,
    written: float,
) -> dict[str, Any]:
    """Everything the page knows, as finite json values.

    Args:
        trials: of :func:`raydd.browser.trials.read_trials`.
        sweeps: of the same.
        pictures: for every trial its sheets, see :mod:`raydd.browser.pictures`.
        title: of the page.
        written: when, seconds since the epoch.
    Returns:
        ``keys`` (swept ones: key, label), ``common`` (configuration that all trials share, by
        dotted key), ``quantiles`` (by number of values), ``sweeps`` and ``trials``; a trial has the
        rest of its configuration and ``setting``, equal for trials that differ in their seed only.
    """
    flat = [flatten(trial.config) for trial in trials]
    common = common_values(flat)
    keys = swept_keys(trials, flat)
    most = max([len(trials), *(len(trial.trainings) for trial in trials)], default=0)
    model = {
        "title": title,
        "written": written,
        "sweeps": [asdict(sweep) for sweep in sweeps],
        "keys": [{"key": key, "label": label} for key, label in labels(keys).items()],
        "common": common,
        "quantiles": [None, None, *(quantile(n) for n in range(2, most + 1))],
        "trials": [
            _entry(*parts, common, keys)
            for parts in zip(trials, flat, settings(flat), pictures, strict=True)
        ],
    }
    return finite(model)


def swept_keys(trials: Sequence[Trial], flat: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys worth a column: images per class, what sweeps set, what else tells runs of a kind apart.

    Args:
        trials: in any number.
        flat: their configurations by dotted key.
    Returns:
        At most 12 dotted keys, images per class first; of keys that no sweep set, so many that
        there are 6 together.
    """
    swept = dict.fromkeys([IPC, *(key for trial in trials for key in trial.varied)])
    kinds: dict[tuple[Any, Any], list[Mapping[str, Any]]] = {}
    for trial, config in zip(trials, flat, strict=True):
        if not trial.overrides:
            kind = (config.get("method.name"), config.get("dataset.name"))
            kinds.setdefault(kind, []).append(config)
    apart = [sorted(differing(configs), key=_is_far) for configs in kinds.values()]
    turns = [key for turn in zip_longest(*apart) for key in turn if key]  # every kind has a say
    short = [key for key in turns if all(_is_short(config.get(key)) for config in flat)]
    named = [key for key in swept if key not in _NO_COLUMNS][:_MOST_SWEPT]
    other = [key for key in dict.fromkeys(short) if key not in (*_NO_COLUMNS, *named)]
    return named + other[: max(0, _MOST_OTHER - len(named))]


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys that do not have one value in all of some flat configurations."""
    shared = common_values(configs)
    return list(dict.fromkeys(key for config in configs for key in config if key not in shared))


def common_values(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all of some flat configurations have, with the same value."""
    known = [config for config in configs if config]  # those that could not be read say nothing
    if not known:
        return {}
    first, *others = known
    return {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }


def settings(flat: Sequence[Mapping[str, Any]]) -> list[int]:
    """A number for every configuration; the same for those that differ in their seed only."""
    numbers: dict[str, int] = {}
    found = []
    for position, config in enumerate(flat):
        rest = {key: value for key, value in config.items() if key != "seed"}
        text = json.dumps(rest, sort_keys=True) if rest else f"unreadable {position}"
        found.append(numbers.setdefault(text, len(numbers)))
    return found


def labels(keys: Iterable[str]) -> dict[str, str]:
    """The shortest ends of dotted keys that tell them apart, e.g. ``alpha`` of method.alpha."""
    parts = {key: key.split(".") for key in keys}
    length = dict.fromkeys(parts, 1)

    def name(key: str) -> str:
        return ".".join(parts[key][-length[key] :])

    while True:
        names = [name(key) for key in parts]
        twice = [
            key for key in parts if names.count(name(key)) > 1 and length[key] < len(parts[key])
        ]
        if not twice:
            return {key: name(key) for key in parts}
        length |= {key: length[key] + 1 for key in twice}


def finite(value: Any) -> Any:
    """The same json values with None for what json cannot say: infinities and nan."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _entry(
    trial: Trial,
    config: Mapping[str, Any],
    setting: int,
    pictures: Sequence[Mapping[str, Any]],
    common: Mapping[str, Any],
    keys: Sequence[str],
) -> dict[str, Any]:
    report = trial.report or {}
    return {
        "name": trial.name,
        "path": trial.path,
        "status": trial.status,
        "sweep": trial.sweep,
        "heard": trial.heard,
        "error": trial.error,
        "method": config.get("method.name") or report.get("method") or "unknown",
        "dataset": config.get("dataset.name") or report.get("dataset") or "unknown",
        "seed": config.get("seed"),
        "setting": setting,
        "values": {key: _short(trial.varied.get(key, config.get(key))) for key in keys},
        "config": {key: value for key, value in config.items() if key not in common},
        "overrides": trial.overrides,
        "result": _result(report),
        "trainings": [_training(training) for training in trial.trainings],
        "stages": report.get("stages") or [],
        "bytes": report.get("bytes") or {},
        "teacher": report.get("teacher"),
        "images": report.get("num_images"),
        "classes": report.get("num_classes"),
        "pictures": pictures,
    }


def _result(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Accuracies of the judge's seeds, [0, 1]; None: not finished, or not judged."""
    headline = report.get("headline")
    if not headline:
        return None
    values = {images: headline[images]["values"] for images in ("distilled", "random")}
    return {"architecture": headline["architecture"], **values}


def _training(training: Any) -> dict[str, Any]:
    fields = asdict(training)
    for name in ("top1", "loss"):  # figures that no plot shows only make the page larger
        fields[name] = [[epoch, float(f"{value:.5g}")] for epoch, value in fields[name]]
    return fields


def _short(value: Any) -> Any:
    """A value as a column shows it and an axis places it: numbers stay numbers."""
    if value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value)


def _is_short(value: Any) -> bool:
    return not isinstance(value, list) and len(str(value)) <= _MOST_CHARACTERS


def _is_far(key: str) -> bool:
    """Whether a key does not belong to the method, which is looked at first."""
    return not key.startswith("method.")
