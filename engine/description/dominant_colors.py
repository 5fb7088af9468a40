"""The few colors a garment is made of, each with a name and a share: navy 62 %, white 30 %."""

import cv2
import numpy as np

from engine.pixels.color_names import difference, name_color, to_hex
from engine.pixels.foreground import find_foreground

WORK_SIZE = 96  # px; weaves and noise average out, stripes stay
BIN = 6.0  # Lab units; pixels are clustered by the bins of a coarse histogram
SEEDS = 12
ROUNDS = 6
MERGE = 10.0  # colors closer than this are one
LIGHTNESS = 0.55  # of a lightness difference counts: a fold's shadow is no color of its own
SMALLEST_SHARE = 0.03
MIXED = 0.9  # a pixel with less garment than this share of its neighbors' is partly background


def dominant_colors(
    crop: np.ndarray, mask: np.ndarray | None = None, k: int = 5
) -> list[tuple[str, str, float]]:
    """Named colors of a garment, the largest first.

    Args:
        crop: u8[S,S,3] RGB.
        mask: u8[S,S], 0..255: the garment, or the part of the crop that the photo covers, or None
            for all of it; without an outline the middle of the crop counts most.
        k: at most so many colors.

    Returns:
        (name, "#rrggbb", share of the garment): names differ; shares sum to at most 1, since
        traces and what exceeds ``k`` are left out.
    """
    colors, weights = _histogram(*_garment_pixels(crop, mask))
    members = _cluster(colors, weights)
    totals: dict[str, np.ndarray] = {}
    for lab, share in _merge(*_means(colors, weights, members)):
        name = name_color(lab)
        totals[name] = totals.get(name, 0) + np.array([*(lab * share), share])
    named = [(name, to_hex(t[:3] / t[3]), round(float(t[3]), 4)) for name, t in totals.items()]
    named.sort(key=lambda color: -color[2])
    return [color for color in named[:k] if color[2] >= min(SMALLEST_SHARE, named[0][2])]


def _garment_pixels(crop: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Lab f32[N,3] and weights f32[N] of the garment's pixels, the mixed ones at its edge left out.

    Averages are taken under the weights, so that the background does not bleed in.
    """
    ground = find_foreground(crop, mask)
    weights = ground.weights
    # Without an outline nothing is an edge: that weights fall off toward the rim mixes no colors.
    solid = (weights > 0).astype(np.float32) if ground.outline is None else ground.outline
    size = tuple(min(side, WORK_SIZE) for side in crop.shape[1::-1])
    small = cv2.resize(weights, size, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(crop * weights[..., None], size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(sums / np.maximum(small, 1e-6)[..., None] / 255, cv2.COLOR_RGB2Lab)
    solid = cv2.resize(solid, size, interpolation=cv2.INTER_AREA)
    inner = small * (cv2.erode(solid, np.ones((3, 3))) > MIXED * cv2.dilate(solid, np.ones((3, 3))))
    kept = inner if inner.sum() > 0.2 * small.sum() else small  # thin straps are all edge
    return lab[kept > 0], kept[kept > 0]


def _histogram(lab: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean colors f64[B,3] and shares f64[B] of the filled bins."""
    cells = np.floor(lab / BIN).astype(np.int64) + 64
    codes = (cells[:, 0] * 128 + cells[:, 1]) * 128 + cells[:, 2]
    _, index = np.unique(codes, return_inverse=True)
    total = np.bincount(index, weights)
    sums = np.stack([np.bincount(index, weights * channel) for channel in lab.T], axis=1)
    return sums / total[:, None], total / total.sum()


def _cluster(colors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """k-means of the bins from seeds that depend on nothing but the colors -> i64[B].

    The first seed is the heaviest bin; each next one is the bin that the seeds so far explain
    worst: weight times squared distance.
    """
    scaled = colors * (LIGHTNESS, 1, 1)
    seeds = [int(weights.argmax())]
    worst = np.square(scaled - scaled[seeds[0]]).sum(axis=1)
    while len(seeds) < SEEDS and worst.max() > (MERGE / 2) ** 2:
        seeds.append(int((weights * worst).argmax()))
        worst = np.minimum(worst, np.square(scaled - scaled[seeds[-1]]).sum(axis=1))
    centers = scaled[seeds]
    for _ in range(ROUNDS):
        members = np.square(scaled[:, None] - centers).sum(axis=2).argmin(axis=1)
        _, members = np.unique(members, return_inverse=True)
        centers = _means(scaled, weights, members)[0]
    return members


def _means(
    colors: np.ndarray, weights: np.ndarray, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean color f64[C,3] and share f64[C] of each cluster."""
    shares = np.bincount(members, weights)
    sums = np.stack([np.bincount(members, weights * channel) for channel in colors.T], axis=1)
    return sums / shares[:, None], shares


def _merge(colors: np.ndarray, shares: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Join the closest two colors until all differ by MERGE, shadows counting less than hues."""
    colors, shares = list(colors), list(shares)
    while len(colors) > 1:
        flat = np.array(colors) * (LIGHTNESS, 1, 1)
        apart = difference(flat[:, None], flat[None])
        apart[np.tril_indices(len(colors))] = np.inf
        i, j = np.unravel_index(apart.argmin(), apart.shape)
        if apart[i, j] >= MERGE:
            break
        share = shares[i] + shares[j]
        colors[i] = (colors[i] * shares[i] + colors[j] * shares[j]) / share
        shares[i] = share
        del colors[j], shares[j]
    return list(zip(colors, shares, strict=True))
