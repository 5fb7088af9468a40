"""How well a search finds what it should, in numbers, and the weights that make it find more.

All processes measure together; the arithmetic is in ``engine.judging.ranking``.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from engine.judging.bootstrap import mean_interval
from engine.judging.ranking import Exclusion, mean_of_known, rank_on_all

WEIGHT_STEPS = 4  # weights are tried in quarters, then refined around the best


def rank_metrics(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    *,
    ks: Sequence[int] = (1, 5, 10, 20),
    exclude: Sequence[Exclusion] = (),
    intervals: bool = False,
) -> dict[str, Any]:
    """Means over the queries that have something to find; all ranks call it.

    Args:
        queries, gallery, query_ids, gallery_ids, ks, exclude: as ``rank_queries``.
        intervals: add "intervals": {name: 95% bootstrap interval}.

    Returns:
        {"queries": how many, "R@k": any hit among k, "P@k", "mAP", "MRR"}.
    """
    scores = rank_on_all(queries, gallery, query_ids, gallery_ids, ks=ks, exclude=exclude)
    scores = {name: values for name, values in scores.items() if not name.startswith("found")}
    metrics: dict[str, Any] = {name: mean_of_known(values) for name, values in scores.items()}
    metrics["queries"] = int((~np.isnan(scores["MRR"])).sum())
    if intervals:
        metrics["intervals"] = {name: mean_interval(values) for name, values in scores.items()}
    return metrics


def tune_weights(
    names: Sequence[str], measure: Callable[[dict[str, float]], float]
) -> tuple[dict[str, float], float]:
    """The weights of the highest measure: quarters of a sum of 1, then eighths around the best.

    Args:
        names: of the aspects.
        measure: weights -> the number to maximize, the same on every rank.

    Returns:
        (weights with a sum of 1, their measure). Of equals the first wins, where coarser steps and
        more weight on earlier names come first.
    """
    tried: dict[tuple[int, ...], float] = {}

    def best_of(candidates: list[tuple[int, ...]]) -> tuple[int, ...]:
        for parts in candidates:
            if parts not in tried:
                total = sum(parts)
                tried[parts] = measure({n: p / total for n, p in zip(names, parts, strict=True)})
        return max(tried, key=tried.__getitem__)

    steps = range(WEIGHT_STEPS, -1, -1)
    coarse = [p for p in product(steps, repeat=len(names)) if sum(p) == WEIGHT_STEPS]
    doubled = [tuple(2 * part for part in parts) for parts in coarse]
    center = best_of(doubled)
    moves = [
        tuple(part + (i == up) - (i == down) for i, part in enumerate(center))
        for up in range(len(names))
        for down in range(len(names))
        if up != down and center[down] > 0
    ]
    best = best_of(moves)
    weights = {name: part / sum(best) for name, part in zip(names, best, strict=True)}
    return weights, tried[best]
