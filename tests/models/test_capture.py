"""Recording a step: when, with which inputs, and what happens where it fails.

There is no GPU here: what records is a stand-in that keeps a CUDA graph's promises, to launch
nothing while it records, and to write the same outputs with every replay.
"""

import pytest
import torch

from raydd.models.capture import WARM_CALLS, Recorded, captured

CPU = torch.device("cpu")


class Counter:
    """A step with a state that it changes in place."""

    def __init__(self):
        self.total, self.plain = torch.zeros(2), 0

    def __call__(self, values, factor):
        self.plain += 1
        self.total += values * factor
        return {"total": self.total * 1}


def record(run, done):
    """Records by undoing what recording did; replays by calling again."""
    counter, outputs = done
    kept = counter.total.clone()
    result = run()
    counter.total.copy_(kept)

    def replay():
        outputs.append(1)
        for name, value in run().items():
            result[name].copy_(value)

    return replay, result


def recorded(counter, replays, **options):
    options = {"strict": False, "say": lambda message: None, "warm": lambda run: run()} | options
    return Recorded(counter, lambda run: record(run, (counter, replays)), **options)


def test_a_recorded_step_gives_what_the_plain_one_gives():
    plain, counter, replays = Counter(), Counter(), []
    step = recorded(counter, replays)
    for number in range(10):
        inputs = (torch.tensor([1.0, number]), torch.tensor(0.5 * number))
        assert torch.equal(step(*inputs)["total"], plain(*inputs)["total"])
    assert len(replays) == 10 - WARM_CALLS


def test_another_shape_goes_the_plain_way():
    counter, replays = Counter(), []
    step = recorded(counter, replays)
    for _ in range(WARM_CALLS + 1):
        step(torch.ones(2), torch.ones(()))
    step(torch.ones(1), torch.ones(()))
    step(torch.ones(2), torch.ones(()))
    assert counter.total.tolist() == [WARM_CALLS + 3.0] * 2
    assert len(replays) == 2


def test_where_recording_fails_the_plain_step_goes_on_and_one_line_says_so():
    counter, said = Counter(), []

    def refuse(run):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    step = Recorded(counter, refuse, False, said.append, lambda run: run())
    for _ in range(6):
        step(torch.ones(2), torch.ones(()))
    assert counter.total.tolist() == [6.0, 6.0]
    assert said == [
        "steps are launched one by one, they cannot be recorded: "
        "operation not permitted when stream is capturing"
    ]
    strict = Recorded(Counter(), refuse, True, said.append, lambda run: run())
    for _ in range(WARM_CALLS):
        strict(torch.ones(2), torch.ones(()))
    with pytest.raises(RuntimeError, match="not permitted"):
        strict(torch.ones(2), torch.ones(()))


def test_a_cpu_and_off_give_the_step_itself():
    counter = Counter()
    assert captured(counter, CPU, "auto") is counter
    assert captured(counter, torch.device("cuda"), "off") is counter
    assert isinstance(captured(counter, torch.device("cuda"), "auto"), Recorded)
    with pytest.raises(ValueError, match="capture must be one of auto, on, off"):
        captured(counter, CPU, "yes")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_cuda_graph_gives_what_the_plain_step_gives():
    plain, counter, device = Counter(), Counter(), torch.device("cuda")
    plain.total, counter.total = plain.total.to(device), counter.total.to(device)
    step = captured(counter, device, "on")
    for number in range(10):
        inputs = (torch.tensor([1.0, number], device=device), torch.tensor(0.5, device=device))
        assert torch.equal(step(*inputs)["total"], plain(*inputs)["total"])
    assert counter.plain == WARM_CALLS + 1
