"""A unit whose steps are recorded ends as one whose steps are launched one by one."""

from dataclasses import replace

import pytest
import torch

from raydd.engine.synthesis import advance
from raydd.engine.synthesis.loop import Recovery
from raydd.engine.synthesis.observers import MatchConfig, ObserverObjective
from raydd.engine.synthesis.teacher import SynthesisConfig, TeacherObjective
from raydd.models.capture import WARM_CALLS, Recorded
from raydd.models.observer import ObserverTap
from raydd.models.registry import ModelConfig, create_model
from raydd.ops.seeds import generator

SIDE, CLASSES, STEPS = 16, 10, 12


def network(seed):
    torch.manual_seed(seed)
    made = create_model(ModelConfig("resnet10_thin", width=8), CLASSES, SIDE)
    made(torch.randn(64, 3, SIDE, SIDE))
    return made.eval().requires_grad_(False)


def teacher_recovery(precision):
    config = SynthesisConfig(steps=STEPS, roll=(0, 4), precision=precision)
    objective = TeacherObjective(network(0), network(1), config, "cpu")
    return Recovery(objective, config, (0.5,) * 3, (0.25,) * 3, SIDE, "cpu")


def observer_recovery(precision):
    config = MatchConfig(steps=STEPS, precision=precision)
    nets = [network(0), network(1)]
    width = sum(ObserverTap(nets[0], SIDE, 4).sizes)
    targets = torch.rand(2, 2, width, generator=generator("targets"))
    objective = ObserverObjective(nets, lambda *_: targets, config, SIDE, 4, "cpu")
    return Recovery(objective, config, (0.5,) * 3, (0.25,) * 3, SIDE, "cpu")


def run(recovery):
    shape = (CLASSES, 3, SIDE, SIDE)
    start = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator("start"))
    return recovery.run(start, torch.arange(CLASSES), (0, "unit"))


def on_cpu(record, step, strict=True, say=print):
    """A recorded step as on a GPU; a CPU's learning rate is a number, which no memory holds."""
    own = Recorded(
        lambda rows, columns, rate: step(rows, columns, float(rate)),
        record,
        strict,
        say,
        lambda launch: launch(),
    )
    return lambda rows, columns, rate: own(rows, columns, torch.tensor(rate, dtype=torch.float64))


class Graphs:
    """Keeps a CUDA graph's promises: launches nothing while recording, reads the kept inputs."""

    def __init__(self):
        self.recordings = self.replays = 0

    def captured(self, step, device, mode, say):
        return on_cpu(self.record, step)

    def record(self, launch):
        self.recordings += 1
        outputs = {}

        def replay():
            self.replays += 1
            outputs.update(launch())

        return replay, outputs


@pytest.mark.parametrize("make", [teacher_recovery, observer_recovery])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_recorded_steps_give_the_images_and_terms_of_plain_ones(monkeypatch, make, precision):
    plain, graphs = run(make(precision)), Graphs()
    recovery = make(precision)
    monkeypatch.setattr(advance, "captured", graphs.captured)
    recorded = run(recovery)
    assert torch.equal(recorded.images, plain.images)
    assert recorded.first == plain.first
    assert recorded.last == plain.last
    period = recovery.objective.period
    assert graphs.recordings == period
    assert graphs.replays == STEPS - period * WARM_CALLS


def test_states_of_a_step_stay_where_they_are():
    """The memory that a recorded step writes to is the one that the next step reads."""
    recovery = observer_recovery("fp32")
    places = []
    stepped = recovery.objective.stepped

    def note(images):
        stepped(images)
        averages = [own.average for own in recovery.objective._averages if own.average is not None]
        kept = [images, recovery.objective._average_images, *averages]
        places.append([value.data_ptr() for value in kept])

    recovery.objective.stepped = note
    run(recovery)
    assert all(place == places[1] for place in places[1:])


def test_a_recording_that_fails_is_told_and_changes_nothing(monkeypatch):
    said, plain = [], run(teacher_recovery("fp32"))
    recovery = teacher_recovery("fp32")
    recovery.recording = advance.Recording("auto", said.append)

    def refuse(launch):
        raise RuntimeError("out of luck")

    def failing(step, device, mode, say):
        return on_cpu(refuse, step, mode == "on", say)

    monkeypatch.setattr(advance, "captured", failing)
    assert torch.equal(run(recovery).images, plain.images)
    assert said == ["steps are launched one by one, they cannot be recorded: out of luck"]
    recovery.recording = replace(recovery.recording, mode="on")
    with pytest.raises(RuntimeError, match="out of luck"):
        run(recovery)
