"""What finished runs say about the papers' claims: one Markdown table.

    python -m raydd.run +experiment=claims/cudd dataset.root=/data/cifar10
    python benchmarks/claims.py runs

Looks for sweeps of ``+experiment=claims/NAME`` in a storage and reads their trials; trains nothing.
Two arms are compared in pairs: trials of one run seed, whose networks start and are shown their
images alike. The mean of a run over its judge seeds is one value; the interval is Student's t over
the runs, so that it holds the spread of synthesis and of training. The spread of training alone,
between judge seeds of one run, is given beside it. Where runs were diagnosed (sampled curricula), a
second table has how far their curricula repeat each other and how many images a teacher of real
ones names right.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from raydd.ops.intervals import mean_and_interval, quantile
from raydd.report.arms import arm_of

CLAIMS = Path(__file__).with_suffix(".yaml")
EXPERIMENT = "+experiment=claims/"
POINT = 0.01  # a difference that matters, as a fraction
HEAD = "| claim | paper | better | worse | difference, points | runs x networks | verdict |"
DIAGNOSED = "| set | repeated, % | cosine within classes | named right, % | runs |"


@dataclass(frozen=True)
class Trial:
    """A finished run of a sweep.

    Attributes:
        arm: its name in the experiment.
        overrides: what it varies.
        ours: last-epoch accuracy of each judged network, [0, 1].
        random: the same of networks trained on random real images.
        diagnosis: of its curricula, see :func:`raydd.judge.diagnose.diagnose`.
    """

    arm: str
    overrides: Mapping[str, Any]
    ours: Sequence[float]
    random: Sequence[float]
    diagnosis: Mapping[str, Any] | None = None

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.overrides.get("seed", 0))


def read_trials(storage: Path) -> dict[str, list[Trial]]:
    """Finished trials of every experiment of claims below a storage."""
    found: dict[str, list[Trial]] = {}
    for record in sorted(storage.glob("*/sweep.json")):
        sweep = json.loads(record.read_text())
        names = [w.removeprefix(EXPERIMENT) for w in sweep["base"] if w.startswith(EXPERIMENT)]
        for name in names:
            trials = found.setdefault(name, [])
            trials += _trials(record.parent / "trials", sweep["arms"])
    return found


def _trials(folder: Path, arms: Mapping[str, Mapping[str, Any]]) -> list[Trial]:
    trials = []
    for path in sorted(folder.glob("*/report.json")):
        overrides = json.loads((path.parent / "trial.json").read_text())["overrides"]
        report = json.loads(path.read_text())
        best, arm = report["headline"], arm_of(overrides, arms) or ""
        values = best["distilled"]["values"], best["random"]["values"]
        trials.append(Trial(arm, overrides, *values, report.get("diagnosis")))
    return trials


def values_of(
    trials: Sequence[Trial], arm: str, beside: str, where: Mapping[str, Any]
) -> dict[int, list]:
    """Accuracies of each judged network by run seed; of equal trials the one with most counts.

    Args:
        trials: of an experiment.
        arm: whose; ``random`` is the baseline of the other, which has its images of each class.
        beside: the arm that it is compared with.
        where: overrides of the trials that count.
    """
    chosen = [t for t in trials if all(t.overrides.get(k) == v for k, v in where.items())]
    chosen.sort(key=lambda trial: len(trial.ours))
    if arm == "random":
        return {trial.seed: list(trial.random) for trial in chosen if trial.arm == beside}
    return {trial.seed: list(trial.ours) for trial in chosen if trial.arm == arm}


def spreads(values: Mapping[int, Sequence[float]]) -> tuple[float, float, float]:
    """Mean over runs, its 95 % half-width over runs, and that of training alone; fractions.

    Args:
        values: accuracies of the networks by run seed.
    """
    mean, half = mean_and_interval([float(np.mean(v)) for v in values.values()])
    inner = [np.var(v, ddof=1) for v in values.values() if len(v) > 1]
    count = sum(map(len, values.values()))
    if not inner:
        return mean, half, float("nan")
    freedom = count - len(values)
    return mean, half, float(quantile(freedom + 1) * np.sqrt(np.mean(inner) / count))


def judge_claim(difference: float, half: float) -> str:
    """Verdict on "more is better than less", from the paired difference and its half-width."""
    low, high = difference - half, difference + half
    if low > 0:
        return "holds"
    if high < POINT:
        return "does not hold" if high > 0 else "the opposite holds"
    return "cannot tell"


def claims_of(claims: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """An experiment's claims: a claim for each combination of what its ``where`` lists.

    Args:
        claims: of all experiments; ``{like: NAME, said: WORDS}`` are those of another one, whose
            sentences end with the words.
        name: whose.
    """
    written, words = written_claims(claims, name)
    out = []
    for claim in written:
        where = {k: v if isinstance(v, list) else [v] for k, v in claim.get("where", {}).items()}
        points = (dict(zip(where, values, strict=True)) for values in product(*where.values()))
        sentence = claim["claim"] + words
        out += [{**claim, "claim": sentence, "where": point} for point in points]
    return out


def written_claims(claims: Mapping[str, Any], name: str) -> tuple[list[dict[str, Any]], str]:
    """An experiment's claims as they are written, and what its sentences end with."""
    own = claims[name]
    if isinstance(own, Mapping):
        return claims[own["like"]], f" {own['said']}"
    return own, ""


