"""Stage ``latents``: the VAE looks at every real image once, not in every step.

Of each image the posterior's mean and deviation are kept, as float16, and of a data set with mirror
images those of the mirrored image beside them: a training draws its latents from them as it would
draw them from the VAE. A unit is a shard of the source; it is encoded in batches of one size, so
that a part has the same bytes on any number of workers.
"""

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from upath import UPath

from raydd.cluster.pool import run_units
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import Tried, binary_column
from raydd.data.sources import Source
from raydd.engine.cost import Cost, Work
from raydd.engine.engine import Engine
from raydd.engine.generator.checkpoint import load_generator
from raydd.engine.generator.config import GeneratorRecipe
from raydd.engine.generator.cost import config_of, sizes_of, transformer_step, works_in_latents
from raydd.engine.passes.beside import decode_beside
from raydd.engine.passes.parts import REJECTED, conclude
from raydd.models.exact import deterministic_kernels
from raydd.models.precision import autocast, autocast_dtype
from raydd.models.preprocess import pad_batch
from raydd.store.artifacts import Artifact
from raydd.store.tables import write_table
from raydd.store.units import PART

DTYPE = np.dtype(np.float16)
_BATCH = 32  # images that the VAE looks at together


@dataclass(frozen=True)
class LatentsJob:
    """Everything a worker needs; picklable.

    Attributes:
        folder: stage folder.
        generator: folder of the generator whose VAE encodes.
        source: the real images.
        preprocessing: the generator's resolution.
        max_pixels: cap of the decoder.
        views: 2 keeps the mirrored images, too.
        precision: of the VAE, that of the training.
        device: ``cpu`` or ``cuda``.
        decoders: tasks that decode for each worker; 0 has threads of the worker do it.
    """

    folder: str
    generator: str
    source: Source
    preprocessing: Preprocessing
    max_pixels: int
    views: int
    precision: str
    device: str
    decoders: int = 0


def is_cached(engine: Engine, start: Artifact, recipe: GeneratorRecipe, images: float) -> bool:
    """Whether a training on so many images takes its latents from a ``latents`` stage.

    Where nothing is said they are kept if that asks the VAE less often than the training would.
    """
    if not works_in_latents(start) or recipe.cache_latents is False:
        return False
    asked = recipe.steps * recipe.batch_size
    return recipe.cache_latents is True or asked > images * count_views(engine)


def count_views(engine: Engine) -> int:
    """Of each image: as it is, and mirrored where the data allow it."""
    return 2 if engine.flip > 0 else 1


def cache_latents(engine: Engine, start: Artifact, precision: str) -> Artifact:
    """Encode every training image; its summary has ``rows`` and, in ``counts``, those of parts.

    Args:
        engine: of the run.
        start: generator with a VAE.
        precision: see :func:`raydd.models.precision.autocast_dtype`.
    """
    side, source, data = engine.preprocessing.resolution, engine.train_source, engine.data
    units = range(len(source.shards()))
    job = LatentsJob(
        folder="",
        generator=str(start.folder),
        source=source,
        preprocessing=replace(engine.preprocessing, resize=side),  # the whole shorter side is seen
        max_pixels=data.max_pixels,
        views=count_views(engine),
        precision=precision,
        device=engine.resources.device,
    )

    def work(folder: UPath) -> dict[str, Any]:
        for name in ("parts", "rejected"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        todo = PART.left(folder, units, _name)
        own = replace(job, folder=str(folder), decoders=engine.resources.count_decoders_each())
        run_units(LatentEncoder, own, todo, engine.resources)
        return conclude(folder, [_name(unit) for unit in units], data.max_rejected, "training")

    def cost() -> Cost:
        count, found = engine.num_images, sizes_of(engine, config_of(start))
        step = transformer_step(engine, config_of(start), found.flops)
        return Cost(
            reads=engine.encoded_bytes(count),
            writes=count * job.views * latent_bytes(side),
            work=[Work(step, count / _BATCH, _BATCH, job.views * found.encoder)],
            decodes=count,
            divides="units",
        )

    return engine.stages.run(
        "latents",
        work,
        inputs=[start, source.fingerprint],
        config={
            "size": [side, side],
            "views": job.views,
            "precision": precision,
            "max_pixels": data.max_pixels,
        },
        seed=0,  # nothing is drawn
        cost=cost,
        expected=dict,
        title="of the VAE",
        units=len(units),
        done=[PART],
    )


def latent_bytes(side: int) -> int:
    """Mean and deviation of an image of ``side`` pixels, as public VAEs make them."""
    return 2 * 4 * (side // 8) ** 2 * DTYPE.itemsize


class LatentEncoder:
    """The VAE of a worker; encodes a shard and writes its part."""

    def __init__(self, job: LatentsJob) -> None:
        self.job, self.device = job, torch.device(job.device)
        self.generator = load_generator(UPath(job.generator)).requires_grad_(False)
        self.generator.vae.to(self.device)
        self.dtype = autocast_dtype(job.precision, self.device)

    def __call__(self, unit: int) -> None:
        """See :func:`raydd.cluster.pool.run_units`."""
        job = self.job
        good: list[pa.Table] = []
        broken: list[Tried] = []
        rows = job.source.read(job.source.shards()[unit])
        tried = decode_beside(rows, job.preprocessing, job.max_pixels, job.decoders)
        numbered = enumerate(tried)
        while group := list(islice(numbered, _BATCH)):
            broken += [row for _, row in group if row.reason]
            good.append(self._table([(place, row) for place, row in group if not row.reason]))
        write_table(REJECTED.path(job.folder, _name(unit)), _rejected(broken))
        write_table(PART.path(job.folder, _name(unit)), pa.concat_tables(good or [self._table([])]))

    def _table(self, found: list[tuple[int, Tried]]) -> pa.Table:
        shape = (len(found), self.job.views, 2, *self.generator.latent_shape)
        latents = np.zeros(shape, DTYPE)
        if found:
            pixels = torch.from_numpy(np.stack([row.pixels for _, row in found]))
            latents = self.encode(pixels.permute(0, 3, 1, 2)).cpu().numpy()
        return pa.table(
            {
                "class_index": pa.array([row.class_index for _, row in found], pa.int32()),
                "row": pa.array([place for place, _ in found], pa.int32()),
                "latents": binary_column(latents),
            }
        )

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Means and deviations float16 [N, views, 2, C, h, w] of N pixels uint8, N <= 32."""
        images = pad_batch(pixels, _BATCH).to(self.device).float() / 127.5 - 1
        views = [images, images.flip(3)][: self.job.views]
        with deterministic_kernels(), autocast(self.device, self.dtype):
            kept = [torch.stack(self.generator.posterior(view), 1) for view in views]
        return torch.stack(kept, 1)[: len(pixels)].half()


def _rejected(rows: list[Tried]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array([row.id for row in rows], pa.string()),
            "reason": pa.array([row.reason for row in rows], pa.string()),
            "images": pa.array([row.images for row in rows], pa.int64()),
        }
    )


def _name(unit: int) -> str:
    return f"{unit:05d}"
