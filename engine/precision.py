"""The arithmetic a network runs in, by its name on the command line."""

import torch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context for a forward pass in "fp32" (nothing changes), "bf16" or "fp16"."""
    enabled = precision != "fp32"
    return torch.autocast(device.type, PRECISIONS[precision], enabled=enabled)
