"""Duplicates are dropped; photos are decoded as large as given garments need; unreadable ones."""

import threading
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engine.backbones import ResNetBody
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
    assert (found.width, found.height, found.scores.tolist()) == (480, 320, [1])


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


def test_the_margin_around_a_garment_counts_too(photo: Path) -> None:
    """A third more on each side: 60 pixels become 100, for which 0.4 of the size is needed."""
    cut = CropSettings(40, 1 / 3)
    ((*_, pixels),) = given_garments([("k", photo)], lambda *_: boxes((90, 90, 150, 150)), cut, 1)
    assert pixels.shape[0] == 160


def test_garments_are_given_by_key_on_all_threads_and_few_photos_ahead(photo: Path) -> None:
    taken, asked, both = [], [], threading.Barrier(2)

    def photos():
        for number in range(10):
            taken.append(number)
            yield number, photo

    def garments(key: int, full_size: tuple[int, int]) -> Detections:
        asked.append((key, full_size))
        both.wait(20)  # for the other thread
        return boxes()

    results = given_garments(photos(), garments, CUT, 2)
    assert next(results)[0] == 0 and len(taken) == 5
    assert [key for key, *_ in results] == list(range(1, 10))
    assert sorted(asked) == [(number, (480, 320)) for number in range(10)]


def test_unreadable_photos_yield_errors_in_order(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no photo")
    names = ["bad.jpg", "a.jpg", "gone.jpg"]
    photos = [(name, tmp_path / name) for name in names]
    results = list(given_garments(photos, whole_photo, CUT, 2))
    assert [key for key, *_ in results] == names
    assert [isinstance(found, PhotoError) for _, found, _ in results] == [True, False, True]
    assert results[0][2] is None and results[1][2] is not None


def make_finder(overlap: float = 0.5, **about) -> GarmentFinder:
    """Its checkpoint is left to it alone."""
    about = {"categories": ["top"], "category_ids": [1], "network": torch.nn.Identity()} | about
    settings = PredictSettings(precision="bf16")
    return GarmentFinder(about, settings, overlap=overlap, device=torch.device("cpu"))


@pytest.mark.parametrize(("overlap", "left"), [(0.5, 2), (0.9, 3)])
def test_duplicates_are_dropped_from_files_and_decoded_photos(monkeypatch, overlap, left) -> None:
    """The second of three boxes overlaps the first by 0.8."""
    found = boxes((0, 0, 100, 100), (0, 0, 100, 80), (200, 0, 300, 100))
    error, pixels = PhotoError("unreadable", Path("b.jpg"), "broken"), np.zeros((2, 3, 3), np.uint8)
    calls = []

    def detect_photos(*given, keep_photo: bool):
        calls.append((*given, keep_photo))
        yield "a", found, pixels
        yield "b", error, None

    def detect_photo(*given) -> tuple[Detections, np.ndarray]:
        calls.append(given)
        return found, pixels[:1]

    monkeypatch.setattr(finder, "detect_photos", detect_photos)
    monkeypatch.setattr(finder, "detect_photo", detect_photo)
    detector = make_finder(overlap)
    (key, from_file, photo), other = detector.find([])
    assert (key, len(from_file)) == ("a", left) and photo is pixels and other == ("b", error, None)
    list(detector.find([], keep_photo=False))
    from_pixels, finer = detector.find_in(pixels, (480, 320), len)
    assert len(from_pixels) == left and finer.shape == (1, 3, 3)
    model, how = detector.model, (detector.settings, detector.device)
    assert calls == [
        (model, [], *how, True),
        (model, [], *how, False),
        (model, pixels, (480, 320), len, *how),
    ]


def test_network_is_built_once_for_its_precision_and_the_weights_are_let_go() -> None:
    weights = torch.zeros(1)
    body = ResNetBody("resnet18", torch.nn.BatchNorm2d, False)
    detector, kept = make_finder(network=body, model={"w": weights}), weakref.ref(weights)
    del weights
    assert detector.model is detector.model is body
    assert body.conv1.folded[0].dtype == torch.bfloat16
    assert kept() is None
