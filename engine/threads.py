"""An ordered ``map`` on threads with a bounded number of results ahead of the consumer."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def threads(workers: int) -> Iterator[ThreadPoolExecutor | None]:
    """A pool for ``map_ahead``, None for 0 workers; at the end, queued items are cancelled."""
    pool = ThreadPoolExecutor(workers) if workers else None
    try:
        yield pool
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


def map_ahead(
    pool: ThreadPoolExecutor | None, function: Callable, items: Iterable, ahead: int
) -> Iterator:
    """``map`` on threads: results in order, at most ``ahead`` of them computed in advance.

    Without a pool it is the built-in ``map``.
    """
    if pool is None:
        yield from map(function, items)
        return
    pending: deque = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
