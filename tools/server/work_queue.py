"""Bounded queues: a few requests run, a limited number waits, others are told to retry later.

One photo at a time goes through the networks, because they use all cores. In an unbounded queue a
busy server would answer no request in time.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from tools.server.limits import Refusal

Result = TypeVar("Result")
LONGEST_ADVICE = 120  # seconds


class WorkQueue:
    """Threads for one kind of work. Used only from the event loop's thread, so it needs no locks.

    Args:
        workers: how many requests run at a time.
        waiting: how many more may wait.
    """

    def __init__(self, workers: int, waiting: int) -> None:
        self.workers, self.slots = workers, workers + waiting
        self.taken = 0
        self.seconds = 0.0  # moving average of a request's run time
        self._threads = ThreadPoolExecutor(workers)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot in the queue; enter it before the request's body is read.

        Raises:
            Refusal: 503 with Retry-After if the queue is full.
        """
        if self.taken >= self.slots:
            raise Refusal(503, "The server is busy; try again in a moment", self.advice())
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    def advice(self) -> int:
        """Seconds after which half of the requests in the queue should be done."""
        seconds = self.seconds * self.taken / self.workers / 2
        return min(max(math.ceil(seconds), 1), LONGEST_ADVICE)

    async def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Run ``work(*arguments)`` on a thread, in the order of the calls."""

        def timed() -> tuple[Result, float]:
            started = time.monotonic()
            return work(*arguments), time.monotonic() - started

        result, seconds = await asyncio.get_running_loop().run_in_executor(self._threads, timed)
        self.seconds += 0.2 * (seconds - self.seconds)
        return result
