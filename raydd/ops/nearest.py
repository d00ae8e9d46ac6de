"""The nearest image of the same class, exactly."""

import numpy as np


def nearest_rows(
    queries: np.ndarray, query_labels: np.ndarray, rows: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each query the nearest row of its class.

    Args:
        queries: uint8 [M, P].
        query_labels: int [M].
        rows: uint8 [N, P]; of equally near ones the first is taken.
        labels: int [N].
    Returns:
        Number of the row, int64 [M], -1 where no row has the class; and the sum of squared
        differences, int64 [M]. Both are exact: whole numbers below 2^53 in float64, whatever the
        order in which a matrix product adds them.
    """
    nearest = np.full(len(queries), -1, np.int64)
    squares = np.zeros(len(queries), np.int64)
    for label in np.intersect1d(query_labels, labels).tolist():
        asking, answering = np.flatnonzero(query_labels == label), np.flatnonzero(labels == label)
        left, right = (part.astype(np.float64) for part in (queries[asking], rows[answering]))
        distances = np.square(left).sum(1)[:, None] + np.square(right).sum(1) - 2 * left @ right.T
        best = distances.argmin(1)
        nearest[asking] = answering[best]
        squares[asking] = distances[np.arange(len(asking)), best].astype(np.int64)
    return nearest, squares
