"""What a process of the leak check's pass does with a batch; it imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raydd.data.images import shrink
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import decode_rows, pixel_array
from raydd.ops.nearest import nearest_rows


@dataclass(frozen=True)
class Comparison:
    """The images whose nearest real ones are looked for; sent to every process once.

    Attributes:
        queries: uint8 [M, side * side * 3].
        labels: int [M].
        preprocessing: of the real images, before they are reduced.
        max_pixels: limit of the decoder.
        side: of the compared images, pixels.
    """

    queries: np.ndarray
    labels: np.ndarray
    preprocessing: Preprocessing
    max_pixels: int
    side: int

    def compare(self, batch: pa.Table) -> pa.Table:
        """Replace the images of a batch of rows by the queries they are nearest to.

        Args:
            batch: encoded rows (``image``) or good ones that are decoded (``pixels``).
        Returns:
            The rows, encoded ones with their reasons, and two columns of lists: ``queries``, to
            which no other image of the batch is nearer, and ``squares``, sums of squared
            differences to them.
        """
        if "pixels" in batch.column_names:
            pixels = pixel_array(batch.column("pixels"), self.preprocessing.resolution)
            return self._compare(batch.drop_columns(["pixels"]), pixels, np.arange(len(pixels)))
        pixels, reasons = decode_rows(batch, self.preprocessing, self.max_pixels)
        rows = batch.drop_columns(["image", "reason"]).append_column(
            "reason", pa.array(reasons, pa.string())
        )
        return self._compare(rows, pixels, np.flatnonzero([not reason for reason in reasons]))

    def _compare(self, batch: pa.Table, pixels: np.ndarray, good: np.ndarray) -> pa.Table:
        """Append the two columns to rows with pixels uint8 [N, R, R, 3], of which some are good."""
        names = batch.column("id").to_numpy()[good].astype(str)
        by_id = good[np.argsort(names, kind="stable")]  # of equally near images the first by id
        rows = shrink(pixels[by_id], self.side).reshape(len(by_id), self.queries.shape[1])
        labels = batch.column("class_index").to_numpy()[by_id]
        nearest, squares = nearest_rows(self.queries, self.labels, rows, labels)
        found = np.flatnonzero(nearest >= 0)
        at = by_id[nearest[found]]
        order = np.argsort(at, kind="stable")
        ends = np.cumsum(np.bincount(at, minlength=batch.num_rows))
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        for name, values in (("queries", found.astype(np.int32)), ("squares", squares[found])):
            lists = pa.ListArray.from_arrays(offsets, pa.array(values[order]))
            batch = batch.append_column(name, lists)
        return batch


def comparing(comparison: Comparison) -> Callable[[pa.Table], pa.Table]:
    """What a worker of stored images does with a batch of rows."""
    return comparison.compare
