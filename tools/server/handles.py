"""What is remembered of uploaded photos: the vectors of their garments, for a while."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import numpy as np


class Handles:
    """Vectors under names that cannot be guessed.

    The oldest go first when there are too many; all go when their time is up, used or not, so that
    the order of arrival is the order of expiry.

    Args:
        count: at most so many.
        seconds: for which each is kept.
        clock: seconds that only grow.
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
        """Remember f32[D]; returns its handle."""
        handle = secrets.token_urlsafe(16)
        with self._guard:
            self._kept[handle] = self._clock() + self.seconds, vector.copy()
            self._expire()
        return handle

    def get(self, handle: str) -> np.ndarray | None:
        """The vector f32[D], or None when it has expired or never was."""
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
