"""COCO's matching of detections to annotations, from packed columns, by hotcoco or pycocotools.

hotcoco gives the same arrays as pycocotools, 30 to 100 times faster. Where it cannot be imported
pycocotools does the work.
"""

import contextlib
import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from engine.detection.detections import Rle
from engine.judging.coco_columns import Columns

try:
    import hotcoco
except ImportError:  # no wheel for this platform
    hotcoco = None

IOU_TYPES = {"box": "bbox", "mask": "segm"}


@dataclass(frozen=True)
class Protocol:
    """What is measured: AP within each area range, given so many detections per photo."""

    area_ranges: dict[str, tuple[float, float]]
    max_detections: tuple[int, ...]


def match(
    sizes: np.ndarray,
    categories: int,
    annotations: Columns,
    detections: Columns,
    kind: str,
    protocol: Protocol,
) -> tuple[np.ndarray, np.ndarray]:
    """Match and accumulate.

    Args:
        sizes: int [P, 2], width and height of every photo.
        categories: how many there are.
        annotations, detections: both with masks for kind "mask".
        kind: "box" or "mask", whose overlap counts.
        protocol: area ranges and detection limits.

    Returns:
        precision [T, R, K, A, M] and recall [T, K, A, M] over the 10 IoU thresholds .50 ... .95,
        101 recall thresholds, categories, area ranges and detection limits; -1 where there is
        nothing to find.
    """
    if detections.area is None:
        detections = replace(detections, area=_mask_areas(detections.masks))
    images = [{"id": i, "width": w, "height": h} for i, (w, h) in enumerate(sizes.tolist())]
    names = [{"id": k, "name": str(k)} for k in range(1, categories + 1)]
    prepare = _prepare_pycocotools if hotcoco is None else _prepare_hotcoco
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools announces each of its steps
        evaluator = prepare(images, names, annotations, detections, IOU_TYPES[kind])
        evaluator.params.areaRngLbl = list(protocol.area_ranges)
        evaluator.params.areaRng = [list(limits) for limits in protocol.area_ranges.values()]
        evaluator.params.maxDets = list(protocol.max_detections)
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"], evaluator.eval["recall"]


def _mask_areas(masks: list[Rle]) -> np.ndarray:
    """float64 [N], pixels of each mask."""
    if hotcoco is not None and masks:
        return hotcoco.mask.area(masks).astype(np.float64)
    return np.array([coco_mask.area(mask) for mask in masks], np.float64)


def _prepare_hotcoco(
    images: list[dict],
    categories: list[dict],
    annotations: Columns,
    detections: Columns,
    iou_type: str,
) -> Any:
    truth = hotcoco.COCO.from_arrays(
        images,
        categories,
        annotations.image,
        annotations.category,
        annotations.box,
        area=annotations.area,
        iscrowd=annotations.extra,
        segmentation=annotations.masks,
    )
    columns = [detections.image, detections.box, detections.extra, detections.category]
    found = truth.load_res(np.column_stack(columns), segmentation=detections.masks)
    found.update_anns(ids=np.arange(1, len(detections.image) + 1), area=detections.area)
    return hotcoco.COCOeval(truth, found, iou_type)


def _prepare_pycocotools(
    images: list[dict],
    categories: list[dict],
    annotations: Columns,
    detections: Columns,
    iou_type: str,
) -> Any:
    def dataset(columns: Columns, name: str) -> COCO:
        coco = COCO()
        rows = zip(
            columns.image.tolist(),
            columns.category.tolist(),
            columns.box.tolist(),
            columns.area.tolist(),
            columns.extra.tolist(),
            columns.masks or [None] * len(columns.image),
            strict=True,
        )
        coco.dataset = {"images": images, "categories": categories, "annotations": [
            {"id": i, "image_id": image, "category_id": category, "bbox": box, "area": area,
             "iscrowd": 0, "segmentation": mask, name: extra}
            for i, (image, category, box, area, extra, mask) in enumerate(rows, start=1)
        ]}  # fmt: skip
        coco.createIndex()
        return coco

    return COCOeval(dataset(annotations, "iscrowd"), dataset(detections, "score"), iou_type)
