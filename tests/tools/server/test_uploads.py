"""Uploads: content and header are checked before anything is decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.tools.server.world import photo_bytes
from tools.server import uploads
from tools.server.limits import Limits, Refusal
from tools.server.uploads import open_upload

LIMITS = Limits(upload_pixels=1_000_000)


def short_side(width: int, height: int) -> int:
    return 60


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header declares any size, whatever follows."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_content_decides_the_file_type(kind: str) -> None:
    upload = open_upload(photo_bytes(90, 130, kind=kind), LIMITS, short_side)
    assert (upload.width, upload.height) == (90, 130)
    assert upload.photo.shape == (130, 90, 3)
    assert np.abs(upload.photo[65, 45].astype(int) - (90, 120, 60)).max() < 25


def test_jpeg_is_decoded_only_as_large_as_needed() -> None:
    upload = open_upload(photo_bytes(480, 640, kind="JPEG"), LIMITS, short_side)
    assert (upload.width, upload.height) == (480, 640)
    assert upload.photo.shape == (80, 60, 3)


def test_rotated_photos_become_upright() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(file, "JPEG", exif=exif)
    upload = open_upload(file.getvalue(), LIMITS, short_side)
    assert (upload.width, upload.height) == (40, 60)


BOMB = zlib.compress(bytes(30_000_000), 9)  # 29 KiB


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (png(50_000, 50_000), 413),
        (png(12_000, 12_000, BOMB), 413),
        (png(1001, 1000, BOMB), 413),
        (png(2**31 - 1, 2**31 - 1), 413),
        (b"", 422),
        (b"\0" * 100, 422),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422),
        (photo_bytes(90, 130, kind="JPEG")[:400], 422),
        (photo_bytes(90, 130)[:-20], 422),
        (png(0, 0), 422),
        (png(10, 10, b"not deflate"), 422),
        (b"GIF89a" + b"\xff" * 40, 422),
    ],
)
def test_refused_photos_are_not_decoded(data: bytes, status: int, monkeypatch) -> None:
    def decode(*arguments, **options):
        assert status != 413, "decoded before its size was checked"
        return original(*arguments, **options)

    original = uploads.decode_photo
    monkeypatch.setattr(uploads, "decode_photo", decode)
    with pytest.raises(Refusal) as refused:
        open_upload(data, LIMITS, short_side)
    assert refused.value.status_code == status
    assert refused.value.detail[0].isupper() or refused.value.detail[0].isdigit()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            png(1001, 1500),
            "The photo has 1001 × 1500 pixels, more than 1 megapixels; send a smaller",
        ),
        (png(50_000, 50_000), "The photo has more than 1 megapixels; send a smaller one"),
        (b"GIF", "Not a photo that can be read"),
    ],
    ids=["large", "huge", "none"],
)
def test_refusals_are_sentences_about_the_photo(data: bytes, sentence: str) -> None:
    with pytest.raises(Refusal) as refused:
        open_upload(data, LIMITS, short_side)
    assert refused.value.detail.startswith(sentence)


def test_photo_at_the_limit_is_accepted() -> None:
    assert open_upload(photo_bytes(1000, 1000), LIMITS, short_side).photo.shape == (1000, 1000, 3)


def test_more_pixels_than_in_the_header_are_not_decoded() -> None:
    upload = open_upload(png(100, 100, BOMB), LIMITS, short_side)
    assert upload.photo.shape == (100, 100, 3)
