"""Exact scores of a few candidates, which give the final ranking in every kind of store."""

from collections.abc import Mapping, Sequence

import numpy as np

from retrieval.features import FeatureSchema, normalized_weights


def aspect_cosines(query: np.ndarray, vectors: np.ndarray, schema: FeatureSchema) -> np.ndarray:
    """f64[n, aspects]: inner products of each aspect, in schema order.

    Args:
        query: f32[D], or f32[n, D] with one query for each vector.
        vectors: f32[n, D].
        schema: of both.

    Summed row by row in double precision, so that equal vectors score equally wherever they are
    stored: a matrix product rounds differently at the edges of its tiles.
    """
    products = vectors.astype(np.float64) * query.astype(np.float64)
    sums = [products[:, schema.slice(name)].sum(axis=1) for name, _ in schema.aspects]
    return np.stack(sums, axis=1)


def weighted_mean(
    cosines: np.ndarray, weights: Mapping[str, float], schema: FeatureSchema
) -> np.ndarray:
    """f64[n]: sum_a w_a cos_a / sum_a w_a of f64[n, aspects]."""
    # Term by term: a matrix product may round rows differently, which would break ties.
    return (cosines * normalized_weights(weights, schema)).sum(axis=1)


def best_first(scores: np.ndarray, keys: Sequence[str], k: int) -> list[int]:
    """Indices of the k best candidates; ties by key ascending."""
    return sorted(range(len(keys)), key=lambda i: (-scores[i], keys[i]))[:k]
