"""Hours of a plan: operations over rates, by hand and against a run that was made."""

import json
import math
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from raydd.config.tree import compose_config
from raydd.data.preprocessing import Preprocessing
from raydd.data.sources.counted import CountedSource
from raydd.data.sources.digits import DigitsSource
from raydd.engine.cost import Cost, Networks, TimedStep, Work, ask_step
from raydd.engine.generator.config import GeneratorConfig
from raydd.engine.generator.cost import transformer_step
from raydd.engine.passes.score import numbers_step
from raydd.engine.passes.statistics_sums import statistics_step
from raydd.engine.synthesis.observers import MatchConfig
from raydd.engine.synthesis.steps import match_step, recover_step
from raydd.engine.synthesis.teacher import SynthesisConfig
from raydd.engine.training.stage import train_step
from raydd.errors import Refused
from raydd.models.registry import ModelConfig
from raydd.models.sizes import forward_flops
from raydd.ops.recipe import Recipe
from raydd.plan import calibrate as plan_calibrate
from raydd.plan.calibrate import step_rate
from raydd.plan.machines import FETCH, Machine, PlanRow, named_machine, plan_hours, stage_seconds
from raydd.plan.planner import plan_lines, walk
from raydd.run import main
from raydd.store.progress import Progress
from small_engine import make_engine

RECORDED = json.loads(Path(__file__).with_name("plan_cifar10.json").read_text())
CPU = torch.device("cpu")
TINY = ModelConfig("resnet10_thin", width=8)
NETWORKS = Networks(10, Preprocessing(16, 16, (0.3, 0.3, 0.3), (0.3, 0.3, 0.3)))
ASK = ask_step(NETWORKS, TINY, 1000, "convnet")
MACHINE = Machine(
    "test", workers=1, unit_workers=1, parallel=1, cores=1,
    rates={"convnet": 1e6, ASK.name: 2e6}, decode=10.0, fetch=50.0, transfer=100.0, step=0.0,
    start=0.0,
)  # fmt: skip


def row(units: int = 4, divides: str = "units", **values) -> PlanRow:
    return PlanRow("stage", "key", units, Cost(divides=divides, **values))


def test_operations_of_a_layer_are_counted_as_by_hand():
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    counted = forward_flops(network, torch.empty(2, 3, 4, 4, device="meta"))
    assert counted == 2 * 2 * (16 * 8 * 3 * 9 + 8 * 16 * 5)


def test_seconds_are_operations_over_the_rate():
    work = (Work(ASK, steps=100, batch=20),)
    assert stage_seconds(row(work=work), MACHINE) == pytest.approx(100 * 20 * 1000 / 2e6)
    by_kind = replace(MACHINE, rates={"convnet": 1e6})  # a machine that was never tried
    assert stage_seconds(row(work=work), by_kind) == pytest.approx(100 * 20 * 1000 / 1e6)
    more = (Work(ASK, steps=100, batch=20, flops=3000), *work)
    assert stage_seconds(row(work=more), MACHINE) == pytest.approx(4.0)
    assert sum(plan_hours([row(work=work)] * 2, MACHINE)) == pytest.approx(2 / 3600)


@pytest.mark.parametrize(
    ("divides", "two", "three"),
    [("units", 1 / 2, 1 / 2), ("batch", 1 / 2, 1 / 3), ("tasks", 1, 1), ("none", 1, 1)],
)
def test_more_workers_shorten_what_divides(divides, two, three):
    stage = row(4, divides, work=(Work(ASK, steps=100, batch=20),))
    one = stage_seconds(stage, MACHINE)
    assert stage_seconds(stage, replace(MACHINE, workers=2, unit_workers=2)) == pytest.approx(
        two * one
    )
    # of four units on three workers, one does two
    assert stage_seconds(stage, replace(MACHINE, workers=3, unit_workers=3)) == pytest.approx(
        three * one
    )


@pytest.mark.parametrize(("divides", "share"), [("tasks", 1 / 3), ("rows", 1 / 8), ("units", 1)])
def test_more_tasks_shorten_what_they_share(divides, share):
    stage = row(3, divides, work=(Work(ASK, steps=100, batch=20),))
    one, eight = MACHINE, replace(MACHINE, parallel=8)
    assert stage_seconds(stage, eight) == pytest.approx(share * stage_seconds(stage, one))


