"""Color jitter as one matrix: brightness, contrast, saturation and hue in a single pass."""

import cv2
import numpy as np

# What each channel adds to perceived brightness (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114])


def color_matrix(
    mean: float,
    *,
    brightness: float = 1,
    contrast: float = 1,
    saturation: float = 1,
    hue: float = 0,
) -> np.ndarray:
    """The affine map of RGB that applies hue, saturation, contrast, brightness in this order.

    Each step is affine, so together they take one matrix product per pixel and clip only once.

    Args:
        mean: the photo's mean luma, the level that contrast pivots on (0..255).
        brightness: factor of every channel.
        contrast: factor of the distance to ``mean``.
        saturation: factor of the distance to the pixel's own gray; 0 makes the photo gray.
        hue: rotation about the gray axis as a share of the color circle; 1/3 turns red into green.

    Returns:
        f64[3,4], for columns (r, g, b, 1).
    """
    gray = np.tile(LUMA, (3, 1))
    linear = (gray + saturation * (np.eye(3) - gray)) @ _turn(2 * np.pi * hue)
    shift = np.full((3, 1), (1 - contrast) * mean)
    return brightness * np.hstack([contrast * linear, shift])


def _turn(angle: float) -> np.ndarray:
    """Rotation about the gray axis (1, 1, 1) (Rodrigues' formula): f64[3,3]."""
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / np.sqrt(3)
    along = np.full((3, 3), 1 / 3)
    return np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * along


def mean_luma(photo: np.ndarray) -> float:
    """Mean luma of u8[H,W,3] RGB, from every eighth pixel of every eighth row."""
    return float(cv2.mean(photo[::8, ::8].copy())[:3] @ LUMA)


def recolor(photo: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply ``color_matrix`` to u8[H,W,3] RGB, rounding and clipping to 0..255."""
    return cv2.transform(photo, matrix)
