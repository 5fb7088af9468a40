"""Rankings against hand-worked values and a slow, obvious reference."""

import numpy as np
import pytest

from engine.evaluation import ranking
from engine.evaluation.ranking import (
    Exclusion,
    mean_of_known,
    nearest,
    query_blocks,
    rank_on_all,
)
from tests.ranks import run_ranks


def slow(queries, gallery, query_ids, gallery_ids, exclude=()) -> list[tuple[list[bool], int]]:
    """Per query the relevance of each rank, by sorted()."""
    answers = []
    for q, vector in enumerate(queries):
        candidates = [
            g
            for g in range(len(gallery))
            if gallery_ids[g] >= 0
            and not any(e.queries[q] == e.gallery[g] and e.queries[q] >= 0 for e in exclude)
        ]
        candidates.sort(key=lambda g: (-round(float(vector @ gallery[g]), 9), g))
        answers.append([bool(query_ids[q] == gallery_ids[g]) for g in candidates])
    return answers


def test_all_scores_by_hand() -> None:
    """The ids by decreasing score are 4 7 7 9 7; the query's id is 7."""
    gallery = np.array([[0.7], [0.9], [0.5], [0.8], [0.6]], np.float32)
    ids = np.array([7, 4, 7, 7, 9])  # by score: 4 (0.9), 7 (0.8), 7 (0.7), 9 (0.6), 7 (0.5)
    scores = rank_on_all(np.ones((1, 1)), gallery, np.array([7]), ids, ks=(1, 2, 3, 9))
    assert [scores[f"R@{k}"][0] for k in (1, 2, 3, 9)] == [0, 1, 1, 1]
    assert [scores[f"P@{k}"][0] for k in (1, 2, 3, 9)] == pytest.approx([0, 1 / 2, 2 / 3, 3 / 5])
    assert [scores[f"found@{k}"][0] for k in (1, 2, 3, 9)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert scores["mAP"][0] == pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3)
    assert scores["MRR"][0] == 0.5


def test_ties_go_to_the_earlier_entry_even_through_rounding_noise() -> None:
    gallery = np.array([[1.0], [1.0 + 1e-12], [1.0]])
    for ids, expected in (([1, 2, 2], 1), ([2, 1, 2], 1 / 2), ([2, 2, 1], 1 / 3)):
        scores = rank_on_all(np.ones((1, 1)), gallery, np.array([1]), np.array(ids))
        assert scores["MRR"][0] == pytest.approx(expected)


@pytest.mark.parametrize("counted", [0, 3, 1000])
@pytest.mark.parametrize("count", [1, 13, 101])
def test_equals_the_slow_reference(count: int, counted: int, monkeypatch) -> None:
    """With ranks counted, taken from a sorted row, or either, by the number of relevant entries."""
    monkeypatch.setattr(ranking, "SORT_FROM", counted)
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 8 * count * 3)  # three queries a block
    rng = np.random.default_rng(count)
    queries = rng.integers(-2, 3, (17, 4)).astype(np.float32)  # small integers: plenty of ties
    gallery = rng.integers(-2, 3, (count, 4)).astype(np.float32)
    query_ids, gallery_ids = rng.integers(-1, 5, 17), rng.integers(-1, 5, count)
    exclude = [
        Exclusion(rng.integers(-1, 3, 17), rng.integers(-1, 3, count)),
        Exclusion(np.arange(17), np.arange(count)),
    ]
    ks = (1, 3, 20)
    scores = rank_on_all(queries, gallery, query_ids, gallery_ids, ks=ks, exclude=exclude)
    for q, found in enumerate(slow(queries, gallery, query_ids, gallery_ids, exclude)):
        if query_ids[q] < 0 or not any(found):
            assert all(np.isnan(values[q]) for values in scores.values())
            continue
        ranks = [rank for rank, hit in enumerate(found, 1) if hit]
        for k in ks:
            hits = sum(found[:k])
            assert scores[f"R@{k}"][q] == (hits > 0)
            assert scores[f"P@{k}"][q] == pytest.approx(hits / min(k, len(found)))
            assert scores[f"found@{k}"][q] == pytest.approx(hits / len(ranks))
        precisions = [(i + 1) / rank for i, rank in enumerate(ranks)]
        assert scores["mAP"][q] == pytest.approx(np.mean(precisions))
        assert scores["MRR"][q] == pytest.approx(1 / ranks[0])


