"""Colors, masks and boxes on a photo."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine.pixels.draw import FILL_OPACITY, category_colors, draw_garments
from engine.pixels.masks import RLE, to_rle
from tests.datasets import rectangle_rle

GRAY = np.full((960, 720, 3), 100, np.uint8)


def mask_of(width: int, height: int, x: int, y: int) -> RLE:
    """The RLE of a rectangle at (x, y) in the photo GRAY."""
    return to_rle(rectangle_rle(720, 960, (x, y, x + width, y + height)), 960, 720)


def draw(boxes, masks, names, *scores, photo=GRAY, categories=None) -> np.ndarray:
    about = {"categories": categories or sorted(set(names)), "size": (720, 960)}
    return draw_garments(photo, boxes, masks, names, *scores, **about)


def test_colors_differ_and_do_not_depend_on_their_number() -> None:
    colors = category_colors(46)
    assert len(set(colors)) == 46
    assert category_colors(13) == colors[:13]
    assert category_colors(0) == []
    distances = [np.abs(np.subtract(a, b)).sum() for a in colors[:13] for b in colors[:13]]
    assert min(d for d in distances if d) > 80


def test_masks_are_blended_and_the_photo_outside_stays() -> None:
    picture = draw([[100, 200, 300, 500]], [mask_of(200, 300, 100, 200)], ["top"])
    color = np.array(category_colors(1)[0])
    blended = 100 + (color - 100) * FILL_OPACITY
    assert np.abs(picture[230, 130] - blended).max() <= 1
    assert (picture[:190] == 100).all()
    assert (picture[:, 310:] == 100).all()
    assert (GRAY == 100).all()


def test_holes_stay_open() -> None:
    bitmap = np.zeros((960, 720), np.uint8, order="F")
    bitmap[211:503, 101:307] = 1
    bitmap[300:350, 150:200] = 0
    picture = draw([[101, 211, 307, 503]], [coco_mask.encode(bitmap)], ["top"], [0.5])
    assert (picture[325, 175] == 100).all(), "the hole was filled"
    assert (picture[280, 130] != 100).any()


def test_a_category_keeps_its_color_across_photos() -> None:
    categories = ["top", "bag", "hat"]
    masks = [mask_of(400, 400, 100, 100)]
    alone = draw([[100, 100, 500, 500]], masks, ["hat"], categories=categories)
    blended = 100 + (np.array(category_colors(3)[2]) - 100) * FILL_OPACITY
    assert np.abs(alone[150, 150] - blended).max() <= 1


@pytest.mark.parametrize("mask", [None, mask_of(0, 0, 100, 100)])
def test_garments_without_a_mask_are_drawn_as_boxes(mask) -> None:
    picture = draw([[100, 100, 500, 700]], [mask], ["top"])
    color = np.array(category_colors(1)[0])
    assert np.abs(picture[300, 100].astype(int) - color).max() <= 40
    assert (picture[650, 450] == 100).all(), "the box was filled"


def test_small_garments_stay_visible_on_large_ones() -> None:
    boxes = [[300, 300, 400, 400], [100, 100, 700, 900]]
    masks = [mask_of(100, 100, 300, 300), mask_of(600, 800, 100, 100)]
    picture = draw(boxes, masks, ["bag", "top"])
    below = 100 + (np.array(category_colors(2)[1]) - 100) * FILL_OPACITY
    bag = below + (np.array(category_colors(2)[0]) - below) * FILL_OPACITY
    assert np.abs(picture[312, 350] - bag).max() <= 2


def test_coordinates_may_refer_to_a_larger_photo() -> None:
    about = [[200, 400, 600, 1000]], [mask_of(400, 600, 200, 400)], ["top"]
    half, full = draw(*about, photo=GRAY[::2, ::2]), draw(*about)
    assert half.shape == full.shape == (960, 720, 3)
    np.testing.assert_array_equal(half, full)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (1, 1, (960, 960)),
        (30, 20000, (64, 1280)),
        (5000, 20, (1280, 64)),
        (2600, 1300, (1280, 640)),
        (1000, 700, (1000, 700)),
    ],
)
def test_photos_of_any_size_become_pictures_with_room_for_tags(height, width, expected) -> None:
    photo = np.full((height, width, 3), 80, np.uint8)
    about = {"categories": ["top"], "size": (width, height)}
    picture = draw_garments(photo, [[0, 0, width, height]], None, ["top"], [1.0], **about)
    assert picture.shape == (*expected, 3)
    assert (picture != 80).any()


def test_without_garments_the_photo_is_unchanged() -> None:
    picture = draw(np.zeros((0, 4)), [], [], [])
    np.testing.assert_array_equal(picture, GRAY)
