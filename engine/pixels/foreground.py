"""Estimates which pixels of a crop are the garment, also without a mask of the garment.

A crop's mask is either the garment's outline or, if that is unknown, the rectangle that the photo
covers. Colors and outlines need more than a rectangle: most of a shop photo is background.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from engine.pixels.studio import studio_mask

RECTANGLE = 0.97  # share of its bounding box from which a mask is not taken for an outline
MIDDLE = 0.35  # smallest share of the photo's middle that a studio outline must cover
CENTER_SPREAD = 0.2  # without an outline: standard deviation of the weights / size of the photo


@dataclass(slots=True)
class Foreground:
    """Where the garment is.

    Attributes:
        weights: f32[S,S] in 0..1, how much each pixel counts for the garment's colors.
        outline: f32[S,S] in 0..1, 1 on the garment; None if its outline is unknown.
    """

    weights: np.ndarray
    outline: np.ndarray | None


def find_foreground(crop: np.ndarray, mask: np.ndarray | None) -> Foreground:
    """The garment's mask if there is one, else a studio outline, else a bell around the middle.

    Args:
        crop: u8[S,S,3] RGB.
        mask: u8[S,S], 0..255: the garment, or the part of the crop that the photo covers, or None
            for all of it.
    """
    if mask is None or not mask.any():  # an empty mask counts as none
        mask = np.full(crop.shape[:2], 255, np.uint8)
    x, y, w, h = cv2.boundingRect(cv2.inRange(mask, 250, 255))  # without blended edges
    if mask[y : y + h, x : x + w].sum(dtype=np.int64) < RECTANGLE * 255 * w * h or not w * h:
        weights = mask.astype(np.float32) / 255
        return Foreground(weights, weights)
    window = slice(y, y + h), slice(x, x + w)
    weights, outline = np.zeros((2, *crop.shape[:2]), np.float32)
    weights[window] = _center(h, w)  # the wearer's head, legs and hands are near the border
    inside = _outline(crop[window])
    if inside is None:
        return Foreground(weights, None)
    outline[window] = inside
    return Foreground(weights * outline, outline)


def _outline(photo: np.ndarray) -> np.ndarray | None:
    """Studio outline f32[H,W] in 0..1; None if there is none or it does not cover the middle."""
    mask = studio_mask(photo)
    if mask is None:
        return None
    middle = _center(*mask.shape)
    # In a close-up the garment itself may fill most of the border and be taken for background.
    if (mask * middle).sum() < MIDDLE * 255 * middle.sum():
        return None
    return mask.astype(np.float32) / 255


def _center(height: int, width: int) -> np.ndarray:
    """A Gaussian around the middle, at most 1: f32[H,W]."""
    rows, columns = (
        np.exp(-0.5 * ((np.arange(n) + 0.5 - n / 2) / (CENTER_SPREAD * n)) ** 2)
        for n in (height, width)
    )
    return np.outer(rows, columns).astype(np.float32)
