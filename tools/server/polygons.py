"""Masks as polygons for the page: few corners, visually close to the mask."""

import cv2
import numpy as np

from engine.pixels.masks import RLE, decode_crop

TOLERANCE = 0.004  # of the garment's longer side, between the smoothed border and the polygon
SMOOTHING = 0.006  # of the longer side: a detector's masks are coarse and show steps if enlarged
SMALLEST = 0.002  # of the mask's area; smaller specks and holes are left out


def to_polygons(rle: RLE) -> list[list[list[float]]]:
    """Rings of x, y in pixels of the photo, largest first; the inside follows the even-odd rule.

    Empty for an empty mask, or one too small to draw.
    """
    crop, x0, y0 = decode_crop(rle)
    longest = 2 * max(crop.shape)
    # Enlarged twofold, so that contours, which run through pixel centers, follow the border.
    border = 3 + round(3 * SMOOTHING * longest)
    large = np.pad(crop * np.uint8(255), border).repeat(2, axis=0).repeat(2, axis=1)
    smooth = cv2.GaussianBlur(large, (0, 0), max(SMOOTHING * longest, 1.5)) > 127
    contours, _ = cv2.findContours(smooth.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    least = SMALLEST * 4 * int(crop.sum())
    rings = [
        cv2.approxPolyDP(contour, max(TOLERANCE * longest, 1.5), closed=True)[:, 0]
        for contour in sorted(contours, key=cv2.contourArea, reverse=True)
        if cv2.contourArea(contour) >= least
    ]
    moved = [(ring + 0.5) / 2 - border + (x0, y0) for ring in rings if len(ring) >= 3]
    return [ring.round(1).tolist() for ring in moved]


def box_polygon(box: np.ndarray) -> list[list[list[float]]]:
    """The ring of an xyxy box."""
    x1, y1, x2, y2 = (round(float(value), 1) for value in box)
    return [[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]]
