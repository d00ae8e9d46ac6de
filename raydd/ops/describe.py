"""Numbers for people: many of them in a few; bytes and seconds as text."""

from typing import Any

import numpy as np

_BINS = 20


def describe(values: np.ndarray) -> dict[str, Any] | None:
    """Describe the finite ones of some values.

    Args:
        values: float [N].
    Returns:
        ``min``, ``q10``, ``q25``, ``median``, ``q75``, ``q90``, ``max``, ``mean`` and
        ``histogram`` (``edges`` and ``counts``) as json values; None where no value is finite.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    names = ("min", "q10", "q25", "median", "q75", "q90", "max")
    quantiles = np.quantile(values, (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)).tolist()
    counts, edges = np.histogram(values, _BINS)
    histogram = {"edges": edges.tolist(), "counts": counts.tolist()}
    return {
        **dict(zip(names, quantiles, strict=True)),
        "mean": float(values.mean()),
        "histogram": histogram,
    }


def byte_size(count: float) -> str:
    """Bytes as "512 B", "1.5 KiB", ... "2.0 TiB"."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds as "5.0 s", "3 min 20 s" or "2 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
