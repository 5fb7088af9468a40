"""The reading half of the local database: current view, lookups, exact search."""

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import InputError
from retrieval.features import FeatureSchema, weighted_query
from retrieval.filters import filter_mask
from retrieval.folder import SEGMENTS
from retrieval.item_table import ItemTable, State
from retrieval.ranking import aspect_cosines, best_first, weighted_mean
from retrieval.scan import candidates
from retrieval.segments import Layout
from retrieval.store import Filter, Hit, Item, PhotoState, Store, check_queries
from retrieval.view import ADVICE, View, live_mask, map_rows

MANY_TIES = 10_000  # candidates beyond k from which ties are broken without loading all items
MOST_CANDIDATES = 100_000  # of several queries together, before they are ranked
SCORED_ROWS = 4096  # candidates scored at a time

logger = logging.getLogger("weft")


@dataclass
class _Ranked:
    """Candidates of one query that may be among its k best."""

    rows: np.ndarray  # int64[n]
    scores: np.ndarray  # f64[n]
    cosines: np.ndarray  # f64[n, aspects]


class _StaleViewError(Exception):
    """Rows that a search found were deleted, renumbered or found damaged during the search."""


def _portions(found: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Group queries' candidates into portions of about MOST_CANDIDATES, to bound memory."""
    portion: list[np.ndarray] = []
    for rows in found:
        portion.append(rows)
        if sum(map(len, portion)) > MOST_CANDIDATES:
            yield portion
            portion = []
    if portion:
        yield portion


class DatabaseReader(Store):
    """Everything that needs no writer's lock; ``retrieval.database`` opens it and adds writing."""

    def __init__(
        self,
        folder: Path,
        schema: FeatureSchema,
        layout: Layout,
        table: ItemTable,
    ) -> None:
        self.folder, self.schema, self.layout = folder, schema, layout
        self._segments, self._table = folder / SEGMENTS, table
        self._guard = threading.RLock()  # of the connection and the view
        self._view: View | None = None
        self._damaged: set[tuple[int, int]] = set()  # (generation, block) that searches met

    @contextmanager
    def _reading(self) -> Iterator[View]:
        """Open a transaction; yields the view of the state that it sees."""
        with self._guard, self._table.reading() as state:
            view = self._view
            if view is None or view.state != state:
                segments = map_rows(self._segments, self.layout, state, view)
                live = live_mask(segments, state.rows, self._table.dead_rows())
                checksums = self._table.checksums()
                self._view = View(self._segments, self.layout, state, segments, live, checksums)
                self._report_missing(self._view)
                self._leave_out_damaged(self._view)
            yield self._view

    def _report_missing(self, view: View) -> None:
        there = sum(len(segment.vectors) for segment in view.segments)
        if there < view.rows:
            missing = view.rows - there
            logger.warning("%s: %d vectors are missing; %s", self._segments, missing, ADVICE)

    def _leave_out_damaged(self, view: View) -> None:
        blocks = [
            block for generation, block in self._damaged if generation == view.state.generation
        ]
        if blocks:
            view.live = view.live_mask()
        for block in blocks:
            view.live[slice(*view.block_range(block))] = False

    def get(self, keys: Iterable[str]) -> list[Item | None]:
        keys = list(keys)
        with self._reading():
            rows = self._table.rows_by_key(keys)
            items = self._table.items(rows.values())
        return [items.get(rows.get(key)) for key in keys]

    def vectors(self, keys: Sequence[str]) -> np.ndarray:
        with self._reading() as view:
            rows = self._table.rows_by_key(keys)
        missing = next((key for key in keys if key not in rows), None)
        if missing is not None:
            raise InputError(f"{self.folder}: holds no item {missing!r}")
        places = np.array([rows[key] for key in keys], np.int64)
        return view.read_checked(places)

    def version(self) -> State:
        with self._guard, self._table.reading() as state:
            return state

    def count(self, filter: Filter | None = None) -> int:
        with self._reading() as view:
            mask = filter_mask(view, self._table, filter)
        return view.rows if mask is None else int(mask.sum())

    def keys(self, filter: Filter | None = None) -> list[str]:
        with self._reading() as view:
            mask = filter_mask(view, self._table, filter)
            found = self._table.rows_in_key_order()
            return [key for row, key in found if mask is None or mask[row]]

    def labels(self) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
        with self._reading():
            return self._table.category_counts(), self._table.label_counts()

    def photos(self) -> dict[str, PhotoState]:
        with self._reading():
            return self._table.photos()

    def search(
        self,
        queries: np.ndarray,
        *,
        weights: Mapping[str, float],
        k: int,
        filter: Filter | None = None,
    ) -> list[list[Hit]]:
        queries = check_queries(queries, k, self.schema)
        weighted = weighted_query(queries, weights, self.schema)
        if len(queries) == 0:
            return []
        while True:
            with self._reading() as view:
                mask = filter_mask(view, self._table, filter)
            # Outside of the transaction: a scan takes long and would block the writer.
            found = candidates(view.segments, mask, weighted, k)
            try:
                hits: list[list[Hit]] = []
                for rows in _portions(found):
                    asked = queries[len(hits) : len(hits) + len(rows)]
                    cosines = self._cosines(view, rows, asked)
                    ranked = [
                        self._best_scores(*pair, weights, k)
                        for pair in zip(rows, cosines, strict=True)
                    ]
                    hits += self._hits(view, ranked, k)
                return hits
            except _StaleViewError:
                continue

    def _cosines(
        self, view: View, found: Sequence[np.ndarray], queries: np.ndarray
    ) -> list[np.ndarray]:
        """Exact cosines f64[n, aspects] of the rows int64[n] found for each query."""
        counts = [len(rows) for rows in found]
        rows = np.concatenate([np.zeros(0, np.int64), *found])
        query_of_row = np.repeat(np.arange(len(queries)), counts)
        cosines = np.zeros((len(rows), len(self.schema.aspects)))
        for start in range(0, len(rows), SCORED_ROWS):
            part = slice(start, start + SCORED_ROWS)
            vectors = view.read(rows[part])
            cosines[part] = aspect_cosines(queries[query_of_row[part]], vectors, self.schema)
        parts = [queries[:, self.schema.slice(name)] for name in self.schema.names]
        norms = np.stack([np.linalg.norm(part, axis=1) for part in parts], axis=1)
        implausible = ~(np.abs(cosines) <= 1.01 * norms[query_of_row]).all(axis=1)
        self._leave_out(view, rows[implausible])
        return np.split(cosines, np.cumsum(counts)[:-1])

    def _leave_out(self, view: View, implausible: np.ndarray) -> None:
        """Exclude damaged blocks and make the search start over.

        Args:
            implausible: rows whose cosines exceed what unit vectors can have.

        Comparing every checksum would take longer than the search. This finds the damage that
        would put wrong items among the best; ``verify`` finds the rest.

        Raises:
            _StaleViewError: a block was damaged.
        """
        damaged = [block for block in view.blocks_of(implausible) if not view.is_sound(block)]
        for block in damaged:
            logger.warning("%s are damaged and skipped; %s", view.describe(block), ADVICE)
        if damaged:
            with self._guard:
                self._damaged |= {(view.state.generation, block) for block in damaged}
                self._view = None
            raise _StaleViewError

    def _best_scores(
        self, rows: np.ndarray, cosines: np.ndarray, weights: Mapping[str, float], k: int
    ) -> _Ranked:
        """The candidates that score at least as high as the k-th best, ties included."""
        scores = weighted_mean(cosines, weights, self.schema)
        keep = np.ones(len(rows), bool)
        if len(rows) > k:
            keep = scores >= np.partition(scores, len(rows) - k)[len(rows) - k]
        return _Ranked(rows[keep], scores[keep], cosines[keep])

    def _hits(self, view: View, ranked: list[_Ranked], k: int) -> list[list[Hit]]:
        with self._guard, self._table.reading() as state:
            if state.generation != view.state.generation:
                raise _StaleViewError
            for query in ranked:
                if len(query.rows) > k + MANY_TIES:
                    self._break_ties(query, view.rows, k)
            rows = {int(row) for query in ranked for row in query.rows}
            items = self._table.items(rows)
        if len(items) < len(rows):
            if state == view.state:  # nothing changed, so searching again would never end
                raise InputError(
                    f"{self._table.path}: lists no item for some of the vectors; it is damaged: "
                    "restore a copy, or build the database again"
                )
            raise _StaleViewError  # deleted while we searched: other items take their places
        return [self._best(query, items, k) for query in ranked]

    def _break_ties(self, ranked: _Ranked, rows: int, k: int) -> None:
        """Of many candidates that tie for the lowest score, keep those whose keys come first."""
        better = ranked.scores > ranked.scores.min()
        tied = np.zeros(rows, bool)
        tied[ranked.rows[~better]] = True
        wanted, first = k - int(better.sum()), []
        # The index yields keys in order; with so many ties, enough of them come early.
        for row, _ in self._table.rows_in_key_order():
            if row < rows and tied[row]:
                first.append(row)
                if len(first) == wanted:
                    break
        keep = better | np.isin(ranked.rows, first)
        ranked.rows, ranked.scores = ranked.rows[keep], ranked.scores[keep]
        ranked.cosines = ranked.cosines[keep]

    def _best(self, ranked: _Ranked, items: Mapping[int, Item], k: int) -> list[Hit]:
        found = [items[int(row)] for row in ranked.rows]
        order = best_first(ranked.scores, [item.key for item in found], k)
        names, cosines = self.schema.names, ranked.cosines.tolist()
        return [
            Hit(found[i], float(ranked.scores[i]), dict(zip(names, cosines[i], strict=True)))
            for i in order
        ]
