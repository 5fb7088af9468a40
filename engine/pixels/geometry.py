"""Geometry of photos: sizes, boxes, affine maps, and resampling by them.

A map is a matrix f64[3,3] on columns (x, y, 1). Coordinates are pixels with (0, 0) the photo's
corner, so the center of the first pixel is (0.5, 0.5), and scaling a photo from width W to w maps x
to x * w / W. ``full_size`` is the size (width, height) that maps and annotations refer to; the
decoded photo may be smaller by an integer factor (``engine.pixels.photos.read_photo``).
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch

Size = tuple[int, int]
Fill = tuple[int, int, int]


def detector_size(width: int, height: int, short_side: int, max_side: int) -> Size:
    """(width, height) at which the detector sees a photo.

    The short side becomes ``short_side`` unless that would make the long one exceed ``max_side``.
    """
    scale = min(short_side / min(width, height), max_side / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def resize(photo: np.ndarray, full_size: Size, size: Size) -> np.ndarray:
    """Resize a photo, decoded at ``full_size`` or an integer fraction of it, to u8[h,w,3].

    Blocks are averaged until the photo is less than twice too large; the rest is bilinear.
    """
    small, factor = shrink(photo, full_size, max(size[0] / full_size[0], size[1] / full_size[1]))
    if full_size[0] % factor or full_size[1] % factor:
        # The last blocks extend past the photo's edge, which OpenCV's resize cannot handle.
        return warp(photo, full_size, stretching(full_size, size), size, None)
    return cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)


def place(
    photo: np.ndarray, full_size: Size, matrix: np.ndarray, size: Size, fill: Fill
) -> np.ndarray:
    """Warp a photo into a picture by an affine map, resampling it once.

    Maps that only scale and mirror onto whole pixels use ``resize``, all others ``warp``, which is
    several times slower. Both give the same pixel values within 1.

    Args:
        photo: u8[H,W,3].
        full_size: (width, height) that ``matrix`` maps from.
        matrix: f64[3,3].
        size: (width, height) of the picture.
        fill: color of the pixels that the photo does not cover.

    Returns:
        u8[h,w,3].
    """
    stretched = _stretched_box(matrix, full_size)
    if stretched is None:
        return warp(photo, full_size, matrix, size, fill)
    x1, y1, x2, y2 = stretched
    mirrored = matrix[0, 0] < 0
    # Mirror the smaller picture: before enlarging, after shrinking. (A photo decoded at a fraction
    # of its size may end in an incomplete block, which must stay on the right.)
    early = photo.shape[1::-1] == full_size and x2 - x1 > full_size[0]
    if mirrored and early:
        photo = cv2.flip(photo, 1)
    whole = resize(photo, full_size, (x2 - x1, y2 - y1))
    if mirrored and not early:
        whole = cv2.flip(whole, 1)
    if stretched == (0, 0, *size):
        return whole
    left, top, right, bottom = whole_pixels(stretched, size)
    canvas = np.full((size[1], size[0], 3), fill, np.uint8)
    canvas[top:bottom, left:right] = whole[top - y1 : bottom - y1, left - x1 : right - x1]
    return canvas


def _stretched_box(matrix: np.ndarray, full_size: Size) -> tuple[int, ...] | None:
    """The box xyxy that the photo is mapped to; None if rotated or not in whole pixels."""
    if matrix[0, 1] != 0 or matrix[1, 0] != 0 or matrix[1, 1] < 0:
        return None
    box = move_box((0, 0, *full_size), matrix)
    if np.abs(box - box.round()).max() > 1e-6:
        return None
    return tuple(box.round().astype(int).tolist())


def warp(
    photo: np.ndarray, full_size: Size, matrix: np.ndarray, size: Size, fill: Fill | None
) -> np.ndarray:
    """``place`` for any affine map; without a fill color the edge pixels are repeated."""
    photo, factor = shrink(photo, full_size, map_scale(matrix))
    # OpenCV's coordinates start at pixel centers, in both pictures.
    matrix = translation(-0.5, -0.5) @ matrix @ scaling(factor, factor) @ translation(0.5, 0.5)
    border = cv2.BORDER_REPLICATE if fill is None else cv2.BORDER_CONSTANT
    return cv2.warpAffine(
        photo, matrix[:2], size, flags=cv2.INTER_LINEAR, borderMode=border, borderValue=fill or 0
    )


def shrink(photo: np.ndarray, full_size: Size, scale: float) -> tuple[np.ndarray, int]:
    """Average blocks, but keep at least ``scale`` times the full size.

    Returns the photo u8[h,w,3] and the integer factor by which it is smaller than ``full_size``.
    """
    factor = decode_factor(photo, full_size)
    block = math.floor(1 / (scale * factor) + 1e-6)
    if block <= 1:
        return photo, factor
    height, width = photo.shape[:2]
    below, right = -height % block, -width % block
    if below or right:
        photo = cv2.copyMakeBorder(photo, 0, below, 0, right, cv2.BORDER_REPLICATE)
    small = (photo.shape[1] // block, photo.shape[0] // block)
    return cv2.resize(photo, small, interpolation=cv2.INTER_AREA), factor * block


def decode_factor(photo: np.ndarray, full_size: Size) -> int:
    """The integer factor by which a photo [H,W,3] was decoded smaller than ``full_size``.

    From the longer side, where rounding matters least.
    """
    return max(round(max(full_size) / max(photo.shape[:2])), 1)


def cut_box(photo: np.ndarray, box: Sequence[float] | np.ndarray, full_size: Size) -> np.ndarray:
    """The pixels of a box, at least one, as a view.

    Args:
        photo: u8[H,W,3], possibly decoded at an integer fraction of its size.
        box: xyxy in pixels of the full photo; rounded outward, cut at the photo's edge.
        full_size: (width, height) of the full photo.
    """
    height, width = photo.shape[:2]
    corners = np.nan_to_num(np.asarray(box, np.float64)) / decode_factor(photo, full_size)
    x1, y1 = np.floor(corners[:2]).clip(0, (width - 1, height - 1)).astype(int)
    x2, y2 = np.ceil(corners[2:]).clip((x1 + 1, y1 + 1), (width, height)).astype(int)
    return photo[y1:y2, x1:x2]


def shrink_to(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture u8[H,W,3], its longer side reduced to at most ``side`` pixels; contiguous."""
    height, width = picture.shape[:2]
    factor = min(side / max(height, width), 1)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    return np.ascontiguousarray(resize(np.ascontiguousarray(picture), (width, height), size))


