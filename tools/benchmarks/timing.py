"""Times two ways of doing the same work alternately, and describes the machine."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# Does item ``i`` of the work and returns the seconds it took.
Way = Callable[[int], float]


def timed(work: Callable[[int], Any], device: str = "cpu") -> Way:
    """Turn a function into a Way that returns its wall time, including queued GPU work."""

    def way(item: int) -> float:
        started = time.perf_counter()
        work(item)
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return way


def compare(ours: Way, reference: Way, *, items: int, rounds: int) -> dict[str, Any]:
    """Time both ways on all items, ``rounds`` times, alternating from item to item.

    Other load on the machine slows both equally, so the ratio of a round is more stable than its
    times.

    Returns:
        median seconds per item of both ways, and of the rounds' ratios (reference / ours) the
        median, the smallest and the largest.
    """
    totals = []
    for _ in range(rounds):
        turns = [(ours(item), reference(item)) for item in range(items)]
        totals.append([sum(seconds) / items for seconds in zip(*turns, strict=True)])
    ratios = [theirs / mine for mine, theirs in totals]
    return {
        "ours_seconds": statistics.median(mine for mine, _ in totals),
        "reference_seconds": statistics.median(theirs for _, theirs in totals),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "items": items,
        "rounds": rounds,
    }


def machine(device: str = "cpu") -> dict[str, Any]:
    """The machine's processor, cores, accelerator, threads and load."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "accelerator": torch.cuda.get_device_name() if device != "cpu" else None,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
    }
