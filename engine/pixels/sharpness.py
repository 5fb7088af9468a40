"""Random sharpness, so that a network does not infer a garment's size from how sharp it is.

Close-ups that augmentation cuts out of photos of whole persons are blurred, small garments in the
same photos are sharp. A detector trained on these alone takes a sharp portrait's badge for a shoe
and overlooks the jacket; with the same portrait reduced to 128 pixels it finds the jacket.
"""

import math

import cv2
import numpy as np

SIGMA = (0.5, 3.0)  # range of the blur in pixels, log-uniform
AMOUNT = (0.5, 2.5)  # range of what sharpening adds, times the detail finer than the blur
GRAIN = 12.0  # largest standard deviation of the noise added to a sharpened picture


def vary_sharpness(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Blur a picture, or as often sharpen it (unsharp masking) and add gray noise.

    Args:
        rng: source of randomness.
        picture: u8[H,W,3] RGB.

    Returns:
        u8[H,W,3], a new array.
    """
    sigma = math.exp(rng.uniform(*np.log(SIGMA)))
    soft = cv2.GaussianBlur(picture, (0, 0), sigma)
    if rng.random() < 0.5:
        return soft
    amount, deviation = rng.uniform(*AMOUNT), rng.uniform(0, GRAIN)
    noise = rng.standard_normal(picture.shape[:2], np.float32) * np.float32(deviation)
    sharp = picture + np.float32(amount) * (picture.astype(np.float32) - soft)
    return np.rint(sharp + noise[:, :, None]).clip(0, 255).astype(np.uint8)
