"""Colors, masks and boxes on a photo."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine.pixels.draw import FILL_OPACITY, category_colors, draw_garments

GRAY = np.full((960, 720, 3), 100, np.uint8)


def test_colors_differ_and_do_not_depend_on_how_many_there_are() -> None:
    colors = category_colors(46)
    assert len(set(colors)) == 46
    assert category_colors(13) == colors[:13]
    assert category_colors(0) == []
    distances = [np.abs(np.subtract(a, b)).sum() for a in colors[:13] for b in colors[:13]]
    assert min(d for d in distances if d) > 80


def test_mask_is_blended_inside_and_nothing_changes_outside() -> None:
    crop = np.ones((300, 200), bool)
    picture = draw_garments(GRAY, [[100, 200, 300, 500]], [(crop, 100, 200)], ["top"])
    color = np.array(category_colors(1)[0])
    blended = 100 + (color - 100) * FILL_OPACITY
    assert np.abs(picture[230, 130] - blended).max() <= 1
    assert (picture[:190] == 100).all()
    assert (picture[:, 310:] == 100).all()
    assert (GRAY == 100).all()


def test_rle_and_crop_draw_the_same() -> None:
    bitmap = np.zeros((960, 720), np.uint8, order="F")
    bitmap[211:503, 101:307] = 1
    bitmap[300:350, 150:200] = 0
    rle = coco_mask.encode(bitmap)
    crop = bitmap[211:503, 101:307].astype(bool)
    box = [[101, 211, 307, 503]]
    by_rle = draw_garments(GRAY, box, [rle], ["top"], [0.5])
    by_crop = draw_garments(GRAY, box, [(crop, 101, 211)], ["top"], [0.5])
    np.testing.assert_array_equal(by_rle, by_crop)
    assert (by_rle[325, 175] == 100).all(), "the hole was filled"


def test_a_category_keeps_its_color_across_photos() -> None:
    categories = ["top", "bag", "hat"]
    masks = [(np.ones((400, 400), bool), 100, 100)]
    box = [[100, 100, 500, 500]]
    alone = draw_garments(GRAY, box, masks, ["hat"], categories=categories)
    blended = 100 + (np.array(category_colors(3)[2]) - 100) * FILL_OPACITY
    assert np.abs(alone[150, 150] - blended).max() <= 1


@pytest.mark.parametrize("mask", [None, (np.zeros((5, 5), bool), 100, 100)])
def test_garment_without_a_mask_is_a_box(mask) -> None:
    picture = draw_garments(GRAY, [[100, 100, 500, 700]], [mask], ["top"])
    color = np.array(category_colors(1)[0])
    assert np.abs(picture[300, 100].astype(int) - color).max() <= 40
    assert (picture[650, 450] == 100).all(), "the box was filled"


def test_small_garments_stay_visible_on_large_ones() -> None:
    boxes = [[300, 300, 400, 400], [100, 100, 700, 900]]
    masks = [(np.ones((100, 100), bool), 300, 300), (np.ones((800, 600), bool), 100, 100)]
    picture = draw_garments(GRAY, boxes, masks, ["bag", "top"])
    below = 100 + (np.array(category_colors(2)[1]) - 100) * FILL_OPACITY
    bag = below + (np.array(category_colors(2)[0]) - below) * FILL_OPACITY
    assert np.abs(picture[312, 350] - bag).max() <= 2


def test_coordinates_may_refer_to_a_larger_photo() -> None:
    mask = (np.ones((600, 400), bool), 200, 400)
    half = draw_garments(GRAY[::2, ::2], [[200, 400, 600, 1000]], [mask], ["top"], size=(720, 960))
    full = draw_garments(GRAY, [[200, 400, 600, 1000]], [mask], ["top"], size=(720, 960))
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
def test_any_size_of_photo_becomes_a_picture_with_room_for_tags(height, width, expected) -> None:
    photo = np.full((height, width, 3), 80, np.uint8)
    picture = draw_garments(photo, [[0, 0, width, height]], None, ["top"], [1.0])
    assert picture.shape == (*expected, 3)
    assert (picture != 80).any()


def test_nothing_found_is_the_photo_itself() -> None:
    picture = draw_garments(GRAY, np.zeros((0, 4)), [], [], [])
    np.testing.assert_array_equal(picture, GRAY)
