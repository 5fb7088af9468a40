"""Updates a database: which photos are new, changed or gone, and the work to be done.

A photo is done if the store holds its current state (file size and modification time); unreadable
photos are tried again in every build. Each rank writes finished photos once a second, so that a
kill costs seconds of work.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import require
from engine.errors import InputError
from engine.pixels.photos import PhotoError
from retrieval.embedders import GarmentEmbedder
from retrieval.garment_sources import GarmentSource
from retrieval.store import PhotoEntry, PhotoSink, PhotoState, Store, check_key

BATCH_SECONDS = 1.0
BATCH_PHOTOS = 1000  # most photos that wait in memory
LATEST = 2**63 - 1  # modification time in nanoseconds
GIVEN = "given"  # in MADE_BY: garments and labels come from an annotated dataset
MADE_BY = "made_by"  # in a store's ``about``: the settings its items depend on besides the photos


@dataclass
class Plan:
    """What a build has to do.

    Attributes:
        pending: current states of the photos to be read.
        vanished: stored photos that are no longer listed.
        refused: error messages for photos whose names cannot be keys.
    """

    pending: list[PhotoState]
    vanished: list[str]
    refused: list[str]


def plan_build(
    store: Store,
    root: Path,
    names: Sequence[str],
    *,
    is_stored: Callable[[Store, Sequence[str]], Iterable[bool]] | None = None,
) -> Plan:
    """Compare a store with the photos on disk.

    Args:
        store: may be empty.
        root: folder of the photos.
        names: of all photos, relative to it.
        is_stored: (store, names of photos with unchanged files) -> whether each one's labels are
            unchanged, too; None: labels need no check.
    """
    stored, pending, unchanged, refused = store.photos(), [], [], []
    for name in names:
        try:
            check_key(name)
        except InputError as error:
            refused.append(str(error))
            continue
        state, old = state_of(root, name), stored.get(name)
        (unchanged if old == state else pending).append(state)
    if is_stored:
        flags = is_stored(store, [state.photo for state in unchanged])
        pending += [state for state, flag in zip(unchanged, flags, strict=True) if not flag]
        pending.sort(key=lambda state: state.photo)
    known = set(names)
    return Plan(pending, [name for name in stored if name not in known], refused)


def state_of(root: Path, name: str) -> PhotoState:
    """The current state of a photo's file."""
    try:
        status = os.stat(f"{root}/{name}")  # noqa: PTH116 (half the time of paths)
    except OSError:  # will be reported when the photo is read
        return PhotoState(name, 0, 0)
    # Bounded, because SQLite holds no time after 2262 and a wrong clock must not stop a build.
    return PhotoState(name, status.st_size, min(status.st_mtime_ns, LATEST))


def entries(
    source: GarmentSource,
    embedder: GarmentEmbedder,
    root: Path,
    states: Sequence[PhotoState],
) -> Iterable[PhotoEntry]:
    """Read photos and describe their garments.

    Photos that cannot be read, or whose vectors are not finite, become entries without items.
    """
    by_name = {state.photo: state for state in states}
    for name, found, photo in source.find(root, by_name):
        state = by_name[name]
        try:
            if isinstance(found, PhotoError):
                raise found
            found, descriptions, vectors = embedder.describe(photo, found, source.categories)
        except InputError as error:
            state.error = str(error).removeprefix(f"{root / name}: ")
            yield state, [], np.zeros((0, embedder.schema.dim), np.float32)
        else:
            yield state, source.items(name, found, descriptions), vectors


def put_in_batches(
    found: Iterable[PhotoEntry], sink: PhotoSink, meanwhile: Callable[[], None]
) -> None:
    """Put photos into a sink in batches, one every BATCH_SECONDS or BATCH_PHOTOS.

    Args:
        found: the photos with their items and vectors.
        sink: where to put them.
        meanwhile: called after each batch.
    """
    waiting: list[PhotoEntry] = []
    last = time.monotonic()
    for entry in found:
        waiting.append(entry)
        if time.monotonic() - last >= BATCH_SECONDS or len(waiting) >= BATCH_PHOTOS:
            sink.put_photos(waiting)
            meanwhile()
            waiting, last = [], time.monotonic()
    sink.put_photos(waiting)


def require_same_settings(store: Store, made_by: dict[str, Any]) -> None:
    """Refuse to mix garments that were detected or described with different settings.

    Raises:
        InputError: naming the first setting that differs.
    """
    stored = store.about.get(MADE_BY, made_by)
    if "precision" not in stored:  # older builds recorded it only if a detector ran
        stored = stored | {"precision": made_by.get("precision")}
    for what in dict.fromkeys((*stored, *made_by)):
        old, new = stored.get(what), made_by.get(what)
        require(
            old == new,
            f"{store.name}: built with {what} {old}, now it is {new}; use the same, or build "
            "another database",
        )
