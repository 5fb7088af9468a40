"""One process's share of a build: vectors and a journal of its own, handed over without waiting.

    shards/<time>-rank-0-<process>.f32      vectors, rows one after another
    shards/<time>-rank-0-<process>.jsonl    the schema, then a line a finished photo, written after
                                            its vectors: offset, checksum, state, items

Nothing is shared between the processes, so none can hold up or break another. The process that
has the database open absorbs whole lines whenever it likes, in transactions that also remember how
far it got: a kill of anyone at any moment costs at most the photos under way. A line whose vectors
do not have its checksum (power loss before the disk had them) is left out, and its photo is new to
the next build.
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
from retrieval import folder as names
from retrieval.features import FeatureSchema
from retrieval.store import Item, PhotoEntry, PhotoSink, PhotoState, check_photo, check_rows

BATCH_ROWS = 4096  # a transaction's
BATCH_PHOTOS = 1024

logger = logging.getLogger("weft")


class ShardWriter(PhotoSink):
    """Appends photos; each is handed over whole or not at all.

    Needs no other process: the database may be made by another one later.
    """

    def __init__(self, folder: Path, *, schema: FeatureSchema, rank: int) -> None:
        if names.is_database(folder):
            names.read_description(folder)[0].require_same(schema, str(folder))
        self.schema = schema
        name = f"{time.time_ns():020d}-rank-{rank}-{os.getpid()}.jsonl"
        path = folder / names.SHARDS / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.vectors = _Appended(path.with_suffix(".f32"))
            self.journal = _Appended(path)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"cannot write {path}: {reason}; choose another place") from error
        # Tells the process that absorbs that more may come.
        with contextlib.suppress(OSError):
            fcntl.flock(self.journal.descriptor, fcntl.LOCK_EX)
        self.journal.append(_line(schema.to_plain()))

    def put_photos(self, batch: Iterable[PhotoEntry]) -> None:
        for state, items, vectors in batch:
            check_photo(state, items)
            rows = check_rows(items, vectors, self.schema)
            line = {"offset": self.vectors.size, "checksum": zlib.crc32(rows)}
            line |= {"state": asdict(state), "items": [asdict(item) for item in items]}
            # The line last: it says that the rest is there.
            self.vectors.append(rows.tobytes())
            self.journal.append(_line(line))

    def close(self) -> None:
        for file in (self.vectors, self.journal):
            file.close()


class _Appended:
    """A file that only grows, by whole pieces."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0
        self.descriptor: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def append(self, data: bytes) -> None:
        """Hand a piece to the system: a kill of this process cannot take it back.

        What a full disk leaves of one is written over by the next; a line without its end is none.
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
    """What one process wrote, for the one that absorbs it."""

    def __init__(self, journal: Path, schema: FeatureSchema) -> None:
        self.path, self.schema = journal, schema

    @property
    def name(self) -> str:
        return self.path.stem

    def is_finished(self) -> bool:
        """True when its writer has closed it or is gone. Ask before reading to the end."""
        try:
            with self.path.open("r+b") as file:  # NFS locks only what may be written
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held; or a file system without locks, where nobody can tell
            return False
        return True

    def batches(self, offset: int) -> Iterator[tuple[list[PhotoEntry], int]]:
        """(photos, the offset after them) from byte ``offset`` of the journal to its present end.

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
            logger.warning("%s: its vectors are gone; its photos are done again", self.path)
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from error

    def _batches(self, journal: IO, vectors: IO) -> Iterator[tuple[list[PhotoEntry], int]]:
        entries, rows, offset = [], 0, journal.tell()
        for line in journal:
            # A line without its end is still being written, or was cut off.
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
                raise ValueError("the vectors do not have the checksum")
            state = PhotoState(**plain["state"])
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s: a damaged line is left out: %s", self.path, error)
            return None
        for item in items:
            item.box = None if item.box is None else tuple(item.box)
        return state, items, np.frombuffer(data, np.float32).reshape(-1, self.schema.dim)

    def _check_schema(self, line: bytes) -> bool:
        """Whether the first line says what the rest is."""
        if not line.endswith(b"\n"):
            return False  # killed before it was whole: nothing to read either
        try:
            found = FeatureSchema.from_plain(json.loads(line), str(self.path))
        except (ValueError, InputError) as error:
            logger.warning("%s: damaged, its photos are done again: %s", self.path, error)
            return False
        self.schema.require_same(found, str(self.path))
        return True

    def _vectors_path(self) -> Path:
        return self.path.with_suffix(".f32")

    def remove(self) -> None:
        # The journal first: vectors without one are never looked at.
        self.path.unlink(missing_ok=True)
        self._vectors_path().unlink(missing_ok=True)


def shards(folder: Path, schema: FeatureSchema) -> list[Shard]:
    """All shards of a database, the oldest first, so that the newest word about a photo counts."""
    found = sorted((folder / names.SHARDS).glob("*.jsonl"))
    return [Shard(path, schema) for path in found]


def _line(plain: dict) -> bytes:
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
