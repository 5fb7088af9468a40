"""Run a function on several ranks of a gloo group, as torchrun would start them."""

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from typing import Any

# One server process imports what scripts do, once; each rank is then a cheap fork of it, with no
# threads or locks inherited from the test process.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["pytest", "matplotlib.pyplot", "train", "infer", "tools.evaluate"])


def run_ranks(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Call ``function(*args)`` on every rank and return the results in rank order.

    The function must be importable (top level of a test module) and return picklable objects.
    An exception on any rank fails the caller with that rank's traceback.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = _context.Queue()
    processes = [
        _context.Process(target=_one_rank, args=(queue, rank, world_size, port, function, args))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    try:
        answers = [pickle.loads(queue.get(timeout=120)) for _ in processes]
    finally:
        for process in processes:
            process.join(timeout=10)
            process.kill()
    failures = [f"rank {rank}:\n{text}" for rank, text, _ in answers if text]
    assert not failures, "\n".join(failures)
    return [result for _, _, result in sorted(answers, key=lambda answer: answer[0])]


def _one_rank(queue, rank: int, world_size: int, port: int, function: Callable, args) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        import torch

        from engine import distributed

        torch.set_num_threads(1)
        distributed.init("cpu", timeout_minutes=2)
        result = function(*args)
        distributed.shutdown()
        answer = (rank, "", result)
    except BaseException:
        answer = (rank, traceback.format_exc(), None)
    # Pickled here: a queue would pass tensors as shared memory, which dies with this process.
    queue.put(pickle.dumps(answer))