def line_of(claim: Mapping[str, Any], trials: Sequence[Trial]) -> str | None:
    """A row of the table; None where no two runs can be compared."""
    where = claim.get("where", {})
    sides = claim["more"], claim["less"]
    more, less = (values_of(trials, *pair, where) for pair in (sides, sides[::-1]))
    pairs = sorted(more.keys() & less.keys())
    if len(pairs) < 2:
        return None
    # the networks of equal judge seeds: all that every run has
    networks = min(len(side[seed]) for side in (more, less) for seed in pairs)
    more, less = ({seed: side[seed][:networks] for seed in pairs} for side in (more, less))
    gaps = [float(np.mean(more[seed]) - np.mean(less[seed])) for seed in pairs]
    difference, half = mean_and_interval(gaps)
    shown = [_cell(arm, values) for arm, values in zip(sides, (more, less), strict=True)]
    cells = [
        _at(claim["claim"], where),
        claim["paper"],
        *shown,
        f"{100 * difference:+.1f} +- {100 * half:.1f}",
        f"{len(pairs)} x {networks}",
        f"**{judge_claim(difference, half)}**",
    ]
    return f"| {' | '.join(cells)} |"


def diagnoses(trials: Sequence[Trial], words: str = "") -> list[str]:
    """Rows of the second table: each arm at each point of the sweep's space, and what differs."""
    points: dict[str, dict[int, Mapping[str, Any]]] = {}
    for trial in trials:
        found = trial.diagnosis
        if found and found["cross_mean"] is not None:  # several curricula
            name = _at(f"`{trial.arm}`{words}", _point(trials, trial))
            points.setdefault(name, {})[trial.seed] = found
    return [_diagnosis_row(name, list(found.values())) for name, found in points.items()]


def _diagnosis_row(name: str, found: Sequence[Mapping[str, Any]]) -> str:
    repeated, half = mean_and_interval([100 * item["cross_mean"] for item in found])
    cosine, spread = mean_and_interval([item["union"]["cosine"] for item in found])
    named, wide = mean_and_interval([100 * item["union"]["validity"] for item in found])
    cells = (
        f"{repeated:.0f} +- {half:.0f} | {cosine:.2f} +- {spread:.2f} | {named:.0f} +- {wide:.0f}"
    )
    return f"| {name} | {cells} | {len(found)} |"


def _point(trials: Sequence[Trial], trial: Trial) -> dict[str, Any]:
    """Of the sweep's space: what every trial overrides, but the seed."""
    return {
        key: value
        for key, value in trial.overrides.items()
        if key != "seed" and all(key in other.overrides for other in trials)
    }


def _at(name: str, point: Mapping[str, Any]) -> str:
    return ", ".join([name, *(f"{key.rpartition('.')[2]} {point[key]}" for key in point)])


def _table(head: str, rows: Sequence[str]) -> str:
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows])


def _cell(arm: str, values: Mapping[int, Sequence[float]]) -> str:
    mean, half, training = (100 * value for value in spreads(values))
    alone = "" if np.isnan(training) else f" (training {training:.1f})"
    return f"`{arm}` {mean:.1f} +- {half:.1f}{alone}"


def main() -> None:
    """Print the table of what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("storage", type=Path, help="folder of finished runs")
    parser.add_argument("--claims", type=Path, default=CLAIMS, help="what is claimed")
    arguments = parser.parse_args()
    claims, trials = yaml.safe_load(arguments.claims.read_text()), read_trials(arguments.storage)
    lines = [
        line_of(claim, trials.get(name, [])) for name in claims for claim in claims_of(claims, name)
    ]
    known = list(filter(None, lines))
    print(_table(HEAD, known))
    rows = [diagnoses(trials.get(name, []), written_claims(claims, name)[1]) for name in claims]
    if found := list(chain.from_iterable(rows)):
        print(f"\n{_table(DIAGNOSED, found)}")
    missing = [n for n in claims if not trials.get(n)]
    if missing:
        print(f"\nnot run: {', '.join(EXPERIMENT + name for name in missing)}")
    print(f"value: {len(known)} claims")


if __name__ == "__main__":
    main()
