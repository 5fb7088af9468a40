"""Benchmarks: both ways do the same work, and the report says how they compare."""

import json
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torchvision.models.detection.roi_heads import paste_masks_in_image

from data_aug import DetectorAugmentation
from dataset_helpers import load_dataset
from engine.data.records import Photo, PhotoRecords
from engine.detection import output, roi_heads
from engine.pixels.masks import RLE, to_rle
from engine.training.samplers import Draw
from tests.datasets import write_coco
from tools import benchmark
from tools.benchmarks import evaluation, inference, loader, reference
from tools.benchmarks.memory import WAYS
from tools.benchmarks.photos import enlarge
from tools.benchmarks.timing import compare

NETWORK = ["--backbone", "resnet18", "--short-side", "64", "--max-side", "96", "--rounds", "1"]


@pytest.fixture
def records(tmp_path: Path) -> PhotoRecords:
    """Two photos with three garments, one of them a polygon; the crowd is excluded."""
    found = load_dataset("coco", write_coco(tmp_path / "data")).subset([0, 2])
    return found.keep_garments(~found.garment_crowd)


def report(tmp_path: Path, *arguments: object) -> dict:
    """Run the script in this process; returns its JSON report."""
    file = tmp_path / "new" / "report.json"
    with pytest.raises(SystemExit) as ended:
        benchmark.main([*map(str, arguments), "--json", str(file)])
    assert ended.value.code == 0
    return json.loads(file.read_text())


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    ours, reference = iter([1, 3, 2, 2, 1, 1]), iter([8, 8, 4, 4, 3, 5])
    row = compare(lambda _: next(ours), lambda _: next(reference), items=2, rounds=3)
    assert (row["ratio"], row["ratio_min"], row["ratio_max"]) == (4, 2, 4)
    assert (row["ours_seconds"], row["reference_seconds"]) == (2, 4)


def test_both_loaders_give_the_same_sample(records: PhotoRecords) -> None:
    still = DetectorAugmentation(short_sides=(96,), flip=0, affine=0, **loader.NO_COLOR)
    ours, theirs = loader.both_ways(records, still)
    for index in range(len(records)):
        image, target = ours[Draw(0, index, 0, 0)]
        full, full_target = reference.resizer(still).resize(*theirs[index])
        assert image.shape == full.shape
        assert target["labels"].tolist() == full_target["labels"].tolist()
        np.testing.assert_allclose(target["boxes"], full_target["boxes"], atol=2)
        areas = full_target["masks"].sum((1, 2))
        np.testing.assert_allclose(target["masks"].sum((1, 2)), areas, rtol=0.15)
        assert abs(image / 255.0 - full).mean() < 0.02


def test_enlarged_photos_keep_their_garments(records: PhotoRecords, tmp_path: Path) -> None:
    large = enlarge(records, 180, tmp_path / "large")
    assert large.sizes.min(axis=1).tolist() == [180, 180]
    for i in range(len(records)):
        small_photo, photo = records[i], large[i]
        assert photo.path.is_file()
        factor = 180 / min(small_photo.width, small_photo.height)
        for before, after in zip(small_photo.garments, photo.garments, strict=True):
            np.testing.assert_allclose(after.box, before.box * factor)
            rles = (
                to_rle(before.segmentation, small_photo.height, small_photo.width),
                to_rle(after.segmentation, photo.height, photo.width),
            )
            small_area, area = map(coco_mask.area, rles)
            assert area == pytest.approx(small_area * factor**2, rel=0.15)


def test_loader_and_training_report(records: PhotoRecords, tmp_path: Path) -> None:
    data = ["--data-path", records.root.parent, "--photos", 2]
    sizes = ["--short-sides", 64, "--large", 0, "--rounds", 1]
    found = report(tmp_path, "loader", *data, *sizes)
    assert len(found["rows"]) == 2 * len(loader.AUGMENTATIONS)
    assert all(row["ratio"] > 0 and row["items"] == 2 for row in found["rows"])
    assert report(tmp_path, "training", *data, *NETWORK)["garments"] == [2, 1]


