"""Pooled features of garments from a frozen backbone, computed once and cached."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from engine.backbones import build_body
from engine.data.records import PhotoRecords
from engine.description.multitask import Trunk
from engine.detection.detector import PIXEL_MEAN, PIXEL_STD
from engine.errors import InputError
from engine.files import digest, replacing
from engine.pixels.geometry import whole_pixels
from engine.pixels.photos import read_photo
from engine.pretrained import load_weights

BATCH = 16  # garments
SAVE_EVERY = 32 * BATCH  # garments that an interrupted run may lose


class PooledFeatures:
    """Computes the mean of the last stage's map over a photo.

    Args:
        weights: "imagenet" (downloaded), "none" (random) or a file.
        backbone: one of ``engine.backbones.BACKBONES``.
        stride_in_1x1: whether the weights have the stride on a stage's first 1x1 convolution.
        size: side in pixels of the square that photos are resized to.

    Attributes:
        name: identifies backbone, weights and size; part of the cache's file name.
        dim: numbers per garment.

    Raises:
        InputError: no such weights, or those of another backbone.
    """

    def __init__(
        self,
        weights: str | Path,
        *,
        backbone: str = "resnet50",
        stride_in_1x1: bool = False,
        size: int = 224,
    ) -> None:
        torch.manual_seed(0)
        self.body = build_body(
            backbone, trainable_layers=0, frozen_norm=False, stride_in_1x1=stride_in_1x1
        ).eval()
        self.size, self.dim = size, self.body.channels[-1]
        origin = str(weights)
        if origin != "none":
            network = nn.Module()  # weights are loaded into networks that have a backbone
            network.backbone = Trunk(backbone, self.body)
            load_weights(network, weights)
        if origin not in ("none", "imagenet"):
            origin = digest(Path(weights))[:12]
        self.body.to(memory_format=torch.channels_last)
        self.name = f"{backbone}-{origin}-{'1x1' if stride_in_1x1 else '3x3'}-{size}px"

    @torch.inference_mode()
    def __call__(self, photos: Sequence[np.ndarray]) -> np.ndarray:
        """Photos u8[H,W,3] RGB of any size -> f32[N,dim], not normalized."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
        batch = torch.stack([_square(photo, self.size) for photo in photos]).sub(mean).div(std)
        return self.body(batch.to(memory_format=torch.channels_last))[-1].mean((2, 3)).numpy()


def _square(photo: np.ndarray, size: int) -> Tensor:
    """The whole photo as u8[3,size,size].

    Its aspect ratio changes, because padding it to a square costs a few points of recall.
    """
    square = cv2.resize(photo, (size, size), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(square).permute(2, 0, 1)


def cached_features(network: PooledFeatures, records: PhotoRecords, file: Path) -> np.ndarray:
    """f32[G,dim] of every garment's box; only features that ``file`` lacks are computed.

    An interrupted run keeps the features saved so far.

    Raises:
        PhotoError: a photo cannot be read; a baseline on fewer garments would not be comparable.
    """
    known = _read_cache(file)
    keys = [_key(records, garment) for garment in range(len(records.garment_category))]
    missing = [garment for garment, key in enumerate(keys) if key not in known]
    for start in track(range(0, len(missing), BATCH), f"features of {len(missing)} garments"):
        some = missing[start : start + BATCH]
        rows = network([_cut(records, garment) for garment in some])
        known |= {keys[garment]: row for garment, row in zip(some, rows, strict=True)}
        if (start + BATCH) % SAVE_EVERY == 0:
            _write_cache(file, known)
    if missing:
        _write_cache(file, known)
    return (
        np.stack([known[key] for key in keys]) if keys else np.zeros((0, network.dim), np.float32)
    )


def share_photos(one: PhotoRecords, other: PhotoRecords) -> bool:
    """Whether a photo is in both splits; then one cannot test what is learned on the other."""
    first, second = ({r.path(photo) for photo in range(len(r))} for r in (one, other))
    return not first.isdisjoint(second)


def _window(records: PhotoRecords, garment: int) -> tuple[int, int, int, int]:
    """The garment's box in whole pixels."""
    photo = records.photo_of(garment)
    return whole_pixels(records.garment_box[garment], tuple(records.sizes[photo].tolist()))


def _key(records: PhotoRecords, garment: int) -> str:
    """The photo's path, with the box unless it is the whole photo."""
    photo, window = records.photo_of(garment), _window(records, garment)
    path = str(records.path(photo).resolve())
    return path if window == (0, 0, *records.sizes[photo].tolist()) else f"{path}#{window}"


def _cut(records: PhotoRecords, garment: int) -> np.ndarray:
    x1, y1, x2, y2 = _window(records, garment)
    return read_photo(records.path(records.photo_of(garment)))[y1:y2, x1:x2]


def _read_cache(file: Path) -> dict[str, np.ndarray]:
    if not file.exists():
        return {}
    try:
        with np.load(file, allow_pickle=False) as content:
            return dict(zip(content["keys"].tolist(), content["features"], strict=True))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{file}: damaged; delete it to compute the features again") from error


def _write_cache(file: Path, known: dict[str, np.ndarray]) -> None:
    with replacing(file) as stream:
        np.savez(stream, keys=np.array(list(known)), features=np.stack(list(known.values())))
