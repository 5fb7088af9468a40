"""Garment shapes as outlines: transformed as geometry and rasterized once, at the final size.

An outline is a list of parts whose union is the shape. A part is f64[2,2,S], indexed by axis (x or
y), end (start or end) and line segment. Its segments form closed rings, in any order; their inside
is defined by the even-odd rule. Coordinates are pixels, (0, 0) the photo's corner.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from engine.pixels.masks import fill_flips, read_counts

Outline = list[np.ndarray]


def outline_of(segmentation: Sequence[np.ndarray] | Mapping) -> Outline:
    """Outline of polygons (each f[K,2]) or of a compressed RLE, in pixels of the photo."""
    if isinstance(segmentation, Mapping):
        return [_pixel_border(segmentation)]
    rings = [np.asarray(ring, np.float64).T for ring in segmentation if len(ring) >= 3]
    return [np.stack([ring, np.roll(ring, -1, axis=1)], axis=1) for ring in rings]


def _pixel_border(rle: Mapping) -> np.ndarray:
    """The edges between the pixels of an RLE and the background: f64[2,2,S].

    Computed from the runs, so that the time depends on the garment's width rather than its area.
    """
    column, top, bottom = _column_runs(rle)
    # Vertical edges: sorted together, the run ends of two neighboring columns pair up to the rows
    # that are inside in only one of the columns.
    stride = rle["size"][0] + 1
    left, right = column * stride, (column + 1) * stride
    ends = np.sort(np.concatenate([left + top, left + bottom, right + top, right + bottom]))
    x, y = np.divmod(ends, stride)
    upright = np.array([(x[::2], x[::2]), (y[::2], y[1::2])])
    upper = np.array([(column, column + 1), (top, top)])
    lower = np.array([(column, column + 1), (bottom, bottom)])
    return np.concatenate([upright, upper, lower], axis=2).astype(np.float64)


def _column_runs(rle: Mapping) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of an RLE, split by column: column, first row, row after the last; i64[R] each."""
    height = rle["size"][0]
    flips = np.cumsum(read_counts(rle["counts"]))
    start, end = flips[: len(flips) // 2 * 2].reshape(-1, 2).T
    start, end = start[start < end], end[start < end]  # other encoders write empty runs
    first, last = start // height, (end - 1) // height
    pieces = last - first + 1
    run = np.repeat(np.arange(len(start)), pieces)
    column = np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces - first, pieces)
    top = np.maximum(start[run] - column * height, 0)
    bottom = np.minimum(end[run] - column * height, height)
    return column, top, bottom


def bounds(outline: Outline) -> np.ndarray:
    """Smallest box around an outline: f64[4] xyxy. The outline must have a segment."""
    points = np.concatenate([part.reshape(2, -1) for part in outline], axis=1)
    return np.concatenate([points.min(axis=1), points.max(axis=1)])


def move(outline: Outline, matrix: np.ndarray) -> Outline:
    """Apply an affine map, f64[3,3] on columns (x, y, 1), to an outline."""
    linear, shift = matrix[:2, :2], matrix[:2, 2:]
    return [(linear @ part.reshape(2, -1) + shift).reshape(part.shape) for part in outline]


def rasterize(outline: Outline, box: Sequence[int]) -> np.ndarray:
    """The pixels of a box whose centers lie inside an outline.

    Agrees with pycocotools except for its rounding of polygons to a fifth of a pixel. (OpenCV's
    ``fillPoly`` also fills every pixel that the outline touches, half a pixel too much all around.)

    Args:
        outline: may extend outside the box.
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
        # times, so if it is filled at its end, the last flip is at the start of the next row.
        columns = np.maximum(np.minimum(np.ceil(xs - 0.5), width), 0).astype(np.int64)
        bitmap |= fill_flips(np.sort(rows * width + columns), height * width)
    return bitmap.reshape(height, width)


def _row_crossings(part: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Where segments cross the center lines of rows 0..height-1: rows i64[C], x f64[C]."""
    (x, end_x), (y, end_y) = part
    # Half-open in y, so that a corner on a center line counts for one of its two segments only.
    # (np.minimum and np.maximum rather than np.clip, whose overhead is that of ten such calls.)
    start, end = (np.maximum(np.minimum(np.ceil(rows - 0.5), height), 0) for rows in (y, end_y))
    first = np.minimum(start, end).astype(np.int64)
    count = np.abs(end - start).astype(np.int64)
    rise = end_y - y
    slope = (end_x - x) / np.where(rise == 0, 1, rise)  # horizontal segments have no crossing
    segment = np.repeat(np.arange(len(count)), count)
    rows = np.arange(len(segment)) + np.repeat(first - (np.cumsum(count) - count), count)
    return rows, x[segment] + (rows + 0.5 - y[segment]) * slope[segment]
