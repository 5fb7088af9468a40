"""Reads the photos given as ``--photos``."""

import sys
from collections.abc import Sequence

import numpy as np

from engine.config import require
from engine.pixels.find_photos import find_photos
from engine.pixels.geometry import Size
from engine.pixels.photos import PhotoError, photo_size, read_photo
from engine.wording import printable


def read_photos(named: Sequence[str], short_side: int) -> list[tuple[np.ndarray, Size]]:
    """Read photos; those that cannot be read are listed on stderr.

    Args:
        named: files, folders and patterns.
        short_side: pixels that the short side keeps, if it has as many.

    Returns:
        Photos u8[H,W,3] and their full (width, height): they may have been decoded smaller.

    Raises:
        InputError: none can be read.
    """
    root, names = find_photos(named)
    photos = []
    for name in names:
        try:
            full_size = photo_size(root / name)
            photos.append((read_photo(root / name, min_short_side=short_side), full_size))
        except PhotoError as error:
            print(f"left out: {printable(str(error))}", file=sys.stderr)
    require(bool(photos), "--photos: none of them can be read; give others")
    return photos
