"""Given garments: photos are decoded as large as crops need; unreadable ones are skipped."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.description.describer import CropSettings
from engine.detection.detections import Detections
from engine.detection.finder import given_garments, whole_photo
from engine.pixels.photos import PhotoError

CUT = CropSettings(40, 0.0)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.full((320, 480, 3), 90, np.uint8))
    return path


def boxes(*rows: tuple) -> Detections:
    count = len(rows)
    array = np.array(rows, np.float64).reshape(-1, 4)
    return Detections(480, 320, array, np.ones(count), np.zeros(count, np.int64), None)


def test_a_whole_photo_is_one_garment_without_category() -> None:
    found = whole_photo("x", (480, 320))
    assert found.boxes.tolist() == [[0, 0, 480, 320]] and found.labels.tolist() == [0]
    assert (found.width, found.height) == (480, 320)


@pytest.mark.parametrize(
    ("found", "height"),
    [
        (boxes((0, 0, 480, 320)), 40),  # 480 px onto 40: an eighth is enough (40 ≥ 26)
        (boxes((0, 0, 480, 320), (0, 0, 79, 60)), 320),  # half of 79 would be 39.5 px
        (boxes((0, 0, 80, 60)), 160),
        (boxes((0, 0, 9, 9)), 320),
        (boxes(), 40),
    ],
)
def test_the_smallest_garment_decides_the_decoding_size(
    photo: Path, found: Detections, height: int
) -> None:
    ((key, same, pixels),) = given_garments([("k", photo)], lambda *_: found, CUT, 1)
    assert key == "k" and same is found
    assert pixels.shape[0] == height


def test_unreadable_photos_yield_errors_in_order(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no photo")
    names = ["bad.jpg", "a.jpg", "gone.jpg"]
    photos = [(name, tmp_path / name) for name in names]
    results = list(given_garments(photos, whole_photo, CUT, 2))
    assert [key for key, *_ in results] == names
    assert [isinstance(found, PhotoError) for _, found, _ in results] == [True, False, True]
    assert results[0][2] is None and results[1][2] is not None
