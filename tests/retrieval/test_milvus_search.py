"""The exact ranking of a fake server's results, which are rounded and reverse ties."""

from collections.abc import Sequence

import numpy as np
import pytest

from retrieval import milvus_search
from retrieval.milvus_rows import chunks, item_rows
from retrieval.milvus_search import Search
from tests.retrieval.store_contract import EQUAL, SCHEMA, by_hand, make_item, unit_rows

COUNT = 60


class Server:
    """Responds like Milvus; ``calls`` are (queries, limit), ``pages`` those of everything."""

    def __init__(self, vectors: np.ndarray, *, most: int, noise: Sequence[float] = (0,)) -> None:
        self.items = [make_item(number) for number in range(len(vectors))]
        self.vectors, self.most, self.noise = vectors, most, noise
        self.rows = item_rows(self.items, vectors)
        self.calls: list[tuple[int, int]] = []
        self.pages = 0

    def nearest(self, queries: np.ndarray, limit: int) -> list[list[dict]]:
        assert len(queries) == 1 or len(queries) * limit <= self.most
        self.calls.append((len(queries), limit))
        noise = np.resize(np.float32(self.noise), len(self.rows))
        answers = []
        for query in queries:
            scores = self.vectors @ query + noise
            order = sorted(range(len(scores)), key=lambda i: (scores[i], self.items[i].key))[::-1]
            found = [{**self.rows[i], "distance": float(scores[i])} for i in order[:limit]]
            answers.append(found)
        return answers

    def everything(self):
        for page in chunks(self.rows, 7):
            self.pages += 1
            yield page

    def check(self, queries: np.ndarray, k: int, weights=EQUAL) -> None:
        search = Search(SCHEMA, weights, k, self.nearest, self.everything, self.most)
        found = search.run(queries)
        assert len(found) == len(queries)
        for query, hits in zip(queries, found, strict=True):
            wanted = by_hand(self.items, self.vectors, query, weights, k)
            assert [hit.item.key for hit in hits] == [key for key, _ in wanted]
            assert [hit.score for hit in hits] == pytest.approx([score for _, score in wanted])
            for hit in hits:
                row = self.vectors[[item.key for item in self.items].index(hit.item.key)]
                parts = {name: query[SCHEMA.slice(name)] for name in SCHEMA.names}
                cosines = {n: float(part @ row[SCHEMA.slice(n)]) for n, part in parts.items()}
                assert hit.aspects == pytest.approx(cosines, rel=1e-6, abs=1e-6)


@pytest.fixture(autouse=True)
def few_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus_search, "EXTRA", 2)


@pytest.mark.parametrize("weights", [EQUAL, {"item": 3, "color": 1}, {"color": 2}], ids=str)
def test_clear_results_take_one_call(weights: dict[str, float]) -> None:
    server = Server(unit_rows(COUNT), most=100)
    server.check(unit_rows(9, seed=1), 3, weights)
    assert server.calls == [(9, 5)] and server.pages == 0


def test_queries_are_split_so_that_no_call_returns_too_much() -> None:
    server = Server(unit_rows(COUNT), most=20)
    server.check(unit_rows(9, seed=1), 3)
    assert server.calls == [(4, 5), (4, 5), (1, 5)] and server.pages == 0


def test_ties_at_the_end_fetch_more_and_then_everything() -> None:
    vectors = unit_rows(COUNT)
    query = vectors[:1].copy()
    vectors[10:40] = vectors[0]
    server = Server(vectors, most=100)
    server.check(query, 3)
    assert server.calls == [(1, 5), (1, 20), (1, 80)] and server.pages == 0
    few = Server(vectors, most=20)
    few.check(np.concatenate([query, -query]), 3)
    assert few.calls == [(2, 5), (1, 20)] and few.pages == 9, "-query was answered at once"


def test_ties_beyond_the_fetched_rows_are_not_missed() -> None:
    """Five are fetched; the third to the sixth best are alike, and the first key comes last."""
    vectors = unit_rows(COUNT)
    query = vectors[:1].copy()
    best = vectors[0] * np.float32([2] * SCHEMA.dim)
    vectors[[40, 41]] = best
    vectors[0] = vectors[[20, 21, 22]] = query[0]
    server = Server(vectors, most=100)
    server.check(query, 3)
    assert server.calls == [(1, 5), (1, 20)]


def test_rounding_of_the_server_is_corrected() -> None:
    """Scores 1e-6 apart under errors of 0.4e-5, either way."""
    query = unit_rows(1)
    vectors = np.concatenate([query * np.float32(1 - 1e-6 * i) for i in range(COUNT)])
    server = Server(vectors, most=100, noise=(0.4e-5, -0.4e-5))
    server.check(query, 4)
    assert server.pages == 0


def test_longer_rows_get_more_tolerance() -> None:
    query = unit_rows(1)
    vectors = np.concatenate([100 * query * np.float32(1 - 1e-6 * i) for i in range(COUNT)])
    server = Server(vectors, most=100, noise=(4e-4, -4e-4))
    server.check(query, 4)


def test_more_hits_than_a_call_returns_are_read_page_by_page() -> None:
    server = Server(unit_rows(COUNT), most=20)
    server.check(unit_rows(2, seed=1), 21)
    assert server.calls == [] and server.pages == 18
    whole = Server(unit_rows(COUNT), most=20)
    whole.check(unit_rows(1, seed=1), 20)
    assert whole.calls == [(1, 20)] and whole.pages == 9


def test_fewer_rows_than_k_are_all_returned() -> None:
    server = Server(unit_rows(4), most=100)
    server.check(unit_rows(2, seed=1), 5)
    server.check(unit_rows(1, seed=1), 2)
    assert server.calls == [(2, 7), (1, 4)] and server.pages == 0
    Server(unit_rows(0), most=100).check(unit_rows(2), 3)
    Server(unit_rows(5), most=100).check(unit_rows(0), 3)
