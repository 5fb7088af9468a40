"""The dataset cache: a dataset is parsed once and then memory-mapped.

    $XDG_CACHE_HOME/weft/datasets/             (or ~/.cache/weft/datasets)
        coco-train-0f3c…/                      one folder per dataset, split and path
            records.json                       names, ids, problems, fingerprints of the sources
            image_ids.npy, garment_box.npy …   one file per column of engine.data.packing
        coco-train-0f3c….lock                  held while opening (shared) or building (exclusive)

An entry is current if the fingerprints of all its sources are unchanged. Otherwise the dataset is
parsed again into a temporary folder, which then replaces the old one. If the cache cannot be
written, everything still works, only slower.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from engine.data.packing import COLUMNS
from engine.data.readers.problems import Problem
from engine.data.records import AttributeGroup, PhotoRecords

# Part of every key: increase it when the readers' results change.
READERS_VERSION = 13

logger = logging.getLogger("weft")


def load_or_build(
    key: dict[str, str], build: Callable[[], tuple[PhotoRecords, dict[str, str]]]
) -> PhotoRecords:
    """The cached records of ``key``; if there are none, or outdated ones, those of ``build``.

    If several processes start together, one builds and the others map its result.

    Args:
        key: identifies the dataset: format, split, paths.
        build: parses the dataset; returns the records and path -> fingerprint of every source.
    """
    entry = _entry(key)
    with _locked(entry, fcntl.LOCK_SH):
        records = _open(entry)
    if records is not None:
        return records
    with _locked(entry, fcntl.LOCK_EX) as locked:
        records = _open(entry)
        if records is not None:
            return records
        if locked:
            _remove_leftovers(entry)
        records, sources = build()
        return records if _save(entry, records, sources) is None else _open(entry) or records


def fingerprint(source: Path) -> str:
    """A digest of the state of a file or of a folder with everything below it.

    It covers the name, size and modification time of every file, so it changes when a file is
    changed, added, removed or renamed. Contents are not read: a change that keeps a file's size and
    modification time (in nanoseconds) goes unnoticed. Hidden folders are ignored.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        if source.is_dir():
            _digest_folder(source, digest)
        else:
            status = source.stat()
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return digest.hexdigest()


def _digest_folder(folder: Path | str, digest: "hashlib.blake2b") -> None:
    rows, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    folders.append(entry.path)
                continue
            try:
                status = entry.stat()
            except OSError:  # a broken link
                status = entry.stat(follow_symlinks=False)
            rows.append(f"{entry.name}\0{status.st_size}\0{status.st_mtime_ns}\n")
    rows.sort()
    digest.update("".join(rows).encode("utf-8", "surrogateescape"))
    for path in sorted(folders):
        digest.update(f"{path}\0".encode("utf-8", "surrogateescape"))
        _digest_folder(path, digest)


def _entry(key: dict[str, str]) -> Path:
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a container's user without a home: no cache
        home = os.devnull
    text = json.dumps(key | {"version": READERS_VERSION}, sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    readable = re.sub(r"\W", "_", f"{key['format']}-{key['split']}"[:60], flags=re.ASCII)
    return Path(home) / "weft" / "datasets" / f"{readable}-{digest}"


@contextmanager
def _locked(entry: Path, kind: int) -> Iterator[bool]:
    """Hold the dataset's lock; yields False if that is impossible on this file system.

    The kernel releases the lock when the process dies.
    """
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        file = open(f"{entry}.lock", "a")  # noqa: PTH123, SIM115 (closed below)
    except OSError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another process that reads the same dataset")
            fcntl.flock(file, kind)
        except OSError:
            yield False
            return
        yield True


def _open(entry: Path) -> PhotoRecords | None:
    """Map a cached dataset; None if it is missing, damaged or outdated."""
    try:
        about = json.loads((entry / "records.json").read_bytes())
        sources = about.pop("sources")
        if any(fingerprint(Path(path)) != print_ for path, print_ in sources.items()):
            return None
        columns = {name: _map(entry / f"{name}.npy", *COLUMNS[name]) for name in COLUMNS}
        about["problems"] = [Problem(**problem) for problem in about["problems"]]
        groups = about["attribute_groups"]
        about["attribute_groups"] = [AttributeGroup(**group) for group in groups]
        return PhotoRecords(columns, **about)
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _map(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """Map a column from its file, as a plain array, which slices faster than a memmap."""
    column = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    if column.dtype != dtype or column.shape[1:] != shape:
        raise ValueError("wrong dtype or shape")
    return column


def _save(entry: Path, records: PhotoRecords, sources: dict[str, str]) -> Path | None:
    """Write the entry to a temporary folder, then move it into place; None if that fails."""
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f"{entry.name}.tmp-", dir=entry.parent))
        for name, column in records.columns.items():
            np.save(temporary / f"{name}.npy", column, allow_pickle=False)
        about = {
            "sources": sources,
            "format": records.format,
            "root": str(records.root),
            "categories": records.categories,
            "category_ids": records.category_ids,
            "category_groups": records.category_groups,
            "attributes": records.attributes,
            "attribute_ids": records.attribute_ids,
            "attribute_groups": [asdict(group) for group in records.attribute_groups],
            "identities": records.identities,
            "problems": [asdict(problem) for problem in records.problems],
        }
        (temporary / "records.json").write_text(json.dumps(about, indent=1))
        if entry.exists():
            entry.rename(temporary / "old")
        temporary.rename(entry)
        shutil.rmtree(entry / "old", ignore_errors=True)
    except OSError as error:
        logger.info("cannot cache the parsed dataset in %s: %s", entry.parent, error.strerror)
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        return None
    return entry


def _remove_leftovers(entry: Path) -> None:
    """Remove the temporary folders of killed builds; call it while holding the exclusive lock."""
    for leftover in entry.parent.glob(f"{entry.name}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
