"""COCO result files: a round trip, and everything that must not be evaluated."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine.data.readers.coco_results import read_results
from engine.data.records import Garment, Photo, PhotoRecords
from engine.detection.detections import Detections, to_coco_results
from engine.errors import InputError
from engine.evaluation.coco_columns import GroundTruth
from engine.evaluation.coco_metrics import evaluate_all

WIDTH, HEIGHT = 31, 23


@pytest.fixture
def records() -> PhotoRecords:
    box = np.array([2.0, 3, 20, 17])
    polygon = np.array([[2.0, 3], [20, 3], [20, 17], [2, 17]])
    garments = [Garment(1, box, 252.0, [polygon])]
    return PhotoRecords.from_photos(
        [Photo(Path(f"/p/{i}.jpg"), i, WIDTH, HEIGHT, garments=garments) for i in (40, 3)],
        root=Path("/p"),
        format="test",
        categories=["coat", "dress"],
        category_ids=[7, 4],
    )


def mask(seed: int) -> dict:
    bitmap = np.random.default_rng(seed).random((HEIGHT, WIDTH)) < 0.5
    return coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def entry(**changes: object) -> dict:
    """A valid entry with some fields changed, or removed (None)."""
    good = {"image_id": 3, "category_id": 4, "bbox": [2, 3, 18, 14], "score": 0.5} | changes
    return {name: value for name, value in good.items() if value is not None}


def test_written_results_are_read_back_exactly(tmp_path: Path, records: PhotoRecords) -> None:
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 10, (5, 4)).astype(np.float32)
    boxes[:, 2:] += 11
    scores = np.array([0.9, 0.7, 0.7, 0.3, 0.1], np.float32)
    labels, masks = np.array([1, 2, 1, 2, 2]), [mask(i) for i in range(5)]
    found = Detections(WIDTH, HEIGHT, boxes, scores, labels, masks)
    results = to_coco_results(3, found, records.category_ids)
    again = read_results(write(tmp_path / "r.json", results), records)
    assert list(again) == [40, 3]
    assert len(again[40]) == 0
    assert again[40].masks == []
    read = again[3]
    assert (read.width, read.height) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(read.boxes.astype(np.float32), boxes)
    np.testing.assert_array_equal(read.scores, scores)
    np.testing.assert_array_equal(read.labels, labels)
    assert read.masks == masks
    truth = GroundTruth(records)
    assert evaluate_all(truth, again) == evaluate_all(truth, {40: again[40], 3: found})


def test_attributes_are_read(tmp_path: Path, records: PhotoRecords) -> None:
    described = records.with_columns({}, attributes=["a", "b", "c"], attribute_ids=[7, 0, 5])
    predicted = np.array([[True, False, True], [False, False, False]])
    boxes = np.array([[1.0, 1, 5, 5], [2, 2, 8, 9]])
    labels = np.array([1, 2])
    found = Detections(
        WIDTH, HEIGHT, boxes, np.array([0.9, 0.4]), labels, None, attributes=predicted
    )
    results = to_coco_results(3, found, records.category_ids, described.attribute_ids)
    assert [result["attribute_ids"] for result in results] == [[7, 5], []]
    path = write(tmp_path / "r.json", results)
    again = read_results(path, described)
    assert again[3].attributes.tolist() == predicted.tolist()
    assert again[40].attributes.shape == (0, 3)
    assert read_results(path, records)[3].attributes is None  # of a set without attributes

    for bad, message in (([7, 4], "attribute id 4 is not one"), (None, "no list attribute_ids"),
                         (["7"], "attribute id"), ([True], "attribute id")):  # fmt: skip
        entries = [entry(attribute_ids=[7]), entry(attribute_ids=bad)]
        with pytest.raises(InputError, match=message):
            read_results(write(tmp_path / "bad.json", entries), described)


def test_results_with_boxes_only(tmp_path: Path, records: PhotoRecords) -> None:
    found = read_results(write(tmp_path / "r.json", [entry(), entry(score=0.75)]), records)
    assert found[3].scores.tolist() == [0.75, 0.5]
    assert found[3].boxes.tolist() == [[2, 3, 20, 17]] * 2
    assert found[3].labels.tolist() == [2, 2]
    assert found[3].masks is None
    assert found[40].masks is None


def test_masks_of_every_form_without_boxes(tmp_path: Path, records: PhotoRecords) -> None:
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    bitmap[3:17, 2:20] = 1
    rle = coco_mask.encode(bitmap)
    runs = np.diff(np.flatnonzero(np.diff(bitmap.ravel("F"), prepend=2, append=2))).tolist()
    forms = [
        {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
        {"size": [HEIGHT, WIDTH], "counts": runs},
        [[2, 3, 20, 3, 20, 17, 2, 17]],
    ]
    entries = [entry(bbox=None, segmentation=form) for form in forms]
    found = read_results(write(tmp_path / "r.json", entries), records)[3]
    assert found.boxes.tolist() == [[2, 3, 20, 17]] * 3
    assert found.masks == [rle] * 3


def test_an_empty_mask_is_accepted(tmp_path: Path, records: PhotoRecords) -> None:
    nothing = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    found = read_results(write(tmp_path / "r.json", [entry(segmentation=nothing)]), records)
    assert coco_mask.area(found[3].masks[0]) == 0
    assert evaluate_all(GroundTruth(records), found)["mask"]["AP"] == 0


def test_class_agnostic_reading_ignores_category_ids(tmp_path: Path, records: PhotoRecords) -> None:
    path = write(tmp_path / "r.json", [entry(category_id=1), entry(category_id=None)])
    found = read_results(path, records, class_agnostic=True)
    assert found[3].labels.tolist() == [1, 1]


def test_an_empty_list_gives_no_detections(tmp_path: Path, records: PhotoRecords) -> None:
    found = read_results(write(tmp_path / "r.json", []), records)
    assert {image_id: len(one) for image_id, one in found.items()} == {40: 0, 3: 0}


RLE = {"size": [HEIGHT, WIDTH]}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry(image_id=5), "image_id 5 is not one of"),
        (entry(image_id="3"), "image_id"),
        (entry(image_id=None), "image_id"),
        (entry(category_id=1), "category_id 1 is not one of"),
        (entry(category_id=[]), "category_id"),
        (entry(score=None), "is not a number"),
        (entry(score="0.5"), "is not a number"),
        (entry(score=float("nan")), "score nan"),
        (entry(bbox=None), "neither bbox nor segmentation"),
        (entry(bbox=[1, 2, 3]), "is not [x, y, width, height]"),
        (entry(bbox={"x": 1}), "is not [x, y, width, height]"),
        (entry(bbox=[1, 2, -3, 4]), "a negative side"),
        (entry(bbox=[1, 2, float("inf"), 4]), "not finite"),
        (entry(bbox=[1, 2, "3", 4]), "is not a number"),
        ("not a detection", "not an object"),
        (None, "not an object"),
    ],
)
def test_invalid_entries_are_refused_by_position(
    tmp_path: Path, records: PhotoRecords, bad: object, message: str
) -> None:
    path = write(tmp_path / "r.json", [entry(), bad])
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read_results(path, records)
    assert str(error.value).startswith(f"{path}: entry 1 (counted from 0): ")


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "no segmentation, while the first entry has one"),
        ({"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]}, "mask size"),
        (RLE | {"counts": [5, 5]}, "do not add up"),
        (RLE | {"counts": [-5, HEIGHT * WIDTH + 5]}, "RLE counts"),
        (RLE | {"counts": [0, 2**40]}, "RLE counts"),
        (RLE | {"counts": "52203"}, "do not add up"),
        (RLE | {"counts": "oooooooooooooo"}, "RLE"),
        (RLE | {"counts": "\u20ac"}, "RLE counts"),
        (RLE | {"counts": ""}, "RLE counts"),
        (RLE | {"counts": None}, "RLE counts"),
        ({}, "mask size"),
        ([], "empty segmentation"),
        ([[1, 2, 3, 4]], "no usable polygon"),
        ([[1, 2, 3, 4, 5, "6"]], "is not a list of numbers"),
        ("mask", "segmentation"),
    ],
)
def test_invalid_masks_are_refused_by_position(
    tmp_path: Path, records: PhotoRecords, segmentation: object, message: str
) -> None:
    good = RLE | {"counts": mask(0)["counts"].decode()}
    entries = [entry(segmentation=good), entry(segmentation=segmentation)]
    with pytest.raises(InputError, match=re.escape(message)):
        read_results(write(tmp_path / "r.json", entries), records)


@pytest.mark.parametrize("content", ["{}", '{"annotations": []}', "3", "[1, 2", "\x00", ""])
def test_files_that_are_not_result_files_are_refused(tmp_path: Path, records, content: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_results(path, records)
    with pytest.raises(InputError, match="cannot be read"):
        read_results(tmp_path / "none.json", records)