def test_a_unit_reads_its_start_images_before_it_computes():
    work = (Work(ASK, steps=100, batch=20),)
    without, both = row(4, work=work), row(4, work=work, fetches=200)
    two = replace(MACHINE, unit_workers=2)
    beside = replace(MACHINE, beside=True, cores=16)  # others read while devices compute
    for machine, seconds in ((MACHINE, 200 / 50), (two, 200 / 50 / 2), (beside, 0)):
        added = stage_seconds(both, machine) - stage_seconds(without, machine)
        assert added == pytest.approx(seconds)


def test_stages_that_run_at_once_share_the_devices():
    """Two sets of three trainings on eight devices take as long as one training."""
    work, eight = (Work(ASK, steps=300, batch=20),), replace(MACHINE, parallel=8)
    one = stage_seconds(row(1, "tasks", work=(Work(ASK, steps=100, batch=20),)), eight)
    both = [replace(row(3, "tasks", work=work), together=6)] * 2
    assert sum(plan_hours(both, eight)) * 3600 == pytest.approx(one)
    four = replace(MACHINE, parallel=4)  # two rounds
    assert sum(plan_hours(both, four)) * 3600 == pytest.approx(2 * one)


def test_images_that_were_resized_beforehand_are_read_and_decoded_faster():
    usual, small = named_machine("8xh200"), named_machine("8xh200", small_images=True)
    assert (usual.decode, small.decode) == (200, 600)
    assert "images of 40 kB, 600 per second and core" in small.about
    count = 192 * 600 * 100
    decoding = row(divides="batch", decodes=count, reads=110_000 * count)
    assert stage_seconds(decoding, small) == pytest.approx(100 + small.start)
    assert stage_seconds(decoding, usual) == pytest.approx(300 + usual.start)
    slow = replace(small, transfer=1e9)
    assert stage_seconds(decoding, slow) == pytest.approx(40_000 * count / 1e9 + small.start)


def test_gradients_meet_over_the_wire_while_devices_compute():
    works = Work(ASK, steps=100, batch=20, gradients=300), Work(ASK, steps=50, batch=20)
    stage = row(divides="batch", work=works)
    one = stage_seconds(stage, MACHINE)
    assert stage_seconds(stage, replace(MACHINE, wire=1)) == one  # a single worker
    four = replace(MACHINE, workers=4)
    assert stage_seconds(stage, four) == pytest.approx(one / 4)  # within a machine
    # each sends and gets three quarters of them; where nothing is learned, none
    slow = stage_seconds(stage, replace(four, wire=1000))
    assert slow == pytest.approx(100 * 2 * 300 * 3 / 4 / 1000 + 50 * 20 * 1000 / 2e6 / 4)
    assert "gradients meet over 1 GB/s" in named_machine("16xl4").about


def test_no_step_is_shorter_than_its_launches():
    stage = row(work=(Work(ASK, steps=100, batch=1),))
    assert stage_seconds(stage, replace(MACHINE, step=0.5)) == pytest.approx(50)


def test_decoding_and_bytes_count_where_they_are_the_slowest():
    work = (Work(ASK, steps=100, batch=20),)  # a second
    assert stage_seconds(row(work=work, decodes=20), MACHINE) == pytest.approx(2)
    assert stage_seconds(row(work=work, decodes=20, reads=200, writes=100), MACHINE) == 3
    actors = row(divides="rows", work=work, decodes=20)  # in turn
    assert stage_seconds(actors, MACHINE) == pytest.approx(3)
    assert stage_seconds(actors, replace(MACHINE, beside=True)) == pytest.approx(2)
    sixteen = replace(MACHINE, beside=True, parallel=8, cores=16)
    slower = row(divides="rows", work=work, decodes=80)  # every core decodes, not one per device
    assert stage_seconds(slower, sixteen) == pytest.approx(80 / 10 / 16)
    assert stage_seconds(row(decodes=20), replace(MACHINE, cores=4, start=7)) == pytest.approx(7.5)
    assert stage_seconds(row(), replace(MACHINE, start=7)) == 0


