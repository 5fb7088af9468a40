"""Refines predicted masks along the edges in the photo, since 28x28 cells are coarse for a dress.

Guided filtering (He et al. 2010, "Guided Image Filtering"): within a small window the mask is a
linear function of the picture, so it changes where the picture does and is smooth elsewhere.
"""

from itertools import combinations_with_replacement

import cv2
import numpy as np

from engine.pixels.geometry import scaling, translation, warp

MARGIN = 1  # cells of the mask by which it may grow beyond its box
FINER = 4  # cells of the result per cell of the mask and side
RADIUS = 4  # of the window, in cells of the result
EPSILON = 1e-3  # variance of the picture (0..1) above which it counts as an edge


def follow_edges(
    roi_masks: np.ndarray, boxes: np.ndarray, picture: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Refine masks along edges, on a finer grid over slightly larger boxes.

    Args:
        roi_masks: f16 or f32 [N,M,M], probabilities.
        boxes: f32[N,4] xyxy in pixels of the picture, of positive size.
        picture: u8[H,W,3] RGB.

    Returns:
        The masks f32[N,K,K] with K = 4 * (M + 2), probabilities that may leave 0..1 by a few
        percent; and their boxes f32[N,4] xyxy.
    """
    cells = roi_masks.shape[-1]
    spare = (boxes[:, 2:] - boxes[:, :2]) * np.float32(MARGIN / cells)
    grown = np.concatenate((boxes[:, :2] - spare, boxes[:, 2:] + spare), axis=1)
    side = FINER * (cells + 2 * MARGIN)
    padded = np.pad(roi_masks, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN))).astype(np.float32)
    finer = np.zeros((len(padded), side, side), np.float32)
    for slot, mask, (x1, y1, x2, y2) in zip(finer, padded, grown.tolist(), strict=True):
        onto = scaling(side / (x2 - x1), side / (y2 - y1)) @ translation(-x1, -y1)
        seen = warp(picture, picture.shape[1::-1], onto, (side, side), None)
        coarse = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
        slot[:] = guided_filter(seen.astype(np.float32) / 255, coarse, RADIUS, EPSILON)
    return finer, grown


def guided_filter(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """The values f32[H,W] as locally linear functions of the guide (equations 19 to 21).

    Args:
        guide: f32[H,W,3], a picture.
        values: what to filter.
        radius: windows have 2*radius + 1 cells a side; the border is mirrored.
        epsilon: added to the guide's variances; larger is smoother.
    """

    def mean(plane: np.ndarray) -> np.ndarray:
        return cv2.blur(plane, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    planes = cv2.split(guide)
    centers, level = [mean(plane) for plane in planes], mean(values)
    shared = [mean(p * values) - c * level for p, c in zip(planes, centers, strict=True)]
    rr, rg, rb, gg, gb, bb = (
        mean(planes[i] * planes[j]) - centers[i] * centers[j] + epsilon * (i == j)
        for i, j in combinations_with_replacement(range(3), 2)
    )
    # The inverse of a symmetric 3x3 matrix at every cell, by cofactors.
    at_rr, at_gg, at_bb = gg * bb - gb * gb, rr * bb - rb * rb, rr * gg - rg * rg
    at_rg, at_rb, at_gb = rb * gb - rg * bb, rg * gb - rb * gg, rg * rb - rr * gb
    inverse = ((at_rr, at_rg, at_rb), (at_rg, at_gg, at_gb), (at_rb, at_gb, at_bb))
    determinant = rr * at_rr + rg * at_rg + rb * at_rb
    slopes = [
        (row[0] * shared[0] + row[1] * shared[1] + row[2] * shared[2]) / determinant
        for row in inverse
    ]
    offset = level - sum(s * c for s, c in zip(slopes, centers, strict=True))
    return sum(mean(s) * p for s, p in zip(slopes, planes, strict=True)) + mean(offset)
