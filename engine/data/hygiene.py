"""Finds validation photos that are also in the training data.

This only finds byte-identical files, by size and a hash of the last bytes, which is cheap enough to
do at the start of every training. tools/check_dataset.py also finds resized or recompressed copies.
"""

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from engine.data.records import PhotoRecords

TAIL = 4096  # bytes hashed at the end of a file, where different photos of equal size differ

logger = logging.getLogger("weft")


Leak = tuple[Path, Path]  # a validation photo and the identical training photo


def report_leaks(train: Sequence[PhotoRecords], val: Mapping[str, PhotoRecords]) -> None:
    """Warn of validation photos that are in ``train``, one line per dataset of ``val``.

    Args:
        train: the training datasets.
        val: title for the warning -> validation dataset.
    """
    found = find_leaks(train, list(val.values()))
    for (title, records), leaks in zip(val.items(), found, strict=True):
        if leaks:
            logger.warning(
                "%s: %d of %d validation photos are also in the training data, so its metrics will "
                "be too high; the first is %s, the same as %s",
                title, len(leaks), len(records), *leaks[0],
            )  # fmt: skip


def find_leaks(train: Sequence[PhotoRecords], val: Sequence[PhotoRecords]) -> list[list[Leak]]:
    """For each dataset of ``val``, its photos whose file, or a copy of it, is in ``train``."""
    train_files = list(_files(train))
    val_files = [list(_files([records])) for records in val]
    val_sizes = {size for files in val_files for _, size in files}
    sizes = val_sizes & {size for _, size in train_files}
    first_of: dict[tuple[int, bytes], Path] = {}
    for path, size in train_files:
        if size in sizes:
            first_of.setdefault((size, _tail(path, size)), path)
    leaks = []
    for files in val_files:
        candidates = ((path, (size, _tail(path, size))) for path, size in files if size in sizes)
        leaks.append([(path, first_of[key]) for path, key in candidates if key in first_of])
    return leaks


def _files(datasets: Sequence[PhotoRecords]) -> Iterable[tuple[Path, int]]:
    """Path and size in bytes of every photo; skips missing ones, which are reported elsewhere."""
    for records in datasets:
        for index in range(len(records)):
            path = records.path(index)
            try:
                yield path, os.stat(path).st_size  # noqa: PTH116 (Path.stat is slower)
            except OSError:
                continue


def _tail(path: Path, size: int) -> bytes:
    """A digest of the end of a file; for an unreadable one a value that no other file has."""
    try:
        with path.open("rb") as file:
            file.seek(max(size - TAIL, 0))
            return hashlib.blake2b(file.read(), digest_size=16).digest()
    except OSError:
        return str(path).encode()
