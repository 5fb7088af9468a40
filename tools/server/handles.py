"""Keeps the vectors of uploaded garments in memory for a while."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import numpy as np


class Handles:
    """Vectors under handles that cannot be guessed.

    Each expires after a fixed time, whether used or not, so they expire in the order of arrival; if
    there are too many, the oldest is dropped.

    Args:
        count: maximum number of vectors.
        seconds: for which each is kept.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self, count: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.count, self.seconds, self._clock = count, seconds, clock
        self._kept: OrderedDict[str, tuple[float, np.ndarray]] = OrderedDict()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        with self._guard:
            self._expire()
            return len(self._kept)

    def put(self, vector: np.ndarray) -> str:
        """Keep a vector f32[D]; returns its handle."""
        handle = secrets.token_urlsafe(16)
        with self._guard:
            self._kept[handle] = self._clock() + self.seconds, vector.copy()
            self._expire()
        return handle

    def get(self, handle: str) -> np.ndarray | None:
        """The vector f32[D]; None if it has expired or never existed."""
        with self._guard:
            self._expire()
            return self._kept.get(handle, (0, None))[1]

    def _expire(self) -> None:
        now = self._clock()
        while self._kept:
            handle, (end, _) = next(iter(self._kept.items()))
            if end > now and len(self._kept) <= self.count:
                return
            del self._kept[handle]
