"""Foreground of studio photos, on drawn ones whose foreground is known."""

import cv2
import numpy as np

from engine.pixels.studio import studio_mask


def studio_photo(
    garment: tuple[int, int, int] = (180, 40, 60), bottom: int = 230
) -> tuple[np.ndarray, np.ndarray]:
    """An oval on slightly noisy white, cut by the lower edge (201) or not; and where it is."""
    truth = np.zeros((201, 151), np.uint8)
    cv2.ellipse(truth, (75, bottom - 100), (50, 90), 0, 0, 360, 255, -1)
    photo = np.where(truth[..., None] > 0, garment, 252).astype(np.uint8)
    noise = np.random.default_rng(0).integers(-3, 4, photo.shape)
    return (photo + noise).clip(0, 255).astype(np.uint8), truth


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return ((mask > 0) & (truth > 0)).sum() / ((mask > 0) | (truth > 0)).sum()


def test_foreground_is_what_the_background_does_not_reach() -> None:
    photo, truth = studio_photo()
    photo[10:12, 10:12] = 0  # a speck
    mask = studio_mask(photo)
    assert mask.shape == truth.shape and mask.dtype == np.uint8
    assert overlap(mask, truth) > 0.95
    assert not mask[:20, :20].any()


def test_white_inside_the_product_is_product() -> None:
    photo, truth = studio_photo()
    photo[90:120, 60:90] = 252
    assert overlap(studio_mask(photo), truth) > 0.95


def test_white_garment_with_a_broken_edge_does_not_leak() -> None:
    photo, truth = studio_photo(garment=(252, 252, 252), bottom=195)
    outline = truth - cv2.erode(truth, np.ones((5, 5), np.uint8))
    photo[outline > 0] = 225
    photo[100:102] = 252  # the edge is open two pixels wide, left and right
    assert overlap(studio_mask(photo), truth) > 0.93


def test_photos_without_a_uniform_border_have_no_estimate() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    assert studio_mask(noise) is None


def test_nothing_stands_out() -> None:
    assert studio_mask(np.full((50, 60, 3), 255, np.uint8)) is None
    assert studio_mask(np.zeros((1, 1, 3), np.uint8)) is None


def test_close_up_is_no_background() -> None:
    """Plain cloth with a zip: the border is uniform, but what it shows is the product."""
    photo = np.full((120, 90, 3), (60, 70, 90), np.uint8)
    photo[:, 42:48] = 230
    assert studio_mask(photo) is None


def test_cloth_on_the_lower_half_leaves_too_little_border() -> None:
    photo = np.full((200, 150, 3), 252, np.uint8)
    photo[100:] = (180, 40, 60)
    assert studio_mask(photo) is None


def test_what_stands_below_the_middle_is_no_product() -> None:
    photo = np.full((200, 150, 3), 252, np.uint8)
    photo[139:195, 20:130] = (180, 40, 60)
    assert studio_mask(photo) is None


def test_a_thin_frame_is_no_background() -> None:
    photo = np.full((600, 600, 3), (180, 40, 60), np.uint8)
    for edge in (photo[0], photo[-1], photo[:, 0], photo[:, -1]):
        edge[:] = 252
    assert studio_mask(photo) is None
