"""Refining masks along edges: the filter against its definition, and coarse masks."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine.pixels.follow_edges import follow_edges, guided_filter
from engine.pixels.masks import paste_to_rles


def by_definition(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """The definition: a least-squares fit per window; each cell is the mean over its windows."""
    height, width = values.shape
    around = ((radius, radius), (radius, radius))
    pictures = np.pad(guide.astype(float), (*around, (0, 0)), "symmetric")
    numbers = np.pad(values.astype(float), around, "symmetric")
    slopes, offsets = np.zeros((height, width, 3)), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            window = slice(y, y + 2 * radius + 1), slice(x, x + 2 * radius + 1)
            colors, wanted = pictures[window].reshape(-1, 3), numbers[window].ravel()
            spread, level = colors - colors.mean(0), wanted.mean()
            matrix = spread.T @ spread / len(wanted) + epsilon * np.eye(3)
            slopes[y, x] = np.linalg.solve(matrix, spread.T @ (wanted - level) / len(wanted))
            offsets[y, x] = level - slopes[y, x] @ colors.mean(0)
    result = np.zeros((height, width))
    slopes = np.pad(slopes, (*around, (0, 0)), "symmetric")
    offsets = np.pad(offsets, around, "symmetric")
    for y in range(height):
        for x in range(width):
            window = slice(y, y + 2 * radius + 1), slice(x, x + 2 * radius + 1)
            slope, offset = slopes[window].reshape(-1, 3).mean(0), offsets[window].mean()
            result[y, x] = slope @ guide[y, x] + offset
    return result


@pytest.mark.parametrize("kind", ["colors", "gray", "flat"])
def test_the_filter_equals_its_definition(kind: str) -> None:
    rng = np.random.default_rng(3)
    guide = rng.random((13, 11, 3)).astype(np.float32)
    guide = {"colors": guide, "gray": guide[..., :1].repeat(3, 2), "flat": guide * 0 + 0.3}[kind]
    values = rng.random((13, 11)).astype(np.float32)
    found = guided_filter(guide, values, 2, 1e-3)
    np.testing.assert_allclose(found, by_definition(guide, values, 2, 1e-3), atol=2e-3)
    assert found.dtype == np.float32


def disk(height: int, width: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width] + 0.5
    return (x - width / 2) ** 2 + (y - height / 2) ** 2 < radius**2


def overlap(masks: np.ndarray, boxes: np.ndarray, truth: np.ndarray) -> float:
    (rle,) = paste_to_rles(masks, boxes.astype(np.float32), *truth.shape)
    wanted = coco_mask.encode(np.asfortranarray(truth.astype(np.uint8)))
    return float(coco_mask.iou([rle], [wanted], [0])[0, 0])


@pytest.mark.parametrize(
    ("center", "coarse_overlap", "overlap_after"),
    [((14.0, 14.0), 0.98, 0.995), ((13.6, 14.4), 0.95, 0.97)],  # the second half a cell off
)
def test_a_coarse_mask_snaps_to_the_visible_garment(
    center: tuple[float, float], coarse_overlap: float, overlap_after: float
) -> None:
    truth = disk(211, 199, 83)
    picture = np.where(truth[..., None], [180, 40, 60], [90, 120, 110]).astype(np.uint8)
    box = np.float32([[16, 22, 183, 189]])  # the garment's own, give or take a pixel
    y, x = np.mgrid[:28, :28] + 0.5
    coarse = np.float32((x - center[0]) ** 2 + (y - center[1]) ** 2 < 13.9**2)[None]
    finer, grown = follow_edges(coarse.astype(np.float16), box, picture)
    assert finer.shape == (1, 120, 120)
    cell = 167 / 28
    np.testing.assert_allclose(grown - box, [[-cell, -cell, cell, cell]], rtol=1e-4)
    assert overlap(coarse, box, truth) < coarse_overlap
    assert overlap(finer, grown, truth) > overlap_after


def test_without_edges_a_mask_stays_the_same() -> None:
    picture = np.full((211, 199, 3), 77, np.uint8)
    box = np.float32([[16, 22, 183, 189]])
    full = np.ones((1, 28, 28), np.float32)
    square = np.zeros((211, 199), bool)
    square[22:189, 16:183] = True
    finer, grown = follow_edges(full, box, picture)
    assert overlap(finer, grown, square) > 0.97


def test_boxes_at_the_photos_border_and_no_boxes_at_all() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    finer, _ = follow_edges(np.ones((1, 28, 28), np.float16), np.float32([[0, 0, 17, 31]]), picture)
    assert np.isfinite(finer).all() and finer[0, 20:100, 20:100].min() > 0.8
    finer, grown = follow_edges(np.ones((0, 28, 28)), np.zeros((0, 4), np.float32), picture)
    assert finer.shape == (0, 120, 120) and grown.shape == (0, 4)
