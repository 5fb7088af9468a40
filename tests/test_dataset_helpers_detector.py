"""Training samples of the detector: unreadable photos, labels."""

from pathlib import Path

import pytest
import torch

from dataset_helpers import DetectionDataset, load_dataset
from engine.errors import InputError
from engine.pixels.photos import PhotoError
from engine.training.samplers import Draw
from tests.datasets import write_coco


def test_a_detector_needs_categories(tmp_path: Path) -> None:
    records = load_dataset("coco", write_coco(tmp_path), category="none")
    with pytest.raises(InputError, match="some garments have no category"):
        DetectionDataset(records, Transform(set()))
    DetectionDataset(records, Transform(set()), class_agnostic=True)


class Transform:
    """Stands in for the augmentation: reports which photo was asked for."""

    def __init__(self, broken: set[int]) -> None:
        self.broken = broken

    def __call__(self, draw: Draw):
        if draw.index in self.broken:
            raise PhotoError("unreadable", f"{draw.index}.jpg", "broken")
        image = torch.full((3, 4, 4), draw.index, dtype=torch.uint8)
        return image, {"labels": torch.tensor([2, 1, 2]), "copy": draw.copy}


def test_unreadable_photos_are_replaced_by_the_next_readable_one(tmp_path: Path, caplog) -> None:
    records = load_dataset("coco", write_coco(tmp_path))
    dataset = DetectionDataset(records, Transform({1, 2}))
    assert len(dataset) == 3
    for wanted, got in ((0, 0), (1, 0), (2, 0), (1, 0)):
        image, target = dataset[Draw(epoch=0, index=wanted, copy=5, batch=0)]
        assert image.unique().tolist() == [got]
        assert target["copy"] == 5
    assert caplog.text.count("1.jpg") == 1 and caplog.text.count("2.jpg") == 1


def test_strict_or_hopeless_photos_end_the_training(tmp_path: Path) -> None:
    records = load_dataset("coco", write_coco(tmp_path))
    with pytest.raises(PhotoError):
        DetectionDataset(records, Transform({1}), strict=True)[Draw(0, 1, 0, 0)]
    with pytest.raises(InputError, match="no photo can be read"):
        DetectionDataset(records, Transform({0, 1, 2}))[Draw(0, 1, 0, 0)]


def test_class_agnostic_labels(tmp_path: Path) -> None:
    records = load_dataset("coco", write_coco(tmp_path))
    for agnostic, expected in ((False, [2, 1, 2]), (True, [1, 1, 1])):
        dataset = DetectionDataset(records, Transform(set()), class_agnostic=agnostic)
        assert dataset[Draw(0, 0, 0, 0)][1]["labels"].tolist() == expected
