"""The detections in one photo, and their form in COCO result files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.pixels.masks import RLE


@dataclass(slots=True)
class Detections:
    """Garments found in one photo, best score first.

    Attributes:
        width, height: of the upright photo, in pixels.
        boxes: f32 [N, 4], xyxy in pixels of that photo (f64 if read from a file).
        scores: f32 [N], 0..1, descending (f64 if read from a file).
        labels: int64 [N], category index + 1.
        masks: N run-length masks of the size of the photo; None from a box-only model.
        probabilities: f32 [N, C], the detector's probability of each category; None from other
            sources.
        attributes: bool [N, A], which of a dataset's attributes each has; None if unknown.
        dropped: how many detections the multitask model took for false; they are not among the N.
    """

    width: int
    height: int
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: list[RLE] | None
    probabilities: np.ndarray | None = None
    attributes: np.ndarray | None = None
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.scores)

    def only(self, rows: Sequence[int]) -> "Detections":
        """The garments at ``rows``, in that order."""
        rows = list(rows)
        return replace(
            self,
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            masks=None if self.masks is None else [self.masks[row] for row in rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            attributes=None if self.attributes is None else self.attributes[rows],
        )


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    """A float64 copy of xyxy boxes [N, 4] as x, y, width, height."""
    boxes = np.array(boxes, np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def to_coco_results(
    image_id: int,
    detections: Detections,
    category_ids: Sequence[int],
    attribute_ids: Sequence[int] = (),
) -> list[dict[str, Any]]:
    """One JSON-ready dict per detection, in the format of COCO result files.

    Numbers keep their full precision, so that reading them back gives the same metrics.

    Args:
        image_id: the photo's id in its dataset.
        detections: of that photo.
        category_ids: the dataset's own category ids; label k is ``category_ids[k - 1]``.
        attribute_ids: the dataset's own attribute ids; needed if the detections have attributes.
    """
    boxes = to_xywh(detections.boxes)
    results = [
        {"image_id": image_id, "category_id": category_ids[label - 1], "bbox": box, "score": score}
        for label, box, score in zip(
            detections.labels.tolist(), boxes.tolist(), detections.scores.tolist(), strict=True
        )
    ]
    for result, mask in zip(results, detections.masks or [], strict=detections.masks is not None):
        counts = mask["counts"]
        counts = counts.decode() if isinstance(counts, bytes) else counts
        result["segmentation"] = {"size": list(mask["size"]), "counts": counts}
    if detections.attributes is not None:
        for result, row in zip(results, detections.attributes, strict=True):
            result["attribute_ids"] = [attribute_ids[number] for number in np.flatnonzero(row)]
    return results
