"""DeepFashion2's consumer-to-shop protocol (Ge et al. 2019), by the rule of its official script.

1. Every annotated consumer garment with a style above 0 is a query; their number is the
   denominator, whether they are detected or not.
2. In each consumer photo every detection is assigned to the annotated garment (of any style) it
   overlaps most. The rule requires no minimum overlap: a detection that overlaps none goes to the
   photo's first garment. The strict variant requires one.
3. Among the detections assigned to a garment, those of its class are its candidates; the one with
   the highest score counts.
4. It is a hit at k if any of its first k gallery detections is in a photo with a garment of the
   same pair_id and style, and overlaps such a garment there by IoU 0.5 or more.

A result may hold fewer than 20 gallery detections. Boxes are xyxy in pixels.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

KS = (1, 5, 10, 15, 20)
RESULTS = 20  # gallery detections per consumer detection in an official result file
GALLERY_IOU = 0.5


@dataclass(frozen=True)
class TrueGarment:
    """An annotated garment: of a consumer photo (a query) or of a shop photo (gallery)."""

    image_id: int
    box: tuple[float, float, float, float]
    pair_id: int
    style: int
    category: int  # 1-based; 0 in the gallery, where the rule ignores it


@dataclass(frozen=True)
class QueryResult:
    """One detected consumer garment and the gallery detections found for it, best first.

    Attributes:
        image_id, box, category (1-based), score: of the detection.
        found_images: the gallery detections' photos.
        found_boxes: and their boxes, in the same order.
    """

    image_id: int
    box: tuple[float, float, float, float]
    category: int
    score: float
    found_images: tuple[int, ...]
    found_boxes: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one query: the rank of its first hit (from 1), or why there is none.

    ``failure`` is "" for a hit, else "not_detected" (no detection is assigned to the garment),
    "wrong_class" (none of those has its class) or "wrong_neighbor" (nothing found is a hit).
    """

    query: TrueGarment
    rank: int | None
    failure: str


def evaluate_results(
    queries: Sequence[TrueGarment],
    gallery: Sequence[TrueGarment],
    results: Sequence[QueryResult],
    *,
    min_iou: float | None = None,
) -> list[Outcome]:
    """Apply the rule at the top of this file to every query of a style above 0.

    Args:
        queries: all annotated garments of the consumer photos, also those of style 0: detections
            may be assigned to them.
        gallery: all annotated garments of the shop photos.
        results: one for every detected consumer garment; those on other photos are ignored.
        min_iou: None for the official rule; the strict variant ignores detections whose IoU with
            their garment is lower.
    """
    wanted = defaultdict(list)
    for garment in gallery:
        wanted[garment.pair_id, garment.style].append(garment)
    annotated, given = defaultdict(list), defaultdict(list)
    for garment in queries:
        annotated[garment.image_id].append(garment)
    for result in results:
        given[result.image_id].append(result)
    outcomes = []
    for image_id, garments in annotated.items():
        assigned = assign(garments, given[image_id], min_iou)
        for garment, its_results in zip(garments, assigned, strict=True):
            if garment.style > 0:
                relevant = wanted[garment.pair_id, garment.style]
                outcomes.append(_outcome(garment, its_results, relevant))
    return outcomes


def assign(
    garments: Sequence[TrueGarment], results: Sequence[QueryResult], min_iou: float | None
) -> list[list[QueryResult]]:
    """The results whose detections are assigned to each garment of one photo."""
    assigned: list[list[QueryResult]] = [[] for _ in garments]
    if not results:
        return assigned
    overlaps = box_ious([r.box for r in results], [g.box for g in garments])
    for result, row in zip(results, overlaps, strict=True):
        best = int(row.argmax())  # the first of equals, so garment 0 if all are 0
        if min_iou is None or row[best] >= min_iou:
            assigned[best].append(result)
    return assigned


def _outcome(
    query: TrueGarment, results: Sequence[QueryResult], relevant: Sequence[TrueGarment]
) -> Outcome:
    if not results:
        return Outcome(query, None, "not_detected")
    candidates = [result for result in results if result.category == query.category]
    if not candidates:
        return Outcome(query, None, "wrong_class")
    best = max(candidates, key=lambda result: result.score)  # the first of equals
    rank = first_hit(best, relevant)
    return Outcome(query, rank, "" if rank else "wrong_neighbor")


def first_hit(result: QueryResult, relevant: Sequence[TrueGarment]) -> int | None:
    """Rank, from 1, of the first gallery detection that is a hit; None if there is none."""
    boxes = defaultdict(list)
    for garment in relevant:
        boxes[garment.image_id].append(garment.box)
    found = zip(result.found_images, result.found_boxes, strict=True)
    for rank, (image_id, box) in enumerate(found, 1):
        if image_id in boxes and (box_ious([box], boxes[image_id]) >= GALLERY_IOU).any():
            return rank
    return None


def summarize(outcomes: Sequence[Outcome], ks: Sequence[int] = KS) -> dict[str, Any]:
    """Top-k accuracies, and for each k the reasons of the misses; each k's shares sum to 1.

    Returns:
        {"queries": N, "top1": ..., "lost": {"top1": {"not_detected", "wrong_class",
        "wrong_neighbor"}, ...}}; shares are of all N queries, NaN for none.
    """
    count = len(outcomes)
    if count == 0:
        return {"queries": 0} | {f"top{k}": float("nan") for k in ks}
    metrics: dict[str, Any] = {"queries": count}
    unanswered = {
        reason: sum(outcome.failure == reason for outcome in outcomes) / count
        for reason in ("not_detected", "wrong_class")
    }
    answered = sum(outcome.failure in ("", "wrong_neighbor") for outcome in outcomes)
    lost = {}
    for k in ks:
        hits = sum(outcome.rank is not None and outcome.rank <= k for outcome in outcomes)
        metrics[f"top{k}"] = hits / count
        lost[f"top{k}"] = unanswered | {"wrong_neighbor": (answered - hits) / count}
    return metrics | {"lost": lost}


def box_ious(boxes: Sequence, others: Sequence) -> np.ndarray:
    """float64 [n, m], intersection over union of xyxy boxes; 0 where both are empty."""
    a = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
    b = np.asarray(others, np.float64).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inside = sides.clip(min=0).prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2]).clip(min=0).prod(axis=-1) for box in (a, b)]
    union = areas[0] + areas[1] - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)
