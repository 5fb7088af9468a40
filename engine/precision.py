"""The arithmetic a network runs in, by its name on the command line."""

import functools
import logging

import torch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

logger = logging.getLogger("weft")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context for a forward pass in "fp32" (nothing changes), "bf16" or "fp16".

    On a CPU without instructions for the precision, the log says once that this will be slow.
    """
    enabled = precision != "fp32"
    if enabled and device.type == "cpu":
        warn_if_emulated(precision)
    return torch.autocast(device.type, PRECISIONS[precision], enabled=enabled)


@functools.cache
def warn_if_emulated(precision: str) -> None:
    """Log that this CPU lacks instructions for "bf16" or "fp16", if it does."""
    # PyTorch takes oneDNN's kernels if this says yes, and its own otherwise (or in builds without
    # oneDNN), which are hundreds of times slower than fp32. Nothing public tells the two apart.
    supported = getattr(torch.ops.mkldnn, f"_is_mkldnn_{precision}_supported", None)
    if supported is None or not supported():
        logger.warning(
            "--precision %s: this CPU has no instructions for it, so it is far slower than fp32 "
            "(minutes instead of seconds); leave --precision out",
            precision,
        )
