"""A detector and torchvision's with the same weights, for the benchmarks that run a network."""

import argparse

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.ops import FrozenBatchNorm2d

from engine.command_line import positive
from engine.config import require
from engine.detection.detector import Detector, build_detector
from tools.benchmarks.reference import reference_model

BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the network, the photos' size and the device."""
    add = parser.add_argument_group("network").add_argument
    add("--backbone", choices=BACKBONES, default="resnet50", help="(default: resnet50)")
    add("--weights", help="a file, imagenet or coco (default: random)")
    add(
        "--short-side",
        type=int,
        default=800,
        help="short side of the resized photo in pixels (default: 800)",
    )
    add(
        "--max-side",
        type=int,
        default=1333,
        help="maximum of its long side in pixels (default: 1333)",
    )
    add("--threads", type=positive, help="CPU threads (default: PyTorch's choice)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)")


def prepare(arguments: argparse.Namespace) -> None:
    """Set the number of threads; InputError for impossible sizes or a missing GPU."""
    short, longest = arguments.short_side, arguments.max_side
    require(
        32 <= short <= longest, f"--short-side {short}: must be from 32 to --max-side {longest}"
    )
    found = arguments.device == "cpu" or torch.cuda.is_available()
    require(found, "--device cuda: this machine has none; use cpu")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)


def twins(arguments: argparse.Namespace, num_classes: int, **limits) -> tuple[Detector, MaskRCNN]:
    """Both models; three stages of the backbone are trainable, its norms are frozen."""
    torch.manual_seed(0)
    weights = arguments.weights
    ours = build_detector(
        num_classes=num_classes,
        backbone=arguments.backbone,
        weights=weights or "imagenet",
        load=weights is not None,
        **limits,
    )
    if not weights:
        _calm(ours)
    theirs = reference_model(ours, arguments.backbone, arguments.short_side, arguments.max_side)
    return ours.to(arguments.device), theirs.to(arguments.device)


def _calm(detector: nn.Module) -> None:
    """Let residual branches add little: random ones would double the activations block by block."""
    for name, module in detector.named_modules():
        if isinstance(module, FrozenBatchNorm2d) and name.endswith(("bn2", "bn3")):
            module.weight.fill_(0.2)
