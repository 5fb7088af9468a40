"""Retrieval metrics of one aspect's vectors on an annotated dataset.

Same garment, where the dataset has identities ("R@k": any hit among the first k, "mAP", "MRR"):

* With ``ViewRoles`` (a dataset that names each photo's view): queries are the photos of the query
  views, the gallery is the first photo in the gallery view of each product.
* Otherwise, if the dataset has photos of both sources: queries are user photos, the gallery shop
  photos.
* Otherwise every garment searches all others.
* ``Roles`` given by the caller replace all this.

Same label ("P@10_color" and so on, for color, pattern and category groups): the share of the ten
nearest garments *of other products and other photos* with the query's label. With ``ViewRoles``
among gallery-view photos only, so that similarity of the view does not matter.

"other_color_R@1", with ``ViewRoles`` and a color group: among gallery-view photos, whether the
nearest one in another color, or of another product, is the same product.

A query never retrieves garments of its own photo. Garments whose identity or label is unknown are
excluded from queries and gallery. "queries" counts those with at least one correct result in the
gallery.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.data.packing import SOURCES
from engine.evaluation.bootstrap import mean_interval
from engine.evaluation.ranking import Exclusion, mean_of_known, rank_on_all

KS = (1, 5, 10, 20)
LABEL_K = 10


@dataclass(frozen=True)
class ViewRoles:
    """Which views of a product are queries, and which view is the gallery.

    Attributes:
        column: the label group that names each photo's view.
        queries: the views of query photos.
        gallery: the view of gallery photos, usually the main photo of a product.
    """

    queries: tuple[str, ...]
    gallery: str
    column: str = "view"


@dataclass(frozen=True)
class GarmentTable:
    """Annotations of n garments, as arrays.

    Attributes:
        photo: int64 [n], index of each garment's photo.
        identity: int64 [n], -1 unknown.
        source: int8 [n], index into ``engine.data.packing.SOURCES``.
        labels: per exclusive group int64 [n], -1 unknown.
        values: the names of each group's values.
        aspect_of_group: label groups for P@10 -> the aspect that each belongs to.
    """

    photo: np.ndarray
    identity: np.ndarray
    source: np.ndarray
    labels: Mapping[str, np.ndarray]
    values: Mapping[str, Sequence[str]]
    aspect_of_group: Mapping[str, str]

    def in_views(self, roles: ViewRoles, views: Sequence[str]) -> np.ndarray:
        """Indices of the garments whose photo shows one of ``views``: int64, ascending."""
        names = np.array([*self.values[roles.column], ""])
        return np.flatnonzero(np.isin(names[self.labels[roles.column]], views))


@dataclass(frozen=True)
class Roles:
    """Queries and galleries of the metrics, as indices of garments, int64.

    Attributes:
        queries, gallery: of the same-garment metrics.
        label_queries, label_gallery: of the same-label metrics.
        main: the gallery-view garments, for other_color_R@1; may be empty.
    """

    queries: np.ndarray
    gallery: np.ndarray
    label_queries: np.ndarray
    label_gallery: np.ndarray
    main: np.ndarray


def roles_of(table: GarmentTable, views: ViewRoles | None = None) -> Roles:
    """The roles described at the top of this file; views are ignored if there is no such column."""
    everything, nothing = np.arange(len(table.photo)), np.zeros(0, np.int64)
    if views is not None and views.column in table.labels:
        main = table.in_views(views, [views.gallery])
        _, first = np.unique(table.identity[main], return_index=True)
        queries = table.in_views(views, views.queries)
        return Roles(queries, main[np.sort(first)], main, main, main)
    users, shops = (np.flatnonzero(table.source == SOURCES.index(s)) for s in ("user", "shop"))
    if len(users) and len(shops):
        return Roles(users, shops, everything, everything, nothing)
    return Roles(everything, everything, everything, everything, nothing)


def aspect_metrics(
    vectors: np.ndarray,
    table: GarmentTable,
    roles: Roles,
    *,
    max_queries: int | None = None,
    intervals: bool = False,
    progress_title: str | None = None,
) -> dict[str, Any]:
    """The numbers described at the top of this file, for one aspect; all ranks call it.

    Args:
        vectors: float [n, d], unit length.
        table: the n garments.
        roles: queries and galleries.
        max_queries: use at most this many queries, evenly spaced.
        intervals: add "intervals": {name: 95% bootstrap interval over the queries}.
        progress_title: title of a progress bar on rank 0; None: no bar.

    Returns:
        Metric name -> value, only for what can be measured; may be empty.
    """
    search = _Search(vectors, table, max_queries, progress_title)
    scores = search.same_garment(roles) | search.same_labels(roles) | search.other_color(roles)
    scores = {name: values for name, values in scores.items() if not np.isnan(values).all()}
    metrics: dict[str, Any] = {name: mean_of_known(values) for name, values in scores.items()}
    if "R@1" in scores:
        metrics["queries"] = int((~np.isnan(scores["R@1"])).sum())
    if intervals and scores:
        metrics["intervals"] = {name: mean_interval(values) for name, values in scores.items()}
    return metrics


@dataclass(frozen=True)
class _Search:
    """One aspect's vectors in one dataset; the methods return metric name -> float64 [queries]."""

    vectors: np.ndarray
    table: GarmentTable
    max_queries: int | None
    progress_title: str | None

    def same_garment(self, roles: Roles) -> dict[str, np.ndarray]:
        table = self.table
        if (table.identity < 0).all():
            return {}
        shown = roles.queries, roles.gallery
        scores = self._rank(*shown, table.identity, KS, [table.photo], full_ranking=True)
        return {name: scores[name] for name in (*(f"R@{k}" for k in KS), "mAP", "MRR")}

    def same_labels(self, roles: Roles) -> dict[str, np.ndarray]:
        table, shown = self.table, (roles.label_queries, roles.label_gallery)
        excluded = [table.photo, table.identity]
        scores = {}
        for group in table.aspect_of_group:
            ranked = self._rank(*shown, table.labels[group], (LABEL_K,), excluded)
            scores[f"P@{LABEL_K}_{group}"] = ranked[f"P@{LABEL_K}"]
        return scores

    def other_color(self, roles: Roles) -> dict[str, np.ndarray]:
        table = self.table
        group = next(
            (group for group, aspect in table.aspect_of_group.items() if aspect == "color"), None
        )
        if group is None or not len(roles.main):
            return {}
        pairs = np.stack([table.identity, table.labels[group]], axis=1)
        same_color = np.unique(pairs, axis=0, return_inverse=True)[1]
        same_color[(pairs < 0).any(axis=1)] = -1
        excluded = [table.photo, same_color]
        ranked = self._rank(roles.main, roles.main, table.identity, (1,), excluded)
        return {"other_color_R@1": ranked["R@1"]}

    def _rank(
        self,
        queries: np.ndarray,
        gallery: np.ndarray,
        ids: np.ndarray,
        ks: Sequence[int],
        excluded: Sequence[np.ndarray],
        full_ranking: bool = False,
    ) -> dict[str, np.ndarray]:
        if self.max_queries is not None and len(queries) > self.max_queries:
            queries = queries[np.linspace(0, len(queries) - 1, self.max_queries).astype(int)]
        return rank_on_all(
            self.vectors[queries],
            self.vectors[gallery],
            ids[queries],
            ids[gallery],
            ks=ks,
            exclude=[Exclusion(numbers[queries], numbers[gallery]) for numbers in excluded],
            full_ranking=full_ranking,
            progress_title=self.progress_title,
        )
