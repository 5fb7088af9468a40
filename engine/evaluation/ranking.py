"""Ranks a gallery for each query and scores the order: Recall@K, P@K, mAP, MRR, per query.

Functions that end in ``_on_all`` split the queries among the processes: each holds all vectors,
processes whole blocks of queries and gets the results of all. These are the same to the last bit on
any number of processes: products are computed in double precision over a fixed grid of query
blocks, and scores that are equal to nine decimals are tied.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from engine import distributed

BLOCK_BYTES = 32 << 20  # size of one block's scores; sorting takes a few times as much memory
NO_NUMBER = -2  # differs from the numbers of all gallery entries
EXCLUDED = 3 * 10**9  # added to the rank keys of excluded entries; above 2 * 10**DECIMALS
SORT_FROM = 24  # relevant entries from which sorting the gallery is faster than counting
DECIMALS = 9  # float64 products of float32 unit vectors differ by 1e-15 between kernels


@dataclass(frozen=True)
class Exclusion:
    """Excludes pairs of a query and a gallery entry with equal numbers; -1 excludes nothing.

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
    full_ranking: bool = True,
    progress_title: str | None = None,
) -> dict[str, np.ndarray]:
    """Rank the gallery by inner product for each query and score the ranking; all ranks call it.

    Gallery entries of unknown id (-1) are left out. Of tied entries the earlier one ranks first.

    Args:
        queries, gallery: float [Q, D] and [G, D].
        query_ids, gallery_ids: int64 [Q] and [G]; entries with the query's id are relevant, -1 is
            unknown.
        ks: cut-offs of "R@k", "P@k" and "found@k".
        exclude: pairs left out of the ranking, as if not in the gallery.
        full_ranking: also compute "mAP" and "MRR", which need the ranks of all relevant entries.
        progress_title: title of a progress bar on rank 0's terminal; None: no bar.

    Returns:
        The same on every rank: name -> float64 [Q], NaN for queries of unknown id or without a
        relevant entry. "R@k" is 1 if any of the first k is relevant; "P@k" the relevant share of
        the first k (of all, if there are fewer); "found@k" the share of the relevant entries that
        are among the first k; "mAP" the average precision of the full ranking; "MRR" one over the
        first relevant rank.
    """
    share = _own_blocks(len(queries), len(gallery))
    blocks = share
    if progress_title and distributed.is_main() and sys.stderr.isatty():
        blocks = track(share, progress_title, console=Console(stderr=True), transient=True)
    known = np.flatnonzero(gallery_ids >= 0)
    queries, columns = _to_unit_range(queries, gallery[known])
    gallery_ids = gallery_ids[known]
    exclude = [Exclusion(pair.queries, pair.gallery[known]) for pair in exclude]
    names = [f"{kind}@{k}" for kind in ("R", "P", "found") for k in ks]
    names += ["mAP", "MRR"] if full_ranking else []
    parts = [{name: np.zeros(0) for name in names}]
    for block in blocks:
        rows = np.arange(block.start, block.stop)
        excluded = np.zeros((len(rows), len(known)), bool)
        for pair in exclude:
            number = pair.queries[rows, None]
            excluded |= np.where(number < 0, NO_NUMBER, number) == pair.gallery
        relevant = (query_ids[rows, None] == gallery_ids) & ~excluded
        keys = _keys(queries[rows] @ columns)
        keys[excluded] += EXCLUDED * len(known)
        row, rank = (
            _ranks(keys, relevant) if full_ranking else _ranks_of_best(keys, relevant, max(ks))
        )
        total = np.count_nonzero(relevant, axis=1)
        candidates = len(known) - np.count_nonzero(excluded, axis=1)
        parts.append({name: np.full(len(rows), np.nan) for name in names})
        for name, values in _score(row, rank, total, candidates, ks, full_ranking).items():
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
        k: how many; all if the gallery is smaller.
        blocks: some of ``query_blocks``; all by default.

    Returns:
        int64 [q, min(k, G)], gallery indices for the queries of the blocks, concatenated.
    """
    queries, columns = _to_unit_range(queries, gallery)
    count = len(gallery)
    k = min(k, count)
    found = [np.zeros((0, k), np.int64)]
    for block in query_blocks(len(queries), count) if blocks is None else blocks:
        keys = _keys(queries[block.start : block.stop] @ columns)
        found.append(_best_entries(keys, k))
    return np.concatenate(found)


def nearest_on_all(queries: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
    """``nearest`` with the queries split among ranks; all ranks call it and get the result."""
    share = _own_blocks(len(queries), len(gallery))
    gathered = distributed.gather_objects(nearest(queries, gallery, k, blocks=share))
    return distributed.broadcast_object(None if gathered is None else np.concatenate(gathered))


def _keys(similar: np.ndarray) -> np.ndarray:
    """Distinct sort keys of scores in -1 .. 1, ascending by decreasing score, then by position.

    float64 [q, G] -> int64 [q, G]. The scores are overwritten: allocating new memory would take
    longer than the arithmetic.
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


def _best_entries(keys: np.ndarray, k: int) -> np.ndarray:
    """int64 [q, min(k, G)], the entries with the lowest keys, in order."""
    count = keys.shape[1]
    best = np.sort(keys if k >= count else np.partition(keys, k, axis=1)[:, :k], axis=1)
    return best % max(count, 1)


def _ranks_of_best(keys: np.ndarray, relevant: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """``_ranks`` of the relevant entries among the first k."""
    return np.nonzero(np.take_along_axis(relevant, _best_entries(keys, k), axis=1))


def _ranks(keys: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and rank (from 0) of every relevant entry, sorted by both: int64 [N] each.

    Args:
        keys: int64 [q, G].
        relevant: bool [q, G].
    """
    ranks = [np.zeros(0, np.int64)]
    for row, hits in zip(keys, relevant, strict=True):
        wanted = np.sort(row[hits])
        if len(wanted) < SORT_FROM:
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
    full_ranking: bool,
) -> dict[str, np.ndarray]:
    """The per-query scores of ``rank_on_all``.

    Args:
        row, rank: int64 [N] of the relevant entries, as ``_ranks`` returns them.
        total: int64 [q], number of relevant entries per query.
        candidates: int64 [q], number of gallery entries that are not excluded.
        ks, full_ranking: see ``rank_on_all``.
    """
    count = len(total)
    scores = {}
    with np.errstate(invalid="ignore"):  # 0 / 0 in rows without relevant entries
        for k in ks:
            among = np.bincount(row[rank < k], minlength=count)
            scores[f"R@{k}"] = among > 0
            scores[f"P@{k}"] = among / np.minimum(k, candidates)
            scores[f"found@{k}"] = among / total
        if full_ranking:
            first = np.cumsum(total) - total
            number = (
                np.arange(len(row)) - first[row] + 1
            )  # 1 for a row's first relevant entry, then 2, 3 ...
            scores["mAP"] = np.bincount(row, number / (rank + 1), minlength=count) / total
            scores["MRR"] = 1 / (np.append(rank, 0)[first] + 1)
    return scores


def mean_of_known(values: np.ndarray) -> float:
    """Mean over the entries that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
