"""Precision and recall at score thresholds, worked by hand on simple boxes."""

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine.data.records import Garment, Photo, PhotoRecords
from engine.detection.detections import Detections
from engine.evaluation.coco_columns import GroundTruth
from engine.evaluation.operating_points import THRESHOLDS, operating_points

SIDE = 100
COAT, DRESS = 1, 2
LEFT, RIGHT, BELOW = (0, 0, 30, 40), (50, 0, 90, 40), (0, 50, 90, 100)


def rle(box: tuple[int, ...]) -> dict:
    bitmap = np.zeros((SIDE, SIDE), np.uint8, order="F")
    x1, y1, x2, y2 = box
    bitmap[y1:y2, x1:x2] = 1
    return coco_mask.encode(bitmap)


def truth_of(*photos: list[tuple]) -> GroundTruth:
    """Per photo (label, box) or (label, box, is crowd) of its garments; ids 30, 20, 10 ..."""
    records = [
        Photo(Path(f"{n}.jpg"), 10 * (len(photos) - n), SIDE, SIDE, garments=[
            Garment(label - 1, np.array(box, float), 1.0, rle(box), crowd=bool(crowd))
            for label, box, *crowd in garments
        ])
        for n, garments in enumerate(photos)
    ]  # fmt: skip
    return GroundTruth(
        PhotoRecords.from_photos(
            records, root=Path(), format="t", categories=["coat", "dress"], category_ids=[1, 2]
        )
    )


def found(*rows: tuple) -> Detections:
    """Detections from (score, label, box), best first."""
    scores, labels, boxes = zip(*rows, strict=True)
    masks = [rle(box) for box in boxes]
    return Detections(
        SIDE, SIDE, np.array(boxes, np.float32), np.array(scores), np.array(labels), masks
    )


def at(points: list[dict], score: float) -> dict:
    return points[THRESHOLDS.index(score)]


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_right_wrong_repeated_and_unannotated_detections_are_counted(kind):
    truth = truth_of([(COAT, LEFT), (DRESS, RIGHT)], [(DRESS, BELOW)], [])
    nearly = (0, 0, 30, 36)
    predictions = {
        30: found(
            (0.9, COAT, LEFT),  # right
            (0.8, COAT, RIGHT),  # a dress
            (0.7, COAT, nearly),  # the coat again
            (0.55, DRESS, BELOW),  # nothing is annotated there
        ),
        20: None,
        10: found((0.5, DRESS, LEFT)),
    }
    points = operating_points(truth, predictions, kind=kind, overlap=1.0)
    assert [point["score"] for point in points] == list(THRESHOLDS)
    assert at(points, 0.3) == {
        "score": 0.3, "found": 5, "precision": 1 / 5, "recall": 1 / 3, "f1": 2 / 8,
        "wrong_name": 1, "repeated": 1,
    }  # fmt: skip
    assert at(points, 0.5)["found"] == 5  # a score at the threshold counts
    assert at(points, 0.75) == {
        "score": 0.75, "found": 2, "precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5,
        "wrong_name": 1, "repeated": 0,
    }  # fmt: skip
    assert at(points, 0.95) == {
        "score": 0.95, "found": 0, "precision": -1.0, "recall": 0.0, "f1": 0.0,
        "wrong_name": 0, "repeated": 0,
    }  # fmt: skip


def test_duplicates_are_removed_as_in_infer():
    truth = truth_of([(COAT, LEFT)])
    predictions = {10: found((0.9, COAT, LEFT), (0.8, DRESS, LEFT))}
    apart = operating_points(truth, predictions, kind="mask", overlap=1.0)
    without_duplicates = operating_points(truth, predictions, kind="mask", overlap=0.4)
    assert (at(apart, 0.5)["found"], at(without_duplicates, 0.5)["found"]) == (2, 1)
    assert at(apart, 0.5)["wrong_name"] == 1


def test_class_agnostic_evaluation_ignores_categories():
    truth = truth_of([(COAT, LEFT), (DRESS, RIGHT)])
    predictions = {10: found((0.9, DRESS, LEFT), (0.8, DRESS, RIGHT))}
    points = operating_points(truth, predictions, kind="box", overlap=1.0, class_agnostic=True)
    assert at(points, 0.5)["precision"] == at(points, 0.5)["recall"] == 1


def test_crowds_count_neither_as_found_nor_as_missed():
    truth = truth_of([(COAT, LEFT), (DRESS, BELOW, True)])
    inside_the_crowd = (10, 60, 40, 90)
    predictions = {10: found((0.9, COAT, LEFT), (0.8, DRESS, inside_the_crowd))}
    point = at(operating_points(truth, predictions, kind="mask", overlap=1.0), 0.5)
    assert (point["found"], point["precision"], point["recall"]) == (1, 1.0, 1.0)


def test_detections_match_the_best_overlap_and_empty_datasets_work():
    near = (4, 0, 30, 40)
    truth = truth_of([(COAT, near), (COAT, LEFT)])
    predictions = {10: found((0.9, COAT, LEFT), (0.8, COAT, near))}
    assert at(operating_points(truth, predictions, kind="box", overlap=1.0), 0.5)["recall"] == 1
    nothing = operating_points(truth_of([], []), {}, kind="box", overlap=0.4)
    assert {(p["found"], p["precision"], p["recall"], p["f1"]) for p in nothing} == {
        (0, -1.0, -1.0, -1.0)
    }
