"""Split hygiene: finds validation photos that are also in the training data.

This only finds byte-identical files, by size and a hash of the last bytes, which is cheap enough to
do at the start of every training. tools/check_dataset.py also finds resized or recompressed copies.
"""

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from engine.data.records import PhotoRecords

TAIL = 4096  # bytes hashed at a photo's end; two different photos of one size differ there

logger = logging.getLogger("weft")


Leak = tuple[Path, Path]  # a validation photo and the identical training photo


def report_leaks(train: Sequence[PhotoRecords], val: Mapping[str, PhotoRecords]) -> None:
    """Warn, one line per dataset of ``val`` (by title), of its photos that are in ``train``."""
    found = find_leaks(train, list(val.values()))
    for (title, records), leaks in zip(val.items(), found, strict=True):
        if leaks:
            logger.warning(
                "%s: %d of %d validation photos are trained on too, so its metrics will be too "
                "high: first %s = %s",
                title, len(leaks), len(records), *leaks[0],
            )  # fmt: skip


def find_leaks(train: Sequence[PhotoRecords], val: Sequence[PhotoRecords]) -> list[list[Leak]]:
    """For each set of ``val``, its photos whose file, or an equal one, is in a set of ``train``."""
    learned = list(_files(train))
    judged = [list(_files([records])) for records in val]
    sizes = {size for _, size in learned} & {size for part in judged for _, size in part}
    first_of: dict[tuple[int, bytes], Path] = {}
    for path, size in learned:
        if size in sizes:
            first_of.setdefault((size, _tail(path, size)), path)
    leaks = []
    for part in judged:
        candidates = ((path, (size, _tail(path, size))) for path, size in part if size in sizes)
        leaks.append([(path, first_of[key]) for path, key in candidates if key in first_of])
    return leaks


def _files(parts: Sequence[PhotoRecords]) -> Iterable[tuple[Path, int]]:
    """Every photo's path and size in bytes; unreadable ones are reported elsewhere."""
    for records in parts:
        for index in range(len(records)):
            path = records.path(index)
            try:
                yield path, os.stat(path).st_size  # noqa: PTH116 (Path.stat is slower)
            except OSError:
                continue


def _tail(path: Path, size: int) -> bytes:
    """A digest of the end of a file; a broken one gets a digest of its own."""
    try:
        with path.open("rb") as file:
            file.seek(max(size - TAIL, 0))
            return hashlib.blake2b(file.read(), digest_size=16).digest()
    except OSError:
        return str(path).encode()
