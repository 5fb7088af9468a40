"""A run over many photos that may be killed, continued and repeated: what is left to do.

Rank 0 opens the run and shares out ``pending``; each rank adds its finished photos to the journal;
rank 0 reads back the records of all. A journal line holds as long as its stamp does: the photo's
size and time, and a digest of everything else that the results depend on.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.files import exists, explain_os_errors, remove_leftovers
from engine.lock import Lock
from engine.outputs import journal
from engine.outputs.journal import Record
from engine.outputs.results import pictures_of
from engine.pixels.find_photos import MARKER, PICTURE_FOLDERS

WRITTEN = ("garments.json", "garments.csv", "coco_results.json", "features.npz", "index.html",
           *PICTURE_FOLDERS)  # fmt: skip

Stamp = list  # [bytes, modification time in ns, digest]; empty when the file cannot be asked


@dataclass
class PhotoRun:
    """An open run.

    Attributes:
        root: the folder that names start from.
        names: of all photos, sorted.
        pending: (name, stamp) of those without a valid journal line, sorted.
        others: how many photos that are still there the journal holds beside them, of earlier
            runs.
        folder: of the journal.
        lock: held until ``close``.
    """

    root: Path
    names: list[str]
    pending: list[tuple[str, Stamp]]
    others: int
    folder: Path
    lock: Lock

    def records(self) -> Iterator[Record]:
        """Every photo's record, sorted by name. Call once no process adds any more."""
        journal.merge(self.folder, lambda record: True)
        expected = iter(self.names)
        wanted = set(self.names)
        for record in journal.read(self.folder):
            if record["photo"] in wanted:
                assert record["photo"] == next(expected), "the journal lacks a photo"
                yield record
        assert next(expected, None) is None, "the journal lacks a photo"

    def close(self) -> None:
        """Let the next run in."""
        self.lock.close()


def open_run(root: Path, names: list[str], output: Path, basis: dict[str, Any]) -> PhotoRun:
    """What earlier runs into ``output`` have left to do.

    Args:
        root, names: the photos, as ``find_photos`` gives them.
        output: results folder, created when missing.
        basis: JSON-ready; all that results depend on beside the photo (weights, settings).

    Raises:
        InputError: an output folder that cannot be written, that another run is using or that
            holds other things under the results' names.
    """
    folder, lock = claim(output, WRITTEN)
    digest = hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:16]
    stamps = {name: stamp_of(root / name, digest) for name in names}
    done = journal.merge(folder, lambda record: _holds(record, stamps, output))
    pending = [(name, stamps[name]) for name in names if name not in done]
    others = sum(exists(root / name) for name in done.difference(names))
    return PhotoRun(root, names, pending, others, folder, lock)


def claim(output: Path, written: Sequence[str]) -> tuple[Path, Lock]:
    """The journal's folder in a results folder, both made when missing, and its lock.

    Args:
        output: the results folder.
        written: names of what a run writes there, or removes.

    Raises:
        InputError: the results folder cannot be written, another run is using it, or it holds
            such a name without a journal: not a run's, but somebody's own.
    """
    folder, advice = output / MARKER, "choose another --output-dir"
    for name in written:
        if exists(output / name) and not exists(folder):
            raise InputError(
                f"{output}: holds {name}, which no run wrote and this one would write over; "
                + advice
            )
    with explain_os_errors(output, "cannot write to", advice):
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder / "lock", output, advice)
        remove_leftovers(output)
    return folder, lock


def stamp_of(photo: Path, digest: str) -> Stamp:
    """By which a journal line holds; ``digest``: of all that it depends on beside the photo."""
    try:
        status = photo.stat()
    except OSError:  # reading the photo will tell what is wrong with it
        return []
    return [status.st_size, status.st_mtime_ns, digest]


def _holds(record: Record, stamps: dict[str, Stamp], output: Path) -> bool:
    """Whether a journal line may stay."""
    name = record["photo"]
    if name not in stamps:
        return True  # from another run into this folder, which may be repeated
    if "kind" in record:
        return False  # unreadable photos get another chance: permissions leave no trace in a stamp
    if record.get("stamp") != stamps[name]:
        return False
    return all(exists(f"{output}/{picture}") for picture in pictures_of(record))
