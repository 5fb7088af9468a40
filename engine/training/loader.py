"""The batches of one rank, prepared in advance by loader processes."""

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from engine.config import TrainingConfig
from engine.errors import InputError
from engine.training.packed import PackedBatch, map_nested
from engine.training.samplers import RankBatches

logger = logging.getLogger("weft")


class _ErrorsAsValues(Dataset):
    """Returns InputErrors instead of raising them, since torch would add a worker traceback."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Any) -> Any:
        try:
            return self.dataset[draw]
        except InputError as error:
            return error


class _Collate:
    """Collates a batch, or returns the first error among its samples."""

    def __init__(self, collate: Callable[[list], tuple]) -> None:
        self.collate = collate

    def __call__(self, samples: list) -> tuple | PackedBatch | InputError:
        for sample in samples:
            if isinstance(sample, InputError):
                return sample
        batch = self.collate(samples)
        return PackedBatch(batch) if get_worker_info() else batch


def batches_of(
    dataset: Dataset,
    collate: Callable[[list], tuple],
    sampler: RankBatches,
    config: TrainingConfig,
    device: torch.device,
) -> Iterator[tuple]:
    """The batches of ``sampler``, in order; loader processes start once per run.

    Args:
        dataset: maps a Draw to one sample.
        collate: list of samples -> batch.
        sampler: yields lists of Draws.
        config: for the number of loader processes.
        device: where the batches will be used; for a GPU, memory is pinned.

    Raises:
        InputError: raised by the dataset, in any process, or a loader process was killed.
    """
    # One thread per loader process, as PyTorch does for itself. It must be set before the fork:
    # in a forked process OpenCV would wait forever for its parent's threads.
    cv2.setNumThreads(1)
    loader = DataLoader(
        _ErrorsAsValues(dataset),
        batch_sampler=sampler,
        num_workers=config.workers,
        collate_fn=_Collate(collate),
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if config.workers else None,
        # Python 3.14 changed Linux's default start method to one that copies the records into
        # each process.
        multiprocessing_context="fork" if config.workers and sys.platform == "linux" else None,
    )
    for batch in _watched(loader):
        if isinstance(batch, InputError):
            raise batch
        if isinstance(batch, PackedBatch):
            if batch.copied:
                _warn_of_copies()
            batch = batch.unpack()
        yield batch


def _watched(loader: DataLoader) -> Iterator[Any]:
    """The loader's batches.

    Raises:
        InputError: a loader process ended before its work did.
    """
    try:
        yield from loader
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error) and "killed by signal" not in str(error):
            raise
        raise InputError(
            "a loader process was killed, probably for lack of memory: lower -j or -b and repeat "
            "the command; it continues from the last checkpoint"
        ) from error


@functools.cache
def _warn_of_copies() -> None:
    logger.warning(
        "the loader processes cannot share memory (little /dev/shm, or a long TMPDIR), so batches "
        "are copied, which is slower; in a container, use docker run --ipc=host"
    )


def as_lists(samples: list[tuple]) -> tuple[list, list]:
    """Collate without stacking, for networks that take photos of different sizes."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


def to_device(item: Any, device: torch.device) -> Any:
    """Move the tensors in nested lists and dicts, asynchronously if their memory is pinned."""
    return map_nested(item, Tensor, lambda tensor: tensor.to(device, non_blocking=True))