def test_a_finished_stage_takes_no_time_and_what_nobody_counted_is_unknown():
    finished = replace(row(decodes=36_000), finished=True)
    unknown = row(reads=math.nan, decodes=math.nan)
    assert plan_hours([row(decodes=36_000), finished], MACHINE) == [1.0, 0.0]
    _, *lines = plan_lines([finished, unknown], [MACHINE])
    assert lines[0].split()[-2:] == ["0.000", "finished"]
    assert lines[1].split()[2] == lines[1].split()[-1] == "unknown"
    assert lines[2].split()[-1] == "unknown"  # the sum
    assert "takes no time" in lines[3]
    assert "dataset.train_images=" in lines[4]


def test_an_unknown_machine_is_refused_with_the_known_ones(capsys):
    with pytest.raises(Refused, match="16xl4, 1x4090, 1xa100, 1xh100, 8xa100, 8xh100, 8xh200"):
        named_machine("8xh2000")
    assert main(["plan=true", "cluster.plan_for=8xh2000"]) == 2
    assert "8xh2000 is no machine that is known here" in capsys.readouterr().err
    assert main(["plan=true", "cluster.plan_seconds=-1"]) == 2


def test_the_table_says_what_is_assumed_and_what_does_not_fit():
    large = row(memory=30 * 10**9, work=(Work(ASK, steps=100, batch=20),))
    header, _, _, about, warning = plan_lines([large], [named_machine("1x4090")])
    assert header.endswith("h 1x4090")
    assert "assumed, not measured" in about
    assert "bf16 peak 165" in about
    assert "more than a device of 1x4090 holds" in warning


RECIPE = Recipe(batch_size=8, average_decay=0.9)
STUDENT, OBSERVERS = [TINY, TINY], [TINY, ModelConfig("convnet2", width=8)]
TRANSFORMER = GeneratorConfig(layers=1, heads=2, width=8, patch=2)
STEPS = {
    "train": lambda engine: train_step(NETWORKS, TINY, RECIPE, 20, 0.5, 1000),
    "ask": lambda engine: ASK,
    "numbers": lambda engine: numbers_step(10),
    "ask exactly": lambda engine: ask_step(NETWORKS, TINY, 1000, "exact"),
    "measure": lambda engine: statistics_step(NETWORKS, TINY, 4, 1000),
    "recover": lambda engine: recover_step(
        NETWORKS, STUDENT, SynthesisConfig(precision="fp32"), 1000
    ),
    "match": lambda engine: match_step(NETWORKS, OBSERVERS, 4, MatchConfig(), 1000),
    "transformer": lambda engine: transformer_step(engine, TRANSFORMER, 1000),
}


@pytest.mark.parametrize("step", STEPS)
def test_every_kind_of_step_can_be_tried(tmp_path, step):
    timed = STEPS[step](make_engine(tmp_path))
    assert step_rate(timed, 4, CPU, threads=1, seconds=0.0) > 0


def test_no_two_kinds_of_steps_share_a_rate(tmp_path):
    """A machine finds a rate by the name of a step."""
    engine = make_engine(tmp_path)
    assert len({step(engine).name for step in STEPS.values()}) == len(STEPS)


@pytest.mark.parametrize(
    ("flops", "batch", "threads", "tried"), [(1000, 8, 1, 8), (1000, 8, 4, 8), (10**10, 100, 1, 2)]
)
def test_a_machine_is_timed_by_its_steps(monkeypatch, flops, batch, threads, tried):
    used = SimpleNamespace(seconds=0.0, counts=set())

    def begin(count, device):
        def step():
            used.seconds += 0.5 * count
            used.counts.add(count)

        return step

    clock = SimpleNamespace(process_time=lambda: used.seconds, perf_counter=time.perf_counter)
    monkeypatch.setattr(plan_calibrate, "time", clock)
    step = TimedStep("step", flops, "convnet", begin)
    # the processor's seconds are those of all threads
    assert step_rate(step, batch, CPU, threads, 0.0) == pytest.approx(threads * flops / 0.5)
    assert used.counts == {tried}  # large batches are cut


