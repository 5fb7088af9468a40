"""Work ahead on threads: in order, bounded, and not begun once nobody asks."""

import threading

import pytest

from engine.threads import map_ahead, threads


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_and_few_items_are_taken_ahead(workers: int) -> None:
    taken = []
    items = (taken.append(i) or i for i in range(50))
    with threads(workers) as pool:
        results = map_ahead(pool, lambda i: i * i, items, 4)
        assert [next(results) for _ in range(10)] == [i * i for i in range(10)]
        assert len(taken) <= 10 + 4
        assert list(results) == [i * i for i in range(10, 50)]


def test_an_error_cancels_the_waiting_items() -> None:
    begun, failed = [], threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise ValueError(item)
        failed.wait(10)

    with pytest.raises(ValueError, match="0"), threads(1) as pool:
        try:
            next(map_ahead(pool, work, range(9), 5))
        finally:
            threading.Timer(0.2, failed.set).start()  # while the pool is being closed
    assert len(begun) <= 2
