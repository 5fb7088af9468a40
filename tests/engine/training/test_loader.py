"""Batches from loader processes: in order, with readable errors."""

import logging
import multiprocessing
import os
import resource
import signal
import tempfile
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from engine.config import TrainingConfig
from engine.errors import InputError
from engine.pixels.photos import PhotoError
from engine.training.loader import _warn_of_copies, batches_of

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


class Tensors(Numbers):
    """Sample i is fifty tensors that hold i."""

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        return [torch.tensor(index) for _ in range(50)]


def values(made) -> list[list[int]]:
    return [[{tensor.item() for tensor in sample}.pop() for sample in batch] for batch in made]


def test_batches_of_many_tensors_need_few_open_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = sum(1 for _ in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 60, hard))
    try:
        assert values(batches(Tensors(), 2)) == BATCHES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_shared_memory_batches_arrive_and_the_log_says_so_once(monkeypatch, caplog):
    def refuse(*_):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>")

    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", refuse)
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", refuse)
    _warn_of_copies.cache_clear()
    with caplog.at_level(logging.WARNING, logger="weft"):
        assert values(batches(Tensors(), 2)) == BATCHES
    (message,) = caplog.messages
    assert "cannot share memory" in message


def test_batches_arrive_where_tmpdir_is_too_long_for_a_socket(monkeypatch, tmp_path):
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setitem(multiprocessing.process.current_process()._config, "tempdir", None)
    assert values(batches(Tensors(), 2)) == BATCHES


class Killed(Numbers):
    """Kills the process that asks for sample 11, as the system does when memory runs out."""

    def __getitem__(self, index: int) -> int:
        if index == 11:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_a_killed_loader_process_ends_the_run_with_advice():
    with pytest.raises(InputError, match=r"a loader process was killed.*lower -j"):
        list(batches(Killed(), 2))
