"""Foreground of studio photos, on drawings with a known foreground."""

import cv2
import numpy as np

from engine.pixels.studio import studio_mask


def studio_photo(
    garment: tuple[int, int, int] = (180, 40, 60), bottom: int = 230
) -> tuple[np.ndarray, np.ndarray]:
    """An oval on slightly noisy white, cut off by the lower edge (201) or not, and its mask."""
    truth = np.zeros((201, 151), np.uint8)
    cv2.ellipse(truth, (75, bottom - 100), (50, 90), 0, 0, 360, 255, -1)
    photo = np.where(truth[..., None] > 0, garment, 252).astype(np.uint8)
    noise = np.random.default_rng(0).integers(-3, 4, photo.shape)
    return (photo + noise).clip(0, 255).astype(np.uint8), truth


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return ((mask > 0) & (truth > 0)).sum() / ((mask > 0) | (truth > 0)).sum()


def test_the_product_is_found() -> None:
    photo, truth = studio_photo()
    photo[10:12, 10:12] = 0  # a speck
    mask = studio_mask(photo)
    assert mask.shape == truth.shape and mask.dtype == np.uint8
    assert overlap(mask, truth) > 0.95
    assert not mask[:20, :20].any()


def test_white_inside_the_product_is_foreground() -> None:
    photo, truth = studio_photo()
    photo[90:120, 60:90] = 252
    assert overlap(studio_mask(photo), truth) > 0.95


def test_background_does_not_leak_through_gaps_in_the_edge() -> None:
    photo, truth = studio_photo(garment=(252, 252, 252), bottom=195)
    outline = truth - cv2.erode(truth, np.ones((5, 5), np.uint8))
    photo[outline > 0] = 225
    photo[100:102] = 252  # the edge is open two pixels wide, left and right
    assert overlap(studio_mask(photo), truth) > 0.93


def test_photos_without_a_uniform_border_give_none() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    assert studio_mask(noise) is None


def test_photos_without_foreground_give_none() -> None:
    assert studio_mask(np.full((50, 60, 3), 255, np.uint8)) is None
    assert studio_mask(np.zeros((1, 1, 3), np.uint8)) is None


def test_close_ups_give_none() -> None:
    """Plain cloth with a zip: the border is uniform, but it is the product."""
    photo = np.full((120, 90, 3), (60, 70, 90), np.uint8)
    photo[:, 42:48] = 230
    assert studio_mask(photo) is None


def test_cloth_on_the_lower_half_gives_none() -> None:
    photo = np.full((200, 150, 3), 252, np.uint8)
    photo[100:] = (180, 40, 60)
    assert studio_mask(photo) is None


def test_foreground_below_the_middle_gives_none() -> None:
    photo = np.full((200, 150, 3), 252, np.uint8)
    photo[139:195, 20:130] = (180, 40, 60)
    assert studio_mask(photo) is None


def test_a_thin_frame_gives_none() -> None:
    photo = np.full((600, 600, 3), (180, 40, 60), np.uint8)
    for edge in (photo[0], photo[-1], photo[:, 0], photo[:, -1]):
        edge[:] = 252
    assert studio_mask(photo) is None
