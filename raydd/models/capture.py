"""A step of many small kernels as one CUDA graph: launched at once, same kernels, same bits.

A recorded step computes on the memory that it was recorded with. It must therefore change its state
in place, keep what it reads, draw nothing on the host and never wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

CAPTURE = ("auto", "on", "off")
WARM_CALLS = 3  # before recording: libraries set themselves up in the first ones

Outputs = TypeVar("Outputs")
Step = Callable[..., Outputs]
# Records what a function launches, without doing it; returns what replays it, and its outputs.
Record = Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]


def captured(
    step: Step[Outputs],
    device: torch.device,
    mode: str = "auto",
    say: Callable[[str], None] = lambda message: None,
) -> Step[Outputs]:
    """The step, recorded where that is possible; on a CPU the step itself.

    Args:
        step: of tensors whose shapes stay the same; what it returns is overwritten by the next
            call.
        device: where it computes.
        mode: "auto" goes on with the plain step where recording fails, "on" raises, "off" never
            records.
        say: told when a recording failed.

    Raises:
        ValueError: no such mode.
    """
    if mode not in CAPTURE:
        raise ValueError(f"capture must be one of {', '.join(CAPTURE)}, got {mode!r}")
    if mode == "off" or device.type != "cuda":
        return step
    return Recorded(step, record_graph, mode == "on", say, side_stream)


def record_graph(run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """See :data:`Record`."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run()
    return graph.replay, outputs


def side_stream(run: Callable[[], Outputs]) -> Outputs:
    """Call on another stream than the default one, which a recording may not meet."""
    stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        outputs = run()
    current.wait_stream(stream)
    return outputs


class Recorded:
    """A step that is called plainly, then recorded, then replayed.

    Args:
        step: see :func:`captured`.
        record: records it.
        strict: raise where recording fails.
        say: told when it failed.
        warm: how the plain calls before are made.
    """

    def __init__(
        self,
        step: Step[Any],
        record: Record,
        strict: bool,
        say: Callable[[str], None],
        warm: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self.step, self.record, self.strict, self.say, self.warm = step, record, strict, say, warm
        self.calls, self.failed = 0, False
        self.inputs: list[Tensor] = []
        self.replay: Callable[[], None] | None = None
        self.outputs: Any = None

    def __call__(self, *inputs: Tensor) -> Any:
        """The step's outputs; inputs of another shape than the recorded ones go the plain way."""
        if self.failed:
            return self.step(*inputs)
        if self.replay is None:
            if self.calls < WARM_CALLS:
                self.calls += 1
                return self.warm(lambda: self.step(*inputs))
            self.inputs = [value.clone() for value in inputs]
            if not self._try():
                return self.step(*inputs)
        elif [v.shape for v in inputs] != [v.shape for v in self.inputs]:
            return self.step(*inputs)
        else:
            for kept, value in zip(self.inputs, inputs, strict=True):
                kept.copy_(value)
        assert self.replay is not None
        self.replay()
        return self.outputs

    def _try(self) -> bool:
        """Record; whether that went well."""
        try:
            self.replay, self.outputs = self.record(lambda: self.step(*self.inputs))
        except RuntimeError as error:  # torch raises nothing narrower
            if self.strict:
                raise
            self.failed = True
            reason = str(error).strip().partition("\n")[0]
            self.say(f"steps are launched one by one, they cannot be recorded: {reason}")
        return not self.failed
