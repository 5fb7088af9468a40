"""Choosing rows of ragged columns."""

import tracemalloc

import numpy as np
import pytest

from engine.data.packing import choose_rows, to_offsets


@pytest.mark.parametrize("lengths", [[2, 0, 3, 1], [2, 2, 2, 2], [0, 0, 0, 0]])
@pytest.mark.parametrize("rows", [[], [3, 0, 0], [1, 2]])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_chosen_rows_keep_their_values_and_order(lengths: list, rows: list, shape: tuple) -> None:
    values = np.random.default_rng(0).random((sum(lengths), *shape))
    ends = np.cumsum(lengths)
    expected = [values[ends[row] - lengths[row] : ends[row]] for row in rows]
    chosen, offsets = choose_rows(values, to_offsets(lengths), np.array(rows, np.int64))
    np.testing.assert_array_equal(chosen, np.concatenate([values[:0], *expected]))
    assert offsets.tolist() == [0, *np.cumsum([len(row) for row in expected])]
    assert offsets.dtype == np.int64


def test_rows_of_equal_length_are_chosen_without_an_index_per_value() -> None:
    values, offsets = np.zeros(1000 * 300, np.int8), np.arange(1001) * 300
    tracemalloc.start()
    chosen, _ = choose_rows(values, offsets, np.arange(0, 1000, 2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * chosen.nbytes
