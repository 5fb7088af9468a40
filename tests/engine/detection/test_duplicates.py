"""Removing duplicates, so that one garment is one detection."""

import numpy as np
from pycocotools import mask as coco_mask

from engine.detection.detections import Detections
from engine.detection.duplicates import drop_duplicates


def detections(boxes: list, masks: list | None = None) -> Detections:
    count = len(boxes)
    scores = np.linspace(0.9, 0.5, count).astype(np.float32)
    labels = np.arange(1, count + 1)
    return Detections(100, 80, np.array(boxes, np.float32).reshape(-1, 4), scores, labels, masks)


def rle(box: list, hole: list | None = None) -> dict:
    bitmap = np.zeros((80, 100), np.uint8, order="F")
    for value, part in ((1, box), (0, hole)):
        if part:
            bitmap[part[1] : part[3], part[0] : part[2]] = value
    return coco_mask.encode(bitmap)


def test_the_better_of_two_detections_of_the_same_pixels_is_kept() -> None:
    boxes = [[10, 10, 50, 50], [10, 10, 50, 46], [10, 10, 50, 30]]
    kept = drop_duplicates(detections(boxes, [rle(box) for box in boxes]), 0.6)
    assert kept.labels.tolist() == [1, 3]
    assert kept.scores.tolist() == [np.float32(0.9), np.float32(0.5)]
    assert [coco_mask.area(mask) for mask in kept.masks] == [1600, 800]
    np.testing.assert_array_equal(kept.boxes, np.array(boxes)[[0, 2]])


def test_a_dress_under_an_open_coat_is_kept() -> None:
    coat, dress = [10, 10, 50, 70], [20, 12, 40, 70]
    masks = [rle(coat, dress), rle(dress)]
    assert len(drop_duplicates(detections([coat, coat], masks), 0.3)) == 2
    assert len(drop_duplicates(detections([coat, coat]), 0.3)) == 1


def test_a_dropped_detection_suppresses_no_others() -> None:
    boxes = [[0, 0, 40, 10], [10, 0, 50, 10], [20, 0, 60, 10]]  # neighbors overlap by 0.6
    assert drop_duplicates(detections(boxes), 0.5).labels.tolist() == [1, 3]


def test_overlap_one_keeps_all_and_no_detections_are_accepted() -> None:
    boxes = [[0, 0, 40, 10]] * 3
    assert len(drop_duplicates(detections(boxes), 1.0)) == 3
    assert len(drop_duplicates(detections(boxes), 0.99)) == 1
    assert len(drop_duplicates(detections([], []), 0.5)) == 0


def test_only_selects_rows_of_every_field() -> None:
    found = detections([[10, 10, 50, 50], [0, 0, 9, 9], [20, 20, 30, 30]])
    found.probabilities = np.arange(6, dtype=np.float32).reshape(3, 2)
    some = found.only([2, 0])
    assert some.labels.tolist() == [3, 1] and some.boxes[:, 0].tolist() == [20, 10]
    assert some.probabilities.tolist() == [[4, 5], [0, 1]] and some.masks is None
    assert len(found.only(range(0))) == 0 and found.only([]).probabilities.shape == (0, 2)
