"""Segment files: on the disk before they count, whole after short writes, checksums of blocks."""

import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from retrieval.segments import Layout, append, block_checksums, map_segment

LAYOUT = Layout(dim=3, segment_rows=10, block_rows=5)


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)


def stored(folder: Path) -> np.ndarray:
    """All rows of the three segments of generation 1."""
    parts = [map_segment(folder, LAYOUT, 1, number, 10) for number in range(3)]
    return np.concatenate([part.vectors for part in parts if part])


def test_rows_and_new_files_are_on_the_disk_when_append_returns(
    tmp_path: Path, monkeypatch
) -> None:
    """Else a power loss could take rows of which the item table says that they are committed."""
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink())
    )
    first, second = (LAYOUT.path(tmp_path, 1, number) for number in range(2))
    append(tmp_path, LAYOUT, 1, 0, rows(7))
    assert synced == [first, tmp_path]
    append(tmp_path, LAYOUT, 1, 7, rows(5))
    assert synced[2:] == [first, second, tmp_path]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:7], offset))
    append(tmp_path, LAYOUT, 1, 0, rows(23)[:8])
    append(tmp_path, LAYOUT, 1, 8, rows(23)[8:])
    assert np.array_equal(stored(tmp_path), rows(23))


def test_a_failed_write_leaves_no_file_open(tmp_path: Path, monkeypatch) -> None:
    def full(*_) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(InputError, match=r"0001-00000\.f32: No space left"):
        append(tmp_path, LAYOUT, 1, 0, rows(1))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("start", [0, 5, 7])
def test_checksums_continue_those_of_the_rows_before(start: int) -> None:
    whole = rows(13)
    before = {0: zlib.crc32(whole[:start])} if start < 5 else {}
    before |= {1: zlib.crc32(whole[5:start])}
    found = dict(block_checksums(LAYOUT, start, whole[start:], before[start // 5]))
    expected = {block: zlib.crc32(whole[5 * block : 5 * block + 5]) for block in range(3)}
    assert found == {block: expected[block] for block in range(start // 5, 3)}
