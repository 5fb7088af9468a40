"""Exact search: one pass over all rows, one matrix product per block, few candidates per query.

Products in single precision round, and differently for blocks of different shapes. So every row
that scores within ``TOLERANCE`` of the k-th best stays a candidate, and the caller scores the
candidates exactly. No row of the exact result is ever dropped.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from retrieval.segments import MappedSegment

# Per unit of query length, for rows of a few unit vectors: ten times the rounding error of sums of
# 2048 terms.
TOLERANCE = 1e-5
BATCH = 256  # queries per pass
SPARE = 1000  # a query of a batch with more than k + SPARE candidates gets a pass of its own
# For one query and for several: small enough that scores stay in the cache between the product and
# the comparison.
BLOCK_ROWS = (1 << 15, 1 << 12)
# Copying a row takes as long as multiplying it with three queries, or with a sixth of 256. So rows
# are gathered below the first share for fewer than MANY_QUERIES queries, else below the second.
MANY_QUERIES = 32
GATHER_BELOW = (0.25, 0.75)
COPIED_ROWS = 1024  # gathered at a time, so that the copy stays in the cache


def candidates(
    segments: Sequence[MappedSegment], mask: np.ndarray | None, queries: np.ndarray, k: int
) -> Iterator[np.ndarray]:
    """Rows that may be among the k best of each query, in no particular order.

    Args:
        segments: of all rows.
        mask: bool[rows], which rows may be found; None: all.
        queries: f32[Q, D], already weighted.

    Yields:
        int64[n] for each query; n is k or a little more, fewer where fewer rows may be found.
    """
    for start in range(0, len(queries), BATCH):
        batch = queries[start : start + BATCH]
        found = _pass(segments, mask, batch, k, spare=SPARE if len(batch) > 1 else None)
        for query, rows in zip(batch, found, strict=True):
            # None: too many candidates to hold for a whole batch, such as thousands of equal
            # scores for an aspect that all rows lack.
            if rows is None:
                (rows,) = _pass(segments, mask, query[None], k, spare=None)
            yield rows


def _pass(
    segments: Sequence[MappedSegment],
    mask: np.ndarray | None,
    queries: np.ndarray,
    k: int,
    spare: int | None,
) -> list[np.ndarray | None]:
    """One pass over the rows: candidates int64[n] of each query, None for one that was dropped."""
    pool = _Pool(queries, k, spare)
    query_tensor = torch.from_numpy(queries)
    block_rows = BLOCK_ROWS[0] if len(queries) == 1 else BLOCK_ROWS[1]
    gather_below = GATHER_BELOW[0] if len(queries) < MANY_QUERIES else GATHER_BELOW[1]
    with torch.inference_mode():
        for start, rows, vectors in _blocks(segments, mask, block_rows, gather_below):
            pool.offer(_product(query_tensor, vectors), start, rows)
    return pool.rows()


def _product(queries: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Scores f32[Q, n]. For a single query a matrix-vector product reads the rows faster."""
    if len(queries) == 1:
        return torch.mv(vectors, queries[0])[None]
    return torch.mm(queries, vectors.T)


def _blocks(
    segments: Sequence[MappedSegment], mask: np.ndarray | None, block_rows: int, gather_below: float
) -> Iterator[tuple[int, np.ndarray | None, torch.Tensor]]:
    """Blocks of rows as (start, wanted rows counted from start or None for all, f32[n, D]).

    If less than ``gather_below`` of a segment is wanted, a block holds copies of wanted rows only.
    Otherwise it holds all rows, because multiplying all is faster than copying most of them.
    """
    for segment in segments:
        stored, wanted = segment.tensor, None
        if mask is not None:
            wanted = np.flatnonzero(mask[segment.start : segment.start + len(stored)])
        if wanted is not None and len(wanted) < len(stored) * gather_below:
            for rows, vectors in _gathered(stored, wanted):
                yield segment.start, rows, vectors
            continue
        for first in range(0, len(stored), block_rows):
            vectors = stored[first : first + block_rows]
            start, rows = segment.start + first, None
            if wanted is not None and len(wanted) < len(stored):
                rows = np.flatnonzero(mask[start : start + len(vectors)])
            yield start, rows, vectors


