"""Annotations and detections as arrays, the form in which they are matched.

Most of the speed comes from packing arrays instead of making a dict per annotation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from engine.data.records import Photo, PhotoRecords
from engine.detection.detections import Detections, to_xywh
from engine.pixels.masks import RLE, to_rle

# Names of the values 1, 2, 3 of DeepFashion2's four factors.
SUBSETS = {
    "scale": ("small", "modest", "large"),
    "occlusion": ("slight", "medium", "heavy"),
    "zoom_in": ("none", "medium", "large"),
    "viewpoint": ("not worn", "frontal", "side or back"),
}


@dataclass(frozen=True)
class Columns:
    """Annotations or detections, one per row.

    Attributes:
        image: int64 [N], index of the photo in the ground truth.
        category: int64 [N], from 1.
        box: float64 [N, 4], x, y, width, height in pixels.
        area: float64 [N], decides in which area ranges a row counts; None: the mask's area.
        extra: for annotations bool [N], whether it is a crowd; for detections float64 [N], the
            score.
        masks: N run-length masks, or None (boxes only).
    """

    image: np.ndarray
    category: np.ndarray
    box: np.ndarray
    area: np.ndarray | None
    extra: np.ndarray
    masks: list[RLE] | None = None


class GroundTruth:
    """A dataset's annotations as columns, packed once for any number of evaluations.

    Attributes:
        image_ids: int64 [P], ascending.
        sizes: int32 [P, 2], width and height of each photo.
        categories: label k of a detection is ``categories[k - 1]``.
        has_masks: whether every garment has a mask, so that mask AP can be measured.
        factors: {name in SUBSETS: int8 [G]}, 0 = unknown.
        attributes: bool [G, A], whether each garment is annotated with each attribute.
    """

    def __init__(self, records: PhotoRecords) -> None:
        """Pack the annotations of ``records``; masks are packed at the first mask evaluation."""
        # COCO breaks ties between photos by image id, so photos are numbered in that order.
        order = np.argsort(records.image_ids, kind="stable")
        number = np.empty(len(order), np.int64)
        number[order] = np.arange(len(order))
        self.image_ids = records.image_ids[order]
        self.sizes = records.sizes[order]
        self.categories = records.categories
        self.has_masks = records.has_masks
        self.factors = {name: np.array(getattr(records, f"garment_{name}")) for name in SUBSETS}
        self.attributes = records.attribute_matrix == 1
        self._records = records
        self._masks: list[RLE] | None = None
        self._columns = Columns(
            image=np.repeat(number, np.diff(records.garment_offsets)),
            category=records.garment_category.astype(np.int64) + 1,
            box=to_xywh(records.garment_box),
            area=np.array(records.garment_area, np.float64),
            extra=np.array(records.garment_crowd),
        )

    def columns(self, kind: str, class_agnostic: bool) -> Columns:
        """The annotations for an evaluation of ``kind`` ("box" or "mask").

        Raises:
            ValueError: masks are wanted, but not every garment has one.
        """
        columns = self._columns
        if kind == "mask":
            if not self.has_masks:
                raise ValueError("mask AP needs a segmentation of every garment")
            if self._masks is None:
                self._masks = [
                    _rle_of(garment.segmentation, photo)
                    for photo in self._records
                    for garment in photo.garments
                ]
            columns = replace(columns, masks=self._masks)
        return _merge_categories(columns) if class_agnostic else columns

    @property
    def has_subsets(self) -> bool:
        """Whether any garment is annotated with one of DeepFashion2's factors."""
        return any(values.any() for values in self.factors.values())

    @property
    def has_attributes(self) -> bool:
        """Whether any garment is annotated with attributes."""
        return bool(self.attributes.any())

    def category_names(self, class_agnostic: bool) -> list[str]:
        """Names of the categories; ["garment"] if they are merged."""
        return ["garment"] if class_agnostic else self.categories


def pack_predictions(
    truth: GroundTruth, predictions: Mapping[int, Detections], kind: str, class_agnostic: bool
) -> Columns:
    """Concatenate all photos' detections.

    Raises:
        ValueError: they do not fit the ground truth (see ``coco_metrics.evaluate``).
    """
    found = list(predictions.values())
    number = _photo_numbers(truth, predictions)
    box = to_xywh(np.concatenate([np.zeros((0, 4)), *(d.boxes for d in found)]))
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
        columns = replace(columns, masks=masks, area=None)
    if class_agnostic:
        return _merge_categories(columns)
    if ((columns.category < 1) | (columns.category > len(truth.categories))).any():
        raise ValueError(f"labels must be between 1 and {len(truth.categories)}")
    return columns


def _photo_numbers(truth: GroundTruth, predictions: Mapping[int, Detections]) -> np.ndarray:
    """int64 [len(predictions)], index of each predicted photo in the ground truth."""
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


def _rle_of(segmentation: list | RLE, photo: Photo) -> RLE:
    """Polygons are rasterized; RLEs were checked when they were read and stay as they are."""
    if isinstance(segmentation, dict):
        return segmentation
    return to_rle(segmentation, photo.height, photo.width)


def _merge_categories(columns: Columns) -> Columns:
    return replace(columns, category=np.ones_like(columns.category))
