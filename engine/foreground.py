"""Where the garment of a crop is when no mask says so: studio backgrounds are told from garments.

A crop's mask is either the garment's outline or, where nobody knows it, the rectangle that the
photo covers. Colors and outlines need better than a rectangle: a shop's photo is mostly backdrop.
"""

from dataclasses import dataclass

import cv2
import numpy as np

RECTANGLE = 0.97  # a mask that fills so much of its bounding box is taken for no outline
WORK_SIZE = 96  # px; outlines of backdrops are found at this size
BACKDROP_STEP = (3, 3, 3)  # largest difference of neighbors of a backdrop, cv2's 8-bit Lab
BACKDROP_SPREAD = 24.0  # a border pixel farther than this from the border's median is not backdrop
BACKDROP_BORDER = 0.5  # of the border at least, or there is no backdrop
CENTER_SPREAD = 0.25  # without any outline: standard deviation of the weights, in crop sizes


@dataclass(slots=True)
class Foreground:
    """Where the garment is.

    Attributes:
        weights: f32[S,S] in 0..1.
        outlined: whether the weights follow an outline; else they only favor the center.
    """

    weights: np.ndarray
    outlined: bool


def find_foreground(crop: np.ndarray, mask: np.ndarray | None) -> Foreground:
    """
    Args:
        crop: u8[S,S,3] RGB.
        mask: u8[S,S], 0..255: the garment, or the part of the crop that the photo covers, or None
            for all of it.
    """
    height, width = crop.shape[:2]
    if mask is None:
        mask = np.full((height, width), 255, np.uint8)
    x, y, w, h = cv2.boundingRect(mask)
    if w == 0:  # an empty mask says nothing
        return find_foreground(crop, None)
    if mask.sum(dtype=np.int64) < RECTANGLE * 255 * w * h:
        return Foreground(mask.astype(np.float32) / 255, True)
    weights = np.zeros((height, width), np.float32)
    inside = _not_backdrop(crop[y : y + h, x : x + w])
    outlined = inside is not None
    weights[y : y + h, x : x + w] = inside if outlined else _center(h, w)
    return Foreground(weights, outlined)


def _not_backdrop(photo: np.ndarray) -> np.ndarray | None:
    """What a flood from the border does not reach: f32[H,W] of 0..1, None without a backdrop.

    The flood follows gradients, as backdrops have them, and starts wherever the border is of the
    border's commonest color, so that legs and sleeves may leave the photo.
    """
    factor = min(WORK_SIZE / max(photo.shape[:2]), 1)
    size = [max(round(side * factor), 8) for side in photo.shape[1::-1]]
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2Lab)
    border = _border(size)
    colors = lab[border[:, 1], border[:, 0]].astype(np.float32)
    near = np.linalg.norm(colors - np.median(colors, axis=0), axis=1) < BACKDROP_SPREAD
    if near.mean() < BACKDROP_BORDER:
        return None
    reached = np.zeros((size[1] + 2, size[0] + 2), np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | (255 << 8)
    for x, y in border[near].tolist():
        if not reached[y + 1, x + 1]:
            cv2.floodFill(lab, reached, (x, y), 0, BACKDROP_STEP, BACKDROP_STEP, flags)
    inside = cv2.morphologyEx(255 - reached[1:-1, 1:-1], cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    if not 0.04 < inside.mean() / 255 < 0.95:
        return None
    grown = cv2.resize(inside, photo.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return grown.astype(np.float32) / 255


def _border(size: list[int]) -> np.ndarray:
    """(x, y) of the pixels along the edges: i64[N,2]."""
    edges = np.zeros(size[::-1], bool)
    edges[[0, -1]] = edges[:, [0, -1]] = True
    return np.argwhere(edges)[:, ::-1]


def _center(height: int, width: int) -> np.ndarray:
    """A bell in the middle: f32[H,W]."""
    rows, columns = (
        np.exp(-0.5 * ((np.arange(n) + 0.5 - n / 2) / (CENTER_SPREAD * n)) ** 2)
        for n in (height, width)
    )
    return np.outer(rows, columns).astype(np.float32)
