"""Thumbnails of stored photos, which are looked up by key and below one folder only."""

import threading
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np

from engine.errors import InputError
from engine.pixels.photos import PhotoError, photo_size
from retrieval.pictures import photo_path, read_part
from retrieval.store import Item
from tools.server.limits import Refusal

JPEG_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 85]
OUTSIDE = "No photo below the database's folder"
GONE = "The photo is no longer there"
BORDER = 0.06  # around a garment's box, as a share of its longer side
SHAPE = 4 / 5  # width / height of the page's cards


class Pictures:
    """Thumbnails of the photos below a folder.

    Args:
        root: the folder; None if unknown.
        kept_bytes: size of the cache of thumbnails; the least recently used are dropped.
    """

    def __init__(self, root: Path | None, kept_bytes: int) -> None:
        self.root = None if root is None else root.resolve()
        self.kept_bytes, self._bytes = kept_bytes, 0
        self._kept: OrderedDict[tuple, bytes] = OrderedDict()
        self._guard = threading.Lock()

    def thumbnail(self, item: Item, size: int, whole: bool) -> bytes:
        """JPEG of a garment, or of the whole photo, whose longer side is at most ``size`` pixels.

        Raises:
            Refusal: 404 if the photo no longer exists or is outside the folder.
        """
        path, changed = self._find(item.photo)
        name = (item.photo, None if whole else item.box, size, changed)
        with self._guard:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        try:
            data = draw(path, None if whole else item.box, size)
        except PhotoError as error:
            damaged = f"The photo of {item.key} cannot be read any more"
            raise Refusal(404, GONE if error.kind == "missing" else damaged) from error
        self._keep(name, data)
        return data

    def _find(self, photo: str) -> tuple[Path, int]:
        """The file of a stored photo and its modification time in nanoseconds.

        Names in a database are not trusted, either.
        """
        if self.root is None:
            raise Refusal(404, "The server does not know where the photos are; see --photos")
        try:
            path = photo_path(self.root, photo).resolve(strict=True)
            changed = path.stat().st_mtime_ns
        except InputError:
            raise Refusal(404, OUTSIDE) from None
        except (OSError, RuntimeError):  # missing, or a loop of links
            raise Refusal(404, GONE) from None
        if not path.is_relative_to(self.root):
            raise Refusal(404, OUTSIDE)
        return path, changed

    def _keep(self, name: tuple, data: bytes) -> None:
        with self._guard:
            self._bytes += len(data) - len(self._kept.pop(name, b""))
            self._kept[name] = data
            while self._bytes > self.kept_bytes:
                self._bytes -= len(self._kept.popitem(last=False)[1])


def draw(path: Path, box: tuple[float, ...] | None, size: int) -> bytes:
    """JPEG of a photo around a box (xyxy in pixels; None: all of it), longer side <= ``size`` px.

    Raises:
        PhotoError: the photo cannot be read.
    """
    width, height = photo_size(path)
    window = np.array([0, 0, width, height], np.float64)
    if box is not None:
        window = around(np.array(box, np.float64), width, height)
    small = read_part(path, window, (width, height), size)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), JPEG_QUALITY)
    return data.tobytes()


def around(box: np.ndarray, width: int, height: int) -> np.ndarray:
    """A window f64[4] around a box f64[4] (both xyxy), of a card's shape, within the photo.

    The whole photo if the box is invalid or outside of it.
    """
    full = np.array([width, height], np.float64)
    start, end = box[:2].clip(0, full), box[2:].clip(0, full)
    if not (end - start >= 1).all():  # also if they are NaN
        return np.concatenate([[0, 0], full])
    wide, high = (end - start) + 2 * BORDER * (end - start).max()
    size = np.minimum([max(wide, high * SHAPE), max(high, wide / SHAPE)], full)
    corner = ((start + end - size) / 2).clip(0, full - size)
    return np.concatenate([corner, corner + size])
