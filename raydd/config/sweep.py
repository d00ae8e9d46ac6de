"""What a sweep varies: domains of configuration keys, and how trials are drawn from them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep
from hydra.errors import HydraException

from raydd.ops.configs import LATER, check_at_least_one, check_choices, later
from raydd.ops.seeds import derive_seed

SEARCHES = ("grid", "random", "bayes")


@dataclass
class SweepConfig:
    """A sweep: the same driver once per trial.

    Attributes:
        name: in the sweep's folder name.
        search: "grid" (every combination), "random" or "bayes" (Optuna's tree-structured Parzen
            estimator; needs the package optuna).
        space: values of configuration keys: a list, or text in Hydra's notation of sweeps, as
            ``range(1,10,2)``, ``interval(0.1,0.4)`` or ``tag(log,interval(1e-3,1))``.
        arms: named sets of keys and values that belong together, as an ablation's; each is tried
            with every combination of the space. No arms are one that changes nothing.
        samples: combinations that are tried, of a random or Bayesian search.
        seeds: trials per combination; they differ in the run seed, 0 ... seeds - 1.
        early_stop: give trials up by successive halving (ASHA) on the curve of their first judged
            network.
        grace_percent: part of the epochs that every trial is judged for at least.
        reduction: of as many trials one goes on at each halving.
        concurrent: trials at once; null computes it from the cluster.
        choose: name the best combination at the end, by held-out real images.
    """

    name: str = "grid"
    search: str = "grid"
    space: dict[str, Any] = field(default_factory=dict)
    arms: dict[str, dict[str, Any]] = field(default_factory=dict, metadata=LATER)
    samples: int = 10
    seeds: int = 1
    early_stop: bool = False
    grace_percent: int = 25
    reduction: int = 3
    concurrent: int | None = None
    choose: bool = later(False)

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_choices(self, {"search": SEARCHES})
        check_at_least_one(self, "samples", "seeds", "grace_percent")
        if self.reduction < 2 or self.grace_percent > 100:
            raise ValueError("sweep.reduction must be at least 2, sweep.grace_percent at most 100")
        if self.concurrent is not None and self.concurrent < 1:
            raise ValueError(f"sweep.concurrent must be at least 1, got {self.concurrent}")
        if self.search == "bayes" and self.seeds > 1:
            raise ValueError("sweep.search=bayes asks one seed per combination: use sweep.seeds=1")
        if self.search == "bayes" and self.arms:
            raise ValueError(
                "sweep.search=bayes chooses values of single keys: leave out sweep.arms"
            )

    @property
    def is_choosing(self) -> bool:
        """Whether what was measured decides what is tried, or goes on."""
        return self.early_stop or self.choose or self.search == "bayes"


@dataclass(frozen=True)
class Choice:
    """One of some values, each as likely."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """The value at a share of the way, in [0, 1)."""
        return self.values[int(share * len(self.values))]


@dataclass(frozen=True)
class Interval:
    """A number in [low, high], uniform, or uniform in its logarithm, of a few digits."""

    low: float
    high: float
    is_log: bool = False
    is_integer: bool = False

    def at(self, share: float) -> float:
        """The number at a share of the way, in [0, 1)."""
        if self.is_integer:  # both ends are as likely as the rest
            low, high = self.low - 0.5, self.high + 0.5
            return min(round(_between(low, high, share, self.is_log)), int(self.high))
        value = _between(self.low, self.high, share, self.is_log)
        return min(max(float(f"{value:.{self._digits}g}"), self.low), self.high)

    @property
    def _digits(self) -> int:
        """Significant ones that leave a hundred steps between the ends at least."""
        first = math.floor(math.log10(max(abs(self.low), abs(self.high))))
        last = math.floor(math.log10((self.high - self.low) / 100))
        return 1 + first - last


Domain = Choice | Interval


def draw_trials(
    config: SweepConfig, space: Mapping[str, Domain], seed: int
) -> list[dict[str, Any]]:
    """Combinations of a grid or a random search, with every arm and every run seed; none twice.

    Args:
        config: how many.
        space: domain of each key; a grid needs choices.
        seed: of the random search.
    """
    if config.search == "grid":
        axes = [[(key, value) for value in _values(domain)] for key, domain in space.items()]
        points = [dict(point) for point in product(*axes)]
    else:
        points = [_draw(space, seed, number) for number in range(config.samples)]
    points = [{**arm, **point} for arm in config.arms.values() or [{}] for point in points]
    if config.seeds > 1:
        points = [{**point, "seed": run} for point in points for run in range(config.seeds)]
    return [point for i, point in enumerate(points) if point not in points[:i]]


def _values(domain: Domain) -> Sequence[Any]:
    return domain.values if isinstance(domain, Choice) else ()


def _draw(space: Mapping[str, Domain], seed: int, number: int) -> dict[str, Any]:
    draws = {key: derive_seed(seed, "sweep", number, key) for key in space}
    shares = {key: np.random.default_rng(draw).random() for key, draw in draws.items()}
    return {key: domain.at(shares[key]) for key, domain in space.items()}


def _between(low: float, high: float, share: float, is_log: bool) -> float:
    if is_log:
        return math.exp(_between(math.log(low), math.log(high), share, False))
    return low + (high - low) * share


TRACKERS = ("none", "tensorboard", "wandb", "mlflow")
PREFIX = "sweep.space."


def split_space(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Take the words ``sweep.space.KEY=DOMAIN`` out of a command line.

    Returns:
        The other words, and the text of each key's domain.
    """
    space = {}
    for word in words:
        if word.startswith(PREFIX):
            key, _, text = word.removeprefix(PREFIX).partition("=")
            space[key] = text
    return [word for word in words if not word.startswith(PREFIX)], space


def parse_space(space: Mapping[str, Any]) -> dict[str, Domain]:
    """Domains of a space.

    Args:
        space: lists, or text in Hydra's notation, by key.
    Raises:
        ValueError: one sentence that names the key.
    """
    return {key: _parse(key, value) for key, value in space.items()}


def spell(key: str, value: Any) -> str:
    """The override that sets a key to a value."""
    return f"{key}={_spell(value)}"


def _parse(key: str, value: Any) -> Domain:
    if isinstance(value, str):
        try:
            value = OverridesParser.create().parse_override(f"x={value}").value()
        except HydraException as error:
            raise ValueError(
                f"{PREFIX}{key} takes a list or interval(low,high), got {value!r}."
            ) from error
    if isinstance(value, IntervalSweep):
        return _interval(key, value)
    if isinstance(value, RangeSweep):
        value = list(value.range())
    if isinstance(value, ChoiceSweep):
        value = [_plain(item) for item in value.list]
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError(f"{PREFIX}{key} has no values.")
    return Choice(tuple(_plain(item) for item in values))


def _interval(key: str, found: IntervalSweep) -> Interval:
    low, high = found.start, found.end
    if low is None or high is None or not low < high:
        raise ValueError(f"{PREFIX}{key}: an interval must rise, got {low} to {high}.")
    if "log" in found.tags and low <= 0:
        raise ValueError(f"{PREFIX}{key}: a logarithmic interval starts above 0, got {low}.")
    return Interval(low, high, "log" in found.tags, isinstance(low, int) and isinstance(high, int))


def _plain(value: Any) -> Any:
    """Quoted strings of Hydra's grammar as strings."""
    return getattr(value, "text", value)


def _spell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_spell(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_spell, value))}]"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return repr(value)
