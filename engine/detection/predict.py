"""Runs the detector over photos: decode, resize, batch, infer, post-process.

The steps overlap in threads (OpenCV releases the GIL). Each is a bounded number of photos ahead of
the next, so memory does not grow with the number of photos:

    threads: decode, resize -> main thread: batch by padded shape, run -> threads: paste, encode
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from engine import distributed
from engine.config import flag_of, require
from engine.detection.close_ups import combine, half_size
from engine.detection.detections import Detections
from engine.detection.detector import SIZE_DIVISOR
from engine.detection.output import read_output
from engine.detection.zoom import small_garments
from engine.pixels.geometry import (
    detector_size,
    move_box,
    resize,
    shrink,
    stretching,
    translation,
    warp,
)
from engine.pixels.photos import PhotoError, photo_size, read_photo
from engine.precision import autocast
from engine.threads import map_ahead, threads

# Smallest short side, in pixels, of the decoded photos that are yielded (unless the original is
# smaller), since the detector's input size may be too coarse for crops and pictures.
KEPT_SHORT_SIDE = 720

SECONDS_PER_LINE = 60.0  # between progress lines if stderr is not a terminal

logger = logging.getLogger("weft")


@dataclass(frozen=True)
class PredictSettings:
    """Sizes, batching, threads and precision of the inference of a detector.

    Attributes:
        short_side, max_side: photos are resized to this short side, in pixels, unless the long side
            would exceed max_side.
        mirror: average the detector's outputs for the photo and its mirror image.
        close_up: size of a garment from which on its photo is a close-up, whose large garments are
            detected at half the photo's size (see ``engine.detection.close_ups``); 0 = off.
        zoom: size of the largest garment below which the part of the photo that shows garments is
            enlarged (see ``engine.detection.zoom``); 0 = off.
        score_threshold: detections with lower scores are dropped, in addition to the model's own
            threshold.
        batch_size: photos per forward pass.
        workers: threads that decode photos and encode masks; 0: only the main thread.
        precision: "fp32", "bf16" or "fp16", of the forward pass.

    Raises:
        InputError: a value out of range, named by its flag.
    """

    short_side: int = 800
    max_side: int = 1333
    mirror: bool = False
    close_up: float = 0.0
    zoom: float = 0.0
    score_threshold: float = 0.0
    batch_size: int = 1
    workers: int = 2
    precision: str = "fp32"

    def __post_init__(self) -> None:
        for name in ("short_side", "batch_size"):
            flag = flag_of(name)
            require(getattr(self, name) >= 1, f"{flag} {getattr(self, name)}: must be at least 1")
        sizes = f"--max-side {self.max_side}: must not be below the short side, {self.short_side}"
        require(self.max_side >= self.short_side, sizes)
        for name in ("close_up", "zoom"):
            sentence = f"{flag_of(name)} {getattr(self, name)}: must be a number from 0 to 1"
            require(0 <= getattr(self, name) <= 1, sentence)
        require(self.workers >= 0, f"--workers {self.workers}: must not be negative")

    @classmethod
    def as_evaluated(cls, config: dict[str, Any], **chosen: Any) -> "PredictSettings":
        """Settings from ``chosen``, else from a detector's ``config``, else the defaults.

        Args:
            config: of the checkpoint; ``test_short_side``, ``test_max_side``, ``test_mirror``,
                ``test_close_up``, ``test_zoom``.
            chosen: any attributes of this class; None means not chosen.
        """
        names = ("short_side", "max_side", "mirror", "close_up", "zoom")
        evaluated = {name: config[f"test_{name}"] for name in names if f"test_{name}" in config}
        return cls(**evaluated | {k: value for k, value in chosen.items() if value is not None})

    def size_of(self, full_size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) at which the detector sees a photo of ``full_size``."""
        return detector_size(*full_size, self.short_side, self.max_side)


@dataclass(slots=True)
class _Item:
    """A photo being processed."""

    key: Hashable
    read: Callable[[int], np.ndarray]  # min_short_side -> the photo, see ``read_photo``
    width: int = 0  # of the original, upright photo
    height: int = 0
    image: Tensor | None = None  # uint8 [3, h, w], the detector's input, until it has been used
    part: np.ndarray | None = None  # f64[4] xyxy in pixels of the photo, shown by image; None: all
    photo: np.ndarray | None = None  # uint8 [H, W, 3] as decoded, where the caller wants it
    output: dict[str, np.ndarray] | None = None
    error: PhotoError | None = None


