"""The best rows of each class out of a stream of rows, in memory that the stream does not grow.

Rows are ordered by (rung, key, tie), those of a stratum by (rung, tie). The tie is a hash of the
image's id and the seed: the order of equals is uniform, and the same however the rows are cut into
parts or spread over workers.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from raydd.engine.selection.strata import Strata

_FOLD_ROWS = 1_000_000

SCHEMA = pa.schema(
    [
        ("class_index", pa.int32()),
        ("rung", pa.int8()),
        ("key", pa.float64()),
        ("tie", pa.uint64()),
        ("part", pa.int32()),
        ("row", pa.int32()),
        ("id", pa.string()),
    ]
)


class Shortlist:
    """Keeps the best ``counts[c]`` rows of every class c.

    Args:
        counts: int64 [C].
        balanced: False keeps the best ``sum(counts)`` rows over all classes instead.
        seed: of the order of equals.
        strata: keep as many rows of every stratum as it gives instead, whatever their key.
    """

    def __init__(
        self, counts: np.ndarray, balanced: bool, seed: int, strata: Strata | None = None
    ) -> None:
        self.balanced, self.seed, self.strata = balanced, seed, strata
        self.counts = counts if balanced else np.array([counts.sum()])
        if strata:
            self.counts = strata.quotas
        self._tables = [SCHEMA.empty_table()]
        self._rows = 0
        # (rung, key) that a row must not exceed, once its class is full; replaced as one, for
        # other threads read it
        self._bar = np.full(len(self.counts), 127, np.int8), np.full(len(self.counts), np.inf)

    def hopeful(
        self, columns: Mapping[str, np.ndarray], ids: pa.ChunkedArray, part: int
    ) -> pa.Table:
        """Rows that may still be among the best; changes nothing, so that threads may ask.

        Args:
            columns: ``class_index``, ``row``, ``rung`` (negative: never) and ``key``, each [N].
            ids: strings [N].
            part: number of the part they come from.
        """
        group = self._groups(columns["class_index"], columns["key"])
        rung, key = columns["rung"], self._worth(columns["key"])
        worst, limit = (bar[group] for bar in self._bar)
        hopeful = (rung >= 0) & ((rung < worst) | ((rung == worst) & (key <= limit)))
        places = np.flatnonzero(hopeful)
        names = ids.take(pa.array(places, pa.int64())).combine_chunks()
        chosen = {name: values[places] for name, values in columns.items()}
        ties, parts = hash_ids(names, self.seed), np.full(len(places), part)
        columns = {**chosen, "tie": ties, "part": parts, "id": names}
        return pa.table({name: columns[name] for name in SCHEMA.names}).cast(SCHEMA)

    def merge(self, rows: pa.Table) -> None:
        """Take in :meth:`hopeful` rows."""
        self._tables.append(rows)
        self._rows += rows.num_rows
        if self._rows > _FOLD_ROWS:
            self._fold()

    def table(self) -> pa.Table:
        """What was kept, by class and within a class best first."""
        self._fold()
        (kept,) = self._tables
        if self.balanced:  # groups are classes, or lie within one
            return kept
        by_class = np.argsort(kept["class_index"].to_numpy(), kind="stable")
        return kept.take(pa.array(by_class))

    def _groups(self, class_index: np.ndarray, key: np.ndarray) -> np.ndarray:
        if self.strata:
            return self.strata.of(class_index, key)
        return class_index if self.balanced else np.zeros(len(class_index), np.int64)

    def _worth(self, key: np.ndarray) -> np.ndarray:
        """What orders the rows of a rung, beside the tie."""
        return np.zeros_like(key) if self.strata else key

    def _fold(self) -> None:
        """Cut to the best of every group and raise the bar for later rows."""
        rows = pa.concat_tables(self._tables)
        group = self._groups(rows["class_index"].to_numpy(), rows["key"].to_numpy())
        rung, key = rows["rung"].to_numpy(), self._worth(rows["key"].to_numpy())
        order = np.lexsort((rows["tie"].to_numpy(), key, rung, group))
        ends = np.searchsorted(group[order], np.arange(len(self.counts) + 1))
        rank = np.arange(len(order)) - ends[:-1][group[order]]
        order = order[rank < self.counts[group[order]]]
        self._tables, self._rows = [rows.take(pa.array(order))], 0
        ends = np.searchsorted(group[order], np.arange(len(self.counts) + 1))
        full = np.flatnonzero((np.diff(ends) == self.counts) & (self.counts > 0))
        last = order[ends[1:][full] - 1]
        last_rung, last_key = (bar.copy() for bar in self._bar)
        last_rung[full], last_key[full] = rung[last], key[last]
        self._bar = last_rung, last_key


def hash_ids(ids: pa.Array, seed: int) -> np.ndarray:
    """uint64 [N], uniform, fixed by id and seed."""
    from pandas.util import hash_array  # half a second: a run that is found finished does without

    names = ids.to_numpy(zero_copy_only=False).astype(object)
    return hash_array(names, hash_key=f"{seed % 10**16:016d}", categorize=False)
