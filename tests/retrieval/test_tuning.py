"""The tuning of weights."""

import pytest

from retrieval.tuning import tune_weights


@pytest.mark.parametrize("eighths", [(5, 0, 3), (5, 1, 2)])  # the second: not from halves
def test_tuning_finds_the_best_eighths(eighths: tuple[int, ...]) -> None:
    """It measures no weights twice, since each takes a search, and none below 0."""
    target = dict(zip(("item", "color", "shape"), (part / 8 for part in eighths), strict=True))
    asked = []

    def measure(weights: dict[str, float]) -> float:
        asked.append(tuple(weights.values()))
        return -sum((weights[name] - target[name]) ** 2 for name in target)

    weights, value = tune_weights(list(target), measure)
    assert weights == target
    assert value == 0
    assert len(set(asked)) == len(asked) and min(map(min, asked)) == 0


def test_tuning_prefers_one_aspect_when_nothing_matters() -> None:
    weights, value = tune_weights(["item", "color"], lambda w: 0.5)
    assert weights == {"item": 1, "color": 0}
    assert value == 0.5
    assert tune_weights(["item"], lambda w: w["item"])[0] == {"item": pytest.approx(1)}