def _gathered(
    stored: torch.Tensor, wanted: np.ndarray
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """(row numbers, copied rows f32[n, D]) of the wanted rows, ``COPIED_ROWS`` at a time.

    The copy is overwritten by the next one.
    """
    copied = torch.empty(COPIED_ROWS, stored.shape[1])
    for first in range(0, len(wanted), COPIED_ROWS):
        rows = wanted[first : first + COPIED_ROWS]
        yield rows, torch.index_select(stored, 0, torch.from_numpy(rows), out=copied[: len(rows)])


class _Pool:
    """The candidates of each query so far.

    Three parallel arrays, ``query``, ``row`` and ``score``, hold the candidates of all queries.
    A query's ``threshold`` is at most its k-th best score so far minus ``slack`` (its rounding
    tolerance), so that nothing below it can be among the k best. It only ever rises.
    """

    def __init__(self, queries: np.ndarray, k: int, spare: int | None) -> None:
        count = len(queries)
        self.k, self.spare = k, spare
        self.slack = TOLERANCE * np.linalg.norm(queries, axis=1)
        self.threshold = np.full(count, -np.inf, np.float32)
        self.dropped = np.zeros(count, bool)  # queries with more than k + spare candidates
        self.query = np.zeros(0, np.int64)
        self.row = np.zeros(0, np.int64)
        self.score = np.zeros(0, np.float32)
        self.kept = 0  # candidates after the last pruning

    def offer(self, scores: torch.Tensor, start: int, wanted: np.ndarray | None) -> None:
        """Keep the rows of a block whose scores reach the thresholds.

        Args:
            scores: f32[Q, n] of the block's rows.
            start: the row from which the block's rows are counted.
            wanted: int64[m], rows that may be found, counted from ``start``; None: all. Either
                the block holds exactly these rows (m = n), or all rows, of which these are some.
        """
        active = self._active(scores)
        block = scores.numpy()[active]
        if wanted is not None and block.shape[1] > len(wanted):
            block = block[:, wanted]
        if block.size == 0:
            return
        passing = self._passing(block, active)
        query, column = np.divmod(np.flatnonzero(passing), block.shape[1])
        row = column if wanted is None else wanted[column]
        self.query = np.concatenate([self.query, active[query]])
        self.row = np.concatenate([self.row, start + row])
        self.score = np.concatenate([self.score, block[query, column]])
        if len(self.row) > 2 * self.kept + 4 * self.k:
            self._prune()

    def _active(self, scores: torch.Tensor) -> np.ndarray:
        """Indices of queries for which a row reaches the threshold; late in a pass only few."""
        if len(scores) == 1:
            return np.zeros(1, np.int64)
        # A damaged row (NaN) makes the maximum NaN, which must not hide the others.
        return np.flatnonzero(~(scores.amax(dim=1).numpy() < self.threshold))

    def _passing(self, block: np.ndarray, active: np.ndarray) -> np.ndarray:
        """bool[active, n], the scores that reach their threshold.

        Thresholds that too many scores reach are raised first.
        """
        passing = block >= self.threshold[active, None]
        many = passing.sum(axis=1) > 4 * self.k
        if not many.any():
            return passing
        # The k-th best of this block is a lower bound for the k-th best of all rows.
        part = np.where(passing[many], block[many], -np.inf)
        place = part.shape[1] - self.k
        kth = np.partition(part, place, axis=1)[:, place]
        raised = active[many]
        self.threshold[raised] = np.maximum(self.threshold[raised], kth - self.slack[raised])
        return block >= self.threshold[active, None]

    def _prune(self) -> None:
        """Raise the thresholds to the k-th best scores, and drop the candidates below them."""
        order = np.lexsort((-self.score, self.query))
        self.query, self.row, self.score = self.query[order], self.row[order], self.score[order]
        starts = np.searchsorted(self.query, np.arange(len(self.threshold) + 1))
        full = np.flatnonzero(np.diff(starts) >= self.k)
        kth = self.score[starts[full] + self.k - 1]
        self.threshold[full] = np.maximum(self.threshold[full], kth - self.slack[full])
        keep = self.score >= self.threshold[self.query]
        if self.spare is not None:
            counts = np.bincount(self.query[keep], minlength=len(self.threshold))
            self.dropped |= counts > self.k + self.spare
            self.threshold[self.dropped] = np.inf
            keep &= ~self.dropped[self.query]
        self.query, self.row, self.score = self.query[keep], self.row[keep], self.score[keep]
        self.kept = len(self.row)

    def rows(self) -> list[np.ndarray | None]:
        """int64[n] for each query; None for a dropped one."""
        self._prune()
        starts = np.searchsorted(self.query, np.arange(len(self.threshold) + 1))
        found = np.split(self.row, starts[1:-1])
        return [
            None if dropped else rows for rows, dropped in zip(found, self.dropped, strict=True)
        ]
