"""Photos of every kind, intact and damaged; Pillow on the original pixels is the reference."""

import io
import os
import pickle
import resource
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from engine.errors import InputError
from engine.pixels import photo_files, photos
from engine.pixels.photos import PhotoError, check_photo, decode_photo, photo_size, read_photo

EXIF_ORIENTATION = 0x0112

# Undoes each EXIF orientation, in Pillow's words (EXIF 2.32, tag 274).
UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def picture(width: int = 67, height: int = 43, channels: int = 3) -> np.ndarray:
    """A smooth random picture without symmetry."""
    seed = np.random.default_rng(5).random((5, 7, channels)) * 255
    return cv2.resize(seed.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def encode(image: Image.Image | np.ndarray, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(folder: Path, data: bytes, name: str = "photo.jpg") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def difference(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    best = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    path = write(tmp_path, encode(picture(), kind, exif=exif, **best))

    upright = Image.fromarray(picture())
    if orientation in UNDO:
        upright = upright.transpose(UNDO[orientation])
    photo = read_photo(path)
    assert difference(photo, np.array(upright)) <= (6 if kind == "JPEG" else 0)
    assert photo.flags.c_contiguous
    assert photo_size(path) == check_photo(path).upright_size == upright.size


def test_a_phones_heic_is_rotated_upright(tmp_path: Path) -> None:
    """The photo has red, green, blue and white quarters and needs a rotation by 90 degrees."""
    data = Path(__file__).with_name("turned.heic").read_bytes()
    path = write(tmp_path, data, "IMG_0001.HEIC")
    photo = read_photo(path)
    assert photo_size(path) == (48, 64) and photo.shape == (64, 48, 3)
    quarters = [photo[y, x].astype(int) for y in (10, 54) for x in (10, 38)]
    wanted = [(50, 60, 200), (200, 40, 40), (240, 240, 240), (40, 180, 60)]
    assert np.abs(np.array(quarters) - wanted).max() < 8
    with pytest.raises(PhotoError):
        read_photo(write(tmp_path, data[:-90], "cut.heic"))


def test_png_orientation_stored_after_the_pixels_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    data = encode(picture(), "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4], "big")]
    end = data.index(b"IEND") - 4
    moved = data[:start] + data[start + len(chunk) : end] + chunk + data[end:]
    path = write(tmp_path, moved)
    assert photo_size(path) == (43, 67)
    assert read_photo(path).shape == (67, 43, 3)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_pillow(tmp_path: Path, progressive: bool) -> None:
    data = encode(picture(), progressive=progressive)
    expected = np.array(Image.open(io.BytesIO(data)))
    assert difference(read_photo(write(tmp_path, data)), expected) == 0


@pytest.mark.parametrize(
    ("minimum", "factor"), [(None, 1), (400, 1), (201, 1), (200, 2), (101, 2), (100, 4), (50, 8)]
)
def test_jpegs_are_decoded_at_the_smallest_sufficient_size(
    tmp_path: Path, minimum: int | None, factor: int
) -> None:
    full = picture(599, 399)
    photo = read_photo(write(tmp_path, encode(full, quality=95)), min_short_side=minimum)
    assert photo.shape == (-(-399 // factor), -(-599 // factor), 3)
    # Each pixel is the mean of the factor × factor pixels it covers.
    whole = full[: 399 // factor * factor, : 599 // factor * factor].astype(float)
    mean = whole.reshape(399 // factor, factor, 599 // factor, factor, 3).mean(axis=(1, 3))
    assert np.abs(photo[: 399 // factor, : 599 // factor] - mean).max() < 12


@pytest.mark.parametrize("size", [(600, 400), (597, 400), (600, 395), (597, 395), (596, 396)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_pixels_are_aligned_in_every_orientation(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    best = {"quality": 100, "subsampling": 0}
    path = write(tmp_path, encode(picture(*size), exif=exif, **best))
    full, reduced = read_photo(path).astype(float), read_photo(path, min_short_side=40)
    factor = round(max(full.shape) / max(reduced.shape))
    for y, x in ((0, 0), (20, 7), (20, 30)):
        block = full[factor * y : factor * (y + 1), factor * x : factor * (x + 1)]
        assert np.abs(reduced[y, x] - block.mean(axis=(0, 1))).max() < 4
    if orientation == 1 or size == (600, 400):
        assert factor == 8


def test_content_in_memory_is_decoded_like_a_file(tmp_path: Path) -> None:
    data = encode(picture(), quality=95)
    from_file = read_photo(write(tmp_path, data), min_short_side=10)
    assert (decode_photo(data, "it", min_short_side=10) == from_file).all()
    with pytest.raises(PhotoError, match=r"^it: the file is cut off"):
        decode_photo(data[:-9], "it")


def test_other_formats_are_decoded_at_full_size(tmp_path: Path) -> None:
    path = write(tmp_path, encode(picture(), "PNG"))
    assert read_photo(path, min_short_side=1).shape == (43, 67, 3)


def test_grayscale_and_black_and_white_become_rgb(tmp_path: Path) -> None:
    gray = picture(channels=1)
    for kind in ("JPEG", "PNG", "TIFF"):
        photo = read_photo(write(tmp_path, encode(gray, kind)))
        assert photo.shape == (43, 67, 3)
        assert (photo == photo[:, :, :1]).all()
        assert np.abs(photo[:, :, 0].astype(int) - gray).max() < 8
    bits = Image.fromarray(gray).convert("1")
    assert set(np.unique(read_photo(write(tmp_path, encode(bits, "PNG"))))) == {0, 255}


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:, :8] = (255, 0, 0, 0)  # cyan
    ink[:, 8:] = (0, 0, 0, 255)  # black
    adobe = encode(Image.frombytes("CMYK", (16, 16), ink.tobytes()), quality=100)
    assert b"Adobe" in adobe
    photo = read_photo(write(tmp_path, adobe))
    assert difference(photo[:, :7], np.full((16, 7, 3), (0, 255, 255), np.uint8)) < 8
    assert photo[:, 9:].max() < 8


def test_cmyk_without_adobe_marker_is_not_inverted(tmp_path: Path) -> None:
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 0] = 255
    # Pillow writes inverted values and says so in Adobe's marker; inverting before and taking the
    # marker out leaves the plain kind.
    data = encode(Image.frombytes("CMYK", (16, 16), bytes(255 - ink)), quality=100)
    start = data.index(b"\xff\xee")
    plain = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    photo = read_photo(write(tmp_path, plain))
    assert difference(photo, np.full((16, 16, 3), (0, 255, 255), np.uint8)) < 8


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    color = picture()
    alpha = np.full((43, 67), 255, np.uint8)
    alpha[:20] = 0
    alpha[20:30] = 128
    rgba = np.dstack([color, alpha])
    weight = alpha[..., None] / 255
    expected = np.round(color * weight + 255 * (1 - weight)).astype(np.uint8)
    assert difference(read_photo(write(tmp_path, encode(rgba, "PNG"))), expected) <= 1

    gray_alpha = Image.fromarray(rgba).convert("LA")
    photo = read_photo(write(tmp_path, encode(gray_alpha, "PNG")))
    assert (photo[:20] == 255).all() and difference(photo, photo[:, :, :1].repeat(3, 2)) == 0


def test_a_transparent_palette_color_becomes_white(tmp_path: Path) -> None:
    indexed = Image.new("P", (8, 4), 0)
    indexed.putpalette([10, 20, 30, 200, 100, 50])
    indexed.paste(1, (4, 0, 8, 4))
    path = write(tmp_path, encode(indexed, "PNG", transparency=0))
    photo = read_photo(path)
    assert (photo[:, :4] == 255).all()
    assert (photo[:, 4:] == (200, 100, 50)).all()


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    gray = np.tile(ramp, (8, 1))
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    cv2.imwrite(str(tmp_path / "color.png"), np.dstack([gray, gray[:, ::-1], gray]))
    photo = read_photo(tmp_path / "gray.png")
    assert np.abs(photo[0, :, 0].astype(int) - np.arange(256)).max() <= 1
    photo = read_photo(tmp_path / "color.png")
    assert np.abs(photo[0, :, 0].astype(int) - np.arange(256)).max() <= 1
    assert np.abs(photo[0, :, 1].astype(int) - np.arange(256)[::-1]).max() <= 1


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (12, 9), color) for color in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (read_photo(write(tmp_path, data)) == (255, 0, 0)).all()


def test_the_content_decides_the_format_not_the_name(tmp_path: Path) -> None:
    path = write(tmp_path, encode(picture(), "PNG"), "photo.jpg")
    assert difference(read_photo(path), picture()) == 0


def test_trailing_data_is_accepted(tmp_path: Path) -> None:
    data = encode(picture())
    whole = read_photo(write(tmp_path, data))
    for extra in (b"\0", b"preview" * 999, data):
        path = write(tmp_path, data + extra)
        assert difference(read_photo(path), whole) == 0
        assert check_photo(path).upright_size == (67, 43)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"thumbnail": True}])
def test_a_jpeg_cut_off_anywhere_is_refused(tmp_path: Path, options: dict) -> None:
    if options.pop("thumbnail", None):  # a whole little JPEG inside the header, end mark and all
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x927C] = encode(picture(16, 16))
        options["exif"] = exif
    data = encode(picture(), **options)
    for length in [*range(1, len(data), 7), len(data) - 2, len(data) - 1]:
        path = write(tmp_path, data[:length])
        with pytest.raises(PhotoError):
            check_photo(path)
        with pytest.raises(PhotoError) as caught:
            read_photo(path)
        assert caught.value.kind in ("truncated", "unreadable")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_other_formats_cut_off_in_the_middle_are_refused(tmp_path: Path, kind: str) -> None:
    data = encode(picture(), kind)
    for length in range(1, len(data) * 9 // 10, max(len(data) // 20, 1)):
        with pytest.raises(PhotoError):
            read_photo(write(tmp_path, data[:length]))


def test_randomly_damaged_files_give_a_photo_or_a_photo_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "GIF", "WEBP"):
        whole = encode(picture(), kind)
        for _ in range(60):
            data = bytearray(whole)
            for position in rng.integers(len(data), size=3):
                data[position] = rng.integers(256)
            path = write(tmp_path, bytes(data))
            try:
                photo = read_photo(path)
            except PhotoError:
                continue
            assert photo.dtype == np.uint8 and photo_size(path) == photo.shape[1::-1]


def kind_of(path: Path | str) -> str:
    kinds = set()
    for function in (photo_size, check_photo, read_photo):
        with pytest.raises(PhotoError) as caught:
            function(path)
        assert str(path) in str(caught.value) and isinstance(caught.value, InputError)
        kinds.add(caught.value.kind)
    (kind,) = kinds
    return kind


def test_each_kind_of_error_is_reported(tmp_path: Path) -> None:
    assert kind_of(tmp_path / "nothing.jpg") == "missing"
    assert kind_of(write(tmp_path, b"")) == "empty"
    assert kind_of(write(tmp_path, b"\xff\xd8\xff")) == "truncated"
    assert kind_of(write(tmp_path, b"not a photo" * 99)) == "unreadable"
    assert kind_of(tmp_path) == "unreadable"
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    assert kind_of(tmp_path / "pipe.jpg") == "unreadable"
    assert kind_of("a\0b.jpg") == "unreadable"


def test_decompression_bombs_are_refused_by_their_header(tmp_path: Path) -> None:
    data = bytearray(encode(picture()))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    assert kind_of(write(tmp_path, bytes(data))) == "too large"
    bomb = bytearray(encode(picture(), "PNG"))
    bomb[16:24] = (20_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    assert kind_of(write(tmp_path, bytes(bomb))) == "too large"


def test_errors_can_be_pickled(tmp_path: Path) -> None:
    error = PhotoError("empty", tmp_path / "a.jpg", "the file is empty")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.kind, copy.path) == (str(error), error.kind, error.path)


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    depth = Image.fromarray(np.random.default_rng(0).random((4, 4), np.float32))
    with pytest.raises(PhotoError):
        read_photo(write(tmp_path, encode(depth, "TIFF")))


def test_too_many_open_files_are_not_the_photos_fault(tmp_path: Path) -> None:
    path = write(tmp_path, encode(picture()))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(InputError, match="raise the limit") as caught:
            read_photo(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not isinstance(caught.value, PhotoError), "it would be left out"


def test_rare_formats_are_read_in_a_fresh_process(tmp_path: Path) -> None:
    path = write(tmp_path, encode(picture(), "WEBP"))
    code = f"from engine.pixels.photos import read_photo; print(read_photo({str(path)!r}).shape)"
    command = [sys.executable, "-c", code]
    root = Path(photos.__file__).parents[2]
    output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert output == "(43, 67, 3)\n"


def test_traits_are_noted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 3
    color = Image.fromarray(picture())
    deep = cv2.imencode(".png", picture().astype(np.uint16) * 257)[1].tobytes()
    gray_deep = cv2.imencode(".png", picture(channels=1).astype(np.uint16) * 257)[1].tobytes()
    cases = [
        (encode(color), ()),
        (encode(color, "PNG"), ()),
        (encode(color, exif=exif), ("turned by EXIF",)),
        (encode(color, "PNG", exif=exif), ("turned by EXIF",)),
        (encode(color.convert("L")), ("grayscale",)),
        (encode(color.convert("CMYK")), ("CMYK",)),
        (encode(color.convert("LA"), "PNG"), ("grayscale", "transparent")),
        (encode(color.quantize(8), "PNG", transparency=0), ("transparent",)),
        (encode(np.dstack([color, np.full((43, 67), 99, np.uint8)]), "WEBP"), ("transparent",)),
        (deep, ("16-bit",)),
        (gray_deep, ("grayscale", "16-bit")),
    ]
    for data, traits in cases:
        assert check_photo(write(tmp_path, data)).traits == traits
        assert set(traits) <= set(photo_files.TRAITS)
