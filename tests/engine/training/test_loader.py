"""Batches from loader processes: in order, with readable errors."""

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from engine.config import TrainingConfig
from engine.pixels.photos import PhotoError
from engine.training.loader import batches_of

BATCHES = [[2, 3], [5], [7, 11, 13]]


class Numbers(Dataset):
    """Sample i is i; one of them raises InputError."""

    def __init__(self, broken: int | None = None) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return 17

    def __getitem__(self, index: int) -> int:
        if index == self.broken:
            raise PhotoError("truncated", Path("a photo.jpg"), "ends early; export it again")
        return index


def batches(dataset: Dataset, workers: int):
    config = TrainingConfig(output_dir="unused", workers=workers)
    return batches_of(dataset, tuple, BATCHES, config, torch.device("cpu"))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(workers):
    assert list(batches(Numbers(), workers)) == [(2, 3), (5,), (7, 11, 13)]


@pytest.mark.parametrize("workers", [0, 2])
def test_input_errors_are_raised_unchanged_after_earlier_batches(workers):
    made = batches(Numbers(broken=11), workers)
    assert [next(made), next(made)] == [(2, 3), (5,)]
    with pytest.raises(PhotoError) as caught:
        next(made)
    assert str(caught.value) == "a photo.jpg: ends early; export it again"


@pytest.fixture
def spawning():
    """Makes a start method that copies the dataset Python's default."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


def test_loader_processes_share_the_dataset_with_any_default_start_method(spawning):
    numbers = Numbers()
    with Path(__file__).open() as numbers.uncopied:
        assert list(batches(numbers, 1)) == [(2, 3), (5,), (7, 11, 13)]
