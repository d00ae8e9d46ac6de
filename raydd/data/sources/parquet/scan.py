"""One look at every file of a parquet split before any work: columns, rows, labels.

Footers and label columns only, several files at once; of each file stay a few numbers. So what is
wrong with any file is said, with its name, before the first image is read.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from threading import Semaphore
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from raydd.data.sources.files import Root, digest
from raydd.data.sources.parquet.classes import LabelGroup, stored_names
from raydd.data.sources.parquet.columns import (
    NONE,
    Problem,
    column_problem,
    image_leaves,
    images_lie_elsewhere,
    label_kind,
)
from raydd.data.sources.parquet.files import (
    REFETCH,
    DamagedFile,
    Table,
    is_damage,
    one_line,
    open_file,
)
from raydd.data.sources.parquet.labels import add_up, count_labels
from raydd.data.sources.parquet.layouts import SplitFile
from raydd.data.sources.parquet.paths import image_stamps
from raydd.data.sources.parquet.rows import read_cells

SHARD_BYTES = 64 << 20
SHARD_PATHS = 600  # images that lie in files of their own: about as many bytes
SAMPLED_PATHS = 16  # of each file whose images do; see identity.py
NUM_READERS = 16  # threads for footers and label columns: mostly waiting
_COUNTING = Semaphore(os.cpu_count() or 1)  # of them, those that compute


class PartFile(NamedTuple):
    """What a source keeps of one file.

    Attributes:
        path: below the root.
        num_rows: of the file.
        cuts: first row of each of its shards.
        group: position of its numbering among those of the split.
    """

    path: str
    num_rows: int
    cuts: tuple[int, ...]
    group: int


@dataclass(frozen=True)
class Scan:
    """A split as a whole.

    Attributes:
        files: in order.
        groups: labels of the files, by the class names that these store.
        digest: hex, of paths, stamps, row counts, class names and all labels.
    """

    files: tuple[PartFile, ...]
    groups: tuple[LabelGroup, ...]
    digest: str


class _Facts(NamedTuple):
    """Of one file."""

    kind: str  # of the label column
    names: tuple[str, ...] | None
    num_rows: int
    cuts: tuple[int, ...]
    labels: np.ndarray | list[Any]  # the distinct ones: int64 where the column holds whole numbers
    rows: np.ndarray  # of each of them, int64
    digest: str


def scan_files(
    root: Root, split: str, files: Sequence[SplitFile], image_column: str, label_column: str
) -> Scan:
    """Look at every file.

    Args:
        root: the data set's folder.
        split: for messages.
        files: of the split, at least one.
        image_column: encoded images, or paths of image files below the root.
        label_column: class numbers or class names.
    Raises:
        ValueError: a file cannot be read, lacks a column or holds something else in it; names
            the file and says what to do.
    """
    parts, digests, problems = [], [], []
    groups: dict[tuple[str, ...] | None, LabelGroup] = {}
    counted: dict[tuple[str, ...] | None, list[_Facts]] = defaultdict(list)
    kinds: dict[str, str] = {}  # kind of labels -> address of the first file that has it
    look = partial(_look, root, image_column, label_column)
    for file, facts in _in_threads(look, files):
        address = f"{root.url}/{file.path}"
        if isinstance(facts, Problem):
            problems.append((address, facts))
            continue
        kinds.setdefault(facts.kind, address)
        groups.setdefault(facts.names, LabelGroup(facts.names, address))
        counted[facts.names].append(facts)
        position = list(groups).index(facts.names)
        parts.append(PartFile(file.path, facts.num_rows, facts.cuts, position))
        digests.append(digest(*file, position, facts.digest))
    if problems:
        raise _refusal(split, problems, len(files))
    _require_one_kind(kinds, label_column)
    for stored, group in groups.items():
        group.counts = add_up((facts.labels, facts.rows) for facts in counted[stored])
    names = (digest(*(group.names or ())) for group in groups.values())
    return Scan(tuple(parts), tuple(groups.values()), digest(*digests, *names))


def _in_threads(
    look: Callable[[SplitFile], _Facts | Problem], files: Sequence[SplitFile]
) -> Iterator[tuple[SplitFile, _Facts | Problem]]:
    with ThreadPoolExecutor(NUM_READERS) as pool:  # on an error, map cancels what has not begun
        yield from zip(files, pool.map(look, files), strict=True)


def _look(root: Root, image_column: str, label_column: str, file: SplitFile) -> _Facts | Problem:
    try:
        with root.explained(), open_file(root, file.path, only_labels=True) as table:
            problem = column_problem(table.schema_arrow, image_column, label_column)
            if problem is None and images_lie_elsewhere(table, image_column):
                stamps, problem = _sample(root, table, file.path, image_column)
                cuts = tuple(range(0, sum(table.group_rows), SHARD_PATHS)) or (0,)
            else:
                stamps, cuts = [], _cuts(table, file.size)
            return problem or _facts(table, label_column, cuts, stamps)
    except DamagedFile as error:
        return Problem(error.what, error.cure, error.cure)
    except (pa.ArrowException, OSError) as error:
        if not is_damage(error):
            raise
        return Problem(f"has labels that cannot be read ({one_line(error)})", REFETCH, REFETCH)


def _facts(table: Table, label_column: str, cuts: tuple[int, ...], stamps: Sequence[str]) -> _Facts:
    schema, num_rows = table.schema_arrow, sum(table.group_rows)
    column = table.column(label_column)
    if len(column) != num_rows:
        raise pa.ArrowInvalid(f"{len(column)} labels for {num_rows} rows")
    with _COUNTING:
        labels, rows, content = count_labels(column)
    hashed = digest(content, *table.group_rows, *table.group_bytes, *stamps)
    names = stored_names(schema, label_column)
    return _Facts(label_kind(schema, label_column), names, num_rows, cuts, labels, rows, hashed)


def _sample(
    root: Root, table: Table, path: str, image_column: str
) -> tuple[list[str], Problem | None]:
    """Stamps of the first images that a file names; a problem where not one of them is there."""
    group = next((group for group, rows in enumerate(table.group_rows) if rows), None)
    if group is None:
        return [], None
    cells = read_cells(table, group, image_leaves(table, group, image_column))
    named = [cell.path for cell in islice(cells, SAMPLED_PATHS) if cell.path]
    stamps = image_stamps(root, path, named)
    if named and not stamps:
        return [], Problem(
            f"has only paths in its column {image_column!r}, and none of the first {len(named)} "
            f"({named[0][:99]!r}, ...) leads to a file below the root",
            "set dataset.root to the folder that they begin in",
            "put its images there",
        )
    return stamps, None


def _cuts(table: Table, size: int) -> tuple[int, ...]:
    """First rows of the file's shards: runs of groups of at most SHARD_BYTES, one at least."""
    cuts, row, total = [0], 0, 0
    for rows, num_bytes in zip(table.group_rows, table.group_bytes, strict=True):
        if size > SHARD_BYTES and row > cuts[-1] and total + num_bytes > SHARD_BYTES:
            cuts.append(row)
            total = 0
        row, total = row + rows, total + num_bytes
    return tuple(cuts)


def _require_one_kind(kinds: Mapping[str, str], label_column: str) -> None:
    """Raise ValueError where some files hold numbers and others texts."""
    found = [(kind, address) for kind, address in kinds.items() if kind != NONE]
    if len(found) > 1:
        (kind, first), (other, second) = found
        raise ValueError(
            f"{second} holds {other} in the column {label_column!r}, {first} holds {kind}; write "
            "the labels of all files in one way, or move one of them out of the data set."
        )


def _refusal(split: str, problems: Sequence[tuple[str, Problem]], num_files: int) -> ValueError:
    """The sentence about the commonest problem, with the first file that has it."""
    common, count = Counter(problem for _, problem in problems).most_common(1)[0]
    address = next(address for address, problem in problems if problem == common)
    cure = common.cure if count == num_files else common.cure_of_one
    if num_files > 1:
        cure = f"so it is with {count} of the {num_files} files of the split {split!r}: {cure}"
    return ValueError(f"{address} {common.what}; {cure}.")
