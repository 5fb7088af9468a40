"""Average precision of boxes and masks as COCO defines it, and on DeepFashion2's subsets.

The twelve numbers are those of https://cocodataset.org/#detection-eval, equal to pycocotools';
-1 stands for "nothing to measure".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.detection.detections import Detections
from engine.evaluation.coco_columns import SUBSETS, GroundTruth, pack_predictions
from engine.evaluation.coco_match import Protocol, match

COCO_PROTOCOL = Protocol(
    {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)},
    (1, 10, 100),
)
IOU_50, IOU_75 = 0, 5  # indices into the IoU thresholds .50, .55 ... .95

# A subset is selected by artificial areas: garments outside it get one outside the area range.
SUBSET_PROTOCOL = Protocol({"subset": (0, 1)}, (100,))
INSIDE, OUTSIDE = 0.5, 2.0


@dataclass(frozen=True)
class CocoMetrics:
    """One evaluation.

    Attributes:
        summary: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl.
        per_class: {category: {"AP", "AP50", "AP75", "garments"}}; crowds are not counted.
    """

    summary: dict[str, float]
    per_class: dict[str, dict[str, float]]


def evaluate(
    truth: GroundTruth,
    predictions: Mapping[int, Detections],
    *,
    kind: str,
    class_agnostic: bool = False,
) -> CocoMetrics:
    """The twelve COCO numbers and each category's AP.

    Args:
        truth: the annotations; photos without predictions count as well.
        predictions: detections by image id.
        kind: "box" or "mask". Whether a detection is small, medium or large depends on the area of
            its box or mask.
        class_agnostic: merge all categories of annotations and detections into one.

    Raises:
        ValueError: predictions for a photo that is not in ``truth`` or has another size there,
            without masks for kind "mask", or with a label out of range.
    """
    names = truth.category_names(class_agnostic)
    annotations = truth.columns(kind, class_agnostic)
    detections = pack_predictions(truth, predictions, kind, class_agnostic)
    precision, recall = match(truth.sizes, len(names), annotations, detections, kind, COCO_PROTOCOL)
    counts = np.bincount(annotations.category[~annotations.extra], minlength=len(names) + 1)
    per_class = {
        name: _average_precisions(precision[:, :, k, 0, -1]) | {"garments": int(counts[k + 1])}
        for k, name in enumerate(names)
    }
    return CocoMetrics(_summarize(precision, recall), per_class)


def evaluate_subsets(
    truth: GroundTruth,
    predictions: Mapping[int, Detections],
    *,
    kind: str,
    class_agnostic: bool = False,
) -> dict[str, dict[str, dict[str, float]]]:
    """AP on DeepFashion2's subsets: {factor: {value: {"AP", "AP50", "AP75", "garments"}}}.

    Garments outside a subset are ignored as COCO ignores garments outside an area range: whether
    they are detected or missed does not count. So a detection of a barely occluded dress is not a
    false positive for "heavy occlusion", while a detection without any garment is a false positive
    in every subset. Factors without annotations are left out.
    The arguments and errors are those of ``evaluate``.
    """
    categories = len(truth.category_names(class_agnostic))
    annotations = truth.columns(kind, class_agnostic)
    detections = pack_predictions(truth, predictions, kind, class_agnostic)
    detections = replace(detections, area=np.full(len(detections.image), INSIDE))

    def measure(inside: np.ndarray) -> dict[str, float]:
        cut = replace(annotations, area=np.where(inside, INSIDE, OUTSIDE))
        precision, _ = match(truth.sizes, categories, cut, detections, kind, SUBSET_PROTOCOL)
        garments = int((inside & ~annotations.extra).sum())
        return _average_precisions(precision) | {"garments": garments}

    return {
        factor: {
            name: measure(truth.factors[factor] == value)
            for value, name in enumerate(value_names, start=1)
        }
        for factor, value_names in SUBSETS.items()
        if truth.factors[factor].any()
    }


def _summarize(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """The twelve COCO numbers from the arrays of ``coco_match.match``."""
    every, small, medium, large = range(4)
    summary = _average_precisions(precision[:, :, :, every, -1])
    for name, area in (("APs", small), ("APm", medium), ("APl", large)):
        summary[name] = mean_found(precision[:, :, :, area, -1])
    for position, limit in enumerate(COCO_PROTOCOL.max_detections):
        summary[f"AR{limit}"] = mean_found(recall[:, :, every, position])
    for name, area in (("ARs", small), ("ARm", medium), ("ARl", large)):
        summary[name] = mean_found(recall[:, :, area, -1])
    return summary


def _average_precisions(precision: np.ndarray) -> dict[str, float]:
    """AP, AP50 and AP75 of a precision array whose first axis is the IoU threshold."""
    return {
        "AP": mean_found(precision),
        "AP50": mean_found(precision[IOU_50]),
        "AP75": mean_found(precision[IOU_75]),
    }


def mean_found(values: np.ndarray) -> float:
    """Mean over the entries other than -1 (nothing to measure); -1 if there are none."""
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0


def evaluate_all(
    truth: GroundTruth,
    predictions: Mapping[int, Detections | None],
    *,
    class_agnostic: bool = False,
    subsets: bool = False,
) -> dict[str, Any]:
    """All metrics of the predictions for a dataset, as ``evaluate_detector`` returns them.

    Args:
        truth: the annotations.
        predictions: detections by image id; None: the photo could not be read.
        class_agnostic: see ``evaluate``.
        subsets: add "subsets", {kind: AP on DeepFashion2's subsets}.
    """
    found = {i: detections for i, detections in predictions.items() if detections is not None}
    with_masks = truth.has_masks and all(d.masks is not None for d in found.values())
    metrics: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {"per_class": {}}
    for kind in ("box", "mask") if with_masks else ("box",):
        result = evaluate(truth, found, kind=kind, class_agnostic=class_agnostic)
        metrics[kind], tables["per_class"][kind] = result.summary, result.per_class
        if subsets and truth.has_subsets:
            table = evaluate_subsets(truth, found, kind=kind, class_agnostic=class_agnostic)
            tables.setdefault("subsets", {})[kind] = table
    counts = {"photos": len(predictions), "unreadable": len(predictions) - len(found)}
    return metrics | tables | counts
