"""Classical descriptors of a garment's color, texture and shape: no network, no weights.

They are the baseline for learned features, and what a database can hold without any model.

=========  =====================================================  ===============================
aspect     what it is                                             what it ignores
=========  =====================================================  ===============================
color      soft histogram over CIE Lab                            flip, crop, blur, where colors are
texture    per octave: strength, direction and straightness of    hue, small rotation, swapped light
           edges along the main axis of color variation           and dark, position
shape      outline scaled to its own square and its edges'        hue, texture, scale, position
           directions
=========  =====================================================  ===============================

Color and texture are square roots of histogram shares (Hellinger's embedding: the inner product of
two is their overlap), shape is a centered picture; each has unit length.
"""

from functools import cache

import cv2
import numpy as np

from engine.pixels.foreground import Foreground, find_foreground

VERSION = 1  # raised whenever the numbers change

COLOR_SIZE = 48  # px; colors of finer patterns mix, as they do to the eye and under blur
LEVELS = 32  # of each RGB channel, before the histogram
LIGHTNESS_STEP = 20.0  # Lab units between bin centers
CHROMA_STEP = 20.0
SOFTNESS = 0.5  # standard deviation of a pixel's membership, in bins

TEXTURE_SIZE = 112  # px
OCTAVES = 3
DIRECTIONS = 12
STRENGTHS = (0.6, 1.2, 2.4, 4.8, 9.6)  # Lab units of local contrast, centers of soft bins
STRAIGHTNESS = 4  # bins

GRID = 16  # cells of the outline picture
EDGE_CELLS = 4
EDGE_DIRECTIONS = 8
SHAPE_SIZE = 64  # px the outline is drawn at


