"""Garment shapes as outlines: moved as geometry, rasterized once at the size they are needed.

An outline is a list of parts whose union is the shape. A part is f64[2,2,S], indexed by axis (x or
y), end (start or end) and line segment. Its segments come in any order but close up to rings; what
they enclose by the even-odd rule is inside. Coordinates are pixels, (0, 0) the photo's corner.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from engine.masks import decode_crop, fill_flips

Outline = list[np.ndarray]

# Line segments through a cell whose corners are four pixel centers, by which of them are inside
# (1 top left, 2 top right, 4 bottom left, 8 bottom right). Diagonal pairs (6, 9) need two.
# As arrays: [axis, end, kind].
_TOP, _RIGHT, _BOTTOM, _LEFT = (0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)
_NONE = (_TOP, _TOP)
_CELL_SEGMENTS = np.array(
    [
        _NONE,
        (_TOP, _LEFT),
        (_TOP, _RIGHT),
        (_LEFT, _RIGHT),
        (_LEFT, _BOTTOM),
        (_TOP, _BOTTOM),
        (_TOP, _RIGHT),
        (_RIGHT, _BOTTOM),
        (_RIGHT, _BOTTOM),
        (_TOP, _LEFT),
        (_TOP, _BOTTOM),
        (_LEFT, _BOTTOM),
        (_LEFT, _RIGHT),
        (_TOP, _RIGHT),
        (_TOP, _LEFT),
        _NONE,
    ]
).transpose(2, 1, 0)
_SECOND_SEGMENTS = {
    6: np.array((_LEFT, _BOTTOM)).T[:, :, None],
    9: np.array((_RIGHT, _BOTTOM)).T[:, :, None],
}


def outline_of(segmentation: Sequence[np.ndarray] | Mapping) -> Outline:
    """Outline of polygons (each f[K,2]) or of a compressed RLE, in pixels of the photo."""
    if isinstance(segmentation, Mapping):
        return [trace(*decode_crop(segmentation))]
    rings = [np.asarray(ring, np.float64).T for ring in segmentation if len(ring) >= 3]
    return [np.stack([ring, np.roll(ring, -1, axis=1)], axis=1) for ring in rings]


def trace(crop: np.ndarray, x0: int, y0: int) -> np.ndarray:
    """Outline part of a bitmap: u8[h,w] of 0 and 1 at pixel (x0, y0) -> f64[2,2,S].

    Marching squares (Lorensen and Cline 1987, in two dimensions) between the pixel centers: the
    line on which the bilinearly interpolated bitmap is one half. Rasterizing the moved outline
    therefore gives what warping the bitmap with interpolation and a threshold would, at the cost of
    the perimeter rather than of the area.
    """
    padded = cv2.copyMakeBorder(crop, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    columns = padded[:-1] + (padded[1:] << 2)
    cells = (columns[:, :-1] + (columns[:, 1:] << 1)).ravel()
    edge = np.flatnonzero(cells - np.uint8(1) < 14)  # unsigned: 0 wraps round to 255
    kind = cells[edge]
    # Cell (0, 0) lies between the centers of padded pixels (0, 0) and (1, 1).
    rows, cols = np.divmod(edge, columns.shape[1] - 1)
    corners = np.stack([cols + (x0 - 0.5), rows + (y0 - 0.5)])[:, None]
    segments = [corners + _CELL_SEGMENTS[:, :, kind]]
    for code, second in _SECOND_SEGMENTS.items():
        segments.append(corners[:, :, kind == code] + second)
    return np.concatenate(segments, axis=2)


def bounds(outline: Outline) -> np.ndarray:
    """Smallest box around an outline: f64[4] xyxy. The outline must have a segment."""
    points = np.concatenate([part.reshape(2, -1) for part in outline], axis=1)
    return np.concatenate([points.min(axis=1), points.max(axis=1)])


def move(outline: Outline, matrix: np.ndarray) -> Outline:
    """The outline under an affine map, f64[3,3] on columns (x, y, 1)."""
    linear, shift = matrix[:2, :2], matrix[:2, 2:]
    return [(linear @ part.reshape(2, -1) + shift).reshape(part.shape) for part in outline]


def rasterize(outline: Outline, box: Sequence[int]) -> np.ndarray:
    """The pixels of a box whose centers lie inside an outline.

    Agrees with pycocotools up to its rounding of polygons to a fifth of a pixel. (OpenCV's
    ``fillPoly`` also fills every pixel that an outline touches: half a pixel too large all round.)

    Args:
        outline: may reach outside the box.
        box: x1, y1, x2, y2 in whole pixels.

    Returns:
        u8[y2-y1, x2-x1] of 0 and 1.
    """
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    bitmap = np.zeros(height * width, np.uint8)
    for part in outline:
        rows, xs = _row_crossings(part - np.array([x1, y1])[:, None, None], height)
        # The first pixel whose center is past the crossing. A row is crossed an even number of
        # times, so one that is still filled at its end flips back at the next one's start.
        columns = np.ceil(xs - 0.5).clip(0, width).astype(np.int64)
        bitmap |= fill_flips(np.sort(rows * width + columns), height * width)
    return bitmap.reshape(height, width)


def _row_crossings(part: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Where segments cross the center lines of rows 0..height-1: rows i64[C], x f64[C]."""
    (x, end_x), (y, end_y) = part
    # Half-open in y: a corner on a center line counts for exactly one of the two that meet there.
    first = np.ceil(np.minimum(y, end_y) - 0.5).clip(0, height).astype(np.int64)
    last = np.ceil(np.maximum(y, end_y) - 0.5).clip(0, height).astype(np.int64)
    count = last - first
    rise = end_y - y
    slope = (end_x - x) / np.where(rise == 0, 1, rise)  # level segments cross nothing
    segment = np.repeat(np.arange(len(count)), count)
    rows = np.arange(len(segment)) + np.repeat(first - (np.cumsum(count) - count), count)
    return rows, x[segment] + (rows + 0.5 - y[segment]) * slope[segment]
