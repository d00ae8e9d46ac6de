"""Experiment trackers, through the callbacks that Ray Tune has for them."""

from importlib.util import find_spec
from typing import Any

from raydd.engine.errors import Refused

TRACKERS = ("none", "tensorboard", "wandb", "mlflow")


def tracker_callbacks(tracker: str, group: str) -> list[Any]:
    """Tune callbacks that send every trial's configuration and metrics to a tracker.

    Args:
        tracker: one of TRACKERS; TensorBoard's files are written by Tune in any case.
        group: what the tracker calls the sweep.
    """
    check_tracker(tracker)
    if tracker == "wandb":
        from ray.air.integrations.wandb import WandbLoggerCallback

        return [WandbLoggerCallback(project="raydd", group=group)]
    if tracker == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        return [MLflowLoggerCallback(experiment_name=group)]
    return []


def check_tracker(tracker: str) -> None:
    """Refuse a tracker whose package is not there, before any work."""
    package = {"wandb": "wandb", "mlflow": "mlflow"}.get(tracker)
    if package and find_spec(package) is None:
        raise Refused(f"tracker={tracker} needs the package {package}: pip install {package}.")
