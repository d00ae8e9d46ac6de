"""Forgetting events, counted while a network is trained on the real images.

An image is forgotten when the network was right at its last visit and is wrong at this one (Toneva
et al., arXiv 1812.05159). Visits are those of the training itself, on its augmented views: counting
costs no extra pass. Every rank notes its own visits; at the end of an epoch rank 0 gathers them and
is the only writer, so that an image counts once per epoch on any number of workers.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed
from torch import Tensor
from upath import UPath

from raydd.store.tables import read_table, write_table

FOLDER = "forgetting"


class ForgettingCounter:
    """Counts events by place; about 12 bytes per image on rank 0, nothing elsewhere."""

    def __init__(self) -> None:
        self._visits: list[tuple[np.ndarray, Tensor]] = []
        self.places = np.empty(0, np.int64)  # sorted
        self.events = np.empty(0, np.uint16)
        self.right = np.empty(0, bool)  # at the last visit
        self.learned = np.empty(0, bool)  # at any visit

    def visit(self, places: np.ndarray, right: Tensor) -> None:
        """Note a batch: int64 places [B] and bool [B], on any device; nothing is copied yet."""
        self._visits.append((places, right))

    def close_epoch(self, rank: int, world: int) -> None:
        """Gather every rank's visits and count; only the first visit of an image counts."""
        visits, self._visits = self._visits, []
        places = np.concatenate([p for p, _ in visits]) if visits else np.empty(0, np.int64)
        right = torch.cat([r for _, r in visits]).cpu().numpy() if visits else np.empty(0, bool)
        if world > 1:
            everyone: list[Any] = [None] * world
            torch.distributed.all_gather_object(everyone, (places, right))
            places, right = (np.concatenate(column) for column in zip(*everyone, strict=True))
        if rank == 0:
            self._count(places, right)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep."""
        return {
            "places": torch.from_numpy(self.places),
            "events": torch.from_numpy(self.events.astype(np.int32)),
            "right": torch.from_numpy(self.right),
            "learned": torch.from_numpy(self.learned),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Inverse of :meth:`state`."""
        values = {name: tensor.cpu().numpy() for name, tensor in state.items()}
        self.places, self.right, self.learned = values["places"], values["right"], values["learned"]
        self.events = values["events"].astype(np.uint16)

    def save(self, folder: UPath, epochs: int) -> None:
        """Write ``forgetting/NNNNN.parquet`` for every shard: row, forgetting.

        An image that was never right has no event to count and is the hardest of all: it gets
        ``epochs``, more than any count can reach.
        """
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        events = np.where(self.learned, self.events, epochs).astype(np.int32)
        shards, rows = self.places >> 32, (self.places & 0xFFFFFFFF).astype(np.int32)
        for shard in np.unique(shards).tolist():
            here = slice(*np.searchsorted(shards, [shard, shard + 1]))
            table = pa.table({"row": rows[here], "forgetting": events[here]})
            write_table(folder / FOLDER / f"{shard:05d}.parquet", table)

    def _count(self, places: np.ndarray, right: np.ndarray) -> None:
        places, first = np.unique(places, return_index=True)
        right = right[first]
        self._admit(np.setdiff1d(places, self.places, assume_unique=True))
        at = np.searchsorted(self.places, places)
        self.events[at] += self.right[at] & ~right
        self.right[at] = right
        self.learned[at] |= right

    def _admit(self, places: np.ndarray) -> None:
        """Make room for images that were not visited before."""
        if not len(places):
            return
        order = np.argsort(np.concatenate([self.places, places]), kind="stable")
        self.places = np.concatenate([self.places, places])[order]
        for name in ("events", "right", "learned"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros(len(places), old.dtype)])[order])


class ForgettingTable:
    """Looks up the events of a finished training, a shard at a time."""

    def __init__(self, folder: UPath) -> None:
        self.folder = folder / FOLDER
        self.exists = self.folder.exists()
        self._shards: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def lookup(self, shards: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Events of the places, int32 [N]; -1 where the training never met the image."""
        found = np.full(len(rows), -1, np.int32)
        for shard in np.unique(shards).tolist():
            here = shards == shard
            known, events = self._shard(shard)
            at = np.searchsorted(known, rows[here]).clip(max=max(len(known) - 1, 0))
            if len(known):
                found[here] = np.where(known[at] == rows[here], events[at], -1)
        return found

    def _shard(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        if shard not in self._shards:
            if len(self._shards) > 16:  # a pass meets few shards at a time
                self._shards.clear()
            path = self.folder / f"{shard:05d}.parquet"
            table = read_table(path) if path.exists() else pa.table({"row": [], "forgetting": []})
            rows = table["row"].to_numpy().astype(np.int64)
            self._shards[shard] = rows, table["forgetting"].to_numpy().astype(np.int32)
        return self._shards[shard]
