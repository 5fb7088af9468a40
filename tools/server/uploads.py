"""Uploaded photos: checked by content and header before they are decoded."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.pixels.photo_files import Header, read_header
from engine.pixels.photos import PhotoError, decode_photo
from tools.server.limits import Limits, Refusal

NAME = "the photo"


@dataclass(slots=True)
class Upload:
    """A decoded photo, possibly reduced."""

    photo: np.ndarray  # u8[h,w,3] RGB, upright
    width: int  # full size in pixels
    height: int
    read: Callable[[int], np.ndarray]  # decodes it with a short side of at least so many pixels


def open_upload(data: bytes, limits: Limits, short_side: Callable[[int, int], int]) -> Upload:
    """Decode an untrusted photo.

    Args:
        data: its file's content.
        limits: on its pixels.
        short_side: (width, height) -> pixels that the short side must keep; JPEGs are decoded only
            as large as needed.

    Raises:
        Refusal: 413 for too many pixels, 422 for anything that is not a complete photo.
    """

    def read(short_side: int) -> np.ndarray:
        return decode_photo(data, NAME, min_short_side=short_side)

    if not data:
        raise Refusal(422, "The photo is empty; send the file's content as the request's body")
    try:
        header = read_header(io.BytesIO(data), NAME)
        _check_size(header, limits)
        size = header.upright_size
        photo = read(short_side(*size))
    except PhotoError as error:
        if error.kind == "too large":
            raise Refusal(413, f"The photo has more than {_allowed(limits)}") from None
        sentence = str(error).removeprefix(f"{NAME}: ")
        raise Refusal(422, sentence[0].upper() + sentence[1:]) from None
    return Upload(photo, *size, read)


def _check_size(header: Header, limits: Limits) -> None:
    if header.width * header.height > limits.upload_pixels:
        size = f"{header.width} × {header.height} pixels"
        raise Refusal(413, f"The photo has {size}, more than {_allowed(limits)}")


def _allowed(limits: Limits) -> str:
    return f"{limits.upload_pixels / 1e6:.3g} megapixels; send a smaller one"
