"""The exact ranking from the results of Milvus searches.

The server sums in single precision and orders equal scores arbitrarily. So a few more hits than
requested are fetched with their vectors and scored here, with the same arithmetic as in the local
database. If a row that was not returned might still belong among the k best, more are fetched. If
that exceeds what Milvus returns at once (thousands of equal scores, a very large k), all rows that
pass the filter are read and scored.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval.features import FeatureSchema, weighted_query
from retrieval.milvus_rows import chunks, matrix, read_item
from retrieval.ranking import aspect_cosines, best_first, weighted_mean
from retrieval.store import Hit

EXTRA = 16  # hits fetched beyond k, usually enough to settle ties at the end
ROUNDING = 1e-5  # generous bound of the server's rounding, for a query and a row of length 1

Row = dict[str, Any]


@dataclass(frozen=True)
class Search:
    """One search.

    Attributes:
        nearest: (f32[Q, D], limit) -> for each query up to ``limit`` rows (key, record, vector)
            with the server's score, ``distance``, best first.
        everything: pages of all rows that pass the filter.
        most: maximum number of rows that one call returns.
    """

    schema: FeatureSchema
    weights: Mapping[str, float]
    k: int
    nearest: Callable[[np.ndarray, int], list[list[Row]]]
    everything: Callable[[], Iterable[list[Row]]]
    most: int

    def run(self, queries: np.ndarray) -> list[list[Hit]]:
        """The exact ranking for each of f32[Q, D]."""
        weighted = weighted_query(queries, self.weights, self.schema)
        best: dict[int, _Best] = {}
        waiting, limit = list(range(len(queries))), min(self.k + EXTRA, self.most)
        while waiting and self.k <= self.most:
            for i, rows in self._nearest(weighted, waiting, limit):
                found = self._best(queries[i]).add(rows)
                if len(rows) < limit or found.is_final(rows[-1]["distance"], weighted[i]):
                    best[i] = found
            waiting = [i for i in waiting if i not in best]
            if limit == self.most:
                break
            limit = min(4 * limit, self.most)
        for i in waiting:
            best[i] = self._best(queries[i])
            for page in self.everything():
                best[i].add(page)
        return [best[i].hits() for i in range(len(queries))]

    def _nearest(
        self, weighted: np.ndarray, wanted: Sequence[int], limit: int
    ) -> Iterator[tuple[int, list[Row]]]:
        for some in chunks(wanted, max(1, self.most // limit)):
            yield from zip(some, self.nearest(weighted[some], limit), strict=True)

    def _best(self, query: np.ndarray) -> "_Best":
        return _Best(query, self.schema, self.weights, self.k)


class _Best:
    """The k best rows of one query so far, scored exactly."""

    def __init__(
        self, query: np.ndarray, schema: FeatureSchema, weights: Mapping[str, float], k: int
    ) -> None:
        self.query, self.schema, self.weights, self.k = query, schema, weights, k
        self.rows: list[Row] = []
        self.scores = np.zeros(0)
        self.cosines = np.zeros((0, len(schema.aspects)))
        self.longest = 0.0

    def add(self, rows: Sequence[Row]) -> "_Best":
        """Score rows and keep the k best of all so far; returns itself."""
        vectors = matrix([row["vector"] for row in rows], self.schema.dim)
        cosines = aspect_cosines(self.query, vectors, self.schema)
        scores = weighted_mean(cosines, self.weights, self.schema)
        rows = [*self.rows, *rows]
        cosines = np.concatenate([self.cosines, cosines])
        scores = np.concatenate([self.scores, scores])
        kept = best_first(scores, [row["key"] for row in rows], self.k)
        self.rows, self.scores, self.cosines = [rows[i] for i in kept], scores[kept], cosines[kept]
        self.longest = max(self.longest, *np.linalg.norm(vectors, axis=1), 0.0)
        return self

    def is_final(self, last: float, weighted: np.ndarray) -> bool:
        """Whether rows that the server scored ``last`` or lower cannot be among the k best."""
        slack = ROUNDING * float(np.linalg.norm(weighted)) * self.longest
        return len(self.rows) == self.k and last + slack < self.scores[-1]

    def hits(self) -> list[Hit]:
        """The kept rows as hits, best first."""
        return [
            Hit(
                read_item(row),
                float(score),
                dict(zip(self.schema.names, map(float, cosines), strict=True)),
            )
            for row, score, cosines in zip(self.rows, self.scores, self.cosines, strict=True)
        ]
