"""Crops of single garments, the input of the multitask model in training and inference.

A crop is a square around the garment's box, grown by a margin and scaled to the model's size;
outside the photo it is filled with ``FILL``. Its mask covers the garment or, if that is unknown,
the part inside the photo. Coordinates are pixels with (0, 0) the photo's corner.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.pixels import geometry, outlines
from engine.pixels.geometry import Size
from engine.pixels.studio import studio_mask

# ImageNet's mean color, which normalization maps to about 0.
FILL = (124, 116, 104)


@dataclass(slots=True)
class Cutout:
    """The part of a photo from which the crops of one garment are made.

    Attributes:
        pixels: u8[h,w,3].
        square: f64[4] xyxy in ``pixels``, the area of the plain crop; may extend outside.
        scale: pixels of the crop per pixel of ``pixels``.
        mask: u8[h,w], 255 on the garment; None if unknown.
        outlined: whether the mask is a segmentation, not an estimate that may include the wearer.
    """

    pixels: np.ndarray
    square: np.ndarray
    scale: float
    mask: np.ndarray | None = None
    outlined: bool = False


def crop_square(box: np.ndarray, full_size: Size, margin: float) -> np.ndarray:
    """The square that a crop shows.

    Args:
        box: f64[4] xyxy of the garment.
        full_size: (width, height) of the photo.
        margin: context around the box, as a share of its longer side; the grown box is clipped to
            the photo.

    Returns:
        f64[4] xyxy, at least one pixel wide. It extends outside the photo if the grown box is not
        square and close to an edge.
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    width, height = full_size
    border = margin * max(x2 - x1, y2 - y1)
    x1, y1 = (min(value, max(value - border, 0)) for value in (x1, y1))
    x2, y2 = max(x2, min(x2 + border, width)), max(y2, min(y2 + border, height))
    half = max(x2 - x1, y2 - y1, 1.0) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return np.array([x - half, y - half, x + half, y + half])


def square_map(square: np.ndarray, size: int) -> np.ndarray:
    """The map of a square onto a picture of ``size`` × ``size`` pixels: f64[3,3]."""
    factor = size / (square[2] - square[0])
    return geometry.scaling(factor, factor) @ geometry.translation(-square[0], -square[1])


def cut_crop(
    photo: np.ndarray,
    box: np.ndarray,
    size: int,
    *,
    margin: float,
    segmentation: Sequence[np.ndarray] | Mapping | None = None,
    full_size: Size | None = None,
    background: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut one garment out of a photo, resampling it once.

    Args:
        photo: u8[H,W,3].
        box: f64[4] xyxy.
        size: S.
        margin: see ``crop_square``.
        segmentation: polygons (each f[K,2]) or a compressed RLE of the whole photo; one without
            a pixel in the crop counts as none.
        full_size: (width, height) that ``box`` and ``segmentation`` refer to, if the photo was
            decoded at an integer fraction of it.
        background: without a segmentation, exclude a studio background from the mask
            (``studio.studio_mask``).

    Returns:
        The crop u8[S,S,3] and its mask u8[S,S], 0..255: the garment or, if that is unknown, the
        part inside the photo.
    """
    full_size = full_size or photo.shape[1::-1]
    square = crop_square(box, full_size, margin)
    cutout = cut_out(photo, full_size, square, size, segmentation, background=background)
    return render(cutout, square_map(cutout.square, size), size)


def cut_out(
    photo: np.ndarray,
    full_size: Size,
    square: np.ndarray,
    size: int,
    segmentation: Sequence[np.ndarray] | Mapping | None,
    *,
    background: bool,
) -> Cutout:
    """The part of a photo that a crop of ``size`` pixels needs, neither copied nor resampled.

    ``square`` and ``segmentation`` are in pixels of ``full_size``; see also ``cut_crop``.
    """
    factor = geometry.decode_factor(photo, full_size)
    square = square / factor
    x1, y1, x2, y2 = _window(square, photo.shape[1::-1], size)
    pixels, mask = photo[y1:y2, x1:x2], None
    if segmentation is not None:
        outline = outlines.outline_of(segmentation)
        outline = outlines.move(outline, geometry.scaling(1 / factor, 1 / factor))
        mask = outlines.rasterize(outline, (x1, y1, x2, y2)) * np.uint8(255)
        mask = mask if mask.any() else None
    outlined = mask is not None
    if background and not outlined:
        mask = studio_mask(pixels)
    scale = size / (square[2] - square[0])
    return Cutout(pixels, square - (x1, y1, x1, y1), scale, mask, outlined)


def _window(square: np.ndarray, full_size: Size, size: int) -> tuple[int, int, int, int]:
    """The pixels of a photo that resampling a square to ``size`` reads: x1, y1, x2, y2.

    At least one pixel, also if the square is outside the photo.
    """
    block = _block(square, size)
    reach = square + np.array([-1, -1, 1, 1]) * (2 * block + 1)
    x1, y1, x2, y2 = geometry.whole_pixels(reach, full_size)
    # Averaged blocks stay sharpest if they start at the square's corner.
    x1, y1 = (
        start + (round(corner) - start) % block if start > 0 else start
        for start, corner in zip((x1, y1), square[:2], strict=True)
    )
    x1, y1 = min(x1, full_size[0] - 1), min(y1, full_size[1] - 1)
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _block(square: np.ndarray, size: int) -> int:
    """Side of the blocks of pixels that are averaged before interpolating (``geometry.warp``)."""
    return max(math.floor((square[2] - square[0]) / size + 1e-6), 1)


def render(cutout: Cutout, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a cutout into a square picture.

    Args:
        cutout: what to draw.
        matrix: f64[3,3], from pixels of the cutout to the picture.
        size: S.

    Returns:
        u8[S,S,3] and the mask u8[S,S], 0..255: the garment or, if that is unknown, the photo.
    """
    mask = cutout.mask
    if mask is None:
        mask = np.full(cutout.pixels.shape[:2], 255, np.uint8)
    full_size = mask.shape[::-1]
    picture = geometry.warp(cutout.pixels, full_size, matrix, (size, size), FILL)
    return picture, geometry.warp(mask, full_size, matrix, (size, size), (0, 0, 0))
