"""Exact search: one pass over all rows, a matrix product a block, few candidates kept a query.

A product of single precision rounds, and rounds differently with the shape of the block. So every
row that scores within ``TOLERANCE`` of the k-th best stays a candidate, for the caller to score
exactly; no row of the exact answer is ever dropped.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from retrieval.segments import Mapped

# Of a query of length 1 and rows of a few unit vectors: ten times what sums of 2048 terms differ.
TOLERANCE = 1e-5
BATCH = 256  # queries a pass
SPARE = 1000  # candidates beyond k above which a query among several gets a pass of its own
# For one query and for several: scores stay in the cache from the product to the comparison.
BLOCK_ROWS = (1 << 15, 1 << 12)
# Copying a row takes as long as multiplying it with three queries, or with a sixth of 256.
MANY_QUERIES = 32
GATHER_BELOW = (0.25, 0.75)
COPIED_ROWS = 1024  # gathered at a time, so that the copy stays in the cache


def candidates(
    segments: Sequence[Mapped], mask: np.ndarray | None, queries: np.ndarray, k: int
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
            # Thousands of equal scores (an aspect that all rows lack) would fill the memory.
            if rows is None:
                (rows,) = _pass(segments, mask, query[None], k, spare=None)
            yield rows


def _pass(
    segments: Sequence[Mapped],
    mask: np.ndarray | None,
    queries: np.ndarray,
    k: int,
    spare: int | None,
) -> list[np.ndarray | None]:
    pool = _Pool(queries, k, spare)
    turned = torch.from_numpy(queries)
    block_rows = BLOCK_ROWS[0] if len(queries) == 1 else BLOCK_ROWS[1]
    gather_below = GATHER_BELOW[0] if len(queries) < MANY_QUERIES else GATHER_BELOW[1]
    with torch.inference_mode():
        for start, rows, vectors in _blocks(segments, mask, block_rows, gather_below):
            pool.offer(_product(turned, vectors), start, rows)
    return pool.rows()


def _product(queries: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """f32[Q, n]: a single query is a matrix-vector product, which reads the rows faster."""
    if len(queries) == 1:
        return torch.mv(vectors, queries[0])[None]
    return torch.mm(queries, vectors.T)


def _blocks(
    segments: Sequence[Mapped], mask: np.ndarray | None, block_rows: int, gather_below: float
) -> Iterator[tuple[int, np.ndarray | None, torch.Tensor]]:
    """(first row, wanted rows counted from it or None for all, f32[n, D]) of part after part.

    Where a smaller share of a segment than ``gather_below`` is wanted, the wanted rows are
    gathered; where more, all are multiplied, which is quicker than copying most of them.
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
    """The wanted rows, ``COPIED_ROWS`` at a time."""
    copied = torch.empty(COPIED_ROWS, stored.shape[1])
    for first in range(0, len(wanted), COPIED_ROWS):
        rows = wanted[first : first + COPIED_ROWS]
        yield rows, torch.index_select(stored, 0, torch.from_numpy(rows), out=copied[: len(rows)])


class _Pool:
    """The best rows of each query so far."""

    def __init__(self, queries: np.ndarray, k: int, spare: int | None) -> None:
        count = len(queries)
        self.k, self.spare = k, spare
        self.slack = TOLERANCE * np.linalg.norm(queries, axis=1)
        self.threshold = np.full(count, -np.inf, np.float32)
        self.crowded = np.zeros(count, bool)
        self.query = np.zeros(0, np.int64)
        self.row = np.zeros(0, np.int64)
        self.score = np.zeros(0, np.float32)
        self.kept = 0  # how many there were after the last pruning

    def offer(self, scores: torch.Tensor, start: int, wanted: np.ndarray | None) -> None:
        """Keep what reaches the threshold of f32[Q, n], the scores of a block's rows."""
        hot = self._hot(scores)
        block = scores.numpy()[hot]
        if wanted is not None and block.shape[1] > len(wanted):
            block = block[:, wanted]
        if block.size == 0:
            return
        passing = self._passing(block, hot)
        query, column = np.divmod(np.flatnonzero(passing), block.shape[1])
        row = column if wanted is None else wanted[column]
        self.query = np.concatenate([self.query, hot[query]])
        self.row = np.concatenate([self.row, start + row])
        self.score = np.concatenate([self.score, block[query, column]])
        if len(self.row) > 2 * self.kept + 4 * self.k:
            self._prune()

    def _hot(self, scores: torch.Tensor) -> np.ndarray:
        """Queries that may find something: late in a pass, only few of many."""
        if len(scores) == 1:
            return np.zeros(1, np.int64)
        # A damaged row (NaN) makes the maximum NaN, which must not hide the others.
        return np.flatnonzero(~(scores.amax(dim=1).numpy() < self.threshold))

    def _passing(self, block: np.ndarray, hot: np.ndarray) -> np.ndarray:
        """bool[hot, n]: what reaches the threshold, raised first where that would be a lot."""
        passing = block >= self.threshold[hot, None]
        many = passing.sum(axis=1) > 4 * self.k
        if not many.any():
            return passing
        # The k-th best of a part is a bound for the k-th best of all.
        part = np.where(passing[many], block[many], -np.inf)
        place = part.shape[1] - self.k
        kth = np.partition(part, place, axis=1)[:, place]
        raised = hot[many]
        self.threshold[raised] = np.maximum(self.threshold[raised], kth - self.slack[raised])
        return block >= self.threshold[hot, None]

    def _prune(self) -> None:
        """Drop what fell below the k-th best, and raise the thresholds to it."""
        order = np.lexsort((-self.score, self.query))
        self.query, self.row, self.score = self.query[order], self.row[order], self.score[order]
        starts = np.searchsorted(self.query, np.arange(len(self.threshold) + 1))
        full = np.flatnonzero(np.diff(starts) >= self.k)
        kth = self.score[starts[full] + self.k - 1]
        self.threshold[full] = np.maximum(self.threshold[full], kth - self.slack[full])
        keep = self.score >= self.threshold[self.query]
        if self.spare is not None:
            counts = np.bincount(self.query[keep], minlength=len(self.threshold))
            self.crowded |= counts > self.k + self.spare
            self.threshold[self.crowded] = np.inf
            keep &= ~self.crowded[self.query]
        self.query, self.row, self.score = self.query[keep], self.row[keep], self.score[keep]
        self.kept = len(self.row)

    def rows(self) -> list[np.ndarray | None]:
        """int64[n] for each query; None for one that was crowded out."""
        self._prune()
        starts = np.searchsorted(self.query, np.arange(len(self.threshold) + 1))
        found = np.split(self.row, starts[1:-1])
        return [
            None if crowded else rows for rows, crowded in zip(found, self.crowded, strict=True)
        ]
