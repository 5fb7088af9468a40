"""Search metrics on one and several processes, and the tuning of weights."""

import numpy as np
import pytest

from engine.judging import ranking
from engine.judging.ranking import Exclusion, rank_on_all, rank_queries
from retrieval.metrics import rank_metrics, tune_weights
from tests.ranks import run_ranks


def random_search() -> tuple[tuple, list[Exclusion]]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(53, 7)).astype(np.float32)
    vectors[20:30] = vectors[10:20]  # ties
    ids = rng.integers(-1, 9, 53)
    itself = Exclusion(np.arange(53), np.arange(53))
    return (vectors, vectors, ids, ids), [itself]


def ranked() -> tuple[dict, dict]:
    ranking.BLOCK_BYTES = 8 * 53 * 5  # five queries a block
    arguments, exclude = random_search()
    return (
        rank_on_all(*arguments, exclude=exclude),
        rank_metrics(*arguments, exclude=exclude, intervals=True),
    )


def test_the_same_to_the_last_bit_on_1_2_and_3_processes(monkeypatch) -> None:
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 0)  # restored after the test
    alone = ranked()
    arguments, exclude = random_search()
    for name, values in rank_queries(*arguments, exclude=exclude).items():
        np.testing.assert_array_equal(alone[0][name], values)
    for processes in (2, 3):
        for scores, metrics in run_ranks(processes, ranked):
            assert metrics == alone[1]
            for name, values in scores.items():
                np.testing.assert_array_equal(values, alone[0][name])


def test_means_by_hand() -> None:
    """Query 1 finds its match first, query 2 second; query 3 has none and is not counted."""
    vectors = np.array([[1.0], [0.5]])
    metrics = rank_metrics(
        np.ones((3, 1)), vectors, np.array([1, 2, 3]), np.array([1, 2]), ks=(1, 2)
    )
    assert metrics == {
        "queries": 2, "R@1": 0.5, "R@2": 1, "P@1": 0.5, "P@2": 0.5, "mAP": 0.75, "MRR": 0.75
    }  # fmt: skip


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
