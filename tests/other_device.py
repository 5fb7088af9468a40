"""A second device for machines that have one only: finds what a GPU would complain of.

Tensors moved to ``DEVICE`` say that they are there, but their numbers stay in memory here. An
operation on tensors of both places fails, as it would on a GPU, and where the program and the
device wait for one another is noted. Constants made there in passing (``torch.tensor(...,
device=DEVICE)``) fail, too: sending them would make a GPU wait, so they belong into buffers.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")  # nothing real, but PyTorch knows it
HERE = torch.device("cpu")
BRIDGES = {"copy_", "index", "index_put_", "_to_copy", "to"}  # take tensors of both places
WAITING = {"_local_scalar_dense", "nonzero", "nms"}  # their results are needed here
ENGINE = Path(__file__).parents[1] / "engine"


class Elsewhere(torch.Tensor):
    """A tensor on ``DEVICE`` whose numbers are in ``here``."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "Elsewhere":
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset()}
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, here.size(), **layout, dtype=here.dtype, device=DEVICE
        )
        tensor.here = here
        return tensor

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _Device.current.run(function, args, kwargs or {})

    def tolist(self) -> list:
        return self.cpu().tolist()


class _Device(TorchDispatchMode):
    """Runs every operation of the block here, whatever device it asks for."""

    current: "_Device"

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        _Device.current = self

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return self.run(function, args, kwargs or {})

    def run(self, function: Any, args: tuple, kwargs: dict) -> Any:
        name = function._schema.name.partition("::")[2]
        leaves = tree_leaves((args, kwargs))
        there = [leaf for leaf in leaves if isinstance(leaf, Elsewhere)]
        here = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        here = [leaf for leaf in here if not isinstance(leaf, Elsewhere)]
        wanted = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
        if not there and wanted != DEVICE:
            return function(*args, **kwargs)
        mixed = bool(there) and any(tensor.dim() for tensor in here)
        assert not mixed or name in BRIDGES, f"{function} mixes devices"
        moved = name in ("to", "_to_copy") and (wanted == HERE or not there)
        if name in WAITING or mixed or (moved and not kwargs.get("non_blocking")):
            self.waits[_place()] += 1
        answer = function(*tree_map(_bring, args), **tree_map(_bring, kwargs))
        if wanted == HERE:
            return answer
        known = {id(tensor.here): tensor for tensor in there}  # changed in place

        def send(leaf: Any) -> Any:
            new = isinstance(leaf, torch.Tensor) and id(leaf) not in known
            return Elsewhere(leaf) if new else known.get(id(leaf), leaf)

        return tree_map(send, answer)


def _bring(leaf: Any) -> Any:
    if isinstance(leaf, Elsewhere):
        return leaf.here
    return HERE if isinstance(leaf, torch.device) else leaf


def _place() -> str:
    """The innermost line of ours that is running, as "file: code"."""
    ours = [f for f in traceback.extract_stack() if Path(f.filename).is_relative_to(ENGINE)]
    return f"{Path(ours[-1].filename).name}: {ours[-1].line}" if ours else ""


@contextmanager
def other_device() -> Iterator[Counter[str]]:
    """Makes ``DEVICE`` usable in the block; yields how often each line waited so far."""
    autocast = torch.autocast

    def autocast_here(device_type: str, *args: Any, **kwargs: Any) -> torch.autocast:
        return autocast(HERE.type if device_type == DEVICE.type else device_type, *args, **kwargs)

    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    # Else a module that is moved keeps tensors of the ordinary kind.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with patch("torch.autocast", autocast_here), _Device() as device:
            yield device.waits
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
