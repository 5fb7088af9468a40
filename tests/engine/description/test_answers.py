"""The model's words in a dataset's numbers: one answer or several, other spellings, other sets."""

from pathlib import Path

import numpy as np

from engine.data.records import AttributeGroup, PhotoRecords
from engine.description.answers import DescribedDetections
from engine.description.describer import Description
from engine.detection.detections import Detections

RECORDS = PhotoRecords.from_photos(
    [],
    root=Path("/p"),
    format="test",
    categories=["coat"],
    category_ids=[1],
    attributes=["Red", "blue", "zip", "Hood", "frill", "long"],
    attribute_groups=[
        AttributeGroup("Color", 0, 2, exclusive=True),
        AttributeGroup("parts", 2, 5, exclusive=False),
        AttributeGroup("length", 5, 6, exclusive=True),
    ],
)
BOXES = np.array([[0, 0, 4, 4], [5, 5, 9, 9], [5, 5, 9, 8]])
TWICE = Detections(9, 9, BOXES, np.array([0.9, 0.8, 0.7]), np.ones(3, np.int64), None)
FOUND = TWICE.only([0, 1])


class FakeDescriber:
    """Says the given, and notes what it was asked."""

    def __init__(self, groups: dict[str, bool], *labels: dict) -> None:
        self.groups = groups
        self.descriptions = [Description(own, [], {}) for own in labels]

    def describe(self, photo, found, categories):
        self.asked = photo, found, categories
        return found.only([1, 0]), self.descriptions


def test_predictions_become_a_datasets_attributes() -> None:
    describer = FakeDescriber(
        {"color": True, "parts": False, "fabric": True},
        {
            "color": [("red", 0.4), ("green", 0.3)],  # the likeliest, though it is not likely
            "parts": [("frill", 0.9), ("hood", 0.5), ("zip", 0.49)],
            "fabric": [("wool", 1.0)],
        },
        {"color": [("green", 0.9)], "parts": [("ribbon", 0.8), ("zip", 0.1)], "fabric": []},
    )
    described = DescribedDetections(describer, ["coat"], RECORDS, overlap=0.4)
    photo = np.zeros((9, 9, 3), np.uint8)
    found = described(photo, TWICE)
    assert describer.asked[0] is photo
    assert describer.asked[1].boxes.tolist() == FOUND.boxes.tolist()  # each garment once
    assert describer.asked[2] == ["coat"]
    expected = [[True, False, False, True, True, False], [False] * 6]
    assert found.attributes.tolist() == expected
    assert len(found) == 2


def test_a_model_without_the_datasets_attributes_adds_none() -> None:
    describer = FakeDescriber({"fabric": True}, {}, {})
    described = DescribedDetections(describer, ["coat"], RECORDS, overlap=0.4)
    assert described(np.zeros((9, 9, 3), np.uint8), FOUND).attributes is None


def test_no_garments() -> None:
    describer = FakeDescriber({"color": True})
    described = DescribedDetections(describer, ["coat"], RECORDS, overlap=0.4)
    assert described.to_attributes([]).shape == (0, 6)