def detect_photos(
    model: nn.Module,
    photos: Iterable[tuple[Hashable, Path]],
    settings: PredictSettings,
    device: torch.device,
    *,
    keep_photo: bool = False,
) -> Iterator[tuple[Hashable, Detections | PhotoError, np.ndarray | None]]:
    """Detect garments photo by photo, in constant memory.

    Only photos of equal padded shape share a batch, so a photo's result does not depend on the
    other photos (except for rounding, which may depend on the batch size).

    Args:
        model: a ``Detector`` or equivalent, in evaluation mode; called with ``mirror=True`` if the
            settings say so.
        photos: (key, file) pairs; the key is returned with the result.
        settings: sizes, batching, threads, precision.
        device: where the model is.
        keep_photo: also yield the decoded photo.

    Yields:
        (key, result, photo), not always in the order of ``photos``. The result is a PhotoError
        for a photo that cannot be read. ``photo`` is uint8 [H, W, 3] RGB, upright and possibly at
        1/2, 1/4 or 1/8 of the size that the boxes refer to (but not below ``KEPT_SHORT_SIDE``);
        None if unreadable or without ``keep_photo``.
    """
    ahead = settings.workers + settings.batch_size

    def load(photo: tuple[Hashable, Path]) -> _Item:
        return _load(*photo, settings, keep_photo)

    def finish(item: _Item) -> tuple[Hashable, Detections | PhotoError, np.ndarray | None]:
        return item.key, item.error or _to_detections(item, settings.score_threshold), item.photo

    with threads(settings.workers) as pool:
        loaded = map_ahead(pool, load, photos, ahead)
        yield from map_ahead(pool, finish, _run(model, loaded, settings, device), ahead)


def detect_photo(
    model: nn.Module,
    photo: np.ndarray,
    full_size: tuple[int, int],
    read: Callable[[int], np.ndarray],
    settings: PredictSettings,
    device: torch.device,
) -> tuple[Detections, np.ndarray]:
    """Detect garments in one photo that has been decoded already.

    Args:
        model: as for ``detect_photos``.
        photo: u8[H,W,3] RGB, upright, possibly at 1/2, 1/4 or 1/8 of its full size.
        full_size: (width, height) in pixels that the detections refer to.
        read: decodes it with a short side of at least so many pixels.
        settings: sizes, threshold, precision.
        device: where the model is.

    Returns:
        The detections and the photo, finer if it was decoded again for small garments.
    """
    image = _to_tensor(photo, full_size, settings.size_of(full_size))
    item = _Item(None, read, *full_size, image, photo=photo)
    (item,) = _forward(model, [item], settings, device)
    if item.error:
        raise item.error
    return _to_detections(item, settings.score_threshold), item.photo


def with_progress(results: Iterable, count: int) -> Iterable:
    """Iterate over ``results`` and show rank 0's progress: a bar, or without a terminal log lines.

    Args:
        results: one for each photo of this rank.
        count: how many there will be.
    """
    if not distributed.is_main():
        return results
    if sys.stderr.isatty():
        return track(results, "photos", count, console=Console(stderr=True))
    return _log_progress(results, count)


def _log_progress(results: Iterable, count: int) -> Iterator:
    started = logged = time.monotonic()
    for done, result in enumerate(results, start=1):
        yield result
        now = time.monotonic()
        if done < count and now - logged >= SECONDS_PER_LINE:
            logged = now
            left = timedelta(seconds=round((now - started) * (count - done) / done))
            logger.info("photo %d/%d  eta %s", done, count, left)


def _load(key: Hashable, path: Path, settings: PredictSettings, keep_photo: bool) -> _Item:
    """Decode a photo, no larger than needed, and resize it to the detector's size."""
    item = _Item(key, lambda short_side: read_photo(path, min_short_side=short_side))
    try:
        item.width, item.height = full_size = photo_size(path)
        size = settings.size_of(full_size)
        needed = max(min(size), KEPT_SHORT_SIDE) if keep_photo else min(size)
        photo = item.read(needed)
    except PhotoError as error:
        item.error = error
        return item
    item.image = _to_tensor(photo, full_size, size)
    item.photo = _reduced(photo, needed) if keep_photo else None
    return item


