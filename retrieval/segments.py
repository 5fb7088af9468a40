"""The vectors of a local database: append-only files of rows, mapped into memory for reading.

    segments/0001-00000.f32      generation 1, rows 0 .. segment_rows - 1
    segments/0001-00001.f32      the next rows, and so on

A file holds nothing but rows of float32 in native (little-endian) order. The item table records how
many rows are committed, and the CRC-32 of every block of ``block_rows`` rows. Rows that a killed
writer left after the last committed one are overwritten. Compacting writes a new generation.
"""

import mmap
import os
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engine.errors import InputError
from engine.files import sync_folder

DTYPE = "float32"


@dataclass(frozen=True)
class Layout:
    """Where each row is stored. Kept in ``database.json``, so that the defaults may change."""

    dim: int
    dtype: str = DTYPE
    segment_rows: int = 1 << 18
    block_rows: int = 1024

    @property
    def row_bytes(self) -> int:
        """Size of a row in bytes."""
        return 4 * self.dim

    def path(self, folder: Path, generation: int, segment: int) -> Path:
        """The file of a segment."""
        return folder / f"{generation:04d}-{segment:05d}.f32"


@dataclass(frozen=True)
class MappedSegment:
    """One segment as a reader sees it."""

    start: int  # its first row
    vectors: np.ndarray  # f32[rows, D], read-only
    tensor: torch.Tensor  # the same memory


def append(folder: Path, layout: Layout, generation: int, start: int, vectors: np.ndarray) -> None:
    """Write contiguous f32[n, D] from row ``start`` on; returns once they are on the disk.

    The rows do not exist for readers until the item table records them.

    Raises:
        InputError: no space or no permission.
    """
    position = 0
    while position < len(vectors):
        segment, offset = divmod(start + position, layout.segment_rows)
        path = layout.path(folder, generation, segment)
        part = vectors[position : position + layout.segment_rows - offset]
        try:
            _write(path, offset * layout.row_bytes, memoryview(part).cast("B"))
        except OSError as error:
            reason = error.strerror or error
            sentence = f"cannot write {path}: {reason}; free space or choose another place"
            raise InputError(sentence) from error
        position += len(part)


def _write(path: Path, offset: int, data: memoryview) -> None:
    is_new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        while data:
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(path.parent)


def block_checksums(
    layout: Layout, start: int, vectors: np.ndarray, before: int
) -> Iterator[tuple[int, int]]:
    """(block, CRC-32) of every block that rows appended at ``start`` touch.

    Args:
        before: checksum of the rows that the first block already has, 0 if it has none.
    """
    position = 0
    while position < len(vectors):
        block, offset = divmod(start + position, layout.block_rows)
        part = vectors[position : position + layout.block_rows - offset]
        yield block, zlib.crc32(part, before if position == 0 else 0)
        position += len(part)


def map_segment(
    folder: Path, layout: Layout, generation: int, segment: int, rows: int
) -> MappedSegment | None:
    """Map the first ``rows`` rows of a segment; fewer if the file was cut, None if it is gone.

    Raises:
        InputError: the file exists but cannot be read.
    """
    path = layout.path(folder, generation, segment)
    try:
        with path.open("rb") as file:
            rows = min(rows, os.fstat(file.fileno()).st_size // layout.row_bytes)
            if rows == 0:
                return None
            view = mmap.mmap(file.fileno(), rows * layout.row_bytes, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    vectors = np.frombuffer(view, np.float32).reshape(rows, layout.dim)
    with warnings.catch_warnings():
        # PyTorch has no read-only tensors; this one is never written to.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = torch.from_numpy(vectors)
    return MappedSegment(segment * layout.segment_rows, vectors, tensor)


def remove_other_generations(folder: Path, generation: int) -> None:
    """Delete the files that a compaction, finished or interrupted, left behind."""
    for path in folder.glob("*-*.f32"):
        if not path.name.startswith(f"{generation:04d}-"):
            path.unlink(missing_ok=True)
