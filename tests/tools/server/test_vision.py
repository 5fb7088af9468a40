"""An uploaded photo's garments, or the whole photo if there are none."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from engine.description.describer import CropSettings, Description
from engine.detection.detections import Detections
from engine.detection.predict import KEPT_SHORT_SIDE, PredictSettings
from tools.server import vision as module
from tools.server.limits import Limits
from tools.server.vision import Vision

BOXES = np.array([[4.0, 5, 20, 30], [22, 5, 40, 50]], np.float32)


FINER = np.zeros((160, 120, 3), np.uint8)  # as the finder decoded it again
FILE = io.BytesIO()
Image.fromarray(np.full((80, 60, 3), 90, np.uint8)).save(FILE, "PNG")
PHOTO = FILE.getvalue()


class Finder:
    """Detects the given number of bags."""

    categories = ("top", "bag")
    settings = PredictSettings(short_side=32, max_side=64)

    def __init__(self, count: int) -> None:
        self.count = count

    def find_in(self, photo: np.ndarray, full_size: tuple[int, int], read: Callable) -> tuple:
        assert np.array_equal(read(1), photo)
        labels = np.full(self.count, 2)
        found = Detections(*full_size, BOXES[: self.count], np.ones(self.count), labels, None)
        return found, FINER


class Embedder:
    """Describes all given photos, and of found garments those that are named by ``sees``."""

    cut = CropSettings(32, 0.1)

    def __init__(self, sees: list[int]) -> None:
        self.sees = sees

    def describe(self, photo: np.ndarray, found: Detections, categories: list[str]) -> tuple:
        assert photo is FINER
        sees = [i for i in self.sees if i < len(found)]
        seen = found.only(sees if categories else range(len(found)))
        return seen, [Description({}, [], {})] * len(seen), np.ones((len(seen), 3), np.float32)


@pytest.mark.parametrize(
    ("count", "sees", "boxes", "names"),
    [
        (2, [0, 1], BOXES.tolist(), ["bag", "bag"]),
        (2, [1], BOXES[1:].tolist(), ["bag"]),
        (2, [], [[0, 0, 60, 80]], []),  # the detector's finds are none to the other network
        (0, [], [[0, 0, 60, 80]], []),
    ],
)
def test_describes_garments_or_the_whole_photo(
    count: int, sees: list, boxes: list, names: list
) -> None:
    described = Vision(Finder(count), Embedder(sees), Limits()).describe(PHOTO)
    assert described.found.boxes.tolist() == boxes
    assert described.categories == names
    assert len(described.descriptions) == len(described.vectors) == len(boxes)


def test_only_the_best_garments_of_a_crowd_are_described(monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_GARMENTS", 1)
    described = Vision(Finder(2), Embedder([0, 1]), Limits()).describe(PHOTO)
    assert described.found.boxes.tolist() == BOXES[:1].tolist()


def test_photos_are_decoded_as_large_as_detector_and_crops_need() -> None:
    finder = Finder(1)
    finder.settings = PredictSettings(short_side=KEPT_SHORT_SIDE + 100, max_side=9999)
    assert Vision(finder, Embedder([]), Limits())._short_side(3000, 2000) == KEPT_SHORT_SIDE + 100
    for small in (Finder(1), None):
        assert Vision(small, Embedder([]), Limits())._short_side(3000, 2000) == KEPT_SHORT_SIDE
