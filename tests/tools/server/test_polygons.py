"""Polygons are close to their masks and have few corners."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine.pixels.masks import to_rle
from tools.server.polygons import box_polygon, to_polygons


def rle_of(bitmap: np.ndarray, x: int = 0, y: int = 0, size: tuple[int, int] = (211, 307)):
    whole = np.zeros(size, np.uint8, order="F")
    whole[y : y + len(bitmap), x : x + len(bitmap[0])] = bitmap
    return coco_mask.encode(whole)


def fill(rings: list, height: int, width: int) -> np.ndarray:
    """A mask by the even-odd rule: pixels inside an odd number of rings."""
    whole = np.zeros((height, width), np.uint8)
    for ring in rings:
        whole ^= coco_mask.decode(to_rle([np.array(ring)], height, width))
    return whole


def test_rectangle_keeps_its_corners() -> None:
    (ring,) = to_polygons(rle_of(np.ones((40, 60)), 100, 50))
    corners = {tuple(corner) for corner in ring}
    assert len(ring) <= 8  # the smoothing rounds corners
    middle = (np.min(ring, axis=0) + np.max(ring, axis=0)) / 2
    assert middle == pytest.approx([130, 70], abs=0.1)
    for wanted in [(100, 50), (160, 50), (160, 90), (100, 90)]:
        assert min(np.hypot(x - wanted[0], y - wanted[1]) for x, y in corners) < 1.5


def test_round_parts_and_holes_keep_their_place() -> None:
    y, x = np.mgrid[:150, :150]
    bitmap = (np.hypot(x - 75, y - 75) < 70) & (np.hypot(x - 60, y - 80) > 25)
    rings = to_polygons(rle_of(bitmap, 20, 30))
    assert len(rings) == 2
    assert sum(map(len, rings)) < 120
    whole = np.zeros((211, 307), bool)
    whole[30:180, 20:170] = bitmap
    drawn = fill(rings, 211, 307).astype(bool)
    assert (whole & drawn).sum() / (whole | drawn).sum() > 0.98


def test_specks_are_dropped_and_separate_parts_kept() -> None:
    bitmap = np.zeros((100, 100))
    bitmap[:40, :40] = bitmap[70:, 70:] = 1
    bitmap[50:52, 20:22] = 1
    large, small = to_polygons(rle_of(bitmap))
    assert np.max(large) < 45 and np.min(small) > 65


def test_empty_mask_has_no_outline() -> None:
    assert to_polygons(rle_of(np.zeros((5, 5)))) == []


def test_tiny_mask_has_an_outline() -> None:
    (ring,) = to_polygons(rle_of(np.ones((3, 3)), 7, 9))
    assert np.abs(np.array(ring) - (8.5, 10.5)).max() <= 1.6


def test_box_polygon_has_four_corners() -> None:
    assert box_polygon(np.array([1, 2.04, 3, 4])) == [[[1, 2], [3, 2], [3, 4], [1, 4]]]
