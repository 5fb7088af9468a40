"""COCO's matching of detections to annotations, by hotcoco.

It gives the same arrays as pycocotools, 30 to 100 times faster.
"""

from dataclasses import dataclass

import hotcoco
import numpy as np

from engine.evaluation.coco_columns import Columns

IOU_TYPES = {"box": "bbox", "mask": "segm"}


@dataclass(frozen=True)
class Protocol:
    """Area ranges (name -> pixels) and detection limits per photo to measure AP and AR for."""

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
    """Match detections to annotations and accumulate precision and recall.

    Args:
        sizes: int [P, 2], width and height of every photo.
        categories: the number of categories.
        annotations, detections: both with masks for kind "mask".
        kind: "box" or "mask", which IoU is used.
        protocol: area ranges and detection limits.

    Returns:
        precision [T, R, K, A, M] and recall [T, K, A, M] over the 10 IoU thresholds .50 ... .95,
        101 recall thresholds, categories, area ranges and detection limits; -1 where there is
        nothing to find.
    """
    area = detections.area
    if area is None:
        area = np.array(hotcoco.mask.area(detections.masks or []), np.float64)
    images = [{"id": i, "width": w, "height": h} for i, (w, h) in enumerate(sizes.tolist())]
    truth = hotcoco.COCO.from_arrays(
        images,
        [{"id": k, "name": str(k)} for k in range(1, categories + 1)],
        annotations.image,
        annotations.category,
        annotations.box,
        area=annotations.area,
        iscrowd=annotations.extra,
        segmentation=annotations.masks,
    )
    columns = [detections.image, detections.box, detections.extra, detections.category]
    found = truth.load_res(np.column_stack(columns), segmentation=detections.masks)
    found.update_anns(ids=np.arange(1, len(detections.image) + 1), area=area)
    evaluator = hotcoco.COCOeval(truth, found, IOU_TYPES[kind])
    evaluator.params.areaRngLbl = list(protocol.area_ranges)
    evaluator.params.areaRng = [list(limits) for limits in protocol.area_ranges.values()]
    evaluator.params.maxDets = list(protocol.max_detections)
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator.eval["precision"], evaluator.eval["recall"]
