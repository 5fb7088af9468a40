"""Crops of garments -> aspect vectors: by the multitask model, by descriptors, or by both.

embedder = ModelEmbedder(load_checkpoint("runs/m/checkpoint_best.pt", "multitask"), device)
crops, masks = cut_crops(photo, boxes, embedder.crop_size, margin=embedder.margin, masks=masks)
vectors = stack(embedder(crops, masks), embedder.schema)      # f32[N,D], for a database
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from engine.errors import InputError
from engine.labels import ASPECTS
from engine.multitask import build_multitask_from_checkpoint
from engine.precision import autocast
from retrieval import descriptors
from retrieval.features import SCHEMA_VERSION, FeatureSchema

BATCH = 32  # crops per forward pass
DESCRIPTOR_CROP = 192  # px
DESCRIPTOR_MARGIN = 0.1

# What makes two garments the same product, where only descriptors tell.
ITEM_SHARES = {"color": 0.5, "texture": 0.25, "shape": 0.25}
# The model's part of a joint aspect; the rest is the descriptor's.
MODEL_SHARES = {"item": 0.8, "color": 0.5, "texture": 0.7, "shape": 0.7}

Vectors = dict[str, np.ndarray]


class Embedder(Protocol):
    """Calls with crops u8[N,3,S,S] and masks u8[N,S,S], on any device, N from 0 up.

    Returns f32[N,d] per aspect, rows of unit length. Each row depends on its own crop only.

    Attributes:
        schema: of the vectors.
        crop_size, margin: how crops are to be cut (``engine.crops``).
    """

    schema: FeatureSchema
    crop_size: int
    margin: float

    def __call__(self, crops: Tensor, masks: Tensor) -> Vectors: ...


class DescriptorEmbedder:
    """Aspects without any model; ``item`` joins the other three by ITEM_SHARES."""

    def __init__(self, crop_size: int = DESCRIPTOR_CROP, margin: float = DESCRIPTOR_MARGIN) -> None:
        self.crop_size, self.margin = crop_size, margin
        self.dims = descriptors.dimensions()
        dims = {"item": sum(self.dims.values())} | self.dims
        name = f"descriptors {descriptors.VERSION}, {crop_size} px, margin {margin:g}"
        self.schema = _schema(dims, name)

    def __call__(self, crops: Tensor, masks: Tensor) -> Vectors:
        pixels, outlines = crops.permute(0, 2, 3, 1).cpu().numpy(), masks.cpu().numpy()
        found = {name: np.zeros((len(pixels), dim), np.float32) for name, dim in self.dims.items()}
        for i, (crop, mask) in enumerate(zip(pixels, outlines, strict=True)):
            for name, vector in descriptors.describe(np.ascontiguousarray(crop), mask).items():
                found[name][i] = vector
        return found | {"item": join([(found[name], share) for name, share in ITEM_SHARES.items()])}


class ModelEmbedder:
    """The aspects of a multitask model.

    Args:
        checkpoint: as ``engine.checkpoint.load_checkpoint`` reads it.
        device: where to run.
        precision: "fp32", "bf16" or "fp16"; vectors of one model compare whatever it is.

    Raises:
        InputError: the checkpoint's parts contradict each other, or it has learned no aspect.
    """

    def __init__(
        self, checkpoint: Mapping[str, Any], device: torch.device, precision: str = "fp32"
    ) -> None:
        self.model = build_multitask_from_checkpoint(dict(checkpoint))
        self.device, self.precision = device, precision
        self.schema = model_schema(self.model, checkpoint["config"])
        self.crop_size = checkpoint["config"]["crop_size"]
        self.margin = checkpoint["config"]["margin"]
        self.model.to(device)
        if device.type == "cpu":
            self.model.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, crops: Tensor, masks: Tensor) -> Vectors:
        parts: dict[str, list[np.ndarray]] = {
            name: [np.zeros((0, dim), np.float32)] for name, dim in self.schema.aspects
        }
        for start in range(0, len(crops), BATCH):
            rows = (part[start : start + BATCH].to(self.device) for part in (crops, masks))
            with autocast(self.device, self.precision):
                aspects = self.model.describe(*rows)["aspects"]
            for name, vectors in aspects.items():
                parts[name].append(vectors.float().cpu().numpy())
        return {name: np.concatenate(rows) for name, rows in parts.items()}


class JointEmbedder:
    """Model and descriptors side by side in every aspect, weighed by MODEL_SHARES.

    An aspect that the model has not learned is the descriptor's alone.
    """

    def __init__(self, model: ModelEmbedder) -> None:
        self.model = model
        self.crop_size, self.margin = model.crop_size, model.margin
        self.descriptors = DescriptorEmbedder(self.crop_size, self.margin)
        dims = dict(self.descriptors.schema.aspects)
        for name, dim in model.schema.aspects:
            dims[name] += dim
        fingerprints = model.schema.fingerprint, self.descriptors.schema.fingerprint
        shares = ", ".join(f"{name} {share:g}" for name, share in MODEL_SHARES.items())
        self.schema = _schema(dims, " + ".join(fingerprints) + f" ({shares})")

    def __call__(self, crops: Tensor, masks: Tensor) -> Vectors:
        learned, described = self.model(crops, masks), self.descriptors(crops, masks)
        for name, vectors in learned.items():
            share = MODEL_SHARES[name]
            described[name] = join([(vectors, share), (described[name], 1 - share)])
        return described


def build_embedder(
    checkpoint: Mapping[str, Any] | None,
    device: torch.device,
    *,
    with_descriptors: bool = False,
    precision: str = "fp32",
) -> Embedder:
    """The embedder for what there is: without a checkpoint the descriptors, else the model.

    Args:
        checkpoint: of a multitask model, or None.
        device, precision: of the model.
        with_descriptors: join them to the model's aspects.
    """
    if checkpoint is None:
        return DescriptorEmbedder()
    model = ModelEmbedder(checkpoint, device, precision)
    return JointEmbedder(model) if with_descriptors else model


def join(parts: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Unit vectors side by side, so that cosines add up by shares.

    Args:
        parts: (f32[N,d] rows of unit length, share); shares sum to 1.

    Returns:
        f32[N, sum of d], unit length: each part times the square root of its share, hence
        <x, y> = sum of share * <x_part, y_part>.
    """
    joined = np.concatenate([vectors * np.float32(share**0.5) for vectors, share in parts], axis=1)
    return joined / np.maximum(np.linalg.norm(joined, axis=1, keepdims=True), 1e-12)


def model_schema(model: nn.Module, config: Mapping[str, Any]) -> FeatureSchema:
    """What the vectors of a multitask model mean: its weights and how it sees crops.

    Args:
        model: as ``engine.multitask.build_multitask_from_checkpoint`` makes it.
        config: the checkpoint's.

    Raises:
        InputError: the model has learned no aspect.
    """
    if not model.aspects:
        raise InputError("the model was trained without aspects: it gives nothing to search by")
    cut = f"{config['crop_size']} px, margin {config['margin']:g}"
    dims = {name: model.aspect_heads.heads[name].vector.out_features for name in model.aspects}
    return _schema(dims, f"{_digest(model)}, {cut}")


def _schema(dims: Mapping[str, int], fingerprint: str) -> FeatureSchema:
    aspects = tuple((name, dims[name]) for name in ASPECTS if name in dims)
    return FeatureSchema(SCHEMA_VERSION, aspects, fingerprint)


def _digest(model: nn.Module) -> str:
    """Short hash of every weight that the vectors depend on."""
    digest = hashlib.sha256()
    for name, tensor in _weights(model):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()))
    return f"multitask {digest.hexdigest()[:16]}"


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(("backbone.", "aspect_heads.")) and "num_batches" not in name:
            yield name, tensor
