"""The walk through a JPEG's header; tests/engine/pixels/test_photos.py covers whole photos."""

import io

import pytest
from PIL import Image

from engine.pixels.photo_files import PhotoError, read_header


class Counting(io.BytesIO):
    """Counts the calls of ``read``."""

    calls = 0

    def read(self, size: int | None = -1) -> bytes:
        self.calls += 1
        return super().read(size)


@pytest.mark.parametrize("count", [1, 2, 4094, 4095, 4096, 4097, 4098, 9999])
def test_fill_bytes_before_a_marker_are_skipped(count: int) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (67, 43)).save(buffer, "JPEG")
    data = buffer.getvalue()
    frame = data.index(b"\xff\xc0")
    filled = data[:frame] + b"\xff" * count + data[frame:]
    header, plain = (read_header(io.BytesIO(one), "a.jpg") for one in (filled, data))
    assert (header.width, header.height) == (67, 43)
    assert header.data_start == plain.data_start + count


@pytest.mark.parametrize("part", [b"\xff", b"\xff\xe0\0\2", b"\xff\xff\xe0\0\2"])
def test_a_header_without_end_takes_few_steps(part: bytes) -> None:
    file = Counting(b"\xff\xd8" + part * ((1 << 20) // len(part)))
    with pytest.raises(PhotoError):
        read_header(file, "a.jpg")
    assert file.calls <= 1 + 3 * (1 << 16)


@pytest.mark.parametrize(("rest", "kind"), [(b"", "truncated"), (b"\0", "unreadable")])
def test_fill_bytes_that_no_marker_follows(rest: bytes, kind: str) -> None:
    with pytest.raises(PhotoError) as caught:
        read_header(io.BytesIO(b"\xff\xd8" + b"\xff" * 5000 + rest), "a.jpg")
    assert caught.value.kind == kind
