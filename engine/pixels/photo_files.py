"""Photo files before decoding: reads their headers and checks that they are complete."""

import errno
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pi_heif
from PIL import Image

from engine.errors import InputError

# Larger photos are refused by their header, as decompression bombs. Pillow has the same limit.
MAX_PIXELS = 2 * Image.MAX_IMAGE_PIXELS
MAX_BYTES = 1 << 30
MOST_SEGMENTS = 1 << 16  # of a JPEG's header; photos have a few dozen
FILL_BLOCK = 4096  # bytes

# Formats of photos. Excluded are formats that run an interpreter (EPS) or are not used for photos.
PILLOW_FORMATS = (
    "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG", "HEIF", "AVIF", "JPEG2000", "PPM",
)  # fmt: skip
pi_heif.register_heif_opener()

# Unusual properties of photos, and how read_photo handles them.
TRAITS = {
    "turned by EXIF": "turned upright",
    "grayscale": "read as RGB",
    "CMYK": "read as RGB",
    "transparent": "put on white",
    "16-bit": "scaled to 8 bits",
}

ORIENTATION_TAG = 0x0112

# read_photo handles what Pillow warns of, or reports it as PhotoError with the file name.
warnings.filterwarnings("ignore", module=r"PIL\.")


class PhotoError(InputError):
    """A photo that cannot be used.

    Attributes:
        kind: "missing", "empty", "truncated", "unreadable" or "too large".
        path: the file.
    """

    def __init__(self, kind: str, path: Path | str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.kind = kind
        self.path = Path(path)

    def __reduce__(self):
        """For worker processes: by default exceptions are rebuilt from their message alone."""
        detail = str(self).removeprefix(f"{self.path}: ")
        return PhotoError, (self.kind, self.path, detail)


@dataclass(slots=True)
class Header:
    """The header of a photo file."""

    width: int  # as stored, before the orientation is applied
    height: int
    orientation: int  # EXIF, 1..8
    is_jpeg: bool
    components: int = 3  # JPEG: 1 gray, 3 color, 4 CMYK
    adobe: bool = False  # JPEG: has Adobe's marker, whose CMYK is stored inverted
    data_start: int = 0  # JPEG: where the compressed pixels begin
    traits: tuple[str, ...] = ()  # keys of TRAITS

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) in pixels after applying the orientation; 5 to 8 swap the sides."""
        size = (self.width, self.height)
        return size if self.orientation < 5 else size[::-1]


def open_photo(path: Path | str) -> BinaryIO:
    """Open a regular, non-empty file (a pipe or device might block).

    Raises:
        PhotoError: missing, empty, too large or not a regular file.
        InputError: the process has too many files open, which is not the photo's fault.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (Path.stat is twice as slow; this runs per photo)
        if not stat.S_ISREG(status.st_mode):
            raise PhotoError("unreadable", path, "not a file")
        if status.st_size == 0:
            raise PhotoError("empty", path, "the file is empty")
        if status.st_size > MAX_BYTES:
            raise PhotoError("too large", path, f"the file is larger than {MAX_BYTES >> 20} MiB")
        return open(path, "rb")  # noqa: PTH123
    except FileNotFoundError:
        raise PhotoError("missing", path, "no such photo") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
            raise InputError(
                f"{path}: cannot be opened ({reason}); raise the limit (ulimit -n 65536) and "
                "repeat the command"
            ) from None
        raise PhotoError("unreadable", path, f"cannot be opened ({reason})") from None


def read_header(file: BinaryIO, path: Path | str) -> Header:
    """Parse the header at the start of the file.

    Raises:
        PhotoError: truncated, not a photo, or more than MAX_PIXELS.
    """
    try:
        header = _jpeg_header(file) if file.read(2) == b"\xff\xd8" else _pillow_header(file)
        pixels = header.width * header.height
    except Image.DecompressionBombError:
        pixels = MAX_PIXELS + 1
    # On arbitrary bytes, decoders raise nearly any type of exception.
    except Exception as error:
        kind = "truncated" if isinstance(error, EOFError) else "unreadable"
        what = "the file is cut off" if kind == "truncated" else "not a photo that can be read"
        raise PhotoError(kind, path, f"{what}; replace or remove it") from error
    if pixels > MAX_PIXELS:
        raise PhotoError("too large", path, f"more than {MAX_PIXELS // 1_000_000} megapixels")
    return header