def translation(x: float, y: float) -> np.ndarray:
    """Map that shifts by (x, y) pixels."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def scaling(x: float, y: float) -> np.ndarray:
    """Map that multiplies by (x, y) about the corner (0, 0)."""
    return np.diag([x, y, 1.0])


def stretching(full_size: Size, size: Size) -> np.ndarray:
    """Map of a photo of one (width, height) onto all of another."""
    return scaling(size[0] / full_size[0], size[1] / full_size[1])


def rotation(degrees: float) -> np.ndarray:
    """Map that turns about (0, 0), clockwise as seen in a picture (y points down)."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def shearing(degrees: float) -> np.ndarray:
    """Map that tilts vertical lines by an angle and keeps the line y = 0."""
    return np.array([[1.0, math.tan(math.radians(degrees)), 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def mirroring(width: float) -> np.ndarray:
    """Map that mirrors a picture ``width`` pixels wide left to right."""
    return np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def about(matrix: np.ndarray, x: float, y: float) -> np.ndarray:
    """The same map applied about the point (x, y) instead of (0, 0)."""
    return translation(x, y) @ matrix @ translation(-x, -y)


def map_scale(matrix: np.ndarray) -> float:
    """Mean factor by which a map scales lengths: the square root of its area factor."""
    return math.sqrt(abs(np.linalg.det(matrix[:2, :2])))


def move_box(box: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Smallest axis-parallel box around a box xyxy after a map: f64[4] xyxy."""
    x1, y1, x2, y2 = box
    corners = matrix[:2] @ np.array([[x1, x2, x1, x2], [y1, y1, y2, y2], [1.0, 1.0, 1.0, 1.0]])
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)])


def whole_pixels(box: np.ndarray, size: Size) -> tuple[int, int, int, int]:
    """The pixels of a picture that a box touches: x1, y1, x2, y2; empty if x2 <= x1 or y2 <= y1."""
    x1, y1 = (max(math.floor(value), 0) for value in box[:2])
    x2, y2 = (min(math.ceil(value), limit) for value, limit in zip(box[2:], size, strict=True))
    return x1, y1, x2, y2


def channels_first(picture: np.ndarray) -> torch.Tensor:
    """u8[H,W,3] -> u8[3,H,W], a copy."""
    planes = np.empty((3, *picture.shape[:2]), np.uint8)
    cv2.split(picture, list(planes))  # several times faster than numpy's transpose
    return torch.from_numpy(planes)
