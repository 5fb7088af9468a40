"""The journal of a long run: one JSON line per finished photo, so that no result is lost.

    OUTPUT/.weft/
        lock            held while a run writes here
        journal.jsonl   finished photos of all earlier runs, one line each, sorted by name
        rank-0.jsonl    lines added by each process of the current (or killed) run
        rank-1.jsonl

Only the names of the photos are held in memory, not the results.
"""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.files import explain_os_errors, replacing

Record = dict[str, Any]  # "photo" is the photo's name

logger = logging.getLogger("weft")


def merge(folder: Path, valid: Callable[[Record], bool]) -> set[str]:
    """Merge the processes' files into journal.jsonl and return the names it now holds.

    The last line of a photo counts; it is dropped if not ``valid``. Incomplete lines (of a killed
    process) are dropped as well. Call on rank 0 while no process appends.
    """
    merged = folder / "journal.jsonl"
    # The older file first, since later lines replace earlier ones.
    parts = [merged, *sorted(folder.glob("rank-*.jsonl"))]
    parts = [part for part in parts if part.exists()]
    places: dict[str, tuple[int, int]] = {}
    for number, part in enumerate(parts):
        for offset, record in _records(part):
            if valid(record):
                places[record["photo"]] = (number, offset)
            else:
                places.pop(record["photo"], None)
    files = [part.open("rb") for part in parts]
    with replacing(merged) as output:
        for name in sorted(places):
            number, offset = places[name]
            files[number].seek(offset)
            output.write(files[number].readline())
    for file, part in zip(files, parts, strict=True):
        file.close()
        if part != merged:
            part.unlink()
    return set(places)


def read(folder: Path) -> Iterator[Record]:
    """The records of the merged journal, sorted by name."""
    for _, record in _records(folder / "journal.jsonl"):
        yield record


def _records(path: Path) -> Iterator[tuple[int, Record]]:
    """(offset of the line, record) of each whole line."""
    offset = damaged = 0
    with explain_os_errors(path, "cannot read"), path.open("rb") as file:
        for line in file:
            record = _parse(line)
            if record is None:
                damaged += 1
            else:
                yield offset, record
            offset += len(line)
    if damaged:
        logger.warning("%s: %d damaged lines; their photos are processed again", path, damaged)


def _parse(line: bytes) -> Record | None:
    # A line without a newline was cut off, even if the rest happens to be valid JSON.
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("photo"), str) else None


class Appender:
    """Appends finished photos to this process's file of the journal.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self.path = folder / f"rank-{rank}.jsonl"
        with explain_os_errors(self.path, "cannot write"):
            self.file = self.path.open("ab", buffering=0)

    def add(self, record: Record) -> None:
        """Append one line, unbuffered, so that killing this process cannot lose it."""
        rest = memoryview(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        with explain_os_errors(self.path, "cannot write"):
            while rest:
                rest = rest[self.file.write(rest) :]

    def __enter__(self) -> "Appender":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
