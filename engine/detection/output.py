"""Post-processing: from the network's raw output to detections in the photo's own pixels."""

import numpy as np
from pycocotools import mask as coco_mask

from engine.detection.detections import Detections
from engine.pixels.follow_edges import follow_edges
from engine.pixels.masks import RLE, mask_certainty, paste_to_rles


def read_output(
    output: dict[str, np.ndarray],
    picture: np.ndarray,
    full_size: tuple[int, int],
    score_threshold: float,
    part: np.ndarray | None = None,
) -> Detections:
    """The garments, clipped to the photo, best score first.

    A score is the category's probability times the square root of the mask's certainty, since
    detections with uncertain masks are less often correct. Masks are refined along the
    picture's edges. A box is the mean of the box head's prediction and the mask's bounding box.

    Args:
        output: boxes f32[N,4] xyxy in pixels of the picture, scores f32[N], labels i64[N],
            optionally probabilities f32[N,C] and roi_masks f16[N,M,M].
        picture: u8[h,w,3] RGB, the network's input.
        full_size: (width, height) of the photo.
        score_threshold: garments with a lower score are left out.
        part: f64[4] xyxy in pixels of the photo, what the picture shows of it; None: all.
    """
    width, height = full_size
    left, top, right, bottom = (0, 0, width, height) if part is None else part
    size = picture.shape[1], picture.shape[0]
    scale = np.array([(right - left) / size[0], (bottom - top) / size[1]] * 2, np.float32)
    origin = np.array([left, top] * 2, np.float32)
    limit = np.array([width, height] * 2, np.float32)
    boxes = (output["boxes"].astype(np.float32) * scale + origin).clip(0, limit)
    scores = output["scores"].astype(np.float32)
    if "roi_masks" in output:
        scores = scores * np.sqrt(mask_certainty(output["roi_masks"]))
    # A diverged model outputs NaN boxes, which these comparisons drop as well.
    good = (scores >= score_threshold) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    order = np.flatnonzero(good)
    order = order[np.argsort(-scores[order], kind="stable")]
    boxes, masks = boxes[order], None
    if "roi_masks" in output:
        finer, grown = follow_edges(output["roi_masks"][order], (boxes - origin) / scale, picture)
        masks = paste_to_rles(finer, grown * scale + origin, height, width)
        boxes = _averaged_with_masks(boxes, masks)
    labels = output["labels"][order].astype(np.int64)
    probabilities = output.get("probabilities")
    probabilities = None if probabilities is None else probabilities[order].astype(np.float32)
    return Detections(width, height, boxes, scores[order], labels, masks, probabilities)


def _averaged_with_masks(boxes: np.ndarray, masks: list[RLE]) -> np.ndarray:
    """The mean of each box f32[N,4] and its mask's bounding box; the box if the mask is empty."""
    bounds = coco_mask.toBbox(masks).astype(np.float32) if masks else np.zeros_like(boxes)
    seen = bounds[:, 2:].all(axis=1, keepdims=True)
    bounds[:, 2:] += bounds[:, :2]
    return np.where(seen, (boxes + bounds) / 2, boxes)
