"""One worn garment, one detection: what a detector finds under two categories is told once."""

from pycocotools import mask as coco_mask

from engine.detection.detections import Detections, to_xywh


def drop_duplicates(detections: Detections, overlap: float) -> Detections:
    """Leave out what covers the same pixels as a better detection, whatever the categories.

    Non-maximum suppression by the IoU of masks, not of boxes: a dress under an open coat shares the
    coat's box but few of its pixels. Boxes stand in where the detector has no masks.

    Args:
        detections: sorted by score, best first.
        overlap: 0..1; a detection goes when its IoU with a better one that stayed is larger.
    """
    shapes = to_xywh(detections.boxes) if detections.masks is None else detections.masks
    iou = coco_mask.iou(shapes, shapes, [0] * len(detections))
    kept: list[int] = []
    for index in range(len(detections)):
        if not (iou[index, kept] > overlap).any():
            kept.append(index)
    return detections.only(kept)