def test_both_networks_find_the_same_number(records: PhotoRecords, tmp_path: Path) -> None:
    data = ["--data-path", records.root.parent, "--photos", 2, "--detections", 3, "--large", 0]
    found = report(tmp_path, "inference", *data, *NETWORK)
    assert found["garments_per_photo"] == [{"ours": 3, "reference": 3}]
    whole, around = found["rows"]
    assert 0 < around["ours_seconds"] < whole["ours_seconds"]
    assert 0 < around["reference_seconds"] < whole["reference_seconds"]


def paste_as_torchvision(
    roi_masks: np.ndarray, boxes: np.ndarray, height: int, width: int
) -> list[RLE]:
    masks, size = torch.from_numpy(roi_masks).float()[:, None], (height, width)
    bitmaps = paste_masks_in_image(masks, torch.from_numpy(boxes), size, padding=1)[:, 0] > 0.5
    return [coco_mask.encode(np.asfortranarray(bitmap.byte().numpy())) for bitmap in bitmaps]


def test_both_networks_find_the_same_masks(
    records: PhotoRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All but for what differs on purpose: where masks lie, what they follow, that they count.
    monkeypatch.setattr(roi_heads, "MASK_SHIFT", 0.0)
    monkeypatch.setattr(output, "paste_to_rles", paste_as_torchvision)
    monkeypatch.setattr(output, "follow_edges", lambda masks, boxes, _: (masks, boxes))
    monkeypatch.setattr(output, "mask_certainty", lambda masks: np.ones(len(masks), np.float32))
    arguments = Namespace(
        backbone="resnet18", weights=None, short_side=64, max_side=96, device="cpu", detections=3
    )
    ours, theirs = inference.both_ways(records, arguments)
    # A random network magnifies any difference: nothing is lost to JPEG, nothing is resized.
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(records.path(0))), (64, 64)))
    mine, other = (
        way(Photo(path, 1, 64, 64)) for way in inference.detectors(ours, theirs, arguments)
    )
    assert coco_mask.area(other).min() > 0
    assert coco_mask.iou(mine.masks, other, [0] * 3).diagonal().min() > 0.95


def test_evaluation_agrees_with_pycocotools(tmp_path: Path) -> None:
    found = report(tmp_path, "evaluation", "--photos", 5, "--classes", 2, "--rounds", 1)
    assert [row["case"] for row in found["rows"]] == list(evaluation.IOU_TYPES)
    assert all(row["numbers_differ_by"] < 1e-9 and row["ratio"] > 0 for row in found["rows"])


def test_memory_reads_every_garment_both_ways(tmp_path: Path) -> None:
    (row,) = report(tmp_path, "memory", "--records", 701, "--workers", 2)["rows"]
    assert row["garments"] == dict.fromkeys(WAYS[1:], 701 + 350)  # every second photo has two
    assert row["ratio"] > 0


def test_search_compares_times_and_memory(tmp_path: Path) -> None:
    sizes = ["--items", 211, "--dimensions", 11, "--queries", 3, "--rounds", 1]
    found = report(tmp_path, "search", *sizes)
    assert [row["case"] for row in found["rows"]] == [
        "1 query",
        "1 query, a tenth passes",
        "3 queries",
        "3 queries, a tenth passes",
        "memory beside the libraries",
    ]
    assert all(row["ratio"] > 0 for row in found["rows"])


def test_bad_numbers_are_refused(capsys) -> None:
    for argv in (
        ["loader", "--photos", "0"],
        ["memory", "--workers", "0"],
        ["training", "--threads", "0"],
        ["search", "--items", "0"],
        ["loader", "--rounds", "0"],
    ):
        with pytest.raises(SystemExit) as ended:
            benchmark.main(argv)
        assert ended.value.code == 2
        assert capsys.readouterr().err.endswith(": must be a whole number from 1 up\n")
