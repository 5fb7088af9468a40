"""Ranks a gallery for each query and scores the order: Recall@K, P@K, mAP, MRR, per query.

Functions that end in ``_on_all`` share the queries out: every process holds the same vectors, takes
whole blocks of queries and gets the answer of all. It is the same to the last bit on any number of
processes: products are taken in double precision over a fixed grid of query blocks, and scores
equal to nine decimals count as tied.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from engine import distributed

BLOCK_BYTES = 32 << 20  # of one block's scores; sorting them takes a few times as much
NOBODY = -2  # no entry's number
PAST_THE_LOWEST = 3 * 10**9  # in steps of a score's last decimal
COUNTED = 24  # from so many relevant entries on, sorting the gallery is faster than counting
DECIMALS = 9  # float64 products of float32 unit vectors differ by 1e-15 between kernels


@dataclass(frozen=True)
class Exclusion:
    """Pairs that may not meet: query and gallery entries of the same number; -1 excludes nothing.

    Attributes:
        queries: int64 [Q].
        gallery: int64 [G].
    """

    queries: np.ndarray
    gallery: np.ndarray


def query_blocks(queries: int, gallery: int) -> list[range]:
    """The queries in blocks whose score matrices take at most about BLOCK_BYTES."""
    rows = max(BLOCK_BYTES // (8 * max(gallery, 1)), 1)
    return [range(start, min(start + rows, queries)) for start in range(0, queries, rows)]


def _own_blocks(queries: int, gallery: int) -> list[range]:
    """This process's share of ``query_blocks``."""
    blocks = query_blocks(queries, gallery)
    return [blocks[i] for i in distributed.shard(len(blocks))]


def rank_on_all(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    *,
    ks: Sequence[int] = (1, 5, 10, 20),
    exclude: Sequence[Exclusion] = (),
    whole: bool = True,
    progress_title: str | None = None,
) -> dict[str, np.ndarray]:
    """Score each query's ranking of the gallery by inner product; all ranks call it.

    Gallery entries of an unknown id (-1) are left out. Ties go to the earlier gallery entry.

    Args:
        queries, gallery: float [Q, D] and [G, D].
        query_ids, gallery_ids: int64 [Q] and [G]; equal numbers are relevant, -1 is unknown.
        ks: cut-offs.
        exclude: pairs left out of the ranking, as if not in the gallery.
        whole: also give what takes the ranks of all that is relevant, "mAP" and "MRR".
        progress_title: of a progress bar over rank 0's share, on a terminal; None: no bar.

    Returns:
        The same on every rank, float64 [Q] each, NaN for a query of unknown id or without anything
        relevant to find: "R@k" 1 when any of the first k is relevant, "P@k" the relevant share of
        the first k (of all, where fewer are left), "found@k" the share of the relevant among the
        first k, "mAP" average precision over the whole ranking, "MRR" one over the first relevant
        rank.
    """
    share = _own_blocks(len(queries), len(gallery))
    seen = share
    if progress_title and distributed.is_main() and sys.stderr.isatty():
        seen = track(share, progress_title, console=Console(stderr=True), transient=True)
    known = np.flatnonzero(gallery_ids >= 0)
    queries, columns = _to_unit_range(queries, gallery[known])
    gallery_ids = gallery_ids[known]
    exclude = [Exclusion(pair.queries, pair.gallery[known]) for pair in exclude]
    names = [f"{kind}@{k}" for kind in ("R", "P", "found") for k in ks]
    names += ["mAP", "MRR"] if whole else []
    parts = [{name: np.zeros(0) for name in names}]
    for block in seen:
        rows = np.arange(block.start, block.stop)
        apart = np.zeros((len(rows), len(known)), bool)
        for pair in exclude:
            number = pair.queries[rows, None]
            apart |= np.where(number < 0, NOBODY, number) == pair.gallery
        relevant = (query_ids[rows, None] == gallery_ids) & ~apart
        keys = _keys(queries[rows] @ columns)
        keys[apart] += PAST_THE_LOWEST * len(known)
        row, rank = _ranks(keys, relevant) if whole else _first_ranks(keys, relevant, max(ks))
        total = np.count_nonzero(relevant, axis=1)
        candidates = len(known) - np.count_nonzero(apart, axis=1)
        parts.append({name: np.full(len(rows), np.nan) for name in names})
        for name, values in _score(row, rank, total, candidates, ks, whole).items():
            parts[-1][name][total > 0] = values[total > 0]
    gathered = distributed.gather_objects(parts)
    merged = None
    if gathered is not None:
        parts = [part for shard in gathered for part in shard]
        merged = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return distributed.broadcast_object(merged)


