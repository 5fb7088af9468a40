"""Checkpoints: plain dicts of tensors, numbers, strings, lists and dicts.

    checkpoint_latest.pt   everything a run needs to continue exactly
    checkpoint_best.pt     a weights file: the best evaluation's weights, for inference

Both load with ``weights_only=True``, so a file from a stranger cannot run code. A file is written
beside its target and moved over it, so a kill at any moment leaves the old one or the new one.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

from engine.errors import InputError
from engine.files import is_file, replacing

FORMAT = 1
WEIGHTS_KEYS = ("format", "kind", "step", "epoch", "config", "categories", "category_ids",
                "attributes", "labels", "model", "best")  # fmt: skip


def save_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write the dict so that ``path`` always holds a whole checkpoint.

    Raises:
        InputError: when the folder cannot be written (full disk, no permission).
    """
    with replacing(Path(path)) as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:
            # After a failed write torch raises an error about its own state, "unexpected pos".
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_plain(path: Path) -> dict[str, Any]:
    """Load a PyTorch file that holds a dict of tensors and plain data, onto the CPU.

    Raises:
        InputError: it is missing, damaged, or holds anything else.
    """
    if not is_file(path):
        raise InputError(f"{path}: no such weights file")
    try:
        # PyTorch does not verify the zip's checksums: a corrupt download would load.
        damaged = zipfile.ZipFile(path).testzip() if zipfile.is_zipfile(path) else None
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for foreign or damaged files
        raise InputError(
            f"{path}: damaged, or holds more than tensors and plain data (never loaded, since it "
            "could run code); copy it again, or save a state dict instead"
        ) from error
    if damaged:
        raise InputError(f"{path}: damaged ({damaged} has another checksum); copy it again")
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state dict")
    return content


def load_checkpoint(path: str | Path, kind: str | None = None) -> dict[str, Any]:
    """Read a checkpoint or weights file, refusing anything but plain data.

    Args:
        path: the file.
        kind: "detector" or "multitask": what the caller needs it to be; None accepts any.

    Raises:
        InputError: a missing, damaged, foreign or wrong-kind file, named in the message.
    """
    checkpoint = read_plain(Path(path))
    parts = {"format", "kind", "model", "config"}
    if checkpoint.get("kind") == "detector":
        parts |= {"categories", "category_ids"}
    if not parts <= checkpoint.keys() or not isinstance(checkpoint["model"], dict):
        raise InputError(f"{path}: not one of this project's checkpoints; train one with train.py")
    if checkpoint["format"] != FORMAT:
        found = checkpoint["format"]
        raise InputError(f"{path}: checkpoint format {found}, this version reads {FORMAT}")
    if kind is not None and checkpoint["kind"] != kind:
        found = checkpoint["kind"]
        raise InputError(f"{path}: holds a {found} model, but a {kind} model is needed here")
    if len(checkpoint.get("categories", ())) != len(checkpoint.get("category_ids", ())):
        raise InputError(f"{path}: its category_ids do not go with its categories")
    return checkpoint


class NoWeightInit(TorchFunctionMode):
    """Skips weight initialization, which takes half a second, for networks built inside.

    Their weights are uninitialized memory until ``fill`` loads a checkpoint's.
    """

    DRAWS = (init.kaiming_uniform_, init.uniform_, init.normal_, Tensor.uniform_, Tensor.normal_)

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in self.DRAWS:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def fill(model: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Load a checkpoint's weights, the averaged ones if there are any, into a model for inference.

    Entries that only training needs are skipped: the criterion's, and the step counters of batch
    norms, which frozen batch norms lack.

    Raises:
        InputError: the weights are another network's, or not finite.
    """
    state = checkpoint.get("ema") or checkpoint["model"]
    own = model.state_dict().keys()
    spare = {
        name
        for name in state.keys() - own
        if name.startswith("criterion.") or name.endswith("num_batches_tracked")
    }
    try:
        model.load_state_dict({k: v for k, v in state.items() if k not in spare})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise InputError(f"the checkpoint's weights do not fit its own config: {reason}") from error
    # Buffers may be infinite: an infinite variance only makes a channel constant. Summing finds a
    # bad weight in an eighth of the time of an element-wise check.
    whole = all(p.sum().isfinite() for p in model.parameters())
    if not whole or any(b.isnan().any() for b in model.buffers()):
        raise InputError("the checkpoint holds weights that are not finite; train or pack it again")


def weights_of(checkpoint: dict[str, Any], *, half: bool = False) -> dict[str, Any]:
    """The weights file inside a checkpoint: averaged weights when there are any, no training state.

    Args:
        checkpoint: as saved by the training loop.
        half: store tensors of two or more dimensions as fp16 (half the size; loaders cast back).
            Vectors stay fp32, since batch-norm variances can exceed fp16's range.
    """
    slim = {key: checkpoint[key] for key in WEIGHTS_KEYS if key in checkpoint}
    state = checkpoint.get("ema") or checkpoint["model"]
    if half:
        state = {
            k: v.half() if v.is_floating_point() and v.ndim > 1 else v for k, v in state.items()
        }
    return slim | {"model": state}
