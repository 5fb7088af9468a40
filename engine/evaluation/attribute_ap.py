"""Average precision of detections with attributes: Fashionpedia's AP IoU+F1.

A detection is correct if both its IoU with a garment of its category and the F1 of its attributes
reach their thresholds, each of which runs over .50 ... .95. The F1 is the macro average over the
classes yes and no, as in the benchmark's own evaluator (https://github.com/KMnP/fashionpedia-api;
the paper: https://arxiv.org/abs/2004.12276). With hundreds of attributes, nearly all of them no, it
takes little more than one correct yes to reach .5.

The benchmark's rules apply where they differ from COCO's: a garment is a better match than another
only if both IoU and F1 are at least as good, and a crowd is matched at most once. Categories
without attributes are evaluated by IoU alone and enter the mean once instead of once per F1
threshold. (The benchmark has a fixed list of them; here they follow from the annotations.)
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from engine.detection.detections import Detections
from engine.evaluation.coco_columns import Columns, GroundTruth, pack_predictions
from engine.evaluation.coco_match import match
from engine.evaluation.coco_metrics import COCO_PROTOCOL, IOU_50, IOU_75, mean_found

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of IoU and of F1
F1_50, F1_75 = IOU_50, IOU_75  # indices into THRESHOLDS
RECALLS = np.linspace(0, 1, 101)
LIMIT = COCO_PROTOCOL.max_detections[-1]  # detections per category and photo
ALMOST_ONE = 1 - 1e-10  # upper limit of thresholds, since rounding could miss 1


def evaluate_with_attributes(
    truth: GroundTruth, predictions: Mapping[int, Detections], *, kind: str
) -> dict[str, Any]:
    """AP IoU+F1 and its parts, 0..1; -1 if there is nothing to measure.

    Args:
        truth: annotations with attributes.
        predictions: detections with attributes by image id.
        kind: "box" or "mask", which IoU is used.

    Returns:
        {"summary": {"AP", "AP50", "AP75", "APf50", "APf75", "AP50f50", ...}, "per_class": {category
        that has attributes: {"AP", "AP50", "AP75", "garments"}}}. 50 and 75 are thresholds of IoU,
        f50 and f75 of F1; a threshold that is not named is averaged over.

    Raises:
        ValueError: as ``engine.evaluation.coco_metrics.evaluate``.
    """
    annotations = truth.columns(kind, class_agnostic=False)
    detections = pack_predictions(truth, predictions, kind, class_agnostic=False)
    predicted = np.concatenate(
        [np.zeros((0, truth.attributes.shape[1]), bool)]
        + [found.attributes for found in predictions.values()]
    )
    names = truth.categories
    by_overlap, _ = match(truth.sizes, len(names), annotations, detections, kind, COCO_PROTOCOL)
    described = set(annotations.category[truth.attributes.any(axis=1)].tolist())
    precisions, per_class = [], {}
    for number, name in enumerate(names, start=1):
        if number not in described:
            precisions.append(by_overlap[:, None, :, number - 1, 0, -1])
            continue
        ours = _by_photo(detections, number)
        theirs = _by_photo(annotations, number)
        one = _precision(annotations, truth.attributes, theirs, detections, predicted, ours)
        precisions.append(one)
        garments = sum(int((~annotations.extra[rows]).sum()) for rows in theirs.values())
        per_class[name] = {
            "AP": mean_found(one),
            "AP50": mean_found(one[IOU_50]),
            "AP75": mean_found(one[IOU_75]),
            "garments": garments,
        }
    return {"summary": _summarize(precisions), "per_class": per_class}


def attribute_f1(predicted: np.ndarray, annotated: np.ndarray) -> np.ndarray:
    """Mean of the F1 of yes and the F1 of no, each only if it occurs.

    Args:
        predicted: bool [D, A], the attributes of each detection.
        annotated: bool [G, A], the attributes of each garment.

    Returns:
        float64 [D, G].
    """
    both = predicted.astype(np.float64) @ annotated.T.astype(np.float64)
    yes = predicted.sum(axis=1)[:, None] + annotated.sum(axis=1)[None, :].astype(np.float64)
    no = 2.0 * predicted.shape[1] - yes
    neither = predicted.shape[1] - yes + both
    f1_yes = np.divide(2 * both, yes, out=np.zeros_like(yes), where=yes > 0)
    f1_no = np.divide(2 * neither, no, out=np.zeros_like(no), where=no > 0)
    return (f1_yes + f1_no) / np.maximum((yes > 0).astype(int) + (no > 0), 1)


def _by_photo(columns: Columns, category: int) -> dict[int, np.ndarray]:
    """Photo -> rows of a category, in order."""
    rows = np.flatnonzero(columns.category == category)
    rows = rows[np.argsort(columns.image[rows], kind="stable")]
    photos, starts = np.unique(columns.image[rows], return_index=True)
    # Of no rows at all, np.split makes one part.
    return dict(zip(photos.tolist(), np.split(rows, starts[1:]), strict=False))


def _precision(
    annotations: Columns,
    annotated: np.ndarray,
    theirs: dict[int, np.ndarray],
    detections: Columns,
    predicted: np.ndarray,
    ours: dict[int, np.ndarray],
) -> np.ndarray:
    """Precision [T, F, R] of one category by IoU threshold, F1 threshold and recall.

    Args:
        annotations, annotated: of all categories, and their attributes bool [G, A].
        theirs: photo -> rows of this category in ``annotations``.
        detections, predicted: of all categories, and their attributes bool [D, A].
        ours: photo -> rows of this category in ``detections``.
    """
    nothing = np.zeros(0, np.int64)
    scores, right, ignored, positives = [], [], [], 0
    for photo in sorted(theirs.keys() | ours.keys()):
        rows = theirs.get(photo, nothing)
        rows = rows[np.argsort(annotations.extra[rows], kind="stable")]  # crowds come last
        found = ours.get(photo, nothing)
        found = found[np.argsort(-detections.extra[found], kind="stable")][:LIMIT]
        crowd = annotations.extra[rows]
        overlaps = _overlaps(detections, found, annotations, rows)
        hit = find_matches(overlaps, attribute_f1(predicted[found], annotated[rows]), crowd)
        on_crowd = (hit >= 0) & np.append(crowd, False)[hit]
        scores.append(detections.extra[found])
        right.append((hit >= 0) & ~on_crowd)
        ignored.append(on_crowd)
        positives += int((~crowd).sum())
    shape = (len(THRESHOLDS), len(THRESHOLDS), len(RECALLS))
    if positives == 0:
        return np.full(shape, -1.0)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    true = np.concatenate(right, axis=2)[:, :, order]
    false = ~true & ~np.concatenate(ignored, axis=2)[:, :, order]
    return _at_recalls(true.cumsum(axis=2), false.cumsum(axis=2), positives)


def _overlaps(
    detections: Columns, found: np.ndarray, annotations: Columns, rows: np.ndarray
) -> np.ndarray:
    """IoU [D, G] as COCO defines it: with a crowd, the share of the detection inside it."""
    if not len(found) or not len(rows):
        return np.zeros((len(found), len(rows)))
    crowd = annotations.extra[rows].astype(np.uint8).tolist()
    if detections.masks is None:
        return coco_mask.iou(detections.box[found], annotations.box[rows], crowd)
    ours, theirs = ([c.masks[i] for i in r] for c, r in ((detections, found), (annotations, rows)))
    return coco_mask.iou(ours, theirs, crowd)


def find_matches(overlaps: np.ndarray, f1: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Match a photo's detections to its garments, at every pair of thresholds.

    Args:
        overlaps, f1: float64 [D, G], detections by decreasing score, crowds last.
        crowd: bool [G].

    Returns:
        int64 [T, F, D], the index of the matched garment, -1 for none.
    """
    many = len(THRESHOLDS)
    taken = np.zeros((many, many, len(crowd)), bool)
    hit = np.full((many, many, len(overlaps)), -1)
    start = np.minimum(THRESHOLDS, ALMOST_ONE)
    for d in range(len(overlaps)):
        needed_overlap = np.tile(start[:, None], (1, many))
        needed_f1 = np.tile(start, (many, 1))
        mine = hit[:, :, d]  # a view
        for g in range(len(crowd)):
            better = ~taken[:, :, g] & (overlaps[d, g] >= needed_overlap) & (f1[d, g] >= needed_f1)
            if crowd[g]:  # only if no garment has matched
                better &= (mine < 0) | np.append(crowd, False)[mine]
            mine[better] = g
            needed_overlap[better], needed_f1[better] = overlaps[d, g], f1[d, g]
        at = np.nonzero(mine >= 0)
        taken[*at, mine[at]] = True
    return hit


