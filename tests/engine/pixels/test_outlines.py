"""Outlines against pycocotools and against warped bitmaps."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine.pixels import geometry, outlines


def blob(seed: int, radius: float, center: tuple[float, float]) -> np.ndarray:
    """A wavy polygon, f64[41,2]."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 41, endpoint=False)
    length = radius * (1 + 0.25 * np.sin(3 * angle + rng.uniform(0, 6)))
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * length[:, None] + center


def decode(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    rles = coco_mask.frPyObjects([p.ravel().tolist() for p in polygons], height, width)
    return coco_mask.decode(coco_mask.merge(rles))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.mark.parametrize(("radius", "least"), [(4, 0.9), (15, 0.97), (60, 0.99)])
def test_polygons_fill_the_same_pixels_as_in_pycocotools(radius, least):
    for seed in range(10):
        polygon = blob(seed, radius, (83.3 + seed / 7, 71.9))
        ours = outlines.rasterize(outlines.outline_of([polygon]), (0, 0, 167, 149))
        assert iou(ours, decode([polygon], 149, 167)) > least


def test_polygons_fill_as_many_pixels_as_their_area():
    ratios = []
    for seed in range(40):
        polygon = blob(seed, 11, (40 + seed / 40, 40))
        x, y = polygon.T
        area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
        ratios.append(
            outlines.rasterize(outlines.outline_of([polygon]), (0, 0, 80, 80)).sum() / area
        )
    assert np.mean(ratios) == pytest.approx(1, abs=0.005)


def test_parts_are_united_and_clipped_to_the_box():
    polygons = [blob(1, 20, (30, 30)), blob(2, 20, (45, 35)), np.array([[1.0, 1], [2, 2]])]
    outline = outlines.outline_of(polygons)
    assert len(outline) == 2
    whole = outlines.rasterize(outline, (0, 0, 90, 80))
    assert iou(whole, decode(polygons[:2], 80, 90)) > 0.98
    window = outlines.rasterize(outline, (25, 31, 52, 38))
    assert np.array_equal(window, whole[31:38, 25:52])


def test_whole_pixel_rectangles_are_exact():
    outline = outlines.outline_of([np.array([[2.0, 3], [7, 3], [7, 11], [2, 11]])])
    bitmap = outlines.rasterize(outline, (0, 0, 13, 17))
    assert bitmap[3:11, 2:7].all()
    assert bitmap.sum() == 5 * 8
    assert outlines.bounds(outline).tolist() == [2, 3, 7, 11]


@pytest.mark.parametrize("density", [0, 0.03, 0.5, 0.97, 1])
def test_the_outline_of_an_rle_encloses_exactly_its_pixels(density):
    bitmap = (np.random.default_rng(5).random((29, 31)) < density).astype(np.uint8)
    bitmap[:, 5:7] = bitmap[:, -1] = density > 0  # runs across columns
    outline = outlines.outline_of(coco_mask.encode(np.asfortranarray(bitmap)))
    assert np.array_equal(outlines.rasterize(outline, (0, 0, 31, 29)), bitmap)


def test_empty_runs_of_other_encoders_are_ignored():
    plain = coco_mask.frPyObjects({"size": [6, 5], "counts": [8, 7, 15]}, 6, 5)
    split = coco_mask.frPyObjects({"size": [6, 5], "counts": [8, 4, 0, 3, 0, 0, 15]}, 6, 5)
    boxes = [outlines.rasterize(outlines.outline_of(rle), (0, 0, 5, 6)) for rle in (plain, split)]
    assert np.array_equal(*boxes)
    assert boxes[0].sum() == 7


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.9])
@pytest.mark.parametrize("degrees", [0, 17, 90])
def test_a_moved_rle_covers_the_same_pixels_as_its_warped_bitmap(scale, degrees):
    bitmap = decode([blob(3, 45, (71, 60)), blob(4, 12, (30, 100))], 127, 131)
    turned = geometry.about(geometry.rotation(degrees), 65, 63)
    matrix = geometry.translation(3.3, -1.8) @ geometry.scaling(scale, scale) @ turned
    size = (round(131 * scale), round(127 * scale))
    photo = np.repeat(bitmap[:, :, None] * np.uint8(255), 3, axis=2)
    warped = geometry.warp(photo, (131, 127), matrix, size, (0, 0, 0))[:, :, 0] > 127
    rle = coco_mask.encode(np.asfortranarray(bitmap))
    moved = outlines.move(outlines.outline_of(rle), matrix)
    assert iou(outlines.rasterize(moved, (0, 0, *size)) > 0, warped) > 0.98


def test_holes_stay_open():
    bitmap = np.zeros((40, 40), np.uint8)
    cv2.circle(bitmap, (20, 20), 15, 1, -1)
    cv2.circle(bitmap, (20, 20), 7, 0, -1)
    outline = outlines.outline_of(coco_mask.encode(np.asfortranarray(bitmap)))
    double = outlines.rasterize(outlines.move(outline, geometry.scaling(2, 2)), (0, 0, 80, 80))
    assert np.array_equal(double, bitmap.repeat(2, axis=0).repeat(2, axis=1))
