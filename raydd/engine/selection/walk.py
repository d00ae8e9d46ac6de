"""What one part of the score tables offers to a selection; threads of the driver ask."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
from upath import UPath

from raydd.cluster.threads import map_ahead
from raydd.engine.selection.chosen import places
from raydd.engine.selection.ranking import Ranking
from raydd.ops.scores import Columns
from raydd.store.artifacts import Artifact
from raydd.store.tables import encode_places, part_files, read_table

SIGN = {"simple": 1.0, "hard": -1.0}
_KEYS = ("class_index", "row")  # columns that every score table has
_THREADS = min(8, os.cpu_count() or 1)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Offer:
    """The rows of one part, N of them.

    Attributes:
        part: its number.
        columns: ``class_index``, ``row``, ``rung`` (negative: never chosen) and ``key`` (lower is
            chosen first; the difficulty itself where strata are drawn from), each [N].
        ids: strings [N].
    """

    part: int
    columns: Columns
    ids: pa.ChunkedArray


class Walk:
    """Goes through the parts of aligned score tables, as often as a selection must.

    Args:
        tables: of one source, aligned row by row.
        ranking: what best means.
        used: earlier selections; their images are offered on no rung.
    """

    def __init__(
        self, tables: Sequence[Artifact], ranking: Ranking, used: Sequence[Artifact]
    ) -> None:
        self.ranking = ranking
        files = (part_files(table.folder) for table in tables)
        self._parts = list(enumerate(zip(*files, strict=True)))
        taken = [places(selection.folder) for selection in used]
        self._taken = np.sort(np.concatenate([np.empty(0, np.int64), *taken]))

    def each(self, work: Callable[[Offer], Result]) -> Iterator[Result]:
        """What threads make of every part, in the order of the parts."""
        return map_ahead(lambda part: work(self._offer(*part)), self._parts, _THREADS, 2 * _THREADS)

    def _offer(self, number: int, paths: Sequence[UPath]) -> Offer:
        tables = [read_table(path, [*_KEYS, "id", *self.ranking.columns]) for path in paths]
        columns = [_numbers(table) for table in tables]
        labels, rows = columns[0]["class_index"], columns[0]["row"]
        for other in columns[1:]:
            if not all(np.array_equal(columns[0][name], other[name]) for name in _KEYS):
                raise RuntimeError(f"score tables are not aligned in {paths[0].name}")
        rung = np.where(_is_in(number, rows, self._taken), -1, self.ranking.rung(columns))
        offered = {"class_index": labels, "row": rows, "rung": rung.astype(np.int8)}
        return Offer(number, offered | {"key": _key(self.ranking, columns)}, tables[0]["id"])


def _is_in(part: int, rows: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Whether rows of a part are among the taken places, which are sorted; bool [N]."""
    here = slice(*np.searchsorted(taken, encode_places(np.array([part, part + 1]), np.zeros(2))))
    return np.isin(encode_places(np.full(len(rows), part), rows), taken[here])


def _numbers(table: pa.Table) -> Columns:
    return {name: table[name].to_numpy() for name in table.column_names if name != "id"}


def _key(ranking: Ranking, columns: list[Columns]) -> np.ndarray:
    """Lower is chosen first: the difficulty, its negative, or nothing."""
    if ranking.difficulty is None or not ranking.is_ordered:
        return np.zeros(len(columns[0]["row"]))
    return SIGN.get(ranking.order, 1.0) * ranking.difficulty(columns).astype(np.float64)
