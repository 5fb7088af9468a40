"""Checkpoints: plain dicts of tensors, numbers, strings, lists and dicts.

    checkpoint_latest.pt   everything a run needs to continue exactly
    checkpoint_best.pt     a weights file: the best evaluation's weights, for inference

Both load with ``weights_only=True``, so a file from a stranger cannot run code. A file is written
beside its target and moved over it, so a kill at any moment leaves the old one or the new one.
"""

from pathlib import Path
from typing import Any

import torch

from engine.errors import InputError
from engine.files import replacing

FORMAT = 1
WEIGHTS_KEYS = ("format", "kind", "step", "epoch", "config", "categories", "category_ids",
                "attributes", "labels", "model", "best")  # fmt: skip


def save_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write the dict so that ``path`` always holds a whole checkpoint.

    Raises:
        InputError: when the folder cannot be written (full disk, no permission).
    """
    try:
        with replacing(Path(path)) as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:  # how torch's zip writer reports a full disk
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot write {path}: {reason}; free some space") from error


def remove_stale_temporaries(folder: Path) -> None:
    """Delete what a killed writer left behind. Call on rank 0 before the first save."""
    for leftover in Path(folder).glob(".checkpoint_*.tmp"):
        leftover.unlink(missing_ok=True)


def load_checkpoint(path: str | Path, kind: str | None = None) -> dict[str, Any]:
    """Read a checkpoint or weights file onto the CPU, refusing anything but plain data.

    Args:
        path: the file.
        kind: "detector" or "multitask": what the caller needs it to be; None accepts any.

    Raises:
        InputError: a missing, damaged, foreign or wrong-kind file, named in the message.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for foreign or damaged files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise InputError(f"{path}: not a readable PyTorch weights file ({reason})") from error
    if not isinstance(checkpoint, dict) or not {"format", "kind", "model"} <= checkpoint.keys():
        raise InputError(f"{path}: not one of this project's checkpoints; train one with train.py")
    if checkpoint["format"] != FORMAT:
        found = checkpoint["format"]
        raise InputError(f"{path}: checkpoint format {found}, this version reads {FORMAT}")
    if kind is not None and checkpoint["kind"] != kind:
        raise InputError(f"{path}: holds a {checkpoint['kind']}, but a {kind} is needed here")
    return checkpoint


def weights_of(checkpoint: dict[str, Any], *, half: bool = False) -> dict[str, Any]:
    """The weights file inside a checkpoint: averaged weights when there are any, no training state.

    Args:
        checkpoint: as saved by the training loop.
        half: store floating-point tensors as fp16 (half the size; loaders cast back).
    """
    slim = {key: checkpoint[key] for key in WEIGHTS_KEYS if key in checkpoint}
    state = checkpoint.get("ema") or checkpoint["model"]
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    return slim | {"model": state}
