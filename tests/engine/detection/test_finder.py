"""Duplicates are dropped; photos are decoded as large as given garments need; unreadable ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engine.description.describer import CropSettings
from engine.detection import finder
from engine.detection.detections import Detections
from engine.detection.finder import GarmentFinder, given_garments, whole_photo
from engine.detection.predict import PredictSettings
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


@pytest.mark.parametrize(("overlap", "left"), [(0.5, 2), (0.9, 3)])
def test_duplicates_are_dropped_from_files_and_decoded_photos(monkeypatch, overlap, left) -> None:
    """The second of three boxes overlaps the first by 0.8."""
    found = boxes((0, 0, 100, 100), (0, 0, 100, 80), (200, 0, 300, 100))
    error = PhotoError("unreadable", Path("b.jpg"), "broken")
    seen = [("a", found, None), ("b", error, None)]
    monkeypatch.setattr(finder, "detect_photos", lambda *_, keep_photo: iter(seen))
    monkeypatch.setattr(finder, "detect_photo", lambda *_: found)
    about = {"categories": ["top"], "category_ids": [1], "network": torch.nn.Identity()}
    detector = GarmentFinder(about, PredictSettings(), overlap=overlap, device=torch.device("cpu"))
    (_, from_file, _), (_, same, _) = detector.find([])
    assert len(from_file) == len(detector.find_in(None, (480, 320))) == left and same is error
