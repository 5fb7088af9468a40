"""Removes duplicates: one garment detected under several categories is reported once."""

from pycocotools import mask as coco_mask

from engine.detection.detections import Detections, to_xywh


def drop_duplicates(detections: Detections, overlap: float) -> Detections:
    """Non-maximum suppression across categories.

    By the IoU of masks, not of boxes: a dress under an open coat shares the coat's box but few of
    its pixels. Without masks, by boxes.

    Args:
        detections: sorted by score, best first.
        overlap: 0..1; a detection is dropped if its IoU with a better, kept one is larger.
    """
    shapes = to_xywh(detections.boxes) if detections.masks is None else detections.masks
    iou = coco_mask.iou(shapes, shapes, [0] * len(detections))
    kept: list[int] = []
    for index in range(len(detections)):
        if not (iou[index, kept] > overlap).any():
            kept.append(index)
    return detections.only(kept)
