"""Color jitter against the formulas it fuses."""

import numpy as np
import pytest

from engine.pixels.color import LUMA, color_matrix, mean_luma, recolor

PHOTO = np.random.default_rng(0).integers(60, 190, (37, 53, 3), dtype=np.uint8)


def test_default_settings_change_nothing():
    assert np.array_equal(recolor(PHOTO, color_matrix(mean_luma(PHOTO))), PHOTO)


@pytest.mark.parametrize(
    ("setting", "formula"),
    [
        ({"brightness": 1.2}, lambda x: x * 1.2),
        ({"contrast": 0.7}, lambda x: 100 + (x - 100) * 0.7),
        ({"saturation": 0.4}, lambda x: (gray := (x @ LUMA)[..., None]) + (x - gray) * 0.4),
        ({"hue": 1 / 3}, lambda x: x[..., [2, 0, 1]]),
    ],
)
def test_each_change_follows_its_formula(setting, formula):
    changed = recolor(PHOTO, color_matrix(100, **setting))
    assert np.abs(changed - formula(PHOTO.astype(float))).max() <= 1


def test_changes_apply_in_the_order_hue_saturation_contrast_brightness():
    together = color_matrix(90, brightness=1.1, contrast=0.8, saturation=0.5, hue=0.1)
    pixels = PHOTO.reshape(-1, 3).T.astype(float)
    for step in ({"hue": 0.1}, {"saturation": 0.5}, {"contrast": 0.8}, {"brightness": 1.1}):
        matrix = color_matrix(90, **step)
        pixels = matrix[:, :3] @ pixels + matrix[:, 3:]
    assert np.abs(recolor(PHOTO, together).reshape(-1, 3).T - pixels).max() <= 1


def test_values_are_clipped_and_gray_stays_gray():
    white = np.full((2, 2, 3), 255, np.uint8)
    assert (recolor(white, color_matrix(128, brightness=1.5)) == 255).all()
    gray = np.full((2, 2, 3), 77, np.uint8)
    assert (recolor(gray, color_matrix(128, hue=0.2, saturation=2)) == 77).all()


def test_mean_luma_of_a_flat_photo_is_its_luma():
    photo = np.full((90, 71, 3), (200, 100, 50), np.uint8)
    assert mean_luma(photo) == pytest.approx(np.array([200, 100, 50]) @ LUMA)
