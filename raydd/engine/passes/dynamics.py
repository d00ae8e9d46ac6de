"""Training dynamics: what is noted of every image while a network is trained on the real ones.

An image is forgotten when the network was right at its last visit and is wrong at this one (Toneva
et al., arXiv 1812.05159). Its area under the margin (AUM; Pleiss et al., arXiv 2001.10528) is the
mean over its visits of the true class's logit minus the largest other one. Visits are those of the
training itself, on its augmented views: counting costs no extra pass. Every rank notes its own
visits; at the end of an epoch rank 0 gathers them and is the only writer, so that an image counts
once per epoch on any number of workers.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed
from torch import Tensor
from upath import UPath

from raydd.store.tables import column_names, read_table, write_table

FOLDER = "forgetting"
AUM = "aum"  # its column, here and in score tables
_COLUMNS = {"events": np.uint16, "right": bool, "learned": bool}
_MARGINS = {"margin": np.float32, "visits": np.uint16}


class TrainingDynamics:
    """Counts by place; about 18 bytes per image on rank 0, nothing elsewhere.

    Attributes:
        places: int64 [N], sorted.
        columns: one value per place: ``events``; whether the network was ``right`` at the last
            visit, and whether it was at any (``learned``); the sum of the ``margin`` over
            ``visits``. The last two are missing where a training began without them.
    """

    def __init__(self) -> None:
        self._visits: list[tuple[np.ndarray, Tensor, Tensor]] = []
        self.places = np.empty(0, np.int64)
        kinds = _COLUMNS | _MARGINS
        self.columns = {name: np.empty(0, dtype) for name, dtype in kinds.items()}

    def visit(self, places: np.ndarray, logits: Tensor, labels: Tensor) -> None:
        """Note a batch; nothing is copied yet.

        Args:
            places: int64 [B].
            logits: [B, C], on any device.
            labels: int64 [B], on the same.
        """
        logits = logits.detach()
        self._visits.append((places, logits.argmax(1) == labels, margins(logits, labels)))

    def close_epoch(self, rank: int, world: int) -> None:
        """Gather every rank's visits and count; only the first visit of an image counts."""
        visits, self._visits = self._visits, []
        places, right, margin = np.empty(0, np.int64), np.empty(0, bool), np.empty(0, np.float32)
        if visits:
            places = np.concatenate([p for p, _, _ in visits])
            right = torch.cat([r for _, r, _ in visits]).cpu().numpy()
            margin = torch.cat([m for _, _, m in visits]).cpu().numpy()
        if world > 1:
            everyone: list[Any] = [None] * world
            torch.distributed.all_gather_object(everyone, (places, right, margin))
            places, right, margin = (np.concatenate(c) for c in zip(*everyone, strict=True))
        if rank == 0:
            self._count(places, right, margin)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep; counts as int32."""
        kept = {"places": self.places} | self.columns
        wide = {n: v.astype(np.int32) if v.dtype == np.uint16 else v for n, v in kept.items()}
        return {name: torch.from_numpy(values) for name, values in wide.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Inverse of :meth:`state`; one that an older version left has no margins, nor will this.

        Margins of the later epochs alone would be those of another training.
        """
        values = {name: tensor.cpu().numpy() for name, tensor in state.items()}
        self.places = values["places"]
        kinds = _COLUMNS | (_MARGINS if "margin" in values else {})
        self.columns = {name: values[name].astype(dtype) for name, dtype in kinds.items()}

    def save(self, folder: UPath, epochs: int) -> None:
        """Write ``forgetting/NNNNN.parquet`` for every shard: row, forgetting, aum (float32).

        An image that was never right has no event to count and is the hardest of all: it gets
        ``epochs``, more than any count can reach.
        """
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        kept = self.columns
        events = np.where(kept["learned"], kept["events"], epochs).astype(np.int32)
        shards, rows = self.places >> 32, (self.places & 0xFFFFFFFF).astype(np.int32)
        columns: dict[str, np.ndarray] = {"row": rows, "forgetting": events}
        if "margin" in kept:
            columns[AUM] = kept["margin"] / kept["visits"].astype(np.float32)
        for shard in np.unique(shards).tolist():
            here = slice(*np.searchsorted(shards, [shard, shard + 1]))
            table = pa.table({name: values[here] for name, values in columns.items()})
            write_table(folder / FOLDER / f"{shard:05d}.parquet", table)

    def _count(self, places: np.ndarray, right: np.ndarray, margin: np.ndarray) -> None:
        places, first = np.unique(places, return_index=True)
        right = right[first]
        self._admit(np.setdiff1d(places, self.places, assume_unique=True))
        at, kept = np.searchsorted(self.places, places), self.columns
        kept["events"][at] += kept["right"][at] & ~right
        kept["right"][at] = right
        kept["learned"][at] |= right
        if "margin" in kept:
            kept["margin"][at] += margin[first]
            kept["visits"][at] += 1

    def _admit(self, places: np.ndarray) -> None:
        """Make room for images that were not visited before."""
        if not len(places):
            return
        order = np.argsort(np.concatenate([self.places, places]), kind="stable")
        self.places = np.concatenate([self.places, places])[order]
        for name, old in self.columns.items():
            new = np.zeros(len(places), old.dtype)
            self.columns[name] = np.concatenate([old, new])[order]


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """The true class's logit minus the largest other one (arXiv 2001.10528), float32 [B].

    Args:
        logits: [B, C], at least two classes.
        labels: int64 [B].
    """
    logits, true = logits.float(), labels[:, None]
    others = logits.scatter(1, true, -torch.inf)
    return logits.gather(1, true)[:, 0] - others.amax(1)


class DynamicsTable:
    """Looks up what a finished training noted, a shard at a time.

    Args:
        folder: of the training's checkpoint.
    Attributes:
        columns: what there is to look up, and what stands for images that the training never met:
            ``forgetting`` (int32, -1) and ``aum`` (float32, NaN), or fewer.
    """

    def __init__(self, folder: UPath) -> None:
        self.folder = folder / FOLDER
        never = {"forgetting": np.int32(-1), AUM: np.float32(np.nan)}
        first = next(iter(sorted(self.folder.glob("*.parquet"), key=str)), None)
        present = column_names(first) if first else []
        self.columns = {name: value for name, value in never.items() if name in present}
        self._shards: dict[int, pa.Table] = {}

    def lookup(self, shards: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Every column's values at the places (shard, row), each [N]."""
        found = {name: np.full(len(rows), never) for name, never in self.columns.items()}
        for shard in np.unique(shards).tolist():
            here, table = shards == shard, self._shard(shard)
            if not table.num_rows:
                continue
            known = table["row"].to_numpy()
            at = np.searchsorted(known, rows[here]).clip(max=len(known) - 1)
            met = known[at] == rows[here]
            for name, never in self.columns.items():
                found[name][here] = np.where(met, table[name].to_numpy()[at], never)
        return found

    def _shard(self, shard: int) -> pa.Table:
        if shard not in self._shards:
            if len(self._shards) > 16:  # a pass meets few shards at a time
                self._shards.clear()
            path = self.folder / f"{shard:05d}.parquet"
            self._shards[shard] = read_table(path) if path.exists() else pa.table({"row": []})
        return self._shards[shard]
