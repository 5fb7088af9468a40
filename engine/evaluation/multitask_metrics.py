"""Metrics of the multitask model on an annotated dataset: labels and aspects.

Predictions are restricted to the values that the dataset uses: the most probable of these counts.
Garments with a value that the model does not know count as misses, and the value is listed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from engine import distributed
from engine.data.labels import LabelGroup, LabelSpace, encode_labels, merge_labels
from engine.data.records import PhotoRecords
from engine.evaluation.aspect_metrics import GarmentTable, ViewRoles, aspect_metrics, roles_of
from engine.evaluation.bootstrap import interval, mean_interval
from engine.evaluation.classify_metrics import (
    attribute_scores,
    confusion,
    f1_scores,
    grouped_recall,
    predicted,
    topk_hits,
)

TOP = (1, 3, 5)


@dataclass(frozen=True)
class EvaluationPart:
    """A dataset to evaluate a model on.

    Attributes:
        name: its name in the metrics.
        records: its photos, garments and labels.
        dataset: dataset[Draw(0, i, 0, 0)] -> (image, target) of garment i of the records, without
            augmentation; raises PhotoError where the photo cannot be read.
    """

    name: str
    records: PhotoRecords
    dataset: Dataset

    @cached_property
    def labels(self) -> LabelSpace:
        """The groups and values of this dataset alone."""
        return merge_labels([self.records], [self.name])

    @cached_property
    def targets(self) -> dict[str, np.ndarray]:
        """Group -> the garments' labels (``engine.data.labels.encode_labels``), in ``labels``."""
        return encode_labels(self.labels, self.records)


@dataclass(frozen=True)
class Descriptions:
    """The model's outputs for garments.

    Attributes:
        garments: int64 [n], their indices in the records, ascending.
        logits: per group of the model float32 [n, V], one column per value of the model.
        aspects: per aspect float32 [n, d], unit vectors.
        unreadable: indices of garments whose photo cannot be read; not in ``garments``.
    """

    garments: np.ndarray
    logits: dict[str, np.ndarray]
    aspects: dict[str, np.ndarray]
    unreadable: list[int]


def evaluate_part(
    part: EvaluationPart,
    found: Descriptions | None,
    labels: LabelSpace,
    *,
    views: ViewRoles | None = None,
    max_queries: int | None = None,
    details: bool = False,
) -> dict[str, Any]:
    """All metrics of one dataset; every rank calls it and gets the same result.

    Rank 0 evaluates the labels; retrieval, whose work grows with the square of the garments, is
    split among the ranks.

    Args:
        part: the dataset.
        found: the model's outputs for all its readable garments; None on ranks other than 0.
        labels: the model's label space.
        views, max_queries: see ``engine.evaluation.aspect_metrics``.
        details: add bootstrap intervals and the scores of single attributes, and show progress.

    Returns:
        {"garments": count, "unreadable": count, group name: see ``group_metrics``, aspect: see
        ``aspect_metrics``}. A group and an aspect of the same name share an entry. Groups for which
        the model has no head or no readable garment is labelled are left out.
    """
    metrics = distributed.broadcast_object(found and _label_metrics(part, found, labels, details))
    garments, aspects = distributed.broadcast_object(found and (found.garments, found.aspects))
    table = garment_table(part, garments)
    roles = roles_of(table, views)
    for aspect, vectors in aspects.items():
        scores = aspect_metrics(
            vectors,
            table,
            roles,
            max_queries=max_queries,
            intervals=details,
            progress_title=f"evaluating {aspect}" if details else None,
        )
        if scores:
            metrics[aspect] = _joined(metrics.get(aspect, {}), scores)
    return metrics


def _label_metrics(
    part: EvaluationPart, found: Descriptions, labels: LabelSpace, details: bool
) -> dict[str, Any]:
    """What ``evaluate_part`` returns, without the aspects."""
    metrics: dict[str, Any] = {
        "garments": len(found.garments),
        "unreadable": len(found.unreadable),
    }
    multi_label = []
    for group in part.labels.groups:
        outcome = scores_in_dataset_values(part, found, labels, group)
        if outcome is None:
            continue
        metrics[group.name] = group_metrics(group, *outcome, details=details)
        metrics[group.name] |= _unknown_values(part, found, labels, group)
        if not group.exclusive:
            multi_label.append(outcome)
    if len(multi_label) > 1:
        scores, targets = (np.concatenate(side, axis=1) for side in zip(*multi_label, strict=True))
        metrics["all attributes"] = grouped_recall(scores, targets)
    return metrics


def _joined(group: dict[str, Any], aspect: dict[str, Any]) -> dict[str, Any]:
    """The metrics of a label group merged with those of the aspect of the same name."""
    intervals = group.get("intervals", {}) | aspect.get("intervals", {})
    return group | aspect | ({"intervals": intervals} if intervals else {})


