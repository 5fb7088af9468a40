"""Precision and recall of the detector at each score threshold.

AP evaluates the full ranking of detections, but infer.py shows those above one threshold, without
duplicates (``engine.detection.duplicates``). These numbers help to choose the threshold.
"""

from collections.abc import Mapping

import numpy as np
from pycocotools import mask as coco_mask

from engine.detection.detections import Detections, to_xywh
from engine.detection.duplicates import drop_duplicates
from engine.evaluation.coco_columns import GroundTruth

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(6, 20))  # 0.3 to 0.95
MATCH_IOU = 0.5

RIGHT, WRONG_NAME, REPEATED, UNANNOTATED, CROWD = range(5)


def operating_points(
    truth: GroundTruth,
    predictions: Mapping[int, Detections | None],
    *,
    kind: str,
    overlap: float,
    class_agnostic: bool = False,
) -> list[dict[str, float]]:
    """Precision and recall at each of ``THRESHOLDS``.

    Each detection, best score first, is right if its IoU with an unmatched garment of its category
    is at least ``MATCH_IOU``. Otherwise it is repeated (same, but the garment is matched already),
    has the wrong category (same, but with a garment of another category), or is unannotated.

    Args:
        truth: the annotations.
        predictions: detections by image id; None counts as a photo without any.
        kind: "box" or "mask", which IoU is used.
        overlap: mask IoU above which duplicates are removed first, see ``drop_duplicates``.
        class_agnostic: ignore categories.

    Returns:
        For each threshold {"score", "found": number of detections, "precision", "recall", "f1":
        0..1, "wrong_name", "repeated": numbers of detections}; precision is -1 without detections,
        recall without annotations.
    """
    columns = truth.columns(kind, class_agnostic)
    order = np.argsort(columns.image, kind="stable")
    starts = np.searchsorted(columns.image[order], np.arange(len(truth.image_ids) + 1))
    scores, verdicts = [np.zeros(0)], [np.zeros(0, np.int64)]
    for number, image_id in enumerate(truth.image_ids.tolist()):
        found = predictions.get(image_id)
        if found is None or len(found) == 0:
            continue
        found = drop_duplicates(found, overlap)
        rows = order[starts[number] : starts[number + 1]]
        shapes = columns.box[rows] if kind == "box" else [columns.masks[row] for row in rows]
        labels = np.ones_like(found.labels) if class_agnostic else found.labels
        iou = _overlaps(found, shapes, columns.extra[rows])
        scores.append(found.scores)
        verdicts.append(_verdicts(labels, iou, columns.category[rows], columns.extra[rows]))
    garments = int((~columns.extra).sum())
    score, verdict = np.concatenate(scores), np.concatenate(verdicts)
    return [_point(t, verdict[score >= t], garments) for t in THRESHOLDS]


def _overlaps(found: Detections, shapes, crowd: np.ndarray) -> np.ndarray:
    """IoU of each detection with each annotation (with a crowd: its share inside): f64[N,G]."""
    if len(shapes) == 0:
        return np.zeros((len(found), 0))
    own = found.masks if isinstance(shapes, list) else to_xywh(found.boxes)
    return np.reshape(coco_mask.iou(own, shapes, crowd.astype(np.uint8)), (len(found), -1))


def _verdicts(
    labels: np.ndarray, iou: np.ndarray, category: np.ndarray, crowd: np.ndarray
) -> np.ndarray:
    """Verdict on each detection of one photo, best first: i64[N]."""
    taken = np.zeros(len(category), bool)
    verdicts = np.full(len(labels), UNANNOTATED)
    for i, label in enumerate(labels):
        near = (iou[i] >= MATCH_IOU) & ~crowd
        alike = near & (category == label)
        free = np.flatnonzero(alike & ~taken)
        if free.size:
            taken[free[iou[i, free].argmax()]] = True
            verdicts[i] = RIGHT
        elif ((iou[i] >= MATCH_IOU) & crowd & (category == label)).any():
            verdicts[i] = CROWD
        elif near.any():
            verdicts[i] = REPEATED if alike.any() else WRONG_NAME
    return verdicts


def _point(threshold: float, verdict: np.ndarray, garments: int) -> dict[str, float]:
    right, wrong, repeated, unannotated, _ = np.bincount(verdict, minlength=5).tolist()
    found = right + wrong + repeated + unannotated
    return {
        "score": threshold,
        "found": found,
        "precision": right / found if found else -1.0,
        "recall": right / garments if garments else -1.0,
        "f1": 2 * right / (found + garments) if found + garments else -1.0,
        "wrong_name": wrong,
        "repeated": repeated,
    }