def _at_recalls(true: np.ndarray, false: np.ndarray, positives: int) -> np.ndarray:
    """Precision [T, F, R], the best at each recall or beyond, 0 where it is never reached.

    Args:
        true, false: [T, F, N], how many of the first n + 1 detections are correct, and wrong.
        positives: number of annotated garments.
    """
    precision = true / (true + false + np.spacing(1))
    best = np.maximum.accumulate(precision[:, :, ::-1], axis=2)[:, :, ::-1]
    best = np.append(best, np.zeros((*best.shape[:2], 1)), axis=2)
    recall = true / positives
    at = [[np.searchsorted(line, RECALLS) for line in rows] for rows in recall]
    return np.take_along_axis(best, np.array(at), axis=2)


def _summarize(precisions: list[np.ndarray]) -> dict[str, float]:
    """The summary from the precision [T, F or 1, R] of each category."""

    def over(overlap: int | slice, f1: int | slice) -> float:
        # Categories evaluated by IoU alone have a single entry that counts for every F1 threshold.
        chosen = [p[overlap][..., 0 if p.shape[1] == 1 else f1, :].ravel() for p in precisions]
        return mean_found(np.concatenate(chosen))

    every = slice(None)
    summary = {"AP": over(every, every), "AP50": over(IOU_50, every), "AP75": over(IOU_75, every)}
    summary |= {"APf50": over(every, F1_50), "APf75": over(every, F1_75)}
    for overlap, position in (("AP50", IOU_50), ("AP75", IOU_75)):
        summary |= {f"{overlap}f50": over(position, F1_50), f"{overlap}f75": over(position, F1_75)}
    return summary
