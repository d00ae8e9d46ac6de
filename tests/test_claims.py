"""The table of claims: every experiment composes, its statistics are those of the definition."""

import importlib
import json
import math
from pathlib import Path

import pytest
import yaml

from raydd.config.compose import config_dir
from raydd.config.options import describe_choices
from raydd.config.sweep import draw_trials, parse_space
from raydd.config.tree import compose_config
from raydd.sweep.sweep import trial_config

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in (config_dir() / "experiment" / "claims").glob("*.yaml"))
CLAIMS = yaml.safe_load((BENCHMARKS / "claims.yaml").read_text())


@pytest.fixture
def claims(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("claims")


@pytest.mark.parametrize("name", NAMES)
def test_every_trial_of_an_experiment_composes_and_all_share_a_teacher(name):
    words = [f"+experiment=claims/{name}", "dataset.root=/x"]
    sweep = compose_config(words).sweep
    trials = draw_trials(sweep, parse_space(sweep.space), 0)
    points = math.prod(len(domain.values) for domain in parse_space(sweep.space).values())
    assert len(trials) == points * max(1, len(sweep.arms)) * sweep.seeds
    first = [trial for trial in trials if trial["seed"] == 0]
    configs = [trial_config(words, trial) for trial in first]
    assert all(config.teacher.seed == 0 for config in configs)
    assert len({config.method.ipc for config in configs}) <= 3


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_names_arms_that_its_experiment_has(name, claims):
    sweep = compose_config([f"+experiment=claims/{name}", "dataset.root=/x"]).sweep
    found = claims.claims_of(CLAIMS, name)
    assert found
    for claim in found:
        assert {claim["more"], claim["less"]} <= {*sweep.arms, "random"}
        assert all(value in sweep.space[key] for key, value in claim.get("where", {}).items())


def test_the_help_names_nested_experiments_and_no_bases():
    text = describe_choices(["+experiment"])
    assert "  claims/cudd " in text
    assert "ccfs_base" not in text


def make_run(folder, overrides, ours, random):
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text(json.dumps({"overrides": overrides}))
    best = {"distilled": {"values": ours}, "random": {"values": random}}
    (folder / "report.json").write_text(json.dumps({"headline": best}))


def test_pairs_of_equal_seeds_are_compared(claims, tmp_path):
    arms = {"all": {}, "none": {"method.x": 0}}
    sweep = tmp_path / "s"
    sweep.mkdir()
    record = {"base": ["+experiment=claims/toy"], "arms": arms}
    (sweep / "sweep.json").write_text(json.dumps(record))
    for seed, (high, low) in enumerate([(0.50, 0.48), (0.60, 0.57), (0.40, 0.39)]):
        pair = [high - 0.01, high + 0.01]
        make_run(sweep / "trials" / f"a{seed}", {"seed": seed}, pair, [0.3, 0.3])
        lower = {"method.x": 0, "seed": seed}
        make_run(sweep / "trials" / f"n{seed}", lower, [low, low], [0.2, 0.2])
    trials = claims.read_trials(tmp_path)["toy"]
    line = claims.line_of({"claim": "c", "paper": "p", "more": "all", "less": "none"}, trials)
    # 2, 3 and 1 points: mean 2, deviation 1, t(2) = 4.303, so 4.303 / sqrt(3)
    assert "+2.0 +- 2.5 | 3 x 2 | **cannot tell**" in line
    mean, half, training = claims.spreads(claims.values_of(trials, "all", "none", {}))
    assert mean == pytest.approx(0.5)
    assert half == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)
    # each pair has a variance of 2e-4; three degrees of freedom, six networks
    assert training == pytest.approx(3.182 * (2e-4 / 6) ** 0.5, rel=1e-3)
    random = claims.line_of({"claim": "c", "paper": "p", "more": "all", "less": "random"}, trials)
    assert "`random` 30.0 +- 0.0" in random
    other = claims.line_of({"claim": "c", "paper": "p", "more": "random", "less": "none"}, trials)
    assert "`random` 20.0 +- 0.0" in other  # drawn as the other arm's images are


def test_what_curricula_repeat_stands_beside_the_claims(claims):
    def diagnosed(arm, ipc, seed, cross, cosine):
        union = {"cosine": cosine, "validity": 0.9}
        overrides = {"method": arm, "method.ipc": ipc, "seed": seed}
        return claims.Trial(arm, overrides, [0.5], [0.5], {"cross_mean": cross, "union": union})

    trials = [diagnosed("acs", 2, seed, 0.7 + 0.1 * seed, 0.9) for seed in range(3)]
    trials += [diagnosed("dit", 1, 0, None, 0.9), claims.Trial("dit", {"method.ipc": 5}, [1], [1])]
    # deviation 10 points, t(2) = 4.303
    assert claims.diagnoses(trials) == ["| `acs`, ipc 2 | 80 +- 25 | 0.90 +- 0.00 | 90 +- 0 | 3 |"]
    assert claims.diagnoses(trials, " at 16")[0].startswith("| `acs` at 16, ipc 2 |")


def test_a_list_is_a_claim_for_each_of_it(claims):
    one = {"claim": "c", "where": {"a": [1, 2], "b": 3}}
    found = claims.claims_of({"toy": [one, {"claim": "d"}]}, "toy")
    assert [claim["where"] for claim in found] == [{"a": 1, "b": 3}, {"a": 2, "b": 3}, {}]


def test_an_experiment_may_take_the_claims_of_another(claims):
    known = {"toy": [{"claim": "a beats b", "more": "a"}], "big": {"like": "toy", "said": "at 16"}}
    assert claims.claims_of(known, "big") == [
        {"claim": "a beats b at 16", "more": "a", "where": {}}
    ]


def test_of_equal_trials_the_one_with_most_networks_counts(claims):
    trials = [claims.Trial("ccfs", {"seed": 0}, [0.1 * n] * n, [0.01 * n] * n) for n in (2, 6, 4)]
    assert claims.values_of(trials, "ccfs", "random", {}) == {0: [pytest.approx(0.6)] * 6}
    assert claims.values_of(trials, "random", "ccfs", {}) == {0: [pytest.approx(0.06)] * 6}


def test_runs_are_compared_by_the_judge_seeds_that_both_have(claims):
    trials = [claims.Trial("a", {"seed": s}, [0.5, 0.6 + s / 100, 0.9], [0]) for s in range(2)]
    trials += [claims.Trial("b", {"seed": s}, [0.4, 0.5], [0]) for s in range(2)]
    line = claims.line_of({"claim": "c", "paper": "p", "more": "a", "less": "b"}, trials)
    assert "`a` 55.2 " in line
    assert "| +10.2 +- 3.2 | 2 x 2 |" in line  # 10.0 and 10.5: 12.706 * 0.354 / sqrt(2)


@pytest.mark.parametrize(
    ("difference", "half", "verdict"),
    [
        (0.03, 0.02, "holds"),
        (0.00, 0.005, "does not hold"),
        (-0.03, 0.02, "the opposite holds"),
        (0.00, 0.03, "cannot tell"),
    ],
)
def test_verdicts(claims, difference, half, verdict):
    assert claims.judge_claim(difference, half) == verdict