def _jpeg_header(file: BinaryIO) -> Header:
    """Walk the marker segments from after SOI to the first scan (ITU T.81, B.1)."""
    width = height = components = 0
    orientation, adobe = 1, False
    for _ in range(MOST_SEGMENTS):
        marker = _next_marker(file)
        length = int.from_bytes(_read_exactly(file, 2), "big") - 2
        if length < 0:
            raise ValueError("impossible segment length")
        start = file.tell()
        # SOF0..SOF15, which share their range with DHT (C4), JPG (C8) and DAC (CC).
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = _read_exactly(file, 6)
            height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
            components = frame[5]
        elif marker == 0xE1 and orientation == 1:
            orientation = _exif_orientation(_read_exactly(file, length))
        elif marker == 0xEE:
            adobe = _read_exactly(file, length).startswith(b"Adobe")
        elif marker == 0xDA:
            break
        file.seek(start + length)
    else:
        raise ValueError("too many segments before the scan")
    if width * height == 0:
        raise ValueError("no frame before the scan")
    header = Header(width, height, orientation, True, components, adobe, start + length)
    header.traits = _traits(header, gray=components == 1, cmyk=components == 4)
    return header


def _next_marker(file: BinaryIO) -> int:
    """The marker's second byte; any number of 0xFF may precede it."""
    first, marker = _read_exactly(file, 2)
    if first != 0xFF:
        raise ValueError("marker expected")
    if marker == 0xFF:  # in blocks: a hostile file may hold a gigabyte of them
        while not (rest := (block := file.read(FILL_BLOCK)).lstrip(b"\xff")):
            if not block:
                raise EOFError("the header is cut off")
        file.seek(1 - len(rest), os.SEEK_CUR)
        marker = rest[0]
    if marker in (0x00, 0xD8, 0xD9):
        raise ValueError("unexpected marker")
    return marker


def _read_exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError("the header is cut off")
    return data


def _exif_orientation(segment: bytes) -> int:
    """Orientation 1..8 from an EXIF block (TIFF 6.0: byte order, then a list of tags)."""
    tiff = segment.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(tiff[:4])
    if order is None:
        return 1
    start = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[start : start + 2], order)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        if int.from_bytes(tiff[entry : entry + 2], order) == ORIENTATION_TAG:
            width = 4 if int.from_bytes(tiff[entry + 2 : entry + 4], order) == 4 else 2
            value = int.from_bytes(tiff[entry + 8 : entry + 8 + width], order)
            return value if 1 <= value <= 8 else 1
    return 1


def pillow_open(file: BinaryIO) -> Image.Image:
    Image.init()  # otherwise Pillow fails for formats that it has not loaded yet
    file.seek(0)
    return Image.open(file, formats=PILLOW_FORMATS)


def _pillow_header(file: BinaryIO) -> Header:
    with pillow_open(file) as image:
        header = Header(*image.size, _pillow_orientation(image, file), is_jpeg=False)
        header.traits = _traits(
            header,
            gray=image.mode in ("1", "L", "LA") or image.mode.startswith("I;16"),
            cmyk=image.mode == "CMYK",
            transparent=image.has_transparency_data,
            deep=";16" in f"{image.mode} {image.tile}",  # the decoder's arguments name the depth
        )
    return header


def _traits(
    header: Header, *, gray: bool, cmyk: bool, transparent: bool = False, deep: bool = False
) -> tuple[str, ...]:
    present = (header.orientation > 1, gray, cmyk, transparent, deep)
    return tuple(trait for trait, here in zip(TRAITS, present, strict=True) if here)


def _pillow_orientation(image: Image.Image, file: BinaryIO) -> int:
    if image.format == "TIFF":
        return 1  # Pillow rotates these itself, including the size
    if image.format == "PNG":
        return _exif_orientation(_png_exif(file))
    value = image.getexif().get(ORIENTATION_TAG, 1)
    return value if value in range(1, 9) else 1


def _png_exif(file: BinaryIO) -> bytes:
    """The eXIf chunk; if it follows the pixels, Pillow only finds it by decoding them."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            return file.read(length)
        file.seek(length + 4, os.SEEK_CUR)
    return b""


def has_end(file: BinaryIO, header: Header) -> bool:
    """Whether a JPEG or PNG has its end marker; in other formats the decoder notices."""
    if header.is_jpeg:
        return _has_jpeg_end(file, header.data_start)
    file.seek(0)
    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        return True
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 4096, 0))  # some writers append a few bytes
    return b"IEND" in file.read()


def _has_jpeg_end(file: BinaryIO, data_start: int) -> bool:
    """Look for the end-of-image marker in or after the compressed data.

    In compressed data every 0xFF byte is followed by 0 or a restart number, so the marker cannot
    occur by chance. It need not be at the end: cameras append previews and other data.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(data_start, size - 2))
    if file.read() == b"\xff\xd9":
        return True
    file.seek(data_start)
    return b"\xff\xd9" in file.read()