def scores_in_dataset_values(
    part: EvaluationPart, found: Descriptions, labels: LabelSpace, group: LabelGroup
) -> tuple[np.ndarray, np.ndarray] | None:
    """A group's scores float32 [n, V] and targets, with one column per value of the dataset.

    Values that the model does not know score -inf. Returns None if the model has no such group or
    no garment is labelled.
    """
    if group.name not in found.logits:
        return None
    targets = part.targets[group.name][found.garments]
    labelled = targets >= 0 if group.exclusive else targets != 0
    if not labelled.any():
        return None
    logits = found.logits[group.name]
    logits = np.concatenate([logits, np.full((len(logits), 1), -np.inf, np.float32)], axis=1)
    return logits[:, _columns(group, labels)], targets


def _columns(group: LabelGroup, labels: LabelSpace) -> list[int]:
    """The model's index of each of the dataset's values, -1 if it does not know the value.

    Case is ignored unless a value matches exactly.
    """
    values = labels.group(group.name).values
    exact = {value: i for i, value in enumerate(values)}
    folded = {value.casefold(): i for i, value in enumerate(values)}
    return [exact.get(value, folded.get(value.casefold(), -1)) for value in group.values]


def group_metrics(
    group: LabelGroup, scores: np.ndarray, targets: np.ndarray, *, details: bool
) -> dict[str, Any]:
    """The metrics of one group; with ``details`` also intervals and single attributes.

    Args:
        group: with the values that are the columns of ``scores``.
        scores, targets: see ``engine.evaluation.classify_metrics``.
        details: see ``evaluate_part``.
    """
    metrics_of = _exclusive_metrics if group.exclusive else _multi_label_metrics
    return metrics_of(group, scores, targets, details)


def _exclusive_metrics(
    group: LabelGroup, scores: np.ndarray, targets: np.ndarray, details: bool
) -> dict[str, Any]:
    scores, targets = scores[targets >= 0], targets[targets >= 0]
    predictions, size = predicted(scores), len(group.values)
    hits = {f"top{k}": topk_hits(scores, targets, k) for k in TOP if k == 1 or k < size}
    metrics: dict[str, Any] = {"labelled": len(targets)}
    metrics |= {name: float(values.mean()) for name, values in hits.items()}
    metrics |= f1_scores(confusion(predictions, targets, size))
    if details:
        metrics["intervals"] = {name: mean_interval(values) for name, values in hits.items()}

        def drawn_f1(name: str) -> Callable[[np.ndarray], float]:
            def f1(drawn: np.ndarray) -> float:
                return f1_scores(confusion(predictions[drawn], targets[drawn], size))[name]

            return f1

        for name in ("macro_f1", "weighted_f1"):
            metrics["intervals"][name] = interval(drawn_f1(name), len(targets))
    return metrics


def _multi_label_metrics(
    group: LabelGroup, scores: np.ndarray, targets: np.ndarray, details: bool
) -> dict[str, Any]:
    each = attribute_scores(scores, targets)
    totals = ("macro_f1", "micro_f1", "hamming")
    metrics: dict[str, Any] = {"labelled": int((targets != 0).any(axis=1).sum())}
    metrics |= {name: each[name] for name in totals} | grouped_recall(scores, targets)
    if details:
        columns = ("precision", "recall", "f1", "positives")
        metrics["attributes"] = {
            value: {name: each[name][i].item() for name in columns}
            for i, value in enumerate(group.values)
        }
        metrics["intervals"] = {
            "micro_f1": interval(
                lambda drawn: attribute_scores(scores[drawn], targets[drawn])["micro_f1"],
                len(targets),
                repeats=200,
            )
        }
    return metrics


def _unknown_values(
    part: EvaluationPart, found: Descriptions, labels: LabelSpace, group: LabelGroup
) -> dict[str, Any]:
    """{"unheard_of": {value: number of garments}} of values that the model does not know, or {}."""
    targets = part.targets[group.name][found.garments]
    counts = {}
    for i, column in enumerate(_columns(group, labels)):
        of_it = targets == i if group.exclusive else targets[:, i] > 0
        if column < 0 and of_it.any():
            counts[group.values[i]] = int(of_it.sum())
    return {"unheard_of": counts} if counts else {}


def garment_table(part: EvaluationPart, garments: np.ndarray) -> GarmentTable:
    """The annotations of some garments (int64 [n]), as aspect retrieval needs them."""
    records = part.records
    photos = records.garment_photo[garments]
    exclusive = [group for group in part.labels.groups if group.exclusive]
    return GarmentTable(
        photo=photos,
        identity=records.garment_identity[garments],
        source=records.photo_source[photos],
        labels={group.name: part.targets[group.name][garments] for group in exclusive},
        values={group.name: group.values for group in exclusive},
        aspect_of_group={group.name: group.aspect for group in exclusive if group.aspect},
    )
