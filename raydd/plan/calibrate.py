"""Seconds on the machine at hand: the very steps of a plan are tried for a moment.

On a CPU the seconds are those of the processor, not of the clock: a plan made while something else
runs is the same, and holds for a machine that is free.
"""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from raydd.cluster.pool import WORTH_SECONDS
from raydd.cluster.resources import Resources
from raydd.cluster.threads import torch_threads
from raydd.data.sources import Row, Shard, Source
from raydd.engine.cost import TimedStep
from raydd.engine.engine import Engine
from raydd.engine.passes.encoded import END, map_rows
from raydd.engine.passes.feed import decoding
from raydd.plan.machines import FETCH, Machine, PlanRow

_TRANSFER, _STEP, _START = 5e8, 0.0, 3.0  # a plain disk; steps are timed; processes start
_MOST_FLOPS = {"cpu": 2e10, "cuda": 2e13}  # of a tried step: about a second of a slow device
_DECODED, _MOST_STEPS = 64, 30
_SHARDS, _ROWS, _BYTES = 8, 10_000, 4 << 20  # looked at: shards, of each so many rows or bytes
_FULL_SIZE = (375, 500)  # of a typical photograph, height and width in pixels


def calibrate(
    rows: Sequence[PlanRow],
    engine: Engine,
    resources: Resources,
    cores: int,
    seconds: float,
) -> Machine:
    """Time every kind of step in a plan.

    Args:
        rows: of the plan.
        engine: of the run; the first images of its source are decoded, a made-up photograph where
            it gives none.
        resources: what a run would have here.
        cores: of this machine.
        seconds: in all, by the clock, roughly: a step that has begun is finished.
    """
    source = engine.train_source
    works = {w.step.name: w for row in rows if not row.finished for w in row.cost.work}
    device = torch.device(resources.device)
    each = seconds / (len(works) + 2)
    with torch_threads(resources.threads_per_worker):
        rates = {
            key: step_rate(work.step, work.batch, device, resources.threads_per_worker, each)
            for key, work in works.items()
        }
        known = _first_ids(source)
        decoded = _decode_rate(engine, each)
        fetched = _fetch_rate(source, known, each)
    workers = max(1, resources.num_workers)
    unit_workers = max(1, resources.count_unit_workers())
    return Machine(
        name="here",
        workers=workers,
        unit_workers=unit_workers,
        parallel=resources.parallel,
        cores=cores,
        rates=rates,
        decode=decoded,
        fetch=fetched,
        transfer=_TRANSFER,
        step=_STEP,
        start=_START,
        beside=resources.use_gpu,
        alone=WORTH_SECONDS if resources.begins_here else 0.0,
        about=(
            f"{len(works)} kinds of steps timed now on one {device.type} worker, "
            f"{decoded:.0f} images decoded per second and core, {fetched:.0f} read by their id "
            "(timed); "
            f"{workers} workers, {unit_workers} of units, {resources.parallel} tasks at once; "
            f"assumed {_TRANSFER / 1e9:g} GB/s and {_START:.0f} s to start a stage"
        ),
    )


def step_rate(
    step: TimedStep, batch: int, device: torch.device, threads: int, seconds: float
) -> float:
    """Operations per second of a step; large batches are cut, and the first step is not counted.

    Args:
        step: of a stage.
        batch: images of a real one.
        device: where it is tried.
        threads: of the CPU that share a step.
        seconds: to try for.
    """
    most = _MOST_FLOPS[device.type]
    count = max(min(batch, 2), min(batch, int(most / max(1, step.flops))))
    take = step.begin(count, device)
    take()
    clock = _clock(device, threads)
    end, began, steps = time.perf_counter() + seconds, clock(), 0
    while steps == 0 or (time.perf_counter() < end and steps < _MOST_STEPS):
        take()
        steps += 1
    return steps * count * step.flops / max(1e-9, clock() - began)


def _clock(device: torch.device, threads: int) -> Callable[[], float]:
    if device.type == "cpu":
        return lambda: time.process_time() / threads

    def finished() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return finished


def _first_ids(source: Source) -> list[list[str]]:
    """Ids of the good rows that a few shards, far from one another, begin with."""
    ids = ([row.id for row in _begin(source, shard)] for shard in _some_shards(source))
    return list(filter(None, ids))


def _some_shards(source: Source) -> list[Shard]:
    shards = source.shards()
    return shards[:: -(-len(shards) // _SHARDS) or 1]


def _begin(source: Source, shard: Shard) -> Iterator[Row]:
    size = 0
    for row in islice(source.read(shard), _ROWS):
        size += len(row.image)
        if row.image:
            yield row
        if size > _BYTES:
            return


def _fetch_rate(source: Source, known: Sequence[Sequence[str]], seconds: float) -> float:
    """Images per second, by the clock, that are read by their id, one of each shard at a time."""
    if not known:
        return FETCH
    draws, begin, count = np.random.default_rng(0), time.perf_counter(), 0
    while count == 0 or time.perf_counter() < begin + seconds:
        count += len(source.fetch([str(draws.choice(ids)) for ids in known]))
    return count / max(1e-9, time.perf_counter() - begin)


def _decode_rate(engine: Engine, seconds: float) -> float:
    """Images per second of one core: read, decoded and hashed, as a pass does with rows."""
    source, data = engine.train_source, engine.data
    decode = decoding(engine.preprocessing, data.max_pixels, kept=True)
    shards = _some_shards(source)
    tables = (t for shard in shards for t in map_rows(source, shard, 0, decode, _DECODED))
    end, began, count = time.perf_counter() + seconds, time.process_time(), 0
    for table in tables:
        count += sum(reason != END for reason in table["reason"].to_pylist())
        if time.perf_counter() > end:
            break
    if count == 0:
        count = 8
        photographs = pa.table({"image": [_photograph()] * count, "reason": [""] * count})
        began = time.process_time()
        decode(photographs)
    return count / max(1e-9, time.process_time() - began)


def _photograph() -> bytes:
    """A JPEG as large as a photograph of the web: about 80 kB."""
    draws = np.random.default_rng(0)
    height, width = _FULL_SIZE
    coarse = Image.fromarray(draws.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height))) + draws.normal(0, 12, (height, width, 3))
    target = io.BytesIO()
    Image.fromarray(smooth.clip(0, 255).astype(np.uint8)).save(target, "JPEG", quality=90)
    return target.getvalue()
