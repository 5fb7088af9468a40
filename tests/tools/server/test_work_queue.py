"""The work queue: bounded, ordered, and advising longer waits the longer it is."""

import asyncio
import threading
from itertools import accumulate, cycle
from types import SimpleNamespace

import pytest

from tools.server import work_queue as module
from tools.server.limits import Refusal
from tools.server.work_queue import WorkQueue


def test_full_queue_refuses_until_a_slot_is_free() -> None:
    async def story() -> None:
        queue, gate = WorkQueue(1, 2), threading.Event()

        async def visit(number: int) -> int:
            with queue.slot():
                await queue.run(gate.wait)
                return number

        visits = [asyncio.create_task(visit(number)) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await visit(3)
        assert refused.value.status_code == 503
        assert int(refused.value.headers["Retry-After"]) >= 1
        gate.set()
        assert await asyncio.gather(*visits) == [0, 1, 2]
        assert await visit(4) == 4

    asyncio.run(story())


def test_work_runs_in_order_and_never_on_more_than_the_workers() -> None:
    async def story() -> None:
        queue, active, most, order = WorkQueue(2, 50), [], [], []

        def work(number: int) -> None:
            active.append(number)
            order.append(number)
            most.append(len(active))
            threading.Event().wait(0.002)
            active.remove(number)

        await asyncio.gather(*(queue.run(work, number) for number in range(20)))
        assert max(most) == 2
        assert all(abs(number - place) <= 1 for place, number in enumerate(order))

    asyncio.run(story())


def test_slot_is_freed_when_the_work_fails() -> None:
    async def story() -> None:
        queue = WorkQueue(1, 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), queue.slot():
                await queue.run(lambda: 1 / 0)
        assert queue.taken == 0

    asyncio.run(story())


def test_advice_grows_with_the_queue_up_to_a_limit() -> None:
    queue = WorkQueue(1, 1000)
    queue.seconds, queue.taken = 4.0, 1
    assert queue.advice() == 2
    queue.taken = 10
    assert queue.advice() == 20
    queue.taken = 1000
    assert queue.advice() == 120
    queue.seconds = 0.0
    assert queue.advice() == 1


def test_advice_follows_what_recent_requests_took(monkeypatch) -> None:
    queue = WorkQueue(1, 1)
    for took in (10.0, 2.0):
        clock = accumulate(cycle([1.0, took]))
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))  # noqa: B023
        for _ in range(40):
            asyncio.run(queue.run(int))
        assert queue.seconds == pytest.approx(took, abs=0.01)
