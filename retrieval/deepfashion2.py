"""DeepFashion2's consumer-to-shop protocol (Ge et al. 2019), by the rule of its official script.

1. Every annotated consumer garment with a style above 0 is a query to be answered; their number is
   the denominator, found or not.
2. In each consumer photo every detection is assigned to the annotated garment (of any style) it
   overlaps most. The rule asks for no minimum overlap: a detection that overlaps none goes to the
   photo's first garment. The strict variant asks for one.
3. Among the detections assigned to a garment, those of its class are its candidates; the one of
   the highest score answers.
4. It is a hit at k when any of its first k results lies in a photo with a garment of the same
   pair_id and style, and overlaps such a garment there by IoU 0.5 or more.

An answer may hold fewer than 20 results. Boxes are xyxy in pixels.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

KS = (1, 5, 10, 15, 20)
RESULTS = 20  # that an official result holds for each detection
GALLERY_IOU = 0.5


@dataclass(frozen=True)
class TrueGarment:
    """An annotated garment: of a consumer photo (a query) or of a shop photo (gallery)."""

    image_id: int
    box: tuple[float, float, float, float]
    pair_id: int
    style: int
    category: int  # 1-based; 0 in the gallery, where the rule does not look at it


@dataclass(frozen=True)
class Answer:
    """One detected consumer garment and what was found for it, best first.

    Attributes:
        image_id, box, category (1-based), score: of the detection.
        found_images: shop photos.
        found_boxes: detections on them, as many.
    """

    image_id: int
    box: tuple[float, float, float, float]
    category: int
    score: float
    found_images: tuple[int, ...]
    found_boxes: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Outcome:
    """What became of one query: the rank of its first hit (from 1), or why there is none.

    ``failure`` is "" for a hit, else "not_detected" (no detection is assigned to the garment),
    "wrong_class" (none of the assigned has its class) or "wrong_neighbor" (answered, but no hit).
    """

    query: TrueGarment
    rank: int | None
    failure: str


def judge_answers(
    queries: Sequence[TrueGarment],
    gallery: Sequence[TrueGarment],
    answers: Sequence[Answer],
    *,
    min_iou: float | None = None,
) -> list[Outcome]:
    """Apply the rule at the top of this file to every query of a style above 0.

    Args:
        queries: all annotated garments of the consumer photos, also those of style 0: detections
            may be assigned to them.
        gallery: all annotated garments of the shop photos.
        answers: one for every detected consumer garment; those on other photos are ignored.
        min_iou: None for the official rule; the strict variant leaves out detections that overlap
            their garment less.
    """
    wanted = defaultdict(list)
    for garment in gallery:
        wanted[garment.pair_id, garment.style].append(garment)
    annotated, given = defaultdict(list), defaultdict(list)
    for garment in queries:
        annotated[garment.image_id].append(garment)
    for answer in answers:
        given[answer.image_id].append(answer)
    outcomes = []
    for image_id, garments in annotated.items():
        assigned = assign(garments, given[image_id], min_iou)
        for garment, its_answers in zip(garments, assigned, strict=True):
            if garment.style > 0:
                relevant = wanted[garment.pair_id, garment.style]
                outcomes.append(_outcome(garment, its_answers, relevant))
    return outcomes


def assign(
    garments: Sequence[TrueGarment], answers: Sequence[Answer], min_iou: float | None
) -> list[list[Answer]]:
    """The answers that belong to each garment of one photo."""
    assigned: list[list[Answer]] = [[] for _ in garments]
    if not answers:
        return assigned
    overlaps = box_ious([a.box for a in answers], [g.box for g in garments])
    for answer, row in zip(answers, overlaps, strict=True):
        best = int(row.argmax())  # the first of equals, so garment 0 where all are 0
        if min_iou is None or row[best] >= min_iou:
            assigned[best].append(answer)
    return assigned


def _outcome(
    query: TrueGarment, answers: Sequence[Answer], relevant: Sequence[TrueGarment]
) -> Outcome:
    if not answers:
        return Outcome(query, None, "not_detected")
    candidates = [answer for answer in answers if answer.category == query.category]
    if not candidates:
        return Outcome(query, None, "wrong_class")
    best = max(candidates, key=lambda answer: answer.score)  # the first of equals
    rank = first_hit(best, relevant)
    return Outcome(query, rank, "" if rank else "wrong_neighbor")


def first_hit(answer: Answer, relevant: Sequence[TrueGarment]) -> int | None:
    """Rank, from 1, of the first result that overlaps a relevant garment; None without any."""
    boxes = defaultdict(list)
    for garment in relevant:
        boxes[garment.image_id].append(garment.box)
    results = zip(answer.found_images, answer.found_boxes, strict=True)
    for rank, (image_id, box) in enumerate(results, 1):
        if image_id in boxes and (box_ious([box], boxes[image_id]) >= GALLERY_IOU).any():
            return rank
    return None


def summarize(outcomes: Sequence[Outcome], ks: Sequence[int] = KS) -> dict[str, Any]:
    """Top-k accuracies, and for each k where the rest was lost; each k's shares sum to 1.

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
