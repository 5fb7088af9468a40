"""Turns: a bounded number waits, order is kept, and the advice grows with the queue."""

import asyncio
import threading

import pytest

from tools.server.limits import Refusal
from tools.server.turns import Turns


def test_a_full_queue_refuses_and_takes_again_when_one_is_done() -> None:
    async def story() -> None:
        turns, gate = Turns(1, 2), threading.Event()

        async def visit(number: int) -> int:
            with turns.place():
                await turns.run(gate.wait)
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


def test_never_more_at_a_time_than_workers_and_in_order() -> None:
    async def story() -> None:
        turns, active, most, order = Turns(2, 50), [], [], []

        def work(number: int) -> None:
            active.append(number)
            order.append(number)
            most.append(len(active))
            threading.Event().wait(0.002)
            active.remove(number)

        await asyncio.gather(*(turns.run(work, number) for number in range(20)))
        assert max(most) == 2
        assert all(abs(number - place) <= 1 for place, number in enumerate(order))

    asyncio.run(story())


def test_a_place_is_given_back_when_the_work_fails() -> None:
    async def story() -> None:
        turns = Turns(1, 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), turns.place():
                await turns.run(lambda: 1 / 0)
        assert turns.taken == 0

    asyncio.run(story())


def test_the_advice_grows_with_what_waits_but_not_without_end() -> None:
    turns = Turns(1, 1000)
    turns.seconds, turns.taken = 4.0, 1
    assert turns.advice() == 2
    turns.taken = 10
    assert turns.advice() == 20
    turns.taken = 1000
    assert turns.advice() == 120
    turns.seconds = 0.0
    assert turns.advice() == 1
