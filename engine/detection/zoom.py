"""Enlarges the part of a photo where garments are small: people in a landscape, groups.

A detector trained on photos of one person each overlooks most of what people wear who fill half of
a photo's height, though the photo often has pixels to spare. What it does detect shows where to
look, and by how much to enlarge: until the largest garment is about as large as in training.
"""

import math

import numpy as np

from engine.detection.close_ups import LIKELY

POSSIBLE = 0.3  # score of the garments that the enlarged part must contain
AROUND = 1.5  # margin around them for what was overlooked, in sizes of the largest garment
TARGET = 1.5  # size of the largest garment in the enlarged part, in units of ``zoom``
MOST_PIXELS = 4  # of the enlarged part, in units of the whole picture's
MOST_ENLARGED = 4


def small_garments(
    output: dict[str, np.ndarray], size: tuple[int, int], short_side: int, zoom: float
) -> tuple[np.ndarray, float] | None:
    """Where to look again, and how much enlarged.

    A garment's size is the square root of its box's area as a share of ``short_side``.

    Args:
        output: a detector's output for a picture: boxes f32[N,4] xyxy px, scores f32[N].
        size: (height, width) of the picture.
        short_side: the usual short side of pictures, in pixels.
        zoom: size of the largest likely garment below which to look again; 0: never.

    Returns:
        The part f64[4] xyxy in pixels of the picture, and the factor; None if some likely garment
        is larger, or there is none.
    """
    boxes, scores = output["boxes"].astype(np.float64), output["scores"]
    sizes = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1).clip(0))
    largest = sizes[scores >= LIKELY].max(initial=0)
    if not 0 < largest < zoom * short_side:
        return None
    possible = boxes[scores >= POSSIBLE]
    corners = possible[:, :2].min(axis=0), possible[:, 2:].max(axis=0)
    margin = AROUND * largest
    limit = np.array(size[::-1], np.float64)
    part = np.concatenate([(corners[0] - margin).clip(0), (corners[1] + margin).clip(None, limit)])
    pixels = (part[2:] - part[:2]).prod()
    factor = math.sqrt(MOST_PIXELS * limit.prod() / pixels)
    return part, min(factor, TARGET * zoom * short_side / largest, MOST_ENLARGED)
