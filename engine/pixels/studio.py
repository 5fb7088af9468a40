"""Separates the product in a studio photo from the uniform background."""

import cv2
import numpy as np

# Share of the photo's border that must be background (legs and sleeves may be cut by an edge).
BORDER_SHARE = 0.6

# Largest difference of a background pixel from the background's color, in any channel (0..255).
TOLERANCE = 6

# The background only spreads through gaps wider than this share of the short side, since the edge
# of a white shirt on white has gaps.
GAP = 0.02

# Range of the foreground's share of the photo for the estimate to be used.
FOREGROUND_SHARE = (0.02, 0.98)


# Share of the photo's middle that must be foreground. In a close-up the product itself may fill
# most of the border and be taken for background.
MIDDLE_SHARE = 0.3


def studio_mask(photo: np.ndarray) -> np.ndarray | None:
    """The pixels that a uniform background does not reach from the photo's border.

    Args:
        photo: u8[H,W,3].

    Returns:
        u8[H,W], 255 on the foreground; None if the border is not uniform or there is hardly any
        foreground in the middle.
    """
    border = np.concatenate([photo[0], photo[-1], photo[:, 0], photo[:, -1]])
    color = np.median(border, axis=0)
    if (np.abs(border - color) <= TOLERANCE).all(axis=1).mean() < BORDER_SHARE:
        return None
    # A frame of background connects all background that touches the border.
    gap = round(GAP * min(photo.shape[:2])) | 1
    alike = cv2.inRange(photo, color - TOLERANCE, color + TOLERANCE)
    alike = cv2.copyMakeBorder(alike, gap, gap, gap, gap, cv2.BORDER_CONSTANT, value=255)
    wide = cv2.erode(alike, np.ones((gap, gap), np.uint8))
    cv2.floodFill(wide, None, (0, 0), 128)
    reached = cv2.dilate(cv2.inRange(wide, 128, 128), np.ones((gap + 2, gap + 2), np.uint8))
    mask = 255 - (alike & reached)[gap:-gap, gap:-gap]
    # Remove the specks and the halo that compression leaves around the product.
    mask = cv2.erode(cv2.medianBlur(mask, 5), np.ones((3, 3), np.uint8))
    low, high = FOREGROUND_SHARE
    height, width = mask.shape
    middle = mask[height // 4 : height - height // 4, width // 4 : width - width // 4]
    useful = low <= mask.mean() / 255 <= high and middle.mean() / 255 >= MIDDLE_SHARE
    return mask if useful else None
