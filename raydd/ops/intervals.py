"""Mean and 95 % interval of repeated runs; every accuracy the reports print goes through here."""

from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of independent runs and the half-width of its 95 % confidence interval.

    Student's t with n - 1 degrees of freedom and the sample standard deviation: with the three to
    five seeds a run can afford, the normal approximation would claim intervals half as wide.

    Args:
        values: one number per seed, any unit.
    Returns:
        (mean, half-width), in the unit of the values; the half-width of a single value is nan, for
        one run says nothing about its spread.
    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("mean_and_interval needs at least one value.")
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if len(sample) == 1:
        return mean, float("nan")
    standard_error = sample.std(ddof=1) / np.sqrt(len(sample))
    return mean, float(quantile(len(sample)) * standard_error)


def quantile(count: int) -> float:
    """Half-width of the 95 % interval of the mean of ``count`` values, in standard errors.

    Args:
        count: at least 2.
    """
    from scipy.special import stdtrit  # half a second of imports

    return float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2))
