"""Batches from loader processes: in order, and errors as the sentences they are."""

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
    """Sample i is i; one of them cannot be read."""

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
def test_an_input_error_arrives_as_it_was_raised_after_the_batches_before(workers):
    made = batches(Numbers(broken=11), workers)
    assert [next(made), next(made)] == [(2, 3), (5,)]
    with pytest.raises(PhotoError) as caught:
        next(made)
    assert str(caught.value) == "a photo.jpg: ends early; export it again"


@pytest.fixture
def spawning():
    """Python's default way to start processes is one that copies what they need."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


def test_loader_processes_share_the_dataset_whatever_python_does_by_default(spawning):
    numbers = Numbers()
    with Path(__file__).open() as numbers.uncopied:
        assert list(batches(numbers, 1)) == [(2, 3), (5,), (7, 11, 13)]
