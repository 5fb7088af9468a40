"""Retrieval metrics of the DeepFashion papers, and the variants found in other code.

In-shop (Liu et al. 2016): ``image_recall`` of query photos against the gallery photos.
Consumer-to-shop (Liu et al. 2016): ``image_recall`` of the consumers' test photos against all shop
photos of val and test. DeepFashion2 consumer-to-shop: ``retrieval.deepfashion2``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.evaluation.ranking import rank_on_all

INSHOP_KS = (1, 10, 20, 30, 40, 50)
CONSUMER2SHOP_KS = (1, 5, 10, 20, 50)


def image_recall(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    *,
    ks: Sequence[int],
    query_categories: np.ndarray | None = None,
    gallery_categories: np.ndarray | None = None,
) -> dict[str, Any]:
    """Recall@K of both DeepFashion benchmarks; all ranks call it.

    A query is a hit if any of its K nearest gallery photos shows its product. The gallery includes
    all categories. The mean is over all queries of known product; a query whose product is not in
    the gallery is a miss.

    Args:
        queries, gallery: float [Q, D] and [G, D], ranked by inner product.
        query_ids, gallery_ids: int64 [Q] and [G], the products; -1 is unknown and left out.
        ks: the values of K.
        query_categories, gallery_categories: int64 [Q] and [G], for the variant that needs them.

    Returns:
        "R@k" as above, "mAP", "queries" (how many), "without_match" (queries whose product is not
        in the gallery), and under "variants" what other code calls recall on the same data:
        "found_share@k", the share of the query's matches among the first k (tp / |relevant|);
        "precision@k", the matching share of the first k; "R@k_same_category", with the gallery
        restricted to the query's category (if categories are given). In all of them a query
        without a match counts as 0.
    """
    scores = rank_on_all(queries, gallery, query_ids, gallery_ids, ks=ks)
    known = query_ids >= 0
    metrics: dict[str, Any] = {"queries": int(known.sum())}
    metrics["without_match"] = int(np.isnan(scores["MRR"][known]).sum())
    metrics |= {name: _mean(scores[name], known) for name in (*(f"R@{k}" for k in ks), "mAP")}
    variants = {f"found_share@{k}": _mean(scores[f"found@{k}"], known) for k in ks}
    variants |= {f"precision@{k}": _mean(scores[f"P@{k}"], known) for k in ks}
    if query_categories is not None and gallery_categories is not None:
        recall = _within_categories(
            (queries, gallery, query_ids, gallery_ids), query_categories, gallery_categories, ks
        )
        variants |= {f"R@{k}_same_category": _mean(recall[f"R@{k}"], known) for k in ks}
    return metrics | {"variants": variants}


def _within_categories(
    search: tuple[np.ndarray, ...],
    query_categories: np.ndarray,
    gallery_categories: np.ndarray,
    ks: Sequence[int],
) -> dict[str, np.ndarray]:
    """R@k of each query, f64[Q] per k, within the gallery photos of its own category."""
    queries, gallery, query_ids, gallery_ids = search
    scores = {f"R@{k}": np.full(len(queries), np.nan) for k in ks}
    for category in np.unique(query_categories):
        asking = np.flatnonzero(query_categories == category)
        found = np.flatnonzero(gallery_categories == category)
        part = rank_on_all(
            queries[asking],
            gallery[found],
            query_ids[asking],
            gallery_ids[found],
            ks=ks,
            full_ranking=False,
        )
        for name, values in scores.items():
            values[asking] = part[name]
    return scores


def _mean(values: np.ndarray, known: np.ndarray) -> float:
    """Mean over the queries of known product; one without a match (NaN) counts as 0."""
    return float(np.nan_to_num(values[known]).mean()) if known.any() else float("nan")
