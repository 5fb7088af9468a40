"""The packed cache: a dataset is parsed once, then mapped from disk in no time.

    $XDG_CACHE_HOME/weft/datasets/             (or ~/.cache/weft/datasets)
        coco-train-0f3c…/                      one folder a dataset, split and place
            records.json                       names, ids, problems, fingerprints of the sources
            image_ids.npy, garment_box.npy …   one file a column of engine.data.packing
        coco-train-0f3c….lock                  held while opening (shared) or building (alone)

A dataset is current when every source still has its fingerprint. A changed one is parsed again
into a temporary folder that then takes the old one's place. Where the cache cannot be written,
everything works without it, only slower.
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

# Part of every dataset's key: raise it when readers keep more, or judge otherwise, than before.
READERS_VERSION = 12

logger = logging.getLogger("weft")


def load_or_build(
    key: dict[str, str], build: Callable[[], tuple[PhotoRecords, dict[str, str]]]
) -> PhotoRecords:
    """The cached records of ``key``, parsed by ``build`` if they are not there or not current.

    Processes that start together wait for the one that builds, then map its result.

    Args:
        key: what tells this dataset from the next: name, split, places.
        build: parses; returns the records and the fingerprint of every source, by its path.
    """
    entry = _entry(key)
    with _locked(entry, fcntl.LOCK_SH):
        records = _open(entry)
    if records is not None:
        return records
    with _locked(entry, fcntl.LOCK_EX) as alone:
        records = _open(entry)
        if records is not None:
            return records
        if alone:
            _sweep(entry)
        records, sources = build()
        return records if _save(entry, records, sources) is None else _open(entry) or records


def fingerprint(source: Path) -> str:
    """Identify the state of a file or of everything in a folder.

    Checked are the size and modification time of every file and the names of all of them, so a
    changed, added, removed or renamed file shows. Contents are not read: a change that keeps a
    file's size and modification time to the nanosecond goes unnoticed. Hidden folders don't count.
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
            except OSError:  # a link to nothing
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
    except RuntimeError:  # a container's user without a name: no place for a cache
        home = os.devnull
    text = json.dumps(key | {"version": READERS_VERSION}, sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    readable = re.sub(r"\W", "_", f"{key['name']}-{key['split']}"[:60], flags=re.ASCII)
    return Path(home) / "weft" / "datasets" / f"{readable}-{digest}"


@contextmanager
def _locked(entry: Path, kind: int) -> Iterator[bool]:
    """Hold the dataset's lock; False where there is no place for one or no locks.

    The kernel lets go of a lock whose process dies.
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
    """Map a cached dataset; None if it is not there, not whole or not current."""
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
    """A column mapped from its file; as a plain array, which slices faster than a memmap."""
    column = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    if column.dtype != dtype or column.shape[1:] != shape:
        raise ValueError("a column of another layout")
    return column


def _save(entry: Path, records: PhotoRecords, sources: dict[str, str]) -> Path | None:
    """Write the entry beside its place, then move it there; None where that is impossible."""
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f"{entry.name}.tmp-", dir=entry.parent))
        for name, column in records.columns.items():
            np.save(temporary / f"{name}.npy", column, allow_pickle=False)
        about = {
            "sources": sources,
            "name": records.name,
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
        logger.info("the parsed dataset is not kept in %s: %s", entry.parent, error.strerror)
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        return None
    return entry


def _sweep(entry: Path) -> None:
    """Remove what killed builds left behind (nobody else builds while we hold the lock)."""
    for leftover in entry.parent.glob(f"{entry.name}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
