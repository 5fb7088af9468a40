"""Work in many processes against the same work in one."""

import multiprocessing
import os
import sys
from itertools import chain

import pytest

from engine.data.readers import parallel
from engine.data.readers.parallel import map_chunks, own_cores


@pytest.mark.parametrize("count", [0, 1, parallel.CHUNK + 1, parallel.WORTH_PROCESSES + 1])
def test_results_are_in_order_with_and_without_processes(count: int) -> None:
    chunks = list(map_chunks(list, range(count), "counting"))
    assert list(chain(*chunks)) == list(range(count))
    assert all(len(chunk) == parallel.CHUNK for chunk in chunks[:-1])


def test_it_works_on_systems_without_fork_and_cpu_affinity(monkeypatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert own_cores() == 1
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert own_cores() == 2
    monkeypatch.setattr(sys, "platform", "darwin")
    context = multiprocessing.get_context
    monkeypatch.setattr(multiprocessing, "get_context", lambda way: context(way or "spawn"))
    count = parallel.WORTH_PROCESSES + 1
    assert list(chain(*map_chunks(list, range(count), "counting"))) == list(range(count))
