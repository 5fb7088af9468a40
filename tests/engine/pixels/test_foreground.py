"""The foreground: the garment's mask, else a studio outline, else the middle."""

import numpy as np
import pytest

from engine.pixels.foreground import find_foreground

SIDE = 97


def studio() -> tuple[np.ndarray, np.ndarray]:
    """A dark garment on white, and its mask bool[S,S]."""
    crop = np.full((SIDE, SIDE, 3), 250, np.uint8)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[20:80, 30:70] = True
    crop[inside] = (40, 60, 90)
    return crop, inside


def test_a_given_mask_is_used_unchanged() -> None:
    crop, _ = studio()
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[10:50, 10:50] = 255
    mask[10:30, 10:30] = 51
    found = find_foreground(crop, mask)
    np.testing.assert_allclose(found.weights, mask / 255, atol=1e-6)
    np.testing.assert_allclose(found.outline, mask / 255, atol=1e-6)


@pytest.mark.parametrize("framed", [False, True])
def test_without_a_mask_a_studio_outline_is_used(framed: bool) -> None:
    crop, inside = studio()
    mask = None
    if framed:  # a letterboxed photo: the mask says only where the photo is
        crop[:, :9], crop[:, -9:] = 120, 120
        mask = np.full((SIDE, SIDE), 255, np.uint8)
        mask[:, :9] = mask[:, -9:] = 0
    found = find_foreground(crop, mask)
    overlap = ((found.outline > 0.5) & inside).sum() / ((found.outline > 0.5) | inside).sum()
    assert overlap > 0.85
    assert found.weights[~inside].max() < 0.1
    assert found.weights[50, 50] > found.weights[24, 34] > 0


def test_without_a_studio_background_the_middle_counts() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    for mask in (None, np.zeros((SIDE, SIDE), np.uint8), np.full((SIDE, SIDE), 255, np.uint8)):
        found = find_foreground(noise, mask)
        assert found.outline is None
        assert found.weights[SIDE // 2, SIDE // 2] == pytest.approx(1, abs=1e-3)
        assert found.weights[0, 0] < 0.1


def test_a_close_up_is_not_taken_for_background() -> None:
    crop = np.full((SIDE, SIDE, 3), (190, 220, 60), np.uint8)
    crop[:30, :25] = 250  # the backdrop, in a corner
    assert find_foreground(crop, None).outline is None
