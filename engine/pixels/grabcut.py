"""A garment cut out of its surroundings by color, from a rough outline of it."""

import cv2
import numpy as np

LONG_SIDE = 256  # pixels of the photo that is worked on; colors need no more
ROUNDS = 4
FRAME = 0.02  # of the short side: a border that is surroundings unless the rough outline is there
CORE = 0.06  # of the short side: so far inside the rough outline it is garment for sure
HOLE = 0.02  # of the photo: smaller holes are folds or prints
# The result must be like the rough outline: intersection over union at least, areas' ratio between.
LEAST_IOU, AREAS = 0.4, (0.7, 2.5)
MOST_FRAME = 0.25  # of the frame that may be garment: beyond, the surroundings were taken for it
LEAST_SOLID = 0.45  # of the convex hull that is garment; a pair of trousers has half


def cut_out_by_color(photo: np.ndarray, rough: np.ndarray) -> np.ndarray | None:
    """Where the garment is: GrabCut (Rother et al. 2004), started from a rough outline.

    Args:
        photo: u8[H,W,3] with one garment.
        rough: bool[H,W], most of the garment and little else.

    Returns:
        bool[H,W], one piece without small holes; None where the cut is not to be trusted.
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
    cv2.setRNGSeed(0)  # its color models start at random
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
        and (found & inside).sum() >= LEAST_IOU * (found | inside).sum()
        and found[frame].mean() <= MOST_FRAME
        and solid >= LEAST_SOLID
    )
