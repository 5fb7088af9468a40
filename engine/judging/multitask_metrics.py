"""Metrics of the multitask model on an annotated dataset: its labels and its aspects.

Labels are evaluated over the dataset's own values: the prediction is the best of these, as if the
softmax ran over them only. Garments with a value that the model does not have count as misses, and
the value is listed.
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
from engine.judging.aspect_metrics import GarmentTable, ViewRoles, aspect_metrics, roles_of
from engine.judging.bootstrap import interval, mean_interval
from engine.judging.classify_metrics import (
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
        """The groups and values of this set alone."""
        return merge_labels([self.records], [self.name])

    @cached_property
    def targets(self) -> dict[str, np.ndarray]:
        """Per group of ``labels``, what ``engine.data.labels.encode_labels`` returns."""
        return encode_labels(self.labels, self.records)


@dataclass(frozen=True)
class Descriptions:
    """The model's outputs for garments.

    Attributes:
        garments: int64 [n], their indices in the records, ascending.
        logits: per group of the model float32 [n, V], in the model's values.
        aspects: per aspect float32 [n, d], unit vectors.
        unreadable: numbers of the garments whose photo cannot be read; not among ``garments``.
    """

    garments: np.ndarray
    logits: dict[str, np.ndarray]
    aspects: dict[str, np.ndarray]
    unreadable: list[int]


def judge_part(
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
        views, max_queries: see ``engine.judging.aspect_metrics``.
        details: add bootstrap intervals and the scores of single attributes, and show progress.

    Returns:
        {"garments": count, "unreadable": count, group: ``judge_group``, aspect: ``aspect_metrics``}
        where a group and an aspect of one name share an entry. Groups that the model has no head
        for, or that no readable garment is labelled in, are left out.
    """
    metrics = distributed.broadcast_object(found and _judge_labels(part, found, labels, details))
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
            progress_title=f"judging by {aspect}" if details else None,
        )
        if scores:
            metrics[aspect] = _joined(metrics.get(aspect, {}), scores)
    return metrics


def _judge_labels(
    part: EvaluationPart, found: Descriptions, labels: LabelSpace, details: bool
) -> dict[str, Any]:
    """What ``judge_part`` returns, but for the aspects."""
    metrics: dict[str, Any] = {
        "garments": len(found.garments),
        "unreadable": len(found.unreadable),
    }
    multi_label = []
    for group in part.labels.groups:
        answer = answers_in_own_words(part, found, labels, group)
        if answer is None:
            continue
        metrics[group.name] = judge_group(group, *answer, details=details)
        metrics[group.name] |= _unheard_of(part, found, labels, group)
        if not group.exclusive:
            multi_label.append(answer)
    if len(multi_label) > 1:
        scores, targets = (np.concatenate(side, axis=1) for side in zip(*multi_label, strict=True))
        metrics["all attributes"] = grouped_recall(scores, targets)
    return metrics


def _joined(group: dict[str, Any], aspect: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a label group and of the aspect of the same name."""
    intervals = group.get("intervals", {}) | aspect.get("intervals", {})
    return group | aspect | ({"intervals": intervals} if intervals else {})


def answers_in_own_words(
    part: EvaluationPart, found: Descriptions, labels: LabelSpace, group: LabelGroup
) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores float32 [n, V] and targets of a group, in the set's values; -inf where unknown.

    None where the model has no such group or nothing is labelled.
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
    """The model's number for each of the set's values, capitals aside, or -1."""
    values = labels.group(group.name).values
    exact = {value: i for i, value in enumerate(values)}
    folded = {value.casefold(): i for i, value in enumerate(values)}
    return [exact.get(value, folded.get(value.casefold(), -1)) for value in group.values]


def judge_group(
    group: LabelGroup, scores: np.ndarray, targets: np.ndarray, *, details: bool
) -> dict[str, Any]:
    """The numbers of one group (``engine.judging.classify_metrics``); in detail with intervals."""
    judge_it = _judge_exclusive if group.exclusive else _judge_multi_label
    return judge_it(group, scores, targets, details)


def _judge_exclusive(
    group: LabelGroup, scores: np.ndarray, targets: np.ndarray, details: bool
) -> dict[str, Any]:
    scores, targets = scores[targets >= 0], targets[targets >= 0]
    answers, size = predicted(scores), len(group.values)
    hits = {f"top{k}": topk_hits(scores, targets, k) for k in TOP if k == 1 or k < size}
    metrics: dict[str, Any] = {"labelled": len(targets)}
    metrics |= {name: float(values.mean()) for name, values in hits.items()}
    metrics |= f1_scores(confusion(answers, targets, size))
    if details:
        metrics["intervals"] = {name: mean_interval(values) for name, values in hits.items()}

        def drawn_f1(name: str) -> Callable[[np.ndarray], float]:
            return lambda drawn: f1_scores(confusion(answers[drawn], targets[drawn], size))[name]

        for name in ("macro_f1", "weighted_f1"):
            metrics["intervals"][name] = interval(drawn_f1(name), len(targets))
    return metrics


def _judge_multi_label(
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


def _unheard_of(
    part: EvaluationPart, found: Descriptions, labels: LabelSpace, group: LabelGroup
) -> dict[str, Any]:
    """{"unheard_of": {value: garments}}, values the set uses and the model does not know."""
    targets = part.targets[group.name][found.garments]
    counts = {}
    for i, column in enumerate(_columns(group, labels)):
        of_it = targets == i if group.exclusive else targets[:, i] > 0
        if column < 0 and of_it.any():
            counts[group.values[i]] = int(of_it.sum())
    return {"unheard_of": counts} if counts else {}


def garment_table(part: EvaluationPart, garments: np.ndarray) -> GarmentTable:
    """What is known about the chosen garments, as aspect retrieval needs it."""
    records = part.records
    photos = records.garment_photo[garments]
    exclusive = [group for group in part.labels.groups if group.exclusive]
    return GarmentTable(
        photo=photos,
        identity=records.garment_identity[garments],
        source=records.photo_source[photos],
        labels={group.name: part.targets[group.name][garments] for group in exclusive},
        values={group.name: group.values for group in exclusive},
        judged={group.name: group.aspect for group in exclusive if group.aspect},
    )