def _to_tensor(photo: np.ndarray, full_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    return torch.from_numpy(resize(photo, full_size, size)).permute(2, 0, 1)


def _reduced(photo: np.ndarray, min_short_side: int) -> np.ndarray:
    """Reduce other formats as ``read_photo`` reduces JPEGs, since many photos may be queued."""
    full_size = photo.shape[1::-1]
    factor = max(f for f in (1, 2, 4, 8) if f == 1 or min(full_size) >= f * min_short_side)
    return shrink(photo, full_size, 1 / factor)[0]


def _run(
    model: nn.Module, items: Iterable[_Item], settings: PredictSettings, device: torch.device
) -> Iterator[_Item]:
    """Batch photos of equal padded shape and run the model; unreadable photos are passed on.

    At most four batches of photos are queued; then the fullest batch runs although incomplete.
    """
    waiting: dict[tuple[int, ...], list[_Item]] = {}
    for item in items:
        if item.error:
            yield item
            continue
        shape = tuple(-(-side // SIZE_DIVISOR) for side in item.image.shape[1:])
        waiting.setdefault(shape, []).append(item)
        crowded = sum(map(len, waiting.values())) == 4 * settings.batch_size
        if crowded or len(waiting[shape]) == settings.batch_size:
            fullest = max(waiting, key=lambda shape: len(waiting[shape]))
            yield from _forward(model, waiting.pop(fullest), settings, device)
    for batch in waiting.values():
        yield from _forward(model, batch, settings, device)


@torch.inference_mode()
def _forward(
    model: nn.Module, batch: list[_Item], settings: PredictSettings, device: torch.device
) -> list[_Item]:
    mirror = {"mirror": True} if settings.mirror else {}

    def look(images: list[Tensor]) -> list[dict[str, Tensor]]:
        with autocast(device, settings.precision):
            return model(images, **mirror)

    images = [item.image.to(device) for item in batch]
    outputs = look(images)
    if settings.close_up:
        halves = look([half_size(image) for image in images])
        sizes = [image.shape[1:] for image in images]
        outputs = [
            combine(*parts, settings.close_up) for parts in zip(outputs, halves, sizes, strict=True)
        ]
    for item, output in zip(batch, outputs, strict=True):
        item.output = _to_numpy(output)
        size = item.image.shape[1:]
        where = small_garments(item.output, size, settings.short_side, settings.zoom)
        if where:
            _enlarge(item, *where)
            if not item.error:
                item.output = _to_numpy(*look([item.image.to(device)]))
    return batch


def _to_numpy(output: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.cpu().numpy() for name, value in output.items()}


def _enlarge(item: _Item, part: np.ndarray, factor: float) -> None:
    """Let the item's image show a part of the photo, given in pixels of the image, enlarged.

    A photo kept for the caller becomes finer, too, since crops are cut from it.
    """
    height, width = item.image.shape[1:]
    full_size = item.width, item.height
    needed = math.ceil(min(height, width) * factor)
    photo = item.photo
    if photo is None or min(photo.shape[:2]) < needed:
        try:
            photo = item.read(needed)
        except PhotoError as error:  # it has vanished since
            item.error, item.photo = error, None
            return
    size = tuple(np.maximum((part[2:] - part[:2]) * factor, 1).round().astype(int).tolist())
    item.part = move_box(part, stretching((width, height), full_size))
    x1, y1, x2, y2 = item.part
    onto = stretching((x2 - x1, y2 - y1), size) @ translation(-x1, -y1)
    item.image = torch.from_numpy(warp(photo, full_size, onto, size, None)).permute(2, 0, 1)
    if item.photo is not None:
        item.photo = _reduced(photo, max(needed, KEPT_SHORT_SIDE))


def _to_detections(item: _Item, score_threshold: float) -> Detections:
    picture = item.image.permute(1, 2, 0).numpy()
    item.image = None  # free it: the caller only needs the photo
    size = item.width, item.height
    return read_output(item.output, picture, size, score_threshold, item.part)
