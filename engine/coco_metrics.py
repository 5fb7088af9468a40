"""Average precision of boxes and masks as COCO defines it, and on DeepFashion2's subsets.

The twelve numbers are those of https://cocodataset.org/#detection-eval, equal to pycocotools';
-1 stands for "nothing to measure".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from engine.coco_match import Columns, Protocol, mask_areas, match
from engine.detections import Detections, Rle
from engine.masks import to_rle
from engine.records import PhotoRecords

COCO_PROTOCOL = Protocol(
    {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)},
    (1, 10, 100),
)
IOU_50, IOU_75 = 0, 5  # positions among the thresholds .50, .55 ... .95

# What DeepFashion2 calls the values 1, 2, 3 of its four factors.
SUBSETS = {
    "scale": ("small", "modest", "large"),
    "occlusion": ("slight", "medium", "heavy"),
    "zoom_in": ("none", "medium", "large"),
    "viewpoint": ("not worn", "frontal", "side or back"),
}
# A subset is cut out by made-up areas: garments outside it get one beyond the only area range.
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


class GroundTruth:
    """A dataset's annotations as columns: packed once, good for any number of evaluations.

    Attributes:
        image_ids: int64 [P], ascending.
        sizes: int32 [P, 2], width and height of each photo.
        categories: label k of a detection is ``categories[k - 1]``.
        has_masks: whether every garment has a mask, so that mask AP can be measured.
        factors: {name in SUBSETS: int8 [G]}, 0 = unknown.
    """

    def __init__(self, records: PhotoRecords) -> None:
        # COCO settles ties between photos by image id, so photos are numbered in that order.
        order = np.argsort(records.image_ids, kind="stable")
        number = np.empty(len(order), np.int64)
        number[order] = np.arange(len(order))
        self.image_ids = records.image_ids[order]
        self.sizes = records.sizes[order]
        self.categories = records.categories
        self.has_masks = records.has_masks
        self.factors = {name: np.array(getattr(records, f"garment_{name}")) for name in SUBSETS}
        self._records = records
        self._masks: list[Rle] | None = None
        self._columns = Columns(
            image=np.repeat(number, np.diff(records.garment_offsets)),
            category=records.garment_category.astype(np.int64) + 1,
            box=_to_xywh(records.garment_box),
            area=np.array(records.garment_area, np.float64),
            extra=np.array(records.garment_crowd),
        )

    @classmethod
    def from_records(cls, records: PhotoRecords) -> "GroundTruth":
        """Pack the annotations of ``records``; masks wait for the first mask evaluation."""
        return cls(records)

    def columns(self, kind: str, class_agnostic: bool) -> Columns:
        """The annotations as an evaluation of ``kind`` ("box" or "mask") needs them."""
        columns = self._columns
        if kind == "mask":
            if not self.has_masks:
                raise ValueError("mask AP needs a segmentation of every garment")
            if self._masks is None:
                self._masks = [
                    to_rle(garment.segmentation, photo.height, photo.width)
                    for photo in self._records
                    for garment in photo.garments
                ]
            columns = replace(columns, masks=self._masks)
        return _merge_categories(columns) if class_agnostic else columns

    def category_names(self, class_agnostic: bool) -> list[str]:
        """What the categories are called; merged into one they are "garment"."""
        return ["garment"] if class_agnostic else self.categories


def evaluate(
    truth: GroundTruth,
    predictions: Mapping[int, Detections],
    *,
    kind: str,
    class_agnostic: bool = False,
) -> CocoMetrics:
    """The twelve COCO numbers and each category's AP.

    Args:
        truth: every photo in it counts, whether or not it has predictions.
        predictions: detections by image id.
        kind: "box" or "mask". Small, medium and large go by the box's area for boxes and by the
            mask's for masks.
        class_agnostic: merge all categories into one, of annotations and detections alike.

    Raises:
        ValueError: predictions for a photo that ``truth`` does not hold, of another size than it,
            without masks for kind "mask", or with a label out of range.
    """
    names = truth.category_names(class_agnostic)
    annotations = truth.columns(kind, class_agnostic)
    detections = _pack(truth, predictions, kind, class_agnostic)
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

    The garments outside a subset are ignored the way COCO ignores garments outside an area range:
    they keep their place, and finding or missing one neither helps nor hurts. So a detection on a
    barely occluded dress is no false positive for "heavy occlusion", while a detection on no
    garment at all is one for every subset. Factors that no garment is annotated with are left out.
    The arguments and errors are those of ``evaluate``.
    """
    categories = len(truth.category_names(class_agnostic))
    annotations = truth.columns(kind, class_agnostic)
    detections = _pack(truth, predictions, kind, class_agnostic)
    detections = replace(detections, area=np.full(len(detections.area), INSIDE))

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


