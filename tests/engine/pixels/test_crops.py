"""Crops: hand-worked squares, and pixels against copies and block means."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine.pixels.crops import FILL, crop_square, cut_crop


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def triangle(width: int, height: int) -> dict:
    ring = [0.2 * width, 0.1 * height, 0.9 * width, 0.3 * height, 0.4 * width, 0.8 * height]
    return coco_mask.frPyObjects([ring], height, width)[0]


@pytest.mark.parametrize(
    ("box", "margin", "square"),
    [
        ((40, 30, 60, 70), 0.25, (20, 20, 80, 80)),
        ((0, 0, 100, 90), 0.25, (0, -5, 100, 95)),  # the whole photo has no surroundings
        ((0, 30, 20, 70), 0.25, (-15, 20, 45, 80)),  # none on the left
        ((40, 30, 60, 70), 0, (30, 30, 70, 70)),
        ((7, 7, 7, 7), 0.5, (6.5, 6.5, 7.5, 7.5)),
    ],
)
def test_the_square_grows_within_the_photo(box, margin, square) -> None:
    np.testing.assert_allclose(crop_square(np.array(box), (100, 90), margin), square)


def test_crop_at_full_size_is_a_copy() -> None:
    photo = noise(50, 40)
    crop, mask = cut_crop(photo, np.array([30, 10, 41, 21]), 11, margin=0)
    np.testing.assert_array_equal(crop, photo[10:21, 30:41])
    assert (mask == 255).all()


def test_crop_beyond_the_photo_shows_the_fill() -> None:
    photo = noise(7, 13)
    crop, mask = cut_crop(photo, np.array([0, 0, 7, 13]), 13, margin=0.3)
    np.testing.assert_array_equal(crop[:, 3:10], photo)
    assert (crop[:, :3] == FILL).all() and (crop[:, 10:] == FILL).all()
    np.testing.assert_array_equal(mask > 0, np.tile(np.isin(np.arange(13), range(3, 10)), (13, 1)))


def test_reducing_averages_pixels() -> None:
    photo = noise(99, 99)
    crop, _ = cut_crop(photo, np.array([9.0, 9, 90, 90]), 27, margin=0)
    blocks = photo[9:90, 9:90].reshape(27, 3, 27, 3, 3).mean(axis=(1, 3))
    assert np.abs(crop - blocks).max() <= 1


@pytest.mark.parametrize("size", [19, 131])
def test_crops_between_pixels_are_interpolated(size: int) -> None:
    """In a photo of brightness 2x + y, so must be each pixel of the crop at its position."""
    y, x = np.mgrid[:61, :83] + 0.5
    photo = np.repeat((2 * x + y)[..., None], 3, axis=2).round().astype(np.uint8)
    crop, _ = cut_crop(photo, np.array([20.3, 10.7, 50.3, 40.7]), size, margin=0)
    steps = (np.arange(size) + 0.5) * 30 / size
    expected = 2 * (20.3 + steps) + (10.7 + steps)[:, None]
    assert np.abs(crop[..., 0] - expected).max() < 1.1


def test_the_mask_covers_the_garment() -> None:
    rle = triangle(50, 40)
    _, mask = cut_crop(noise(50, 40), np.array([5, 0, 45, 40]), 40, margin=0, segmentation=rle)
    np.testing.assert_array_equal(mask, coco_mask.decode(rle)[:, 5:45] * 255)


def test_polygons_fit_a_photo_decoded_at_half_size() -> None:
    photo = cv2.resize(noise(9, 9), (200, 160), interpolation=cv2.INTER_CUBIC)
    half = cv2.resize(photo, (100, 80), interpolation=cv2.INTER_AREA)
    box, ring = np.array([30.0, 20, 130, 120]), np.array([[40, 30], [120, 50], [60, 110.0]])
    about = {"margin": 0.1, "segmentation": [ring]}
    full_crop, full_mask = cut_crop(photo, box, 41, **about)
    crop, mask = cut_crop(half, box, 41, full_size=(200, 160), **about)
    assert np.abs(crop.astype(int) - full_crop).max() <= 6
    assert np.abs(mask.astype(int) - full_mask).mean() < 4
    assert 0.2 < (mask > 127).mean() < 0.35  # 2800 of 14400 square pixels


def test_a_segmentation_without_pixels_counts_as_none() -> None:
    empty = coco_mask.encode(np.zeros((40, 50), np.uint8, order="F"))
    box = np.array([5.0, 5, 25, 25])
    _, mask = cut_crop(noise(50, 40), box, 16, margin=0.1, segmentation=empty)
    assert (mask == 255).all()


@pytest.mark.parametrize("box", [(-30, -20, 40, 50), (300, 300, 340, 350), (100, 80, 103, 82)])
@pytest.mark.parametrize("size", [13, 128])
def test_boxes_outside_the_photo_and_tiny_ones_give_full_size_crops(box, size: int) -> None:
    """They show the photo where it covers the square, and the fill color elsewhere."""
    photo = noise(211, 163)
    crop, mask = cut_crop(photo, np.array(box), size, margin=0.1)
    assert crop.shape == (size, size, 3) and mask.shape == (size, size)
    x1, y1, x2, y2 = crop_square(np.array(box), (211, 163), 0.1)
    inside = max(min(x2, 211) - max(x1, 0), 0) * max(min(y2, 163) - max(y1, 0), 0)
    assert mask.mean() / 255 == pytest.approx(inside / (x2 - x1) ** 2, abs=0.02)
    assert (crop[mask == 0] == FILL).all()


@pytest.mark.parametrize("background", [False, True])
def test_a_studio_background_is_excluded_from_the_mask(background: bool) -> None:
    photo = np.full((130, 100, 3), 255, np.uint8)
    photo[20:110, 30:70] = (200, 30, 40)
    box = np.array([0.0, 0, 100, 130])
    _, mask = cut_crop(photo, box, 65, margin=0.1, background=background)
    share = 90 * 40 / 130**2 if background else 100 / 130
    assert (mask > 127).mean() == pytest.approx(share, abs=0.02)
