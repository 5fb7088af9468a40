"""Masks against pycocotools and torchvision, bit for bit."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask

from engine.errors import InputError
from engine.pixels import masks


def encode(bitmap: np.ndarray) -> dict:
    return coco_mask.encode(np.asfortranarray(bitmap, np.uint8))


def on_canvas(crop: np.ndarray, x0: int, y0: int, height: int, width: int) -> np.ndarray:
    canvas = np.zeros((height, width), np.uint8)
    canvas[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
    return canvas


def random_bitmaps(height: int = 37, width: int = 23) -> list[np.ndarray]:
    """Noise of several densities, empty, full, and with columns filled from top to bottom."""
    rng = np.random.default_rng(0)
    bitmaps = [(rng.random((height, width)) < p).astype(np.uint8) for p in (0, 0.02, 0.5, 0.98, 1)]
    columns = bitmaps[2].copy()
    columns[:, 3:9] = 1
    columns[:, -1] = 1
    return [*bitmaps, columns]


def test_polygons_become_the_rle_of_their_union():
    square = [2, 3, 9, 3, 9, 12, 2, 12]
    other = np.array([[5, 5], [15, 5], [15, 20]])
    rle = masks.to_rle([square, other, [1, 1, 2, 2]], 30, 17)
    parts = coco_mask.decode(coco_mask.frPyObjects([square, other.ravel().tolist()], 30, 17))
    assert np.array_equal(coco_mask.decode(rle), parts.max(axis=2))
    assert coco_mask.area(rle) > 63


def test_polygons_without_area_give_an_empty_mask():
    assert masks.to_rle([], 5, 7) == encode(np.zeros((5, 7)))
    assert masks.to_rle([[1, 2, 3, 4]], 5, 7) == encode(np.zeros((5, 7)))


@pytest.mark.parametrize("bitmap", random_bitmaps())
def test_all_forms_of_an_rle_give_the_same_mask(bitmap):
    rle = encode(bitmap)
    runs = masks.read_counts(rle["counts"]).tolist()
    text = {"size": rle["size"], "counts": rle["counts"].decode()}
    for spelling in (rle, text, {"size": rle["size"], "counts": runs}):
        assert masks.to_rle(spelling, *bitmap.shape) == rle


def test_bad_rles_are_refused():
    good = encode(np.eye(5))
    with pytest.raises(InputError, match="7×5"):
        masks.to_rle(good, 5, 7)
    for counts in (
        [5, 5],
        [30, -5],
        b"",
        good["counts"][:-1] + b"~",
        good["counts"] + b"o",
        b"\x05",
    ):
        with pytest.raises(InputError, match="RLE mask"):
            masks.to_rle({"size": [5, 5], "counts": counts}, 5, 5)


def test_long_runs_are_decoded():
    bitmap = np.zeros((1009, 1013), np.uint8)
    bitmap[500:, 500:] = 1
    bitmap[3, 3] = 1
    rle = encode(bitmap)
    crop, x0, y0 = masks.decode_crop(rle)
    assert np.array_equal(on_canvas(crop, x0, y0, 1009, 1013), bitmap)


@pytest.mark.parametrize("bitmap", random_bitmaps())
def test_decode_crop_reads_the_masks_box(bitmap):
    rows, columns = np.nonzero(bitmap)
    crop, x0, y0 = masks.decode_crop(encode(bitmap))
    assert np.array_equal(on_canvas(crop, x0, y0, *bitmap.shape), bitmap)
    if rows.size:
        assert (x0, y0) == (columns.min(), rows.min())
        assert crop.shape == (np.ptp(rows) + 1, np.ptp(columns) + 1)


def test_empty_runs_before_a_mask_are_ignored():
    rle = coco_mask.frPyObjects({"size": [3, 4], "counts": [2, 0, 3, 2, 5]}, 3, 4)
    crop, x0, y0 = masks.decode_crop(rle)
    assert np.array_equal(on_canvas(crop, x0, y0, 3, 4), coco_mask.decode(rle))


@pytest.mark.parametrize("bitmap", random_bitmaps(13, 11))
@pytest.mark.parametrize("origin", [(0, 0), (5, 3), (19, 0), (0, 6), (19, 6)])
def test_encoded_crops_equal_the_encoded_photo(bitmap, origin):
    height, width = 19, 30
    x0, y0 = origin
    canvas = np.zeros((height, width), np.uint8)
    canvas[y0 : y0 + 13, x0 : x0 + 11] = bitmap
    rle = masks._encode_columns(bitmap.T.astype(bool), x0, y0, height, width)
    assert rle == encode(canvas)


def random_detections(seed: int, kind: str) -> tuple[np.ndarray, np.ndarray, int, int]:
    """RoI masks, boxes of any size and position, also beyond the photo, height, width."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 400, 2).tolist()
    roi_masks = rng.random((20, 28, 28), dtype=np.float32)
    if kind != "noise":
        smooth = np.stack([cv2.GaussianBlur(mask, (0, 0), 3) for mask in roi_masks])
        roi_masks = 1 / (1 + np.exp((0.5 - smooth) * 200))
    if kind == "hard":
        roi_masks = (roi_masks > 0.5).astype(np.float32)
    center = rng.uniform(0, 1, (20, 2)) * (width, height)
    half = np.exp(rng.uniform(-2, np.log(500), (20, 2))) / 2
    boxes = np.concatenate([center - half, center + half], axis=1).astype(np.float32)
    return roi_masks, boxes, height, width


