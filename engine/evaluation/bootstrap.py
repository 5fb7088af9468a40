"""Confidence intervals of measured numbers by the percentile bootstrap (Efron 1979).

The samples are resampled with replacement many times; the interval holds the middle 95% of the
statistic's values. The seed is fixed: the same numbers give the same interval.
"""

from collections.abc import Callable

import numpy as np

REPEATS = 1000
PERCENTILES = (2.5, 97.5)


def interval(
    statistic: Callable[[np.ndarray], float], count: int, *, repeats: int = REPEATS
) -> tuple[float, float]:
    """95% interval of a statistic of ``count`` samples.

    Args:
        statistic: maps sample indices, int64 [count], to a number.
        count: at least 1.
        repeats: number of resamples.
    """
    rng = np.random.default_rng(0)
    values = [statistic(rng.integers(0, count, count)) for _ in range(repeats)]
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """95% interval of the mean of ``values`` [N], ignoring NaN; (NaN, NaN) if all are."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return float("nan"), float("nan")
    return interval(lambda drawn: known[drawn].mean(), len(known))