def _pack(
    truth: GroundTruth, predictions: Mapping[int, Detections], kind: str, class_agnostic: bool
) -> Columns:
    """Concatenate all photos' detections and check that they fit the ground truth."""
    found = list(predictions.values())
    number = _photo_numbers(truth, predictions)
    box = _to_xywh(np.concatenate([np.zeros((0, 4)), *(d.boxes for d in found)]))
    columns = Columns(
        image=np.repeat(number, [len(d) for d in found]),
        category=np.concatenate([np.zeros(0, np.int64), *(d.labels for d in found)]),
        box=box,
        area=box[:, 2] * box[:, 3],
        extra=np.concatenate([np.zeros(0), *(d.scores for d in found)]),
    )
    if kind == "mask":
        masks = [mask for d in found for mask in d.masks or ()]
        if len(masks) != len(columns.image):
            raise ValueError("mask AP needs a mask for every detection")
        columns = replace(columns, masks=masks, area=mask_areas(masks))
    if class_agnostic:
        return _merge_categories(columns)
    if ((columns.category < 1) | (columns.category > len(truth.categories))).any():
        raise ValueError(f"labels must be between 1 and {len(truth.categories)}")
    return columns


def _photo_numbers(truth: GroundTruth, predictions: Mapping[int, Detections]) -> np.ndarray:
    """int64 [len(predictions)], position of each predicted photo in the ground truth."""
    ids = np.fromiter(predictions, np.int64, len(predictions))
    number = np.minimum(np.searchsorted(truth.image_ids, ids), len(truth.image_ids) - 1)
    unknown = truth.image_ids[number] != ids
    if unknown.any():
        raise ValueError(f"predictions for unknown image ids {ids[unknown][:5].tolist()}")
    sizes = [(d.width, d.height) for d in predictions.values()]
    other = (truth.sizes[number] != np.reshape(sizes, (-1, 2))).any(axis=1)
    if other.any():
        raise ValueError(f"predictions of another photo size: image ids {ids[other][:5].tolist()}")
    return number


def _summarize(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """The twelve numbers, in COCO's order and with the last index the largest detection limit."""
    every, small, medium, large = range(4)
    summary = _average_precisions(precision[:, :, :, every, -1])
    for name, area in (("APs", small), ("APm", medium), ("APl", large)):
        summary[name] = _mean(precision[:, :, :, area, -1])
    for position, limit in enumerate(COCO_PROTOCOL.max_detections):
        summary[f"AR{limit}"] = _mean(recall[:, :, every, position])
    for name, area in (("ARs", small), ("ARm", medium), ("ARl", large)):
        summary[name] = _mean(recall[:, :, area, -1])
    return summary


def _average_precisions(precision: np.ndarray) -> dict[str, float]:
    """AP, AP50 and AP75 of a precision array whose first axis are the IoU thresholds."""
    return {
        "AP": _mean(precision),
        "AP50": _mean(precision[IOU_50]),
        "AP75": _mean(precision[IOU_75]),
    }


def _mean(values: np.ndarray) -> float:
    """Mean over what there was to find; -1 when there was nothing."""
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0


def _merge_categories(columns: Columns) -> Columns:
    return replace(columns, category=np.ones_like(columns.category))


def _to_xywh(boxes: np.ndarray) -> np.ndarray:
    """A float64 copy of xyxy boxes [N, 4] as x, y, width, height."""
    boxes = np.array(boxes, np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes
