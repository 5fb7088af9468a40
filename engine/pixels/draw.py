"""Draws garments over a photo: translucent masks, crisp outlines and tags that never overlap."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from engine.pixels.masks import RLE, decode_crop
from engine.pixels.tags import Color, Tag, draw_tags

FILL_OPACITY = 0.42
SMALLEST_LONG_SIDE = 960  # smaller photos are enlarged, since tags would hide much of them
LARGEST_LONG_SIDE = 1280
SMALLEST_SHORT_SIDE = 64  # narrower photos are padded, since no tag would fit
SUBPIXEL_BITS = 4  # OpenCV draws lines at 1/16 pixel


@lru_cache(maxsize=8)
def category_colors(count: int) -> list[Color]:
    """``count`` vivid RGB colors, each as far as possible from all before it.

    Greedy farthest-point selection in OKLab (https://bottosson.github.io/posts/oklab/), a
    perceptual space; differences in lightness count half, since shading changes it.
    The first k colors are the same for any ``count`` >= k.
    """
    levels = np.linspace(0, 255, 14)
    rgb = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    lab = _oklab(rgb)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    vivid = (lab[:, 0] > 0.62) & (lab[:, 0] < 0.9) & (chroma > 0.14) & (chroma < 0.26)
    rgb, lab = rgb[vivid], lab[vivid] * (0.5, 1, 1)
    chosen = [int(np.argmin(np.linalg.norm(rgb - (255, 60, 80), axis=1)))]
    distance = np.full(len(lab), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return [tuple(int(level) for level in rgb[index].round()) for index in chosen[:count]]


def _oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB f[N,3] in 0..255 -> OKLab f[N,3]."""
    unit = rgb / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )


def draw_garments(
    photo: np.ndarray,
    boxes: np.ndarray,
    masks: Sequence[RLE | None] | None,
    names: Sequence[str],
    scores: Sequence[float] | None = None,
    *,
    categories: Sequence[str],
    size: tuple[int, int],
) -> np.ndarray:
    """Draw each garment in its category's color with a tag "number name score".

    Args:
        photo: u8[H,W,3] RGB; not changed.
        boxes: f[N,4] xyxy, in pixels of ``size``.
        masks: RLE of each garment; where it is None, the box is drawn.
        names: category name of each garment.
        scores: 0..1 of each garment; None for annotations.
        categories: all categories of the dataset, in order, so that a category has the same color
            in each picture.
        size: (width, height) of the pixel grid of boxes and masks; larger than the photo if that
            was decoded at reduced size.

    Returns:
        u8[h,w,3] RGB, the whole photo at a size for viewing: large photos reduced, small ones
        enlarged, very narrow ones padded with gray at the bottom or right.
    """
    palette = dict(zip(categories, category_colors(len(categories)), strict=True))
    width, height = size
    longest = min(max(*photo.shape[:2], SMALLEST_LONG_SIDE), LARGEST_LONG_SIDE)
    scale = longest / max(width, height)
    canvas = _canvas(photo, round(width * scale), round(height * scale))
    contours = [_contours(mask) for mask in masks or [None] * len(names)]
    corners = _corners(np.asarray(boxes, np.float64).reshape(-1, 4))
    # OpenCV's coordinates start at pixel centers.
    outlines = [
        [part * scale - 0.5 for part in parts or [box]]
        for parts, box in zip(contours, corners, strict=True)
    ]
    shapes = [_fill(outline, canvas.shape) for outline in outlines]
    # Large garments first, so that a bag in front of a coat stays visible.
    for i in sorted(range(len(names)), key=lambda i: -int(np.count_nonzero(shapes[i][0]))):
        _paint(canvas, shapes[i], outlines[i], palette[names[i]], filled=bool(contours[i]))
    tags = []
    for i, name in enumerate(names):
        text = f"{i + 1} {name}" if scores is None else f"{i + 1} {name} {scores[i]:.0%}"
        tags.append(Tag(text, palette[name], _innermost_point(shapes[i]), shapes[i]))
    return draw_tags(canvas, tags)


def _canvas(photo: np.ndarray, width: int, height: int) -> np.ndarray:
    """The photo resized to (width, height) and padded if a side is too short for a tag."""
    width, height = max(width, 1), max(height, 1)
    shrinks = width * height < photo.shape[0] * photo.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    resized = cv2.resize(photo, (width, height), interpolation=method)
    below, right = max(SMALLEST_SHORT_SIDE - height, 0), max(SMALLEST_SHORT_SIDE - width, 0)
    gray = (128, 128, 128)
    return cv2.copyMakeBorder(resized, 0, below, 0, right, cv2.BORDER_CONSTANT, value=gray)


def _corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes f64[N,4] xyxy -> their corners in drawing order, f64[N,4,2] xy."""
    return boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]


def _contours(mask: RLE | None) -> list[np.ndarray]:
    """Outlines and holes of a mask, each f64[K,2] xy in photo pixels; none for an empty mask."""
    if mask is None:
        return []
    crop, x0, y0 = decode_crop(mask)
    if crop.size == 0:
        return []
    contours, _ = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [contour[:, 0] + (x0 + 0.5, y0 + 0.5) for contour in contours]


def _fixed_point(outline: list[np.ndarray], offset: tuple[int, int] = (0, 0)) -> list[np.ndarray]:
    return [((part - offset) * (1 << SUBPIXEL_BITS)).round().astype(np.int32) for part in outline]


def _fill(outline: list[np.ndarray], frame: tuple[int, ...]) -> tuple[np.ndarray, int, int]:
    """Coverage of the canvas by the outline: u8[h,w] (255 inside), x0, y0; holes are left out."""
    points = np.concatenate(outline)
    limit = np.array(frame[1::-1])
    low = np.clip(np.floor(points.min(axis=0)).astype(int), 0, limit - 1)
    high = np.clip(np.ceil(points.max(axis=0)).astype(int) + 1, low + 1, limit)
    coverage = np.zeros((high - low)[::-1], np.uint8)
    cv2.fillPoly(coverage, _fixed_point(outline, tuple(low)), 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return coverage, int(low[0]), int(low[1])


def _paint(
    canvas: np.ndarray,
    shape: tuple[np.ndarray, int, int],
    outline: list[np.ndarray],
    color: Color,
    *,
    filled: bool,
) -> None:
    """Blend the color over the garment and draw its outline, a bright line on a dark one."""
    coverage, x0, y0 = shape
    if filled:
        window = canvas[y0 : y0 + coverage.shape[0], x0 : x0 + coverage.shape[1]]
        weight = coverage[..., None] * np.float32(FILL_OPACITY / 255)
        window[:] = window + (np.float32(color) - window) * weight
    thickness = max(2, round(np.sqrt(canvas.shape[0] * canvas.shape[1]) / 450))
    parts = _fixed_point(outline)
    for ink, width in (((0, 0, 0), thickness + 2), (color, thickness)):
        cv2.polylines(canvas, parts, True, ink, width, cv2.LINE_AA, SUBPIXEL_BITS)


def _innermost_point(shape: tuple[np.ndarray, int, int]) -> tuple[float, float]:
    """The canvas point (x, y) farthest from the garment's edge."""
    coverage, x0, y0 = shape
    framed = cv2.copyMakeBorder((coverage > 127).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(x0 + x), float(y0 + y)
