"""Measures the latency and memory of a network."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

WARM_UP = 2


@dataclass(frozen=True)
class Measured:
    """One call of a network.

    Attributes:
        median_ms, fastest_ms: wall time of a call.
        runs: calls timed.
        weights_mib: parameters and buffers.
        peak_mib: most memory that the call's own tensors took at once, on top of the weights. On
            CPUs the arithmetic libraries' internal buffers are not counted.
    """

    median_ms: float
    fastest_ms: float
    runs: int
    weights_mib: float
    peak_mib: float


@torch.inference_mode()
def measure(model: torch.nn.Module, inputs: tuple[Any, ...], runs: int) -> Measured:
    """Time ``model(*inputs)`` after a warm-up, and measure the memory of one further call."""
    device = next(model.parameters()).device
    weights = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))

    def call() -> None:
        model(*inputs)
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(WARM_UP):
        call()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    peak = _peak_on_gpu(call) if device.type == "cuda" else peak_on_cpu(call)
    mib = (weights / 2**20, peak / 2**20)
    return Measured(statistics.median(times), min(times), runs, *mib)


def _peak_on_gpu(call: Callable[[], None]) -> int:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


def peak_on_cpu(call: Callable[[], None]) -> int:
    """Peak bytes of the tensors that a call creates."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # else it warns that there is no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as watch:
        call()
    events = watch.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    total = peak = 0
    for _, change in changes:
        total += change
        peak = max(peak, total)
    return peak
