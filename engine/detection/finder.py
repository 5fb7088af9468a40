"""Sources of garments: the detector without duplicates, annotations, or the whole photo.

All of them yield the same tuples, ``Found``.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from engine.backbones import prepare_for_inference
from engine.description.describer import CropSettings
from engine.detection.detections import Detections
from engine.detection.detector import build_from_checkpoint
from engine.detection.duplicates import drop_duplicates
from engine.detection.predict import PredictSettings, detect_photo, detect_photos
from engine.pixels.crops import crop_square
from engine.pixels.photos import PhotoError, photo_size, read_photo
from engine.threads import map_ahead, threads

Keyed = Iterable[tuple[Hashable, Path]]  # (key, photo file)
# (key, garments or the photo's error, decoded photo u8[H,W,3] or None)
Found = tuple[Hashable, Detections | PhotoError, np.ndarray | None]


class GarmentFinder:
    """A detector with duplicate removal; its network is built on first use.

    Args:
        checkpoint: from ``engine.checkpoint.load_checkpoint``, or an exported model from
            ``engine.onnx_runtime.load_exported``.
        settings: sizes, batching, threads, precision.
        overlap: see ``engine.detection.duplicates.drop_duplicates``.
        device: where to run.

    Attributes:
        model: the network; raises InputError if the checkpoint is inconsistent.
    """

    def __init__(
        self,
        checkpoint: dict[str, Any],
        settings: PredictSettings,
        *,
        overlap: float,
        device: torch.device,
    ) -> None:
        self._checkpoint = checkpoint
        self.settings, self.overlap, self.device = settings, overlap, device
        self.categories: list[str] = checkpoint["categories"]
        self.category_ids: list[int] = checkpoint["category_ids"]

    @cached_property
    def model(self) -> nn.Module:
        network = self._checkpoint.get("network") or build_from_checkpoint(self._checkpoint)
        self._checkpoint = {}  # do not hold the weights twice
        return prepare_for_inference(network, self.device, self.settings.precision)

    def find(self, photos: Keyed, *, keep_photo: bool = True) -> Iterator[Found]:
        """``engine.detection.predict.detect_photos`` without duplicates."""
        results = detect_photos(
            self.model, photos, self.settings, self.device, keep_photo=keep_photo
        )
        for key, found, photo in results:
            if isinstance(found, Detections):
                found = drop_duplicates(found, self.overlap)
            yield key, found, photo

    def find_in(
        self, photo: np.ndarray, full_size: tuple[int, int], read: Callable[[int], np.ndarray]
    ) -> tuple[Detections, np.ndarray]:
        """``engine.detection.predict.detect_photo`` without duplicates."""
        found, photo = detect_photo(self.model, photo, full_size, read, self.settings, self.device)
        return drop_duplicates(found, self.overlap), photo


def given_garments(
    photos: Keyed,
    garments: Callable[[Hashable, tuple[int, int]], Detections],
    cut: CropSettings,
    workers: int,
) -> Iterator[Found]:
    """Photos with known garments, decoded no larger than needed for sharp crops.

    Args:
        photos: (key, file) pairs.
        garments: (key, (width, height) of the photo) -> its garments.
        cut: size and margin of the crops.
        workers: number of decoding threads.

    Yields:
        ``Found`` in the order of ``photos``.
    """

    def load(photo: tuple[Hashable, Path]) -> Found:
        key, path = photo
        try:
            full_size = photo_size(path)
            found = garments(key, full_size)
            return key, found, read_photo(path, min_short_side=_needed_short_side(found, cut))
        except PhotoError as error:
            return key, error, None

    with threads(workers) as pool:
        yield from map_ahead(pool, load, photos, 2 * workers)


def _needed_short_side(found: Detections, cut: CropSettings) -> int:
    """Short side in pixels at which the crop of the smallest garment is still sharp."""
    full_size = found.width, found.height
    squares = [crop_square(box, full_size, cut.margin) for box in found.boxes]
    scales = [cut.size / (square[2] - square[0]) for square in squares]
    return math.floor(min(full_size) * max(scales, default=0))


def whole_photo(_key: Hashable, full_size: tuple[int, int]) -> Detections:
    """The photo as its only garment; for ``given_garments``."""
    box = np.array([[0, 0, *full_size]], np.float64)
    return Detections(*full_size, box, np.ones(1, np.float32), np.zeros(1, np.int64), None)