def test_without_the_full_ranking_scores_at_k_are_the_same() -> None:
    arguments, exclude = random_search()
    for ks in ((1,), (3, 10), (5, 80)):
        full_ranking = rank_on_all(*arguments, ks=ks, exclude=exclude)
        first = rank_on_all(*arguments, ks=ks, exclude=exclude, full_ranking=False)
        assert set(full_ranking) - set(first) == {"mAP", "MRR"}
        for name, values in first.items():
            np.testing.assert_array_equal(values, full_ranking[name])


def test_any_scale_of_vectors_gives_the_same_ranking() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(7, 5)), rng.normal(size=(23, 5))
    ids = rng.integers(0, 4, 23)
    plain = rank_on_all(queries, gallery, ids[:7], ids)
    scaled = rank_on_all(queries * 1e4, gallery * 1e-7, ids[:7], ids)
    for name, values in plain.items():
        np.testing.assert_array_equal(values, scaled[name])


def test_blocks_cover_every_query_once(monkeypatch) -> None:
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 8 * 11 * 4)
    blocks = query_blocks(13, 11)
    assert [i for block in blocks for i in block] == list(range(13))
    assert max(map(len, blocks)) == 4


def test_nearest_equals_a_sort(monkeypatch) -> None:
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 8 * 19 * 3)
    rng = np.random.default_rng(2)
    queries = rng.integers(-2, 3, (7, 3)).astype(np.float32)
    gallery = rng.integers(-2, 3, (19, 3)).astype(np.float32)
    expected = np.argsort(-(queries @ gallery.T), axis=1, kind="stable")
    for k in (1, 5, 19, 40):
        np.testing.assert_array_equal(nearest(queries, gallery, k), expected[:, :k])
    second = query_blocks(7, 19)[1:2]
    np.testing.assert_array_equal(nearest(queries, gallery, 2, blocks=second), expected[3:6, :2])
    assert nearest(queries, gallery[:0], 5).shape == (7, 0)
    assert nearest(queries[:0], gallery, 5).shape == (0, 5)


def test_queries_without_a_relevant_entry_score_nan() -> None:
    none = np.zeros((0, 3))
    no_ids = np.zeros(0, np.int64)
    assert rank_on_all(none, none, no_ids, no_ids)["mAP"].shape == (0,)
    scores = rank_on_all(np.ones((2, 3)), none, np.array([1, 2]), no_ids)
    assert np.isnan(scores["R@1"]).all()
    assert np.isnan(mean_of_known(scores["R@1"]))
    assert mean_of_known(np.array([0.0, np.nan, 1.0])) == 0.5


def random_search() -> tuple[tuple, list[Exclusion]]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(53, 7)).astype(np.float32)
    vectors[20:30] = vectors[10:20]  # ties
    ids = rng.integers(-1, 9, 53)
    itself = Exclusion(np.arange(53), np.arange(53))
    return (vectors, vectors, ids, ids), [itself]


def ranked() -> dict[str, np.ndarray]:
    ranking.BLOCK_BYTES = 8 * 53 * 5  # five queries a block
    arguments, exclude = random_search()
    return rank_on_all(*arguments, exclude=exclude)


def test_one_two_and_three_processes_agree_to_the_last_bit(monkeypatch) -> None:
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 0)  # restored after the test
    arguments, exclude = random_search()
    full_ranking = rank_on_all(*arguments, exclude=exclude)
    answers = [ranked(), *run_ranks(2, ranked), *run_ranks(3, ranked)]
    for name, values in full_ranking.items():
        for answer in answers:
            np.testing.assert_array_equal(answer[name], values)
