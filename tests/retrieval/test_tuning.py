"""The tuning of weights."""

import pytest

from retrieval.tuning import tune_weights


def test_tuning_finds_the_best_eighth() -> None:
    target = {"item": 5 / 8, "color": 0, "shape": 3 / 8}
    weights, value = tune_weights(
        list(target), lambda w: -sum((w[name] - target[name]) ** 2 for name in target)
    )
    assert weights == target
    assert value == 0


def test_tuning_prefers_one_aspect_when_nothing_matters() -> None:
    weights, value = tune_weights(["item", "color"], lambda w: 0.5)
    assert weights == {"item": 1, "color": 0}
    assert value == 0.5
    assert tune_weights(["item"], lambda w: w["item"])[0] == {"item": pytest.approx(1)}
