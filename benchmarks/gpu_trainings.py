"""What ``gpu.py`` measures of trainings and passes: judges, a teacher's steps, scores."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gpu_loops import Machine
from upath import UPath

from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import image_table
from raydd.engine.training.data import Batch
from raydd.engine.training.job import TrainJob
from raydd.engine.training.loop import Training, train_network
from raydd.models import ModelConfig, create_model
from raydd.models.preprocess import normalise
from raydd.ops.recipe import Recipe
from raydd.ops.seeds import generator
from raydd.store.checkpoint import CheckpointCard, save_checkpoint
from raydd.store.tables import write_table

_TOGETHER = 4  # trainings that share a device
_STARTING = 120.0  # seconds until processes are there


def _preprocessing(side: int) -> Preprocessing:
    return Preprocessing(side, side, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def _write_images(folder: Path, side: int, count: int) -> str:
    """An artifact of random images of ten classes."""
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, side, side, 3), dtype=torch.uint8, generator=draws)
    labels = [number % 10 for number in range(count)]
    table = image_table(pixels.numpy(), labels, range(count), 0, [None] * count, "synthetic")
    (folder / "parts").mkdir(parents=True)
    write_table(UPath(folder / "parts" / "00000.parquet"), table)
    return str(folder)


def _judge_job(machine: Machine, root: Path) -> TrainJob:
    """A ConvNet-3 on 100 images of a teacher, 300 epochs, as the judge of CIFAR-10 at ipc 10."""
    side, tiny = 32, machine.tiny
    model = ModelConfig("convnet3", width=8 if tiny else 128, norm="instance")
    classes = tuple(map(str, range(10)))
    teacher = ModelConfig("resnet10_thin", width=8) if tiny else ModelConfig("resnet18_small")
    card = CheckpointCard(teacher, classes, _preprocessing(side))
    (root / "teacher").mkdir()
    save_checkpoint(UPath(root / "teacher"), create_model(teacher, 10, side), card)
    return TrainJob(
        folder="",
        model=model,
        class_names=classes,
        preprocessing=_preprocessing(side),
        images=(_write_images(root / "images", side, 100),),
        resolution=side,
        recipe=Recipe(epochs=2 if tiny else 300, batch_size=50),
        flip=0.5,
        seed_parts=(0, "benchmark"),
        stage="benchmark",
        teacher=str(root / "teacher"),
        device=machine.device,
        checkpoint_seconds=3600.0,
    )


def _train(job: TrainJob, root: str, seed: int) -> None:
    folder = Path(tempfile.mkdtemp(dir=root))
    train_network(replace(job, folder=str(folder), seed_parts=(seed, "benchmark")))


def _train_beside(job: TrainJob, root: str, seed: int, ready: Any, count: int) -> None:
    """A process of its own: sets up, waits for the others, trains."""
    torch.set_num_threads(1)
    _train(replace(job, recipe=replace(job.recipe, epochs=1)), root, seed)
    ready.wait()
    for number in range(count):
        _train(job, root, seed + number)


def judges(machine: Machine) -> dict[str, Any]:
    """Trainings per minute: one after the other, and some that share the device."""
    with tempfile.TemporaryDirectory() as root:
        job = _judge_job(machine, Path(root))
        seconds = machine.seconds(lambda: _train(job, root, 0), share=0.2)
        found = {"unit": "trainings/minute", "one by one": round(60 / seconds, 2)}
        together = 2 if machine.tiny else _TOGETHER
        count = max(1, int(0.3 * machine.left / (seconds * together)))
        context = multiprocessing.get_context("spawn")
        ready = context.Barrier(together + 1)
        count = 1 if machine.tiny else count
        arguments = [(job, root, 100 * n, ready, count) for n in range(together)]
        processes = [context.Process(target=_train_beside, args=own) for own in arguments]
        for process in processes:
            process.start()
        try:
            ready.wait(timeout=_STARTING)
            begin = time.perf_counter()
            for process in processes:
                process.join(timeout=_STARTING + machine.left)
            taken = time.perf_counter() - begin
            if any(process.exitcode != 0 for process in processes):
                raise RuntimeError("a training that shared the device did not end well")
        finally:
            for process in processes:
                process.kill()
        trained = sum(own[-1] for own in arguments)
        found[f"{together} at once"] = round(60 * trained / taken, 2)
    return found


def _large(machine: Machine) -> tuple[int, int, ModelConfig]:
    """Side, images of a batch and network of what is computed on a whole data set."""
    if machine.tiny:
        return 16, 4, ModelConfig("resnet10_thin", width=8)
    return 224, 256, ModelConfig("torchvision/resnet18")


def squeeze(machine: Machine) -> dict[str, Any]:
    """Images per second of a teacher's training steps, the images in memory."""
    side, batch, model = _large(machine)
    found: dict[str, Any] = {"side": side, "batch": batch, "unit": "images/s"}
    for precision in ("auto", "fp32"):
        job = TrainJob(
            folder="",
            model=model,
            class_names=tuple(map(str, range(10 if machine.tiny else 1000))),
            preprocessing=_preprocessing(side),
            images=(),
            resolution=side,
            recipe=Recipe(batch_size=batch, optimizer="sgd", mix="none", precision=precision),
            flip=0.5,
            seed_parts=(0, "benchmark"),
            stage="benchmark",
            num_images=batch,
            device=machine.device,
        )
        training, draws = Training(job, rank=0, world=1), generator("views")
        training.model.train()
        shape = (batch, 3, side, side)
        pixels = torch.randint(256, shape, dtype=torch.uint8, device=machine.device)
        labels = torch.arange(batch, device=machine.device) % len(job.class_names)
        fed = Batch(pixels, labels)
        seconds = machine.seconds(lambda own=training, b=fed, d=draws: own.step(b, d), share=0.3)
        found[precision] = round(batch / seconds, 1)
    return found


def scoring(machine: Machine) -> dict[str, Any]:
    """Images per second of a network that scores decoded images, and of their way to the device."""
    side, batch, model = _large(machine)
    network = create_model(model, 1000, side).eval().requires_grad_(False)
    network = network.to(machine.device).to(memory_format=torch.channels_last)
    preprocessing = _preprocessing(side)
    host = torch.randint(256, (batch, 3, side, side), dtype=torch.uint8)
    if machine.device == "cuda":
        host = host.pin_memory()
    kept = host.to(machine.device)

    @torch.inference_mode()
    def score(pixels: torch.Tensor) -> torch.Tensor:
        images = normalise(pixels, preprocessing.mean, preprocessing.std)
        return network(images.contiguous(memory_format=torch.channels_last)).float().cpu()

    sent = machine.seconds(lambda: score(host.to(machine.device, non_blocking=True)), share=0.3)
    held = machine.seconds(lambda: score(kept), share=0.3)
    found = {"from the host": round(batch / sent, 1), "from the device": round(batch / held, 1)}
    return {"side": side, "batch": batch, "unit": "images/s", **found}
