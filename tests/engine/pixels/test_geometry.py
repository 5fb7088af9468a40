"""Sizes, maps, and that all ways of resampling place pixels alike."""

import cv2
import numpy as np
import pytest

from engine.pixels import geometry
from engine.pixels.photos import read_photo

FILL = (10, 20, 30)


def smooth_photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 5)
    return cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def difference(a: np.ndarray, b: np.ndarray, border: int = 3) -> np.ndarray:
    assert a.shape == b.shape
    inner = (slice(border, -border), slice(border, -border))
    return np.abs(a[inner].astype(int) - b[inner])


@pytest.mark.parametrize(
    ("photo", "expected"),
    [((404, 608), (800, 1204)), ((608, 404), (1204, 800)), ((300, 900), (444, 1333)),
     ((50, 50), (800, 800)), ((1, 5000), (1, 1333))],
)  # fmt: skip
def test_detector_sizes_by_hand(photo, expected):
    assert geometry.detector_size(*photo, 800, 1333) == expected


@pytest.mark.parametrize("size", [(97, 71), (211, 157), (60, 47)])
def test_resize_and_warp_agree(size):
    photo = smooth_photo(131, 101)
    matrix = geometry.stretching((131, 101), size)
    resized = geometry.resize(photo, (131, 101), size)
    warped = geometry.warp(photo, (131, 101), matrix, size, FILL)
    assert difference(resized, warped).max() <= 1


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("full", [(803, 1205), (640, 480), (601, 997)])
def test_a_photo_decoded_at_reduced_size_is_aligned(factor, full, tmp_path):
    file = tmp_path / "photo.jpg"
    photo = cv2.GaussianBlur(smooth_photo(*full), (0, 0), 6)
    cv2.imwrite(str(file), photo, [cv2.IMWRITE_JPEG_QUALITY, 98])
    size = tuple(round(side / factor) for side in full)
    reduced = read_photo(file, min_short_side=min(size))
    assert max(reduced.shape) == -(-max(full) // factor)
    exact = geometry.resize(read_photo(file), full, size)
    for result in (
        geometry.resize(reduced, full, size),
        geometry.warp(reduced, full, geometry.stretching(full, size), size, FILL),
    ):
        error = difference(result, exact, border=4).mean()
        # Half a pixel to either side is worse, and equally so.
        left, right = (
            difference(
                geometry.warp(result, size, geometry.translation(x, 0), size, FILL), exact, 4
            )
            for x in (-0.5, 0.5)
        )
        assert error < 0.7 * left.mean()
        assert left.mean() == pytest.approx(right.mean(), rel=0.2)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_an_incomplete_last_block_causes_no_shift(factor):
    """Compares with one-dimensional interpolation by the coordinate convention."""
    columns, width = 101, 131
    full = (columns * factor - factor // 2, 64)
    row = np.random.default_rng(1).integers(0, 256, columns)
    reduced = np.tile(row[None, :, None], (64 // factor, 1, 3)).astype(np.uint8)
    places = (np.arange(width) + 0.5) / width * full[0] / factor - 0.5
    expected = np.interp(places, np.arange(columns), row)
    resized = geometry.resize(reduced, full, (width, 64 // factor))
    # OpenCV's warp rounds places to 1/32 pixel.
    assert np.abs(resized[3, :, 0] - expected).max() <= (1 if factor == 1 else 255 / 32)
    assert np.abs(resized[3, :, 0] - expected).mean() < 2


def test_strong_shrinking_averages_pixels():
    photo = np.random.default_rng(0).integers(0, 256, (600, 450, 3), dtype=np.uint8)
    for size in ((45, 60), (43, 59)):
        small = geometry.resize(photo, (450, 600), size)
        assert small.shape == (size[1], size[0], 3)
        assert small.std() < 15  # a sampled pixel would keep noise's 74
    turned = geometry.rotation(5) @ geometry.scaling(0.1, 0.1)
    small = geometry.warp(photo, (450, 600), turned, (45, 60), FILL)
    assert small[15:45, 15:30].std() < 15


def test_place_uses_resize_if_possible_with_the_same_result(monkeypatch):
    photo, full = smooth_photo(131, 101), (131, 101)
    mirrored = geometry.mirroring(262) @ geometry.scaling(2, 2)
    shifted = geometry.translation(-20, 13) @ geometry.stretching(full, (90, 80))
    cases = [(mirrored, (262, 202)), (shifted, (64, 70)), (geometry.scaling(0.5, 1), (80, 90)),
             (geometry.mirroring(80) @ geometry.stretching(full, (80, 61)), (80, 61))]  # fmt: skip
    expected = [geometry.warp(photo, full, matrix, size, FILL) for matrix, size in cases]
    turned = geometry.rotation(3)
    assert (geometry.place(photo, full, turned, full, FILL) == FILL).all(axis=2).any()
    warp = geometry.warp
    monkeypatch.setattr(geometry, "warp", lambda *_: pytest.fail("warped what can be resized"))
    for (matrix, size), warped in zip(
        cases[:2] + cases[3:], expected[:2] + expected[3:], strict=True
    ):
        placed = geometry.place(photo, full, matrix, size, FILL)
        inside = ~(warped == FILL).all(axis=2) & ~(placed == FILL).all(axis=2)
        close = np.abs(placed.astype(int) - warped).max(axis=2) <= 1
        # The warp blends the photo's last row and column with the fill; elsewhere they agree.
        assert (close | ~inside).mean() > 0.97
        assert (close[8:-8, 8:-8] | ~inside[8:-8, 8:-8]).mean() > 0.985
    monkeypatch.setattr(geometry, "warp", warp)
    placed = geometry.place(photo, full, *cases[2], FILL)
    assert np.array_equal(placed, expected[2])  # 65.5 pixels wide: no whole pixels to resize to


def test_mirroring_a_reduced_photo_keeps_its_incomplete_block_aligned():
    full, size = (1001, 601), (500, 300)
    photo = smooth_photo(*full)
    reduced = cv2.resize(
        cv2.copyMakeBorder(photo, 0, 1, 0, 1, cv2.BORDER_REPLICATE),
        (501, 301),
        interpolation=cv2.INTER_AREA,
    )
    stretch = geometry.stretching(full, size)
    placed = geometry.place(reduced, full, geometry.mirroring(500) @ stretch, size, FILL)
    plain = geometry.place(reduced, full, stretch, size, FILL)
    assert np.array_equal(placed, plain[:, ::-1])


def test_maps_move_points_by_hand():
    point = np.array([3.0, 5.0, 1.0])
    cases = {
        (4, 3): geometry.translation(1, -2),
        (6, 15): geometry.scaling(2, 3),
        (-5, 3): geometry.rotation(90),
        (8, 5): geometry.shearing(45),
        (7, 5): geometry.mirroring(10),
        (1, 5): geometry.about(geometry.rotation(180), 2, 5),
    }
    for expected, matrix in cases.items():
        assert (matrix @ point)[:2] == pytest.approx(expected)
    assert geometry.map_scale(geometry.rotation(33) @ geometry.scaling(2, 8)) == pytest.approx(4)


def test_a_moved_box_encloses_its_moved_corners():
    box = geometry.move_box(np.array([1.0, 2, 5, 4]), geometry.rotation(90))
    assert box == pytest.approx([-4, 1, -2, 5])
    assert geometry.whole_pixels(np.array([-3.2, 1.5, 4.0, 99]), (8, 9)) == (0, 1, 4, 9)
    x1, _, x2, _ = geometry.whole_pixels(np.array([12.0, 1, 14, 5]), (8, 9))
    assert x2 <= x1


def test_boxes_are_cut_from_reduced_photos() -> None:
    photo = np.arange(40 * 30 * 3, dtype=np.uint32).reshape(30, 40, 3).astype(np.uint8)
    assert np.array_equal(geometry.cut_box(photo, (16, 8, 32, 24), (80, 60)), photo[4:12, 8:16])
    assert geometry.cut_box(photo, (500, 500, 600, 600), (80, 60)).shape == (1, 1, 3)
    half = np.zeros((5, 323, 3), np.uint8)  # its last column stands for one pixel, not for two
    assert geometry.cut_box(half, (200, 0, 600, 9), (645, 9)).shape == (5, 200, 3)


def test_the_longer_side_is_reduced_to_a_limit() -> None:
    photo = smooth_photo(40, 31)
    for picture, shape in ((photo, (6, 8)), (photo[:1], (1, 8)), (photo[:, :1], (8, 1))):
        assert geometry.shrink_to(picture, 8).shape == (*shape, 3)
    assert np.array_equal(geometry.shrink_to(photo, 41), photo)
