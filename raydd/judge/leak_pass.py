"""What a process of the leak check's pass does with a batch; it imports no torch."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raydd.data.images import shrink
from raydd.data.preprocessing import Preprocessing
from raydd.data.rows import decode_rows
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
        """Replace the images of a batch of encoded rows by the queries they are nearest to.

        Returns:
            The rows with their reasons and two columns of lists: ``queries``, to which no other
            image of the batch is nearer, and ``squares``, sums of squared differences to them.
        """
        pixels, reasons = decode_rows(batch, self.preprocessing, self.max_pixels)
        good = np.flatnonzero([not reason for reason in reasons])
        names = batch.column("id").to_numpy()[good].astype(str)
        by_id = good[np.argsort(names, kind="stable")]  # of equally near images the first by id
        rows = shrink(pixels[by_id], self.side).reshape(len(by_id), self.queries.shape[1])
        labels = batch.column("class_index").to_numpy()[by_id]
        nearest, squares = nearest_rows(self.queries, self.labels, rows, labels)
        found = np.flatnonzero(nearest >= 0)
        at = by_id[nearest[found]]
        order = np.argsort(at, kind="stable")
        ends = np.cumsum(np.bincount(at, minlength=len(reasons)))
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        table = batch.drop_columns(["image", "reason"])
        columns = {
            "reason": pa.array(reasons, pa.string()),
            "queries": pa.ListArray.from_arrays(offsets, pa.array(found[order], pa.int32())),
            "squares": pa.ListArray.from_arrays(offsets, pa.array(squares[found[order]])),
        }
        for name, values in columns.items():
            table = table.append_column(name, values)
        return table
