"""Reading photos: the one place where image files become pixels.

OpenCV decodes JPEGs, at a half, quarter or eighth of their size if that is enough. Pillow decodes
everything else (PNG, WebP, GIF, TIFF, CMYK JPEGs ...). The result is upright 8-bit RGB; transparent
parts become white. A file that is missing, cut off or not a photo raises PhotoError.
"""

import io
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from engine.pixels.photo_files import (
    Header,
    PhotoError,
    has_end,
    open_photo,
    pillow_open,
    read_header,
)

REDUCED_DECODE = {
    1: cv2.IMREAD_COLOR_RGB,
    2: 16 | cv2.IMREAD_COLOR_RGB,  # IMREAD_REDUCED_*_2 without its BGR bit; the next two alike
    4: 32 | cv2.IMREAD_COLOR_RGB,
    8: 64 | cv2.IMREAD_COLOR_RGB,
}

# EXIF orientations with reversed rows, and with reversed columns, after swapping rows and columns
# if needed.
UPSIDE_DOWN, MIRRORED = (3, 4, 7, 8), (2, 3, 6, 7)


def photo_size(path: Path | str) -> tuple[int, int]:
    """(width, height) in pixels of the upright photo, from its header.

    Raises:
        PhotoError: missing, empty, too large or not a photo.
    """
    with open_photo(path) as file:
        return read_header(file, path).upright_size


def check_photo(path: Path | str) -> Header:
    """Read the header and check that the file is not cut off.

    Nothing is decoded; damage in the middle is only noticed by ``read_photo``.

    Raises:
        PhotoError: missing, empty, truncated, too large or not a photo.
    """
    with open_photo(path) as file:
        header = read_header(file, path)
        if not has_end(file, header):
            raise PhotoError("truncated", path, "the file is cut off; copy it again or remove it")
    return header


def read_photo(path: Path | str, *, min_short_side: int | None = None) -> np.ndarray:
    """Decode a photo.

    Args:
        path: the file; its content decides the format, not its name.
        min_short_side: JPEGs may be decoded at 1/2, 1/4 or 1/8 of their size, the smallest one
            whose short side has at least this many pixels. Pixel (x, y) of a photo decoded at 1/f
            covers pixels [fx, fx + f) × [fy, fy + f) of the full one, and its size is rounded up,
            so f = round(full / decoded). (A fraction is not used if its incomplete last block
            would become the first by EXIF rotation.)

    Returns:
        uint8 [H, W, 3], RGB, upright (EXIF applied), contiguous.

    Raises:
        PhotoError: missing, empty, truncated, too large or not a photo.
    """
    with open_photo(path) as file:
        return decode_photo(file.read(), path, min_short_side=min_short_side)


def decode_photo(data: bytes, name: Path | str, *, min_short_side: int | None = None) -> np.ndarray:
    """``read_photo`` for the content of a file; ``name`` is its name in error messages."""
    file = io.BytesIO(data)
    header = read_header(file, name)
    if not has_end(file, header):
        raise PhotoError("truncated", name, "the file is cut off; copy it again or remove it")
    if not header.is_jpeg or header.components == 4:
        return _decode_with_pillow(file, header, name)
    factor = _reduction(header, min_short_side)
    flags = REDUCED_DECODE[factor] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        photo = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        photo = None
    if photo is None:
        return _decode_with_pillow(file, header, name)
    return _upright(photo, header.orientation)


def _reduction(header: Header, min_short_side: int | None) -> int:
    """The largest of 8, 4, 2, 1 that keeps the short side long enough and blocks aligned."""
    if min_short_side is None:
        return 1
    width, height = header.upright_size
    flipped = [height] * (header.orientation in UPSIDE_DOWN)
    flipped += [width] * (header.orientation in MIRRORED)
    for factor in (8, 4, 2):
        enough = -(-min(width, height) // factor) >= min_short_side
        if enough and all(side % factor == 0 for side in flipped):
            return factor
    return 1


def _decode_with_pillow(file: BinaryIO, header: Header, path: Path | str) -> np.ndarray:
    try:
        with pillow_open(file) as image:
            image.load()
            photo = _as_rgb(image, header)
    # On arbitrary bytes, decoders raise nearly any type of exception.
    except Exception as error:
        kind = "truncated" if "truncated" in str(error) else "unreadable"
        what = "the file is cut off" if kind == "truncated" else "the pixels cannot be decoded"
        raise PhotoError(kind, path, f"{what}; replace or remove it") from error
    return _upright(photo, header.orientation)


def _as_rgb(image: Image.Image, header: Header) -> np.ndarray:
    """uint8 [H, W, 3] from any of Pillow's modes."""
    if image.mode == "CMYK" and header.is_jpeg and not header.adobe:
        # Pillow inverts every CMYK JPEG as Adobe's need it; undo that for the others.
        image = Image.frombytes("CMYK", image.size, bytes(255 - np.asarray(image)))
    if image.mode.startswith("I;16"):
        high_byte = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(high_byte[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError("32-bit or float pixels: the value of white is unknown")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _upright(photo: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and mirror a photo [H,W,3] upright, by its EXIF orientation (EXIF 2.32, tag 274)."""
    if orientation >= 5:
        photo = photo.transpose(1, 0, 2)
    if orientation in UPSIDE_DOWN:
        photo = photo[::-1]
    if orientation in MIRRORED:
        photo = photo[:, ::-1]
    return np.ascontiguousarray(photo)