class SlowSource(DigitsSource):
    """Takes a quarter of a second for an image by its id."""

    clock, asked = 0.0, ()

    def fetch(self, ids):
        SlowSource.clock += len(ids) / 4
        SlowSource.asked += (tuple(ids),)
        return super().fetch(ids)


def test_images_by_their_id_are_timed_one_of_each_shard_at_a_time(monkeypatch):
    source = SlowSource.open("train", None, None)
    known = plan_calibrate._first_ids(source)
    assert 1 < len(known) <= 8
    begins = [next(iter(source.read(shard))).id for shard in source.shards()]
    assert {ids[0] for ids in known} <= set(begins)
    monkeypatch.setattr(
        plan_calibrate, "time", SimpleNamespace(perf_counter=lambda: SlowSource.clock)
    )
    assert plan_calibrate._fetch_rate(source, known, 10.0) == pytest.approx(4.0)
    assert {len(ids) for ids in SlowSource.asked} == {len(known)}
    assert len({ids[0] for ids in SlowSource.asked}) > 1  # from anywhere in a shard
    nothing = CountedSource(10, 100)
    assert plan_calibrate._fetch_rate(nothing, plan_calibrate._first_ids(nothing), 10.0) == FETCH


def test_a_data_set_that_is_not_at_hand_is_counted(capsys, tmp_path):
    source = CountedSource(10_450, 11_060_223)
    assert int(source.class_counts().sum()) == 11_060_223
    words = [
        "plan=true",
        "dataset=in21k",
        f"dataset.root={tmp_path}/none",
        "cluster.plan_seconds=0",
    ]
    words += [f"storage={tmp_path}/runs", "method=random", "method.ipc=10", "method.core=null"]
    words += ["teacher=resnet18_in21k", "cluster.plan_for=8xh200"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "published numbers: 10,450 classes, 11,060,223 training" in text
    hours = float(next(line for line in text.splitlines() if "squeeze" in line).split()[-1])
    # 80 epochs of 0.11 TFLOP/s-seconds an image: decoding on 192 cores takes longer
    assert hours == pytest.approx(80 * 11_060_223 / (192 * 200) / 3600, rel=0.01)
    assert main([*words, "dataset.train_images=null"]) == 2


def test_the_plan_of_a_real_run_is_near_its_seconds(tmp_path):
    """Rates are a calibration's, seconds those of a run on the same machine: see the file."""
    experiment = ["+experiment=edc_cifar10_cpu", f"dataset.root={tmp_path}/none"]
    words = [*experiment, "labels.form=stored", f"storage={tmp_path}/runs"]
    _, rows = walk(compose_config(words), Progress())
    recorded = {"numbers float32": math.inf} | RECORDED["gflops"]  # of ten classes: no time at all
    rates = {
        work.step.name: 1e9 * recorded[recorded_name(work.step)]
        for row in rows
        for work in row.cost.work
    }
    here = Machine("here", 1, 1, 2, 2, rates, RECORDED["decode"], FETCH, 5e8, 0.0, 5.0)
    planned: dict[str, float] = {}
    for item in rows:
        planned[item.stage] = planned.get(item.stage, 0) + stage_seconds(item, here)
    seconds = RECORDED["seconds"]
    assert 1 / 1.5 < sum(planned[stage] for stage in seconds) / sum(seconds.values()) < 1.5
    large = [stage for stage, value in seconds.items() if value > 100]
    assert len(large) == 3
    for stage in large:
        assert 1 / 1.5 < planned[stage] / seconds[stage] < 1.5, stage


def recorded_name(step) -> str:
    """What a step does, its kind of work, its networks and, of a training, the size of a batch."""
    does = step.name.split()[0]
    networks = re.findall(r"ModelConfig\(name='(\w+)', width=(\d+)", step.name)
    batch = re.findall(r"batch_size=(\d+)", step.name) if does == "train" else []
    return " ".join([does, step.kind, *map("-".join, networks), *batch])
