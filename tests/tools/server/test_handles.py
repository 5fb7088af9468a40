"""Handles: vectors expire, their number is limited, and handles cannot be guessed."""

import numpy as np

from tools.server.handles import Handles


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_vectors_expire_whether_used_or_not() -> None:
    clock = Clock()
    handles = Handles(10, 60, clock)
    vector = np.arange(5, dtype=np.float32)
    handle = handles.put(vector)
    vector[:] = 0  # what is kept does not change with the caller's array
    clock.now = 59.9
    assert handles.get(handle).tolist() == [0, 1, 2, 3, 4]
    clock.now = 60
    assert handles.get(handle) is None
    assert len(handles) == 0


def test_oldest_is_dropped_if_there_are_too_many() -> None:
    handles = Handles(3, 60, Clock())
    names = [handles.put(np.full(2, number)) for number in range(5)]
    assert len(handles._kept) == 3, "also if nobody asks for them"
    kept = [handles.get(name) is not None for name in names]
    assert kept == [False, False, True, True, True]
    assert len(handles) == 3


def test_handles_are_long_and_differ() -> None:
    handles = Handles(100, 60, Clock())
    names = {handles.put(np.zeros(1)) for _ in range(50)}
    assert len(names) == 50
    assert min(map(len, names)) >= 20
    assert handles.get("") is None
