"""Bootstrap intervals."""

import numpy as np
import pytest

from engine.evaluation.bootstrap import interval, mean_interval


def test_it_is_close_to_the_normal_interval_of_a_large_sample() -> None:
    values = np.random.default_rng(0).random(2003) < 0.3
    low, high = interval(lambda drawn: values[drawn].mean(), len(values), repeats=4000)
    error = 1.96 * np.sqrt(0.3 * 0.7 / 2003)
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.0015)


def test_it_is_reproducible_and_ignores_nan() -> None:
    values = np.array([0.0, 1, np.nan, 1, 0, 1])
    assert mean_interval(values) == mean_interval(values[[0, 1, 3, 4, 5]])
    assert np.isnan(mean_interval(np.array([np.nan]))).all()


def test_it_works_for_any_statistic() -> None:
    values = np.array([3.0, 3, 3])
    assert interval(lambda drawn: values[drawn].sum(), 3, repeats=5) == (9, 9)
