"""Stands in for the detector where scripts are tested: one garment in each photo's middle."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask

from engine.detection.detections import Detections
from engine.pixels.photos import PhotoError, read_photo

CATEGORIES = ["top", "bag", "hat"]


class FakeDetector:
    """Takes ``detect_photos``' place; counts photos, and kills its process when told to."""

    def __init__(self, kill_after: int | None = None) -> None:
        self.kill_after, self.seen, self.settings = kill_after, [], None

    def detect(self, model, photos, settings, device, *, keep_photo) -> Iterator:
        self.settings = settings
        for key, path in photos:
            if len(self.seen) == self.kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
            self.seen.append(path.name)
            try:
                photo = read_photo(path)
            except PhotoError as error:
                yield key, error, None
                continue
            yield key, one_garment(photo), photo if keep_photo else None


def one_garment(photo: np.ndarray) -> Detections:
    """Its score and category are told by the photo's brightness."""
    height, width = photo.shape[:2]
    box = np.array([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]], np.float32)
    bitmap = np.zeros((height, width), np.uint8, order="F")
    bitmap[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = 1
    brightness = int(photo[0, 0, 0])
    score = np.float32([0.5 + brightness / 512])
    label = np.array([1 + brightness % 3])
    return Detections(width, height, box, score, label, [coco_mask.encode(bitmap)])


def make_photos(folder: Path, count: int) -> Path:
    """Gray ones, each lighter than the one before, with something colorful in the middle."""
    for number in range(count):
        path = folder / ("sub" if number % 3 == 2 else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo = np.full((40 + number, 60, 3), 20 * number % 256, np.uint8)
        photo[10:30, 15:45, number % 3] = 255
        cv2.imwrite(str(path), photo)
    return folder


def write_weights(path: Path, **changes) -> Path:
    """A detector's file without a network."""
    config = {"test_short_side": 64, "test_max_side": 96}
    checkpoint = {"format": 1, "kind": "detector", "model": {}, "config": config}
    labels = {"categories": CATEGORIES, "category_ids": [11, 12, 13], "attributes": []}
    torch.save(checkpoint | labels | changes, path)
    return path
