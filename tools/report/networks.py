"""Builds the networks to report on by name, with inputs to call them with."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from engine.checkpoint import load_checkpoint
from engine.config import require
from engine.cost.network_graph import dilate, trace, without_last
from engine.data.labels import LabelGroup, LabelSpace
from engine.description.multitask import build_multitask, build_multitask_from_checkpoint
from engine.detection.detector import (
    PIXEL_MEAN,
    PIXEL_STD,
    SIZE_DIVISOR,
    build_detector,
    build_from_checkpoint,
)
from engine.detection.predict import PredictSettings
from engine.errors import InputError
from engine.pretrained import CLASSIFIER, read_state

FAMILIES = (models, models.detection, models.segmentation)
OURS = ("detector", "multitask")


@dataclass
class Network:
    """A network to report on.

    Attributes:
        title: shown in the report.
        model: the whole network, in evaluation mode.
        inputs: arguments for a call.
        body: the part that computes feature maps of a f32[1,3,H,W] picture, with its pyramid.
        size: (height, width) of the picture in pixels.
    """

    title: str
    model: nn.Module
    inputs: tuple[Any, ...]
    body: nn.Module
    size: tuple[int, int]


def names() -> list[str]:
    """Every network that ``build`` knows by name."""
    return [*OURS, *(name for family in FAMILIES for name in models.list_models(module=family))]


def build(arguments: argparse.Namespace) -> Network:
    """The network that the command line names, modified by --drop-last and --dilate.

    Raises:
        InputError: an unknown name, weights that do not match, or an impossible modification.
    """
    name = arguments.network
    changes = arguments.drop_last is not None or arguments.dilate
    if name in OURS:
        require(not changes, f"{name}: --drop-last and --dilate are for torchvision's networks")
        return (_detector if name == "detector" else _multitask)(arguments)
    require(name in names(), f"{name}: no network of that name; see --list")
    network = _torchvision(arguments)
    if not changes:
        return network
    require(network.body is network.model, f"{name}: --drop-last and --dilate are for classifiers")
    return _changed(network, arguments.drop_last, arguments.dilate)


def noise(size: tuple[int, int]) -> Tensor:
    """u8[3,H,W]: random pixels, the same every time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator)


def normalize(image: Tensor) -> Tensor:
    """u8[3,H,W] RGB -> f32[1,3,H,W] as all of these networks' bodies expect it."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    return ((image - mean) / std)[None]


def _torchvision(arguments: argparse.Namespace) -> Network:
    name, batch = arguments.network, arguments.batch_size
    torch.manual_seed(0)
    options: dict[str, Any] = {"weights": None}
    if name in models.list_models(module=models.detection):
        options["weights_backbone"] = None
        size = arguments.size or (800, 800)
        model = models.get_model(name, **options).eval()
        images = [noise(size) / 255 for _ in range(batch)]
        inputs, body = (images,), model.backbone
    else:
        if name in models.list_models(module=models.segmentation):
            options["weights_backbone"] = None
        if name in ("googlenet", "inception_v3"):  # auxiliary heads are for training; slow to build
            options |= {"aux_logits": False, "init_weights": False}
        size = arguments.size or _trained_size(name)
        model = models.get_model(name, **options).eval()
        inputs, body = (normalize(noise(size)).expand(batch, -1, -1, -1).contiguous(),), model
    if arguments.weights:
        _load(model, arguments.weights, name)
    return Network(name, model, inputs, body, size)


def _load(model: nn.Module, path: Path, name: str) -> None:
    """Load a state dict, which may lack the classifier.

    Raises:
        InputError: it belongs to another network.
    """
    try:
        found = model.load_state_dict(read_state(path), strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise InputError(f"{path}: not weights of {name}: {reason}") from error
    body = [k for k in found.missing_keys if not k.startswith(CLASSIFIER)]
    odd = [k for k in (*body, *found.unexpected_keys) if not k.endswith("num_batches_tracked")]
    require(not odd, f"{path}: not weights of {name}: {len(odd)} tensors are missing or too many")


def _trained_size(name: str) -> tuple[int, int]:
    """(height, width) at which torchvision evaluates its own weights."""
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    size = getattr(transforms, "crop_size", None) or transforms.resize_size
    return size[0], size[0]


def _changed(network: Network, drop_last: int | None, halvings: int) -> Network:
    """The body alone, with fewer blocks or dilated."""
    image = network.inputs[0][:1]
    body, title = network.model, network.title
    if halvings:
        dilate(body, image, halvings)
        title += f", last {halvings} halvings dilated"
    body = without_last(trace(body, image), drop_last or 0)
    title += f", without its head and {drop_last} blocks" if drop_last else ", without its head"
    return Network(title, body, network.inputs, body, network.size)


def _detector(arguments: argparse.Namespace) -> Network:
    torch.manual_seed(0)
    config: dict[str, Any] = {}
    if arguments.weights:
        checkpoint = load_checkpoint(arguments.weights, "detector")
        config = checkpoint["config"]
        model = build_from_checkpoint(checkpoint)
    else:
        model = build_detector(num_classes=13, backbone=arguments.backbone, load=False).eval()
    model.roi_heads.score_threshold = 0.0
    model.roi_heads.detections_per_image = arguments.garments
    seen = PredictSettings.as_evaluated(config)
    size = arguments.size or (_rounded(min(1.5 * seen.short_side, seen.max_side)), seen.short_side)
    images = [noise(size) for _ in range(arguments.batch_size)]
    title = f"detector {model.arch} {model.backbone.name}, {arguments.garments} garments per photo"
    canvas = (_rounded(size[0]), _rounded(size[1]))
    return Network(title, model, (images,), model.backbone, canvas)


def _rounded(side: float) -> int:
    return -(-int(side) // SIZE_DIVISOR) * SIZE_DIVISOR


def _multitask(arguments: argparse.Namespace) -> Network:
    torch.manual_seed(0)
    config: dict[str, Any] = {}
    if arguments.weights:
        checkpoint = load_checkpoint(arguments.weights, "multitask")
        config = checkpoint["config"]
        model = build_multitask_from_checkpoint(checkpoint)
    else:
        # DeepFashion's labels: 50 categories, 1000 attributes.
        groups = (
            LabelGroup("category", tuple(map(str, range(50))), True),
            LabelGroup("attributes", tuple(map(str, range(1000))), False),
        )
        model = build_multitask(LabelSpace(groups, ()), trunk=arguments.backbone, load=False).eval()
    side = config.get("crop_size", 224)
    size = arguments.size or (side, side)
    require(size[0] == size[1], f"--size {size[0]} {size[1]}: multitask reads square crops")
    images = torch.stack([noise(size)] * arguments.batch_size)
    title = f"multitask {model.backbone.name}, {', '.join(model.tasks)}"
    return Network(title, model, (images,), model.backbone.body, size)
