"""A batch on its way from a loader process: its tensors, side by side in one block of memory."""

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 64  # bytes: a cache line, and a multiple of every dtype's size


def map_nested(item: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """``item`` with ``function`` applied to each ``kind`` in its nested lists, tuples and dicts."""
    if isinstance(item, kind):
        return function(item)
    if isinstance(item, dict):
        return {key: map_nested(value, kind, function) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return type(item)(map_nested(value, kind, function) for value in item)
    return item


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies in the block. It stands for the tensor in the batch."""

    start: int  # bytes
    dtype: torch.dtype
    shape: torch.Size
    strides: tuple[int, ...]

    def tensor_in(self, block: Tensor) -> Tensor:
        storage, start = block.untyped_storage(), self.start // self.dtype.itemsize
        return torch.empty(0, dtype=self.dtype).set_(storage, start, self.shape, self.strides)


class PackedBatch:
    """A batch in one block of shared memory.

    PyTorch sends each tensor on its own, with a file descriptor each: a few batches of photos with
    their boxes, labels and masks exceed the usual limit of 1,024 open files. Where a block cannot
    be shared (a Docker container has 64 MiB of shared memory unless told otherwise), it is copied
    through the pipe between the processes.

    Attributes:
        copied: whether the block arrived as a copy.
    """

    def __init__(self, batch: Any) -> None:
        """Copy the tensors of ``batch``, which keep their values and order in memory."""
        self.size = 0
        self.copied = False
        placed: list[tuple[_Place, Tensor]] = []

        def place(tensor: Tensor) -> _Place:
            # Preserves channels-last photos; a slice of a larger tensor loses its gaps.
            strides = torch.empty_like(tensor, device="meta").stride()
            placed.append((_Place(self.size, tensor.dtype, tensor.shape, strides), tensor))
            self.size += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
            return placed[-1][0]

        self.layout = map_nested(batch, Tensor, place)
        try:
            storage = torch.UntypedStorage._new_shared(self.size)
        except RuntimeError:  # not enough shared memory, which pickling then tries again
            storage = torch.UntypedStorage(self.size)
        self.block = torch.empty(0, dtype=torch.uint8).set_(storage)
        for spot, tensor in placed:
            spot.tensor_in(self.block).copy_(tensor)

    def __getstate__(self) -> dict[str, Any]:
        try:
            block = bytes(ForkingPickler.dumps(self.block))
        except (OSError, RuntimeError):  # no shared memory, or TMPDIR is too long for a socket
            block = self.block.numpy()
        return self.__dict__ | {"block": block}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.copied = isinstance(self.block, np.ndarray)
        self.block = (torch.from_numpy if self.copied else ForkingPickler.loads)(self.block)

    def pin_memory(self) -> "PackedBatch":
        """Move the block to pinned memory. The DataLoader calls it."""
        self.block = self.block.pin_memory()
        return self

    def unpack(self) -> Any:
        """The batch. Its tensors lie in the block and keep it alive."""
        return map_nested(self.layout, _Place, lambda place: place.tensor_in(self.block))
