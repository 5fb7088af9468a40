"""Predictions for a dataset, with a cheap substitute detector: gathering and evaluation."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.records import Garment, Photo, PhotoRecords
from engine.detection.dataset_predictions import (
    evaluate_detector,
    gather_predictions,
    predict_shard,
)
from engine.detection.predict import PredictSettings, detect_photos
from engine.evaluation.coco_columns import GroundTruth
from tests.color_detector import ColorDetector, write_photo, write_photos
from tests.ranks import run_ranks

CPU = torch.device("cpu")
SMALL = PredictSettings(short_side=64, max_side=96, workers=0)


def make_records(files: list[tuple[int, Path]]) -> PhotoRecords:
    """Photos whose annotations the ColorDetector finds approximately."""
    rng = np.random.default_rng(0)
    photos = []
    for key, path in files:
        ((_, found, _),) = detect_photos(ColorDetector(), [(key, path)], SMALL, CPU)
        garments = []
        for label, box in zip(found.labels, found.boxes, strict=True):
            box = box + rng.normal(0, 2, 4)
            area = float((box[2] - box[0]) * (box[3] - box[1]))
            garments.append(Garment(int(label) - 1, box, area, _polygon(box)))
        photos.append(Photo(path, 1000 - key, found.width, found.height, garments=garments))
    names = {"categories": ["coat", "dress", "hat"], "category_ids": [1, 2, 3]}
    return PhotoRecords.from_photos(photos, root=files[0][1].parent, format="test", **names)


def _polygon(box: np.ndarray) -> list[np.ndarray]:
    x1, y1, x2, y2 = box
    return [np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])]


def judge_on_this_rank(files: list[tuple[int, Path]]) -> dict:
    return evaluate_detector(ColorDetector(), make_records(files), SMALL, CPU)


@pytest.mark.parametrize("count", [7, 31])
def test_one_two_and_three_processes_give_the_same_numbers(tmp_path: Path, count: int) -> None:
    files = write_photos(tmp_path, count)
    alone = judge_on_this_rank(files)
    assert 0.05 < alone["box"]["AP"] < 0.95
    assert alone["mask"]["AP"] != alone["box"]["AP"]
    assert alone["photos"] == count
    for world_size in (2, 3):
        assert run_ranks(world_size, judge_on_this_rank, files) == [alone] * world_size


def test_gathering_is_in_the_order_of_the_records(tmp_path: Path) -> None:
    records = make_records(write_photos(tmp_path, 5))
    shard = predict_shard(ColorDetector(), records, SMALL, CPU)
    gathered = gather_predictions(dict(reversed(shard.items())), records.image_ids)
    assert list(gathered) == [1000, 999, 998, 997, 996]


def gather_ids(*shares: list[int]) -> None:
    from engine import distributed

    shard = dict.fromkeys(shares[distributed.rank()])
    gather_predictions(shard, np.array([3, 5, 8]))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (([3, 5], [5, 8]), r"several ranks: \[5\]"),
        (([3], [8]), r"missing or unknown: \[5\]"),
        (([3, 5], [8, 9]), r"missing or unknown: \[9\]"),
    ],
)
def test_every_photo_must_be_predicted_exactly_once(shares: tuple, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        run_ranks(2, gather_ids, *shares)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda p: write_photo(p, 33, 34, (1, 2, 3))])
def test_photos_deleted_since_reading_count_as_without_detections(
    tmp_path: Path, caplog, monkeypatch, spoil: Callable
) -> None:
    monkeypatch.setattr(logging.getLogger("weft"), "propagate", True)
    records = make_records(write_photos(tmp_path, 7))
    whole = evaluate_detector(ColorDetector(), records, SMALL, CPU)
    spoil(records.path(2))
    metrics = evaluate_detector(ColorDetector(), records, SMALL, CPU, truth=GroundTruth(records))
    assert (whole["unreadable"], metrics["unreadable"], metrics["photos"]) == (0, 1, 7)
    assert metrics["box"]["AR100"] < whole["box"]["AR100"]
    assert [str(records.path(2)) in line.getMessage() for line in caplog.records] == [True]