def describe(crop: np.ndarray, mask: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """All descriptors of one crop.

    Args:
        crop: u8[S,S,3] RGB.
        mask: u8[S,S], 0..255: the garment, or the part of the crop that the photo covers; None for
            all of it. If it is not a garment's outline, a plain backdrop is separated from the
            garment; if there is none, the middle of the crop is used.

    Returns:
        {"color", "texture", "shape"}: f32[d] of unit length.
    """
    foreground = find_foreground(crop, mask)
    return {
        "color": color(crop, foreground),
        "texture": texture(crop, foreground),
        "shape": shape(crop, foreground),
    }


@cache
def dimensions() -> dict[str, int]:
    """Length of each descriptor."""
    return {name: len(vector) for name, vector in describe(np.zeros((8, 8, 3), np.uint8)).items()}


# --- color


def color(crop: np.ndarray, foreground: Foreground) -> np.ndarray:
    """Square roots of the shares of a grid of Lab colors: f32[d]."""
    pixels, weights = _average(crop, foreground.weights, COLOR_SIZE)
    levels = np.clip(pixels * (LEVELS / 256), 0, LEVELS - 1).astype(np.int64)
    codes = (levels[:, 0] * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]
    codes, index = np.unique(codes, return_inverse=True)
    return _hellinger(np.bincount(index, weights) @ _memberships()[codes])


def _average(crop: np.ndarray, weights: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Colors f32[N,3] and weights f32[N] of a reduced crop, without background colors mixed in."""
    target = tuple(min(side, size) for side in crop.shape[1::-1])
    small = cv2.resize(weights, target, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(crop * weights[..., None], target, interpolation=cv2.INTER_AREA)
    kept = small > 0.02
    return sums[kept] / small[kept][:, None], small[kept]


@cache
def _memberships() -> np.ndarray:
    """How much each of LEVELS³ colors belongs to each bin: f32[LEVELS³,d], rows sum to 1."""
    steps = ((np.arange(LEVELS) + 0.5) / LEVELS).astype(np.float32)
    colors = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    lab = cv2.cvtColor(colors, cv2.COLOR_RGB2Lab)[:, 0]
    bins = lab / np.float32([LIGHTNESS_STEP, CHROMA_STEP, CHROMA_STEP])
    centers = np.unique(bins.round(), axis=0)
    squares = (bins**2).sum(1)[:, None] + (centers**2).sum(1) - 2 * bins @ centers.T
    shares = np.exp(-squares / (2 * SOFTNESS**2))
    return shares / shares.sum(axis=1, keepdims=True)


# --- texture


def texture(crop: np.ndarray, foreground: Foreground) -> np.ndarray:
    """Strength, direction and straightness of edges per octave: f32[d]."""
    size = tuple(min(side, TEXTURE_SIZE) for side in crop.shape[1::-1])
    photo = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    weights = cv2.resize(foreground.weights, size, interpolation=cv2.INTER_AREA)
    field = _main_variation(photo, weights)
    parts = []
    for _ in range(OCTAVES):
        # The outline's own edges are shape, not texture; kept only if little else would remain.
        inner = cv2.erode(weights, np.ones((5, 5)), borderType=cv2.BORDER_REPLICATE)
        parts += _octave(field, inner if inner.sum() > 0.1 * weights.sum() else weights)
        field, weights = _halve(field), _halve(weights)
    return _hellinger(np.concatenate(parts))


def _main_variation(photo: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The photo projected onto the Lab axis along which its fine structure varies most: f32[H,W].

    So stripes of any two hues differ as clearly as dark and light ones.
    """
    lab = cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    fine = (lab - cv2.GaussianBlur(lab, (0, 0), 4)).reshape(-1, 3)
    spread = fine.T @ (fine * weights.reshape(-1, 1))
    axis = np.linalg.eigh(spread)[1][:, -1]
    return (lab @ axis).astype(np.float32)


def _octave(field: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """Histograms of one scale from the local structure tensor, each summing to at most 2."""
    dx, dy = (cv2.Sobel(field, cv2.CV_32F, i, 1 - i, scale=0.125) for i in (1, 0))
    xx, yy, xy = (cv2.GaussianBlur(p, (0, 0), 1.5) for p in (dx * dx, dy * dy, dx * dy))
    energy = xx + yy
    # Doubled angle, so that an edge and its opposite have the same direction.
    along, across = xx - yy, 2 * xy
    straight = cv2.magnitude(along, across) / (energy + 0.05)
    turn = cv2.phase(along, across) * (DIRECTIONS / (2 * np.pi))
    strength = np.interp(0.5 * np.log(energy + 1e-6), np.log(STRENGTHS), range(len(STRENGTHS)))
    contrast = weights * cv2.sqrt(energy)
    return [
        2 * _shares(_soft_histogram(strength, weights, len(STRENGTHS))),
        _directions(turn, contrast * straight, weights),
        _shares(_soft_histogram(straight * (STRAIGHTNESS - 1), contrast, STRAIGHTNESS)),
    ]


def _directions(turn: np.ndarray, strength: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Edge strength by direction: f64[DIRECTIONS], near zero if there are hardly any edges.

    Smoothed around the circle, so that small rotations change little.
    """
    histogram = _soft_histogram(turn, strength, DIRECTIONS + 1)
    histogram[0] += histogram[-1]
    histogram = histogram[:-1]
    smooth = 0.5 * histogram + 0.25 * (np.roll(histogram, 1) + np.roll(histogram, -1))
    return smooth / (smooth.sum() + weights.sum() * STRENGTHS[0] + 1e-9)


def _soft_histogram(values: np.ndarray, weights: np.ndarray, bins: int) -> np.ndarray:
    """Values in 0..bins-1, each shared between the two bins around it: f64[bins]."""
    low = np.clip(values, 0, bins - 1 - 1e-4).astype(np.int64)
    upper = (weights * np.clip(values - low, 0, 1)).ravel()
    low = low.ravel()
    return np.bincount(low, weights.ravel() - upper, bins) + np.bincount(low + 1, upper, bins)


def _shares(histogram: np.ndarray) -> np.ndarray:
    return histogram / max(histogram.sum(), 1e-9)


def _halve(plane: np.ndarray) -> np.ndarray:
    size = tuple(max(side // 2, 1) for side in plane.shape[::-1])
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)


# --- shape


def shape(crop: np.ndarray, foreground: Foreground) -> np.ndarray:
    """The outline's picture and its edges' directions, scaled to a square: f32[d].

    Without an outline, the blurred lightness is used instead.
    """
    known = foreground.outline is not None
    picture = _in_own_square(foreground.outline if known else _lightness(crop))
    blurred = cv2.GaussianBlur(picture, (0, 0), 2)
    coarse = cv2.resize(blurred, (GRID, GRID), interpolation=cv2.INTER_AREA)
    edges = _edges(blurred)
    parts = (_unit(coarse.ravel() - coarse.mean()), _unit(edges - edges.mean()))
    return _unit(np.concatenate(parts))


def _lightness(crop: np.ndarray) -> np.ndarray:
    """Blurred lightness, stretched to 0..1: f32[S,S]."""
    gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gray = cv2.GaussianBlur(gray, (0, 0), max(len(gray) / 48, 0.5))
    return (gray - gray.min()) / max(np.ptp(gray), 1)


def _in_own_square(outline: np.ndarray) -> np.ndarray:
    """Shift and scale so that the outline fills the picture: f32[SHAPE_SIZE,SHAPE_SIZE]."""
    inside = outline > 0.5
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return np.zeros((SHAPE_SIZE, SHAPE_SIZE), np.float32)
    x, y = (columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2
    side = 1.1 * max(np.ptp(columns), np.ptp(rows), 1)
    factor = SHAPE_SIZE / side
    half = SHAPE_SIZE / 2
    move = np.array(
        [
            [factor, 0, half - factor * x + (factor - 1) / 2],
            [0, factor, half - factor * y + (factor - 1) / 2],
        ]
    )
    if factor < 0.5:  # else pixels would be skipped
        outline = cv2.blur(outline, (round(1 / factor),) * 2)
    return cv2.warpAffine(outline, move, (SHAPE_SIZE, SHAPE_SIZE))


def _edges(picture: np.ndarray) -> np.ndarray:
    """Edge strength by direction and cell: f32[EDGE_DIRECTIONS · EDGE_CELLS²]."""
    dx, dy = (cv2.Sobel(picture, cv2.CV_32F, i, 1 - i) for i in (1, 0))
    strength = cv2.magnitude(dx, dy)
    turn = cv2.phase(dx, dy) * (EDGE_DIRECTIONS / np.pi)  # twice around, so opposites are equal
    cells = []
    for direction in range(EDGE_DIRECTIONS):
        apart = np.abs((turn - direction + EDGE_DIRECTIONS / 2) % EDGE_DIRECTIONS)
        share = np.maximum(1 - np.abs(apart - EDGE_DIRECTIONS / 2), 0)
        size = (EDGE_CELLS, EDGE_CELLS)
        cells.append(cv2.resize(share * strength, size, interpolation=cv2.INTER_AREA))
    return np.sqrt(np.stack(cells)).ravel()


# --- lengths


def _hellinger(shares: np.ndarray) -> np.ndarray:
    """Square roots, scaled to unit length: f32[d]."""
    return _unit(np.sqrt(np.maximum(shares, 0)))


def _unit(vector: np.ndarray) -> np.ndarray:
    """f32[d] scaled to unit length; a zero vector becomes one of equal components."""
    length = np.linalg.norm(vector)
    if length < 1e-9:
        return np.full(len(vector), len(vector) ** -0.5, np.float32)
    return (vector / length).astype(np.float32)
