"""Trials under Ray Tune: nothing is built twice, repeated or left behind."""

import collections
import time

import pytest
import ray
from ray import cloudpickle
from ray.util import placement_group_table
from upath import UPath

import sweep_trials
from raydd.config.sweep import Choice, Interval, SweepConfig, draw_trials
from raydd.store.failure import ERROR
from raydd.sweep.locks import make_keeper, stage_guard
from raydd.sweep.relay import REPORT, Relay, trial_name
from raydd.sweep.tune import TUNE, run_trials

cloudpickle.register_pickle_by_value(sweep_trials)  # workers do not find modules of the tests

POINTS = [{"quality": quality} for quality in (0.5, 0.6, 0.7)]


def lines(path):
    return collections.Counter(path.read_text().split()) if path.exists() else {}


def sweep(folder, points=POINTS, config=None, space=None, concurrent=2, **trial):
    work = ray.put(sweep_trials.SmallTrial(**trial))
    relay = Relay(UPath(folder / "trials"), work, make_keeper(), concurrent, 0)
    return run_trials(relay, points, space or {}, config or SweepConfig(), UPath(folder), "none", 0)


def wait_until_free(cpus):
    """CPUs, groups and actors are given back within seconds."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        groups = [g for g in placement_group_table().values() if g["state"] == "CREATED"]
        if ray.available_resources().get("CPU") == cpus and not groups:
            return True
        time.sleep(0.5)
    return False


@pytest.fixture(scope="module")
def finished(ray4, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return folder, sweep(folder)


def test_all_trials_are_run_and_tune_leaves_its_files(finished):
    folder, grid = finished
    assert sorted(grid[i].metrics["top1"] for i in range(len(grid))) == [0.5, 0.6, 0.7]
    for name in map(trial_name, POINTS):
        assert (folder / "trials" / name / REPORT).exists()
        found = {path.name.split(".")[0] for path in (folder / TUNE / name).iterdir()}
        assert {"result", "progress", "params", "events"} <= found


def test_a_stage_that_trials_need_at_the_same_time_is_built_once(finished):
    assert lines(finished[0] / "built") == {"shared": 1}


def test_the_same_command_repeats_no_finished_trial(finished):
    folder, _ = finished
    again = sweep(folder)
    assert len(again) == 3
    assert lines(folder / "attempts") == {"0.5": 1, "0.6": 1, "0.7": 1}


@pytest.mark.slow
def test_a_failed_trial_says_why_and_is_tried_again(ray4, tmp_path):
    (tmp_path / "broken").touch()
    error = tmp_path / "trials" / trial_name({"quality": 0.6}) / ERROR
    assert sweep(tmp_path).num_errors == 1
    assert "this trial is broken" in error.read_text()
    (tmp_path / "broken").unlink()
    assert sweep(tmp_path).num_errors == 0
    assert not error.exists()
    assert lines(tmp_path / "attempts") == {"0.5": 1, "0.6": 2, "0.7": 1}


@pytest.mark.slow
@pytest.mark.parametrize("is_nested", [False, True])
def test_early_stopping_leaves_nothing_behind(ray4, tmp_path, is_nested):
    cpus = ray.cluster_resources()["CPU"]
    assert wait_until_free(cpus)
    config = SweepConfig(early_stop=True, grace_percent=25, reduction=2)
    points = [{"quality": quality} for quality in (0.9, 0.3, 0.2, 0.1)]
    sweep(tmp_path, points, config, is_nested=is_nested, seconds=2.0, concurrent=1)
    reports = {path.parent.name for path in tmp_path.glob(f"trials/*/{REPORT}")}
    assert trial_name(points[0]) in reports
    assert 1 <= len(reports) < 4  # who is worse than the first is given up
    assert wait_until_free(cpus)


@pytest.mark.slow
def test_a_bayesian_search_draws_from_the_space(ray4, tmp_path):
    config = SweepConfig(search="bayes", samples=3)
    grid = sweep(tmp_path, [], config, {"quality": Interval(0.1, 0.2)}, seconds=0.0)
    values = [grid[i].metrics["top1"] for i in range(len(grid))]
    assert len(set(values)) == 3
    assert all(0.1 <= value <= 0.2 for value in values)


def test_who_waits_takes_the_lock_of_a_dead_process(ray4):
    class Holder:
        def ping(self):
            pass

        def hold(self, keeper):
            me = ray.get_runtime_context().current_actor
            stage_guard(keeper, "dead", me)("key").__enter__()

    keeper = make_keeper()
    holder = ray.remote(num_cpus=0)(Holder).remote()
    ray.get(holder.hold.remote(keeper))
    ray.kill(holder)
    heir = ray.remote(num_cpus=0)(Holder).remote()
    with stage_guard(keeper, "alive", heir)("key"):
        pass


def test_a_grid_holds_every_combination_and_every_seed():
    space = {"a": Choice((1, 2)), "b": Choice(("x", "y", "x"))}
    points = draw_trials(SweepConfig(seeds=2), space, 0)
    assert len(points) == 2 * 2 * 2
    assert points[:2] == [{"a": 1, "b": "x", "seed": 0}, {"a": 1, "b": "x", "seed": 1}]


def test_random_draws_stay_in_their_domains_and_follow_the_seed():
    space = {"log": Interval(0.01, 100, is_log=True), "whole": Interval(1, 3, is_integer=True)}
    config = SweepConfig(search="random", samples=300)
    points = draw_trials(config, space, 0)
    assert points == draw_trials(config, space, 0) != draw_trials(config, space, 1)
    assert {point["whole"] for point in points} == {1, 2, 3}
    below = sum(point["log"] < 1 for point in points)
    assert 110 < below < 190  # half of the draws lie in the lower half of the logarithm
    assert all(0.01 <= point["log"] <= 100 for point in points)


@pytest.mark.parametrize(
    ("interval", "letters"),
    [(Interval(0.02, 0.3, True), 6), (Interval(-2.0, 3.0), 6), (Interval(1e3, 1001.0), 7)],
)
def test_a_drawn_number_is_as_short_as_people_write_it(interval, letters):
    drawn = {interval.at(number / 1000) for number in range(1000)}
    assert all(interval.low <= value <= interval.high for value in drawn)
    assert max(len(str(value)) for value in drawn) <= letters
    assert len(drawn) > 99


def test_every_arm_is_tried_with_every_combination_and_seed():
    arms = {"whole": {}, "without": {"method.x": 0, "method.y": [1]}}
    space = {"method.ipc": Choice((1, 2))}
    points = draw_trials(SweepConfig(arms=arms, seeds=2), space, 0)
    assert len(points) == 8
    assert {"method.x": 0, "method.y": [1], "method.ipc": 2, "seed": 1} in points
    assert {"method.ipc": 1, "seed": 0} in points
    assert draw_trials(SweepConfig(arms=arms), {}, 0) == list(arms.values())
