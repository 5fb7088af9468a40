"""Names, records and pictures of one photo."""

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine.detection.detections import Detections
from engine.errors import InputError
from engine.outputs.results import (
    LONGEST_NAME,
    crop_path,
    garments_record,
    image_id,
    overlay_path,
    save_pictures,
    unreadable_record,
)
from engine.pixels.photos import PhotoError

CATEGORIES = ["top", "short sleeve / dress"]


def two_garments(with_masks: bool = True) -> Detections:
    bitmap = np.zeros((40, 50), np.uint8, order="F")
    bitmap[10:20, 5:25] = 1
    boxes = np.array([[5.126, 10, 25, 20], [0, 0, 50, 40]], np.float32)
    masks = [coco_mask.encode(bitmap), coco_mask.encode(bitmap * 0)] if with_masks else None
    scores = np.array([0.987654321, 0.5], np.float32)
    return Detections(50, 40, boxes, scores, np.array([2, 1]), masks)


def nothing(width: int, height: int) -> Detections:
    boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    return Detections(width, height, boxes, scores, np.zeros(0, np.int64), [])


def test_the_record_of_a_photo_by_hand() -> None:
    found = replace(two_garments(), dropped=3)
    record = garments_record("a/b.jpg", found, CATEGORIES, pictures=True)
    first, second = record.pop("garments")
    assert record == {
        "photo": "a/b.jpg",
        "image_id": 1307414723063420,
        "width": 50,
        "height": 40,
        "dropped": 3,
        "overlay": "overlays/a/b.jpg.jpg",
    }
    mask = first.pop("mask")
    assert coco_mask.area({**mask, "counts": mask["counts"].encode()}) == 200
    assert first == {
        "number": 1,
        "category": "short sleeve / dress",
        "score": 0.98765,
        "box": [5.13, 10.0, 25.0, 20.0],
        "area_share": 0.1,
        "crop": "crops/a/b.jpg/1_short_sleeve_dress.jpg",
    }
    assert second["area_share"] == 0.0


def test_a_record_without_masks_and_pictures() -> None:
    record = garments_record("b.jpg", two_garments(with_masks=False), CATEGORIES, pictures=False)
    assert "overlay" not in record
    assert set(record["garments"][0]) == {"number", "category", "score", "box", "area_share"}
    assert record["garments"][1]["area_share"] == 1.0


def test_the_record_of_an_unreadable_photo() -> None:
    error = PhotoError("empty", "/photos/a.jpg", "the file is empty")
    expected = {"photo": "a.jpg", "kind": "empty", "reason": "the file is empty"}
    assert unreadable_record("a.jpg", error) == expected


def test_image_ids_are_exact_in_float64_and_distinct() -> None:
    ids = {image_id(f"{number}.jpg") for number in range(1000)}
    assert len(ids) == 1000
    assert all(int(float(number)) == number for number in ids)


def test_pictures_are_written_to_the_paths_in_the_record(tmp_path: Path) -> None:
    photo = np.zeros((40, 50, 3), np.uint8)
    photo[10:20, 5:25] = (255, 0, 0)
    found = two_garments()
    save_pictures(tmp_path, "a/b.jpg", found, photo, CATEGORIES)
    record = garments_record("a/b.jpg", found, CATEGORIES, pictures=True)
    assert cv2.imread(str(tmp_path / record["overlay"])).shape == (768, 960, 3)
    crop = cv2.imread(str(tmp_path / record["garments"][0]["crop"]))
    assert crop.shape == (10, 20, 3)
    assert crop[5, 10, 2] > 200 > 50 > crop[5, 10, 0], "the crop is not the red patch"


def test_crops_fit_a_photo_decoded_at_half_size(tmp_path: Path) -> None:
    save_pictures(tmp_path, "b.jpg", two_garments(), np.zeros((20, 25, 3), np.uint8), CATEGORIES)
    crop = cv2.imread(str(tmp_path / crop_path("b.jpg", 1, CATEGORIES[1])))
    assert crop.shape == (5, 11, 3)


def test_crops_too_large_for_jpeg_are_reduced(tmp_path: Path) -> None:
    box = np.array([[0, 0, 70_000, 3]], np.float32)
    found = Detections(70_000, 3, box, np.float32([0.9]), np.array([1]), None)
    save_pictures(tmp_path, "b.jpg", found, np.zeros((3, 70_000, 3), np.uint8), CATEGORIES)
    crop = cv2.imread(str(tmp_path / crop_path("b.jpg", 1, CATEGORIES[0])))
    assert crop.shape == (1, 4096, 3)


@pytest.mark.parametrize("corner", [(5, 4), (2, 1)])
def test_the_crop_of_an_empty_box_is_one_pixel(tmp_path: Path, corner: tuple) -> None:
    found = Detections(5, 4, np.float32([corner * 2]), np.float32([0.9]), np.array([1]), None)
    save_pictures(tmp_path, "b.jpg", found, np.zeros((4, 5, 3), np.uint8), ["t" * 300])
    crop = cv2.imread(str(tmp_path / crop_path("b.jpg", 1, "t" * 300)))
    assert crop.shape == (1, 1, 3)


def test_pictures_of_an_earlier_run_are_replaced(tmp_path: Path) -> None:
    photo = np.zeros((40, 50, 3), np.uint8)
    save_pictures(tmp_path, "b.jpg", two_garments(), photo, CATEGORIES)
    save_pictures(tmp_path, "b.jpg", nothing(50, 40), photo, CATEGORIES)
    assert [p.name for p in tmp_path.rglob("*.jpg") if p.is_file()] == ["b.jpg.jpg"]


def test_too_long_names_are_shortened_and_stay_distinct(tmp_path: Path) -> None:
    long, other = "d/" + "é" * 124 + ".jpg", "d/" + "é" * 124 + ".png"
    assert overlay_path(long) != overlay_path(other)
    photo = np.zeros((4, 5, 3), np.uint8)
    save_pictures(tmp_path, long, nothing(5, 4), photo, CATEGORIES)
    assert (tmp_path / overlay_path(long)).exists()
    assert len(os.fsencode(Path(overlay_path(long)).stem)) <= LONGEST_NAME
    exact = "a" * LONGEST_NAME
    assert overlay_path(exact) == f"overlays/{exact}.jpg" != overlay_path(exact + "a")
    assert overlay_path("a.jpg") != overlay_path("a.png")


def test_a_folder_named_like_an_overlay_has_its_own_pictures(tmp_path: Path) -> None:
    names = ["x.jpg", "x.jpg.jpg/x.jpg", "x.jpg.jpg_/x.jpg", "x.jpg.jpg/a.jpg/y.jpg", "x.jpg_.png"]
    for name in names:
        save_pictures(tmp_path, name, two_garments(), np.zeros((20, 25, 3), np.uint8), CATEGORIES)
    assert all((tmp_path / overlay_path(name)).is_file() for name in names)
    assert len([p for p in tmp_path.rglob("*.jpg") if p.is_file()]) == 3 * len(names)
    assert overlay_path("a.jpg.d/x_.jpg") == "overlays/a.jpg.d/x_.jpg.jpg"


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "overlays").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write .*overlays"):
        save_pictures(tmp_path, "b.jpg", nothing(5, 4), np.zeros((4, 5, 3), np.uint8), [])
