"""Tuning of the aspects' weights."""

from collections.abc import Callable, Sequence
from itertools import product

WEIGHT_STEPS = 4  # weights are tried in quarters, then refined around the best


def tune_weights(
    names: Sequence[str], measure: Callable[[dict[str, float]], float]
) -> tuple[dict[str, float], float]:
    """The weights with the highest measure: first in steps of 1/4, then of 1/8 around the best.

    Args:
        names: of the aspects.
        measure: weights -> the number to maximize, the same on every rank.

    Returns:
        (weights that sum to 1, their measure). Of equal measures the first tried wins: steps of
        1/4 are tried before steps of 1/8, and more weight on earlier names before less.
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
