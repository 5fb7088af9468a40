"""A run over many photos that can be killed, resumed and repeated: finds the photos left to do.

Rank 0 opens the run and distributes ``pending``; each rank appends its finished photos to the
journal; rank 0 reads all records. A journal line is valid while its stamp is unchanged: the photo's
size and modification time, and a digest of everything else that the results depend on.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config import require
from engine.errors import InputError
from engine.files import exists, explain_os_errors, remove_leftovers
from engine.lock import Lock
from engine.outputs import journal
from engine.outputs.journal import Record
from engine.outputs.results import pictures_of
from engine.pixels.find_photos import MARKER, PICTURE_FOLDERS, SIMILAR

WRITTEN = ("garments.json", "garments.csv", "coco_results.json", "features.npz", "index.html",
           *PICTURE_FOLDERS)  # fmt: skip
ADVICE = "choose another --output-dir"

Stamp = list  # [size in bytes, modification time in ns, digest]; [] if the file has none


@dataclass
class PhotoRun:
    """An open run.

    Attributes:
        root: the folder that names are relative to.
        names: of all photos, sorted.
        pending: (name, stamp) of those without a valid journal line, sorted.
        others: number of existing photos of earlier runs that are in the journal but not in
            ``names``.
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
        """Every photo's record, sorted by name. Call when no process appends any more."""
        journal.merge(self.folder, lambda record: True)
        expected = iter(self.names)
        wanted = set(self.names)
        for record in journal.read(self.folder):
            if record["photo"] in wanted:
                assert record["photo"] == next(expected), "the journal lacks a photo"
                yield record
        assert next(expected, None) is None, "the journal lacks a photo"

    def close(self) -> None:
        """Release the lock."""
        self.lock.close()


def open_run(root: Path, names: list[str], output: Path, basis: dict[str, Any]) -> PhotoRun:
    """Open a run and find the photos that earlier runs into ``output`` have not finished.

    Args:
        root, names: the photos, as ``find_photos`` returns them.
        output: results folder, created when missing.
        basis: JSON-ready; everything that the results depend on besides the photo (weights,
            settings).

    Raises:
        InputError: the output folder cannot be written, is used by another run, or contains other
            files with the names of results.
    """
    folder, lock = claim_folder(output, WRITTEN)
    digest = hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:16]
    stamps = {name: stamp_of(root / name, digest) for name in names}
    done = journal.merge(folder, lambda record: _is_current(record, stamps, output))
    pending = [(name, stamps[name]) for name in names if name not in done]
    others = sum(exists(root / name) for name in done.difference(names))
    return PhotoRun(root, names, pending, others, folder, lock)


def claim_folder(output: Path, written: Sequence[str]) -> tuple[Path, Lock]:
    """Lock a results folder for this run; creates it if missing.

    Args:
        output: the results folder.
        written: names that a run writes there, or removes.

    Returns:
        The journal's folder inside the results folder, and the lock.

    Raises:
        InputError: the results folder cannot be written, is used by another run, or contains one
            of the names but no journal, so that the file does not come from a run.
    """
    _refuse_other_files(output, written)
    folder = output / MARKER
    with explain_os_errors(output, "cannot write to", ADVICE):
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder / "lock", output, ADVICE)
        # Overlays and crops are written in place, and listing a million of them takes long.
        for place in (output, folder, output / SIMILAR):
            remove_leftovers(place)
    return folder, lock


def check_folder(output: Path, written: Sequence[str]) -> None:
    """Refuse what ``claim_folder`` would refuse, but make no folder.

    Call it before models are loaded: that takes a while, and a start that fails there should leave
    nothing behind.

    Raises:
        InputError: as ``claim_folder``.
    """
    if exists(output / MARKER):
        claim_folder(output, written)[1].close()
        return
    _refuse_other_files(output, written)
    existing = next(path for path in (output, *output.parents) if exists(path))
    sentence = f"cannot write to {output}: {existing} is not a folder; {ADVICE}"
    require(existing.is_dir(), sentence)
    sentence = f"cannot write to {output}: {existing} is not writable; {ADVICE}"
    require(os.access(existing, os.W_OK | os.X_OK), sentence)


def _refuse_other_files(output: Path, written: Sequence[str]) -> None:
    for name in written:
        if exists(output / name) and not exists(output / MARKER):
            raise InputError(
                f"{output}: holds {name}, which no run wrote and which would be overwritten; "
                + ADVICE
            )


def stamp_of(photo: Path, digest: str) -> Stamp:
    """The stamp of a photo; ``digest`` is that of everything else the results depend on."""
    try:
        status = photo.stat()
    except OSError:  # reading the photo will report the error
        return []
    return [status.st_size, status.st_mtime_ns, digest]


def _is_current(record: Record, stamps: dict[str, Stamp], output: Path) -> bool:
    """Whether a journal line is still valid."""
    name = record["photo"]
    if name not in stamps:
        return True  # of another run into this folder, which may be repeated later
    if "kind" in record:
        return False  # unreadable photos are tried again: stamps do not show changed permissions
    if record.get("stamp") != stamps[name]:
        return False
    return all(exists(f"{output}/{picture}") for picture in pictures_of(record))