def nearest(
    queries: np.ndarray, gallery: np.ndarray, k: int, *, blocks: Iterable[range] | None = None
) -> np.ndarray:
    """The k best gallery entries of each query, best first, ties to the earlier entry.

    Args:
        queries, gallery: float [Q, D] and [G, D]; the inner product ranks.
        k: as many as there are, where the gallery is smaller.
        blocks: which of ``query_blocks`` to work on; all by default.

    Returns:
        int64 [q, min(k, G)], the rows of the blocks' queries one after another.
    """
    queries, columns = _to_unit_range(queries, gallery)
    count = len(gallery)
    k = min(k, count)
    found = [np.zeros((0, k), np.int64)]
    for block in query_blocks(len(queries), count) if blocks is None else blocks:
        keys = _keys(queries[block.start : block.stop] @ columns)
        found.append(_first(keys, k))
    return np.concatenate(found)


def nearest_on_all(queries: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
    """``nearest`` with the queries shared out; all ranks call it, all get it."""
    share = _own_blocks(len(queries), len(gallery))
    gathered = distributed.gather_objects(nearest(queries, gallery, k, blocks=share))
    return distributed.broadcast_object(None if gathered is None else np.concatenate(gathered))


def _keys(similar: np.ndarray) -> np.ndarray:
    """int64 [q, G] of scores in -1 .. 1: ascending from the highest, ties by position.

    Every key of a row is another. The scores are overwritten: fresh memory would cost more than the
    arithmetic.
    """
    similar *= -(10.0**DECIMALS)
    keys = np.rint(similar, out=similar).astype(np.int64)
    keys *= similar.shape[1]
    keys += np.arange(similar.shape[1])
    return keys


def _to_unit_range(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 [Q, D] and [D, G], scaled together so that all their products lie in -1 .. 1."""
    sides = [np.asarray(side, np.float64) for side in (queries, gallery)]
    longest = [np.linalg.norm(side, axis=1).max(initial=0) or 1.0 for side in sides]
    return sides[0] / longest[0], (sides[1] / longest[1]).T


def _first(keys: np.ndarray, k: int) -> np.ndarray:
    """int64 [q, min(k, G)], the entries of the lowest keys, ascending."""
    count = keys.shape[1]
    best = np.sort(keys if k >= count else np.partition(keys, k, axis=1)[:, :k], axis=1)
    return best % max(count, 1)


def _first_ranks(keys: np.ndarray, relevant: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """As ``_ranks``, of the first k entries."""
    return np.nonzero(np.take_along_axis(relevant, _first(keys, k), axis=1))


def _ranks(keys: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, rank from 0) of every relevant entry, row by row, ascending.

    Args:
        keys: int64 [q, G].
        relevant: bool [q, G].
    """
    ranks = [np.zeros(0, np.int64)]
    for row, hits in zip(keys, relevant, strict=True):
        wanted = np.sort(row[hits])
        if len(wanted) < COUNTED:
            ranks.append(np.array([np.count_nonzero(row < key) for key in wanted], np.int64))
        else:
            ranks.append(np.searchsorted(np.sort(row), wanted))
    lengths = list(map(len, ranks[1:]))
    return np.repeat(np.arange(len(keys)), lengths), np.concatenate(ranks)


def _score(
    row: np.ndarray,
    rank: np.ndarray,
    total: np.ndarray,
    candidates: np.ndarray,
    ks: Sequence[int],
    whole: bool,
) -> dict[str, np.ndarray]:
    """The per-query numbers of ``rank_on_all`` from the ranks of what is relevant."""
    count = len(total)
    scores = {}
    with np.errstate(invalid="ignore"):  # of rows without anything relevant
        for k in ks:
            among = np.bincount(row[rank < k], minlength=count)
            scores[f"R@{k}"] = among > 0
            scores[f"P@{k}"] = among / np.minimum(k, candidates)
            scores[f"found@{k}"] = among / total
        if whole:
            first = np.cumsum(total) - total
            number = np.arange(len(row)) - first[row] + 1  # 1 for a row's first relevant entry ...
            scores["mAP"] = np.bincount(row, number / (rank + 1), minlength=count) / total
            scores["MRR"] = 1 / (np.append(rank, 0)[first] + 1)
    return scores


def mean_of_known(values: np.ndarray) -> float:
    """Mean over the entries that are not NaN; NaN where there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