def sampled(mask: np.ndarray, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """f64[H,W]: the mask at the center of every pixel, 0 outside the box."""
    x1, y1, x2, y2 = box.astype(float)
    x = (np.arange(width) + 0.5 - x1) / (x2 - x1)
    y = (np.arange(height) + 0.5 - y1) / (y2 - y1)
    grid = np.stack(np.meshgrid(2 * x - 1, 2 * y - 1), axis=-1)
    values = F.grid_sample(
        torch.from_numpy(mask.astype(float))[None, None],
        torch.from_numpy(grid)[None],
        align_corners=False,
    )[0, 0].numpy()
    inside = ((x >= 0) & (x < 1)) & ((y >= 0) & (y < 1))[:, None]
    return values * inside


@pytest.mark.parametrize("kind", ["noise", "smooth", "hard"])
@pytest.mark.parametrize("seed", range(4))
def test_paste_samples_the_mask_at_the_center_of_every_pixel(kind, seed):
    roi_masks, boxes, height, width = random_detections(seed, kind)
    if seed % 2:
        roi_masks = roi_masks.astype(np.float16)
    rles = masks.paste_to_rles(roi_masks, boxes, height, width)
    compared = 0
    for mask, box, rle in zip(roi_masks, boxes, rles, strict=True):
        wanted = sampled(mask, box, height, width)
        sure = abs(wanted - 0.5) > 1e-3  # the sampler's place of a pixel in a far larger box
        assert np.array_equal(coco_mask.decode(rle)[sure], wanted[sure] > 0.5)
        compared += (wanted[sure] > 0.5).sum()
    assert compared > 20


def test_a_pasted_mask_fills_its_box():
    full = np.ones((1, 28, 28), np.float32)
    box = np.float32([[10.4, 3.6, 25.5, 9.2]])
    expected = np.zeros((31, 41))
    expected[4:9, 10:25] = 1  # centers 4.5 .. 8.5 and 10.5 .. 24.5
    # The outermost cells fade towards the edge of the box, from half a cell on.
    (rle,) = masks.paste_to_rles(full, box, 31, 41)
    assert np.array_equal(coco_mask.decode(rle), expected)
    half = full.copy()
    half[:, :, :14] = 0
    (rle,) = masks.paste_to_rles(half, np.float32([[0, 0, 28, 28]]), 31, 41)
    assert coco_mask.toBbox(rle).tolist() == [14, 0, 14, 28]


def test_boxes_without_pixels_give_empty_masks():
    full = np.ones((3, 28, 28), np.float32)
    boxes = np.float32([[100, 5, 120, 9], [-50, -50, -20, -20], [5, 70, 9, 80]])
    assert masks.paste_to_rles(full, boxes, 31, 41) == [encode(np.zeros((31, 41)))] * 3
    assert masks.paste_to_rles(full[:0], boxes[:0], 31, 41) == []


def test_a_giant_box_is_clipped_to_the_photo():
    box = np.float32([[-4e6, -4e6, 4e6, 4e6]])
    (rle,) = masks.paste_to_rles(np.ones((1, 28, 28), np.float32), box, 31, 41)
    assert rle == encode(np.ones((31, 41)))


def test_certainty_is_the_mean_over_covered_cells():
    rng = np.random.default_rng(5)
    predicted = rng.random((7, 5, 5)).astype(np.float16)
    predicted[2] = 0.5  # not above one half
    expected = []
    for mask in predicted.astype(float):
        covered = [p for p in mask.ravel() if p > 0.5]
        expected.append(sum(covered) / len(covered) if covered else 0.5)
    found = masks.mask_certainty(predicted)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32
    assert masks.mask_certainty(predicted[:0]).shape == (0,)
