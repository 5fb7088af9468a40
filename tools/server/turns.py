"""Requests take turns: a few are worked on, a bounded number waits, the rest is told to come back.

The network is one and wants all cores, so photos go through it one at a time; an endless queue
would only turn a busy server into one that answers nobody in time.
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


class Turns:
    """Threads for one kind of work. Used from the event loop's thread only, hence without locks.

    Args:
        workers: how many run at a time.
        waiting: how many more may wait.
    """

    def __init__(self, workers: int, waiting: int) -> None:
        self.workers, self.places = workers, workers + waiting
        self.taken = 0
        self.seconds = 0.0  # that one piece of work takes, lately
        self._threads = ThreadPoolExecutor(workers)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the queue, from before the request's body is read.

        Raises:
            Refusal: 503 with Retry-After where the queue is full.
        """
        if self.taken >= self.places:
            raise Refusal(503, "The server is busy; try again in a moment", self.advice())
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    def advice(self) -> int:
        """Seconds after which half of those who wait now should be done."""
        seconds = self.seconds * self.taken / self.workers / 2
        return min(max(math.ceil(seconds), 1), LONGEST_ADVICE)

    async def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Run on a thread, in the order of the calls."""

        def timed() -> tuple[Result, float]:
            started = time.monotonic()
            return work(*arguments), time.monotonic() - started

        result, seconds = await asyncio.get_running_loop().run_in_executor(self._threads, timed)
        self.seconds += 0.2 * (seconds - self.seconds)
        return result
