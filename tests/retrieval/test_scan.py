"""The exact scan: against a full sort, over segments, masks, ties and damage."""

import numpy as np
import pytest
import torch

from retrieval import scan
from retrieval.segments import MappedSegment

DIM = 7


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "COPIED_ROWS", 5)
    monkeypatch.setattr(scan, "BLOCK_ROWS", (23, 11))
    monkeypatch.setattr(scan, "BATCH", 3)
    monkeypatch.setattr(scan, "MANY_QUERIES", 2)


def segments(vectors: np.ndarray, size: int = 31) -> list[MappedSegment]:
    parts = [(start, vectors[start : start + size]) for start in range(0, len(vectors), size)]
    return [MappedSegment(start, part, torch.from_numpy(part)) for start, part in parts]


def assert_complete(vectors: np.ndarray, mask, queries: np.ndarray, k: int) -> None:
    """Check that the candidates include the k best, and no row that is clearly worse."""
    found = list(scan.candidates(segments(vectors), mask, queries, k))
    assert len(found) == len(queries)
    allowed = np.arange(len(vectors)) if mask is None else np.flatnonzero(mask)
    for query, rows in zip(queries, found, strict=True):
        scores = vectors[allowed].astype(np.float64) @ query.astype(np.float64)
        slack = 2 * scan.TOLERANCE * np.linalg.norm(query)
        kth = np.sort(scores)[-k] if len(allowed) >= k else -np.inf
        assert set(allowed[scores >= kth]) <= set(rows.tolist())
        assert set(rows.tolist()) <= set(allowed[scores >= kth - slack])
        assert len(set(rows.tolist())) == len(rows)


@pytest.mark.parametrize("queries", [1, 2, 7])
@pytest.mark.parametrize("share", [None, 1.0, 0.9, 0.5, 0.1, 0.0])
def test_the_best_are_among_the_candidates(queries: int, share: float | None) -> None:
    rng = np.random.default_rng(queries)
    vectors = rng.normal(size=(211, DIM)).astype(np.float32)
    mask = None if share is None else rng.random(211) < share
    asked = rng.normal(size=(queries, DIM)).astype(np.float32)
    for k in (1, 10, 211, 500):
        assert_complete(vectors, mask, asked, k)


def test_many_queries_share_a_pass_over_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "BATCH", 40)
    rng = np.random.default_rng(0)
    vectors, asked = (rng.normal(size=(n, DIM)).astype(np.float32) for n in (211, 40))
    for k in (1, 2):
        assert_complete(vectors, None, asked, k)


def test_best_rows_are_found_at_the_start_the_end_or_together() -> None:
    query = np.eye(DIM, dtype=np.float32)[:1]
    rising = np.outer(np.linspace(-1, 1, 211), query[0]).astype(np.float32)
    lump = np.roll(rising, 100, axis=0)
    for vectors in (rising, rising[::-1].copy(), lump):
        assert_complete(vectors, None, query.repeat(2, axis=0), 6)
        assert_complete(vectors, None, query, 6)


@pytest.mark.parametrize("queries", [1, 2])
def test_rows_within_rounding_error_of_the_best_stay_candidates(queries: int) -> None:
    steps = np.random.default_rng(0).permutation(211)
    vectors = np.zeros((211, DIM), np.float32)
    vectors[:, 0] = 1 - 3e-7 * steps
    query = np.eye(DIM, dtype=np.float32)[:1].repeat(queries, axis=0)
    for rows in scan.candidates(segments(vectors), None, query, 2):
        assert set(np.flatnonzero(steps <= 1 + 0.9 * scan.TOLERANCE / 3e-7)) <= set(rows.tolist())
        assert len(rows) < 40


def test_all_equal_scores_stay_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries of a batch with too many candidates get a pass of their own."""
    passes, one_pass = [], scan._pass

    def counted(segments, mask, queries, k, spare) -> list:
        passes.append(len(queries))
        return one_pass(segments, mask, queries, k, spare)

    monkeypatch.setattr(scan, "_pass", counted)
    monkeypatch.setattr(scan, "SPARE", 20)
    vectors = np.ones((211, DIM), np.float32)
    vectors[50] *= 2
    queries = np.concatenate([np.ones((4, DIM)), np.zeros((1, DIM))]).astype(np.float32)
    found = list(scan.candidates(segments(vectors), None, queries, 3))
    assert [len(rows) for rows in found] == [211] * 5
    assert passes == [3, 1, 1, 1, 2, 1, 1]
    (rows,) = scan.candidates(segments(vectors), None, queries[:1], 3)
    assert len(rows) == 211 and passes[7:] == [1]
    (best,) = scan.candidates(segments(vectors), None, queries[:1], 1)
    assert best.tolist() == [50]


def test_damaged_rows_do_not_hide_others() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(211, DIM)).astype(np.float32)
    queries = rng.normal(size=(3, DIM)).astype(np.float32)
    wanted = [set(rows.tolist()) for rows in scan.candidates(segments(vectors), None, queries, 5)]
    others = sorted(set(range(211)).difference(*wanted))
    for bad in (others[:1], others):
        vectors[bad] = np.nan
        found = scan.candidates(segments(vectors), None, queries, 5)
        assert [set(rows.tolist()) for rows in found] == wanted


def test_missing_segment_is_skipped() -> None:
    vectors = np.eye(DIM, dtype=np.float32).repeat(20, axis=0)
    kept = segments(vectors)[1:]
    (rows,) = scan.candidates(kept, None, np.ones((1, DIM), np.float32), 200)
    assert rows.min() == 31 and len(rows) == 140 - 31


def test_empty_store_has_no_candidates() -> None:
    found = list(scan.candidates([], None, np.ones((2, DIM), np.float32), 4))
    assert [len(rows) for rows in found] == [0, 0]
