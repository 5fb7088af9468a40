"""Cuts a garment out of its surroundings by color, starting from a rough outline."""

import cv2
import numpy as np

LONG_SIDE = 256  # working size in pixels; enough for colors
ROUNDS = 4
FRAME = 0.02  # border / short side: it is background unless the rough outline covers it
CORE = 0.06  # distance inside the rough outline / short side: beyond it, all is garment
HOLE = 0.02  # area / photo: smaller holes are folds or prints and get filled
# The result must resemble the rough outline: smallest IoU, range of the ratio of areas.
MIN_IOU, AREAS = 0.4, (0.7, 2.5)
MAX_FRAME = (
    0.25  # share of the frame that may be garment; more means a confusion with the background
)
MIN_SOLIDITY = 0.45  # area / convex hull; trousers have about half


def cut_out_by_color(photo: np.ndarray, rough: np.ndarray) -> np.ndarray | None:
    """The garment's mask by GrabCut (Rother et al. 2004), starting from a rough outline.

    Args:
        photo: u8[H,W,3] RGB with one garment.
        rough: bool[H,W], covers most of the garment and little else.

    Returns:
        bool[H,W], one piece without small holes; None if the result is not plausible.
    """
    height, width = rough.shape
    factor = min(LONG_SIDE / max(height, width), 1)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    inside = _resize(rough, size)
    if inside.all() or not inside.any():
        return None
    frame = np.ones(inside.shape, bool)
    border = max(round(FRAME * min(size)), 1)
    frame[border:-border, border:-border] = False
    guess = np.where(inside, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    guess[frame & ~inside] = cv2.GC_BGD
    steps = max(round(CORE * min(size)), 1)
    guess[cv2.erode(inside.astype(np.uint8), np.ones((3, 3)), iterations=steps) > 0] = cv2.GC_FGD
    cv2.setRNGSeed(0)  # GrabCut initializes its color models at random
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, guess, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = _one_piece((guess == cv2.GC_FGD) | (guess == cv2.GC_PR_FGD))
    return _resize(found, (width, height)) if _plausible(found, inside, frame) else None


def _resize(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


def _one_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected part, small holes filled."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count == 1:
        return mask
    piece = pieces == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
    _, holes, stats, _ = cv2.connectedComponentsWithStats((~piece).astype(np.uint8))
    small = stats[:, cv2.CC_STAT_AREA] < HOLE * mask.size
    small[0] = False  # the piece itself
    return piece | small[holes]


def _plausible(found: np.ndarray, inside: np.ndarray, frame: np.ndarray) -> bool:
    if not found.any():
        return False
    low, high = AREAS
    hull = cv2.convexHull(cv2.findNonZero(found.astype(np.uint8)))
    solid = found.sum() / max(cv2.contourArea(hull), 1)
    return bool(
        low <= found.sum() / inside.sum() <= high
        and (found & inside).sum() >= MIN_IOU * (found | inside).sum()
        and found[frame].mean() <= MAX_FRAME
        and solid >= MIN_SOLIDITY
    )
