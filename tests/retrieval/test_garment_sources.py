"""Items from detections and from whole photos; those of datasets: test_build_annotated.py."""

from types import SimpleNamespace

import numpy as np

from engine.description.describer import CropSettings, Description
from engine.detection.detections import Detections
from retrieval.garment_sources import DetectedGarments, WholePhotos
from retrieval.store import Item

GROUPS = {"category": True, "color": True, "parts": False}
COLORS = [{"name": "navy", "hex": "#000080", "share": 0.75}]


def described(category: str) -> Description:
    labels = {
        "category": [(category, 0.6), ("skirt", 0.4)],
        "color": [("red", 0.3), ("blue", 0.2)],
        "parts": [("hood", 0.9), ("zip", 0.5), ("lace", 0.49)],
    }
    return Description(labels, [("navy", "#000080", 0.75)], {})


def test_detected_garments_have_the_detectors_category() -> None:
    source = DetectedGarments(SimpleNamespace(categories=["top", "bag"]), GROUPS)
    boxes = np.float32([[1.236, 2, 3, 4], [5, 6, 7, 8]])
    found = Detections(50, 40, boxes, np.float32([0.87654, 0.5]), np.array([2, 1]), None)
    parts = {"color": "red", "hood": "yes", "zip": "yes"}
    extra = [{"colors": COLORS, "score": score} for score in (0.8765, 0.5)]
    assert source.items("a/b.jpg", found, [described("dress"), described("cape")]) == [
        Item("a/b.jpg#1", "a/b.jpg", 1, (1.24, 2, 3, 4), "bag",
             {"described_category": "dress"} | parts, extra=extra[0]),
        Item("a/b.jpg#2", "a/b.jpg", 2, (5, 6, 7, 8), "top",
             {"described_category": "cape"} | parts, extra=extra[1]),
    ]  # fmt: skip


def test_a_whole_photo_has_the_described_category() -> None:
    source = WholePhotos(CropSettings(32, 0.1), 1, GROUPS)
    attributes = {"color": "red", "hood": "yes", "zip": "yes"}
    assert source.items("a.jpg", None, [described("dress")]) == [
        Item("a.jpg#1", "a.jpg", 1, None, "dress", attributes, extra={"colors": COLORS})
    ]
    undescribed = Description({}, [], {})
    assert source.items("a.jpg", None, [undescribed]) == [
        Item("a.jpg#1", "a.jpg", 1, extra={"colors": []})
    ]
