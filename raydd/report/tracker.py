"""A run's live metrics, sent to TensorBoard, Weights & Biases or MLflow while it goes on."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple

from upath import UPath

from raydd.errors import Refused
from raydd.report.page import flatten, is_number
from raydd.store.tail import JournalTail

_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
_SECONDS = 15.0
_NAMES = ("title", "architecture", "images", "seed", "observer", "curriculum")
_POSITIONS = ("time", "stage", "unit", "epoch", "epochs", "step", "seconds", *_NAMES)


class Scalar(NamedTuple):
    """One number: what it is called, where on its curve it stands, and when it was written."""

    name: str
    value: float
    step: int
    time: float


def check_tracker(tracker: str) -> None:
    """Refuse a tracker whose package is not there, before any work."""
    package = _PACKAGES.get(tracker)
    if package and find_spec(package) is None:
        raise Refused(f"tracker={tracker} needs the package {package}: pip install {package}.")


@contextmanager
def tracking(
    tracker: str, folder: UPath, config: Mapping[str, Any]
) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Follow the journal of a run.

    Args:
        tracker: "none", "tensorboard", "wandb" or "mlflow".
        folder: of the run; its name is the run's there, too.
        config: nested.
    Yields:
        Takes what came of the run, numbers by name.
    """
    if tracker == "none":
        yield lambda results: None
        return
    send, close = _OPENERS[tracker](folder, config)
    tail, counts, stop = JournalTail(folder), Counter[str](), threading.Event()

    def follow() -> None:
        while not stop.wait(_SECONDS):
            send(scalars(tail.events(), counts))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    results: dict[str, float] = {}
    try:
        yield results.update
    finally:
        stop.set()
        thread.join()
        send(scalars(tail.events(), counts))
        close(results)


def scalars(events: Iterable[Mapping[str, Any]], counts: Counter[str]) -> list[Scalar]:
    """The numbers of some events of a journal.

    Args:
        events: in order of time; signs of life are passed over.
        counts: events so far of what has neither epochs nor steps; counted on.
    """
    found = []
    for event in events:
        if event.get("beat"):
            continue
        where = "/".join([event["stage"], *(str(event[name]) for name in _NAMES if name in event)])
        step = event.get("epoch", event.get("step", counts[where]))
        counts[where] += 1
        values = flatten({key: v for key, v in event.items() if key not in _POSITIONS})
        found += [
            Scalar(f"{where}/{key.replace('.', '/')}", float(value), int(step), event["time"])
            for key, value in values.items()
            if is_number(value) and not isinstance(value, bool)
        ]
    return found


Send = Callable[[list[Scalar]], None]
Close = Callable[[Mapping[str, float]], None]


def _open_tensorboard(folder: UPath, config: Mapping[str, Any]) -> tuple[Send, Close]:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))
    writer.add_text("config", "\n".join(f"    {k}: {v}" for k, v in flatten(config).items()))

    def send(found: list[Scalar]) -> None:
        for name, value, step, time in found:
            writer.add_scalar(name, value, step, walltime=time)
        writer.flush()

    def close(results: Mapping[str, float]) -> None:
        for name, value in results.items():
            writer.add_scalar(f"result/{name}", value)
        writer.close()

    return send, close


def _open_wandb(folder: UPath, config: Mapping[str, Any]) -> tuple[Send, Close]:
    import wandb

    run = wandb.init(project="raydd", name=folder.name, config=dict(config))

    def send(found: list[Scalar]) -> None:
        for name, value, step, _ in found:
            run.log({name: value, f"{name}/at": step})

    def close(results: Mapping[str, float]) -> None:
        run.summary.update(dict(results))
        run.finish()

    return send, close


def _open_mlflow(folder: UPath, config: Mapping[str, Any]) -> tuple[Send, Close]:
    import mlflow

    mlflow.set_experiment("raydd")
    run = mlflow.start_run(run_name=folder.name)
    client, run_id = mlflow.MlflowClient(), run.info.run_id
    for key, value in flatten(config).items():
        client.log_param(run_id, key, value)

    def send(found: list[Scalar]) -> None:
        for name, value, step, time in found:
            client.log_metric(run_id, name, value, timestamp=round(1000 * time), step=step)

    def close(results: Mapping[str, float]) -> None:
        for name, value in results.items():
            client.log_metric(run_id, f"result/{name}", value)
        mlflow.end_run()

    return send, close


_OPENERS: dict[str, Callable[[UPath, Mapping[str, Any]], tuple[Send, Close]]] = {
    "tensorboard": _open_tensorboard,
    "wandb": _open_wandb,
    "mlflow": _open_mlflow,
}
