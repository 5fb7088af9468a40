"""Shards: each process of a build writes its photos to two files of its own, without locking.

    shards/<time>-rank-0-<process>.f32      vectors, rows one after another
    shards/<time>-rank-0-<process>.jsonl    the schema, then one line per finished photo, written
                                            after its vectors: offset, checksum, state, items

The processes share nothing, so none can delay or break another. The process that has the database
open absorbs complete lines at any time, in transactions that also record how far it has read. So
killing any process at any moment costs at most the photos in progress. A line whose vectors do not
match its checksum (power loss before they reached the disk) is skipped, and the next build reads
its photo again.
"""

import contextlib
import fcntl
import json
import logging
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO

import numpy as np

from engine.errors import InputError
from retrieval import folder as db_folder
from retrieval.features import FeatureSchema
from retrieval.store import Item, PhotoEntry, PhotoSink, PhotoState, check_photo, check_rows

BATCH_ROWS = 4096  # per transaction
BATCH_PHOTOS = 1024

logger = logging.getLogger("weft")


class ShardWriter(PhotoSink):
    """Appends photos, each completely or not at all.

    Depends on no other process: the database itself may be created later.
    """

    def __init__(self, folder: Path, *, schema: FeatureSchema, rank: int) -> None:
        if db_folder.is_database(folder):
            db_folder.read_description(folder)[0].require_same(schema, str(folder))
        self.schema = schema
        name = f"{time.time_ns():020d}-rank-{rank}-{os.getpid()}.jsonl"
        path = folder / db_folder.SHARDS / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The journal first: vectors without one would never be removed.
            self.journal = _Appended(path)
            # Held while this writer lives: tells the absorbing process that more may come.
            with contextlib.suppress(OSError):
                fcntl.flock(self.journal.descriptor, fcntl.LOCK_EX)
            self.vectors = _Appended(path.with_suffix(".f32"))
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"cannot write {path}: {reason}; choose another place") from error
        self.journal.append(_line(schema.to_plain()))

    def put_photos(self, batch: Iterable[PhotoEntry]) -> None:
        for state, items, vectors in batch:
            check_photo(state, items)
            rows = check_rows(items, vectors, self.schema)
            line = {"offset": self.vectors.size, "checksum": zlib.crc32(rows)}
            line |= {"state": asdict(state), "items": [asdict(item) for item in items]}
            # The line last: its presence means that the vectors are complete.
            self.vectors.append(rows.tobytes())
            self.journal.append(_line(line))

    def close(self) -> None:
        for file in (self.vectors, self.journal):
            file.close()


class _Appended:
    """A file that only grows, by one complete piece at a time."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0
        self.descriptor: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def append(self, data: bytes) -> None:
        """Write a piece through the operating system, so that it survives a kill of this process.

        A part left by a full disk is overwritten by the next piece; readers skip unfinished lines.

        Raises:
            InputError: the piece cannot be written.
        """
        rest, offset = memoryview(data), self.size
        try:
            while rest:
                written = os.pwrite(self.descriptor, rest, offset)
                rest, offset = rest[written:], offset + written
        except OSError as error:
            sentence = f"cannot write {self.path}: {error.strerror}; free space or choose another"
            raise InputError(f"{sentence} place") from error
        self.size = offset

    def close(self) -> None:
        if self.descriptor is not None:
            os.fsync(self.descriptor)
            with contextlib.suppress(OSError):  # a forked process may hold the same file open
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            os.close(self.descriptor)
            self.descriptor = None


class Shard:
    """The files of one ``ShardWriter``, for the process that absorbs them."""

    def __init__(self, journal: Path, schema: FeatureSchema) -> None:
        self.path, self.schema = journal, schema

    @property
    def name(self) -> str:
        """Identifies the shard in the item table."""
        return self.path.stem

    def is_finished(self) -> bool:
        """Whether its writer has closed it or ended. Call before reading to the end."""
        try:
            with self.path.open("r+b") as file:  # NFS locks only what may be written
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # locked; or a file system without locks, where it cannot be known
            return False
        return True

    def batches(self, offset: int) -> Iterator[tuple[list[PhotoEntry], int]]:
        """(photos, the offset after them) from byte ``offset`` of the journal to its current end.

        Raises:
            InputError: the shard holds features of another schema, or cannot be read.
        """
        try:
            with self.path.open("rb") as journal, self._vectors_path().open("rb") as vectors:
                if not self._check_schema(journal.readline()):
                    return
                journal.seek(max(offset, journal.tell()))
                yield from self._batches(journal, vectors)
        except FileNotFoundError:
            if offset < self.path.stat().st_size:  # else killed while it was made or removed
                logger.warning("%s: its vectors are gone; its photos will be read again", self.path)
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from error

    def _batches(self, journal: IO, vectors: IO) -> Iterator[tuple[list[PhotoEntry], int]]:
        entries, rows, offset = [], 0, journal.tell()
        for line in journal:
            # A line without a line break is still being written, or was cut off.
            if not line.endswith(b"\n"):
                break
            offset += len(line)
            entry = self._entry(line, vectors)
            if entry is not None:
                entries.append(entry)
                rows += len(entry[1])
            if rows >= BATCH_ROWS or len(entries) >= BATCH_PHOTOS:
                yield entries, offset
                entries, rows = [], 0
        if entries:
            yield entries, offset

    def _entry(self, line: bytes, vectors: IO) -> PhotoEntry | None:
        try:
            plain = json.loads(line)
            items = [Item(**about) for about in plain["items"]]
            vectors.seek(plain["offset"])
            data = vectors.read(len(items) * 4 * self.schema.dim)
            if zlib.crc32(data) != plain["checksum"]:
                raise ValueError("the vectors do not match the checksum")
            state = PhotoState(**plain["state"])
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s: skipped a damaged line: %s", self.path, error)
            return None
        for item in items:
            item.box = None if item.box is None else tuple(item.box)
        return state, items, np.frombuffer(data, np.float32).reshape(-1, self.schema.dim)

    def _check_schema(self, line: bytes) -> bool:
        """Whether the first line holds a readable schema; InputError if it is another one."""
        if not line.endswith(b"\n"):
            return False  # killed before the line was complete, so nothing follows it
        try:
            found = FeatureSchema.from_plain(json.loads(line), str(self.path))
        except (ValueError, InputError) as error:
            logger.warning("%s: damaged, its photos will be read again: %s", self.path, error)
            return False
        self.schema.require_same(found, str(self.path))
        return True

    def _vectors_path(self) -> Path:
        return self.path.with_suffix(".f32")

    def remove(self) -> None:
        """Delete both files."""
        # The journal last: after a kill the next build finds it and removes it.
        self._vectors_path().unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def shards(folder: Path, schema: FeatureSchema) -> list[Shard]:
    """All shards of a database, oldest first, so that the newest entry of a photo wins."""
    found = sorted((folder / db_folder.SHARDS).glob("*.jsonl"))
    return [Shard(path, schema) for path in found]


def _line(plain: dict) -> bytes:
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
