"""Pictures of stored items, cut from photos below the database's root and nowhere else."""

import math
import os
from pathlib import Path, PurePosixPath

import numpy as np

from engine.config import require
from engine.errors import InputError
from engine.files import absolute
from engine.pixels.geometry import Size, cut_box, shrink_to
from engine.pixels.photos import photo_size, read_photo
from retrieval.store import Item, Store

ROOT = "root"  # in a store's ``about``: the folder that photos' names are relative to


def photo_path(root: str | Path, name: str) -> Path:
    """The path of a stored photo. Links below the root are followed, as in a build.

    Raises:
        InputError: the name points outside the root, which only a forged database's names do.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise InputError(f"{name!r}: not the name of a photo below {root}")
    return Path(root, *parts)


def photo_name(store: Store, path: Path) -> str | None:
    """A photo's name in a store; None if it is not below the store's root."""
    root = store.about.get(ROOT)
    if root is None:
        return None
    # First the path as given, links unresolved as in a build; then with links resolved.
    for place in (absolute, os.path.realpath):
        try:
            name = Path(place(path)).relative_to(place(root)).as_posix()
            name.encode()  # no store holds a name of stray bytes
            return name
        except ValueError:  # so is what ``encode`` raises
            continue
    return None


def relative_names(root: Path, found_root: Path, names: list[str]) -> list[str]:
    """Make photos' names relative to the database's root.

    Args:
        root: the database's.
        found_root: the folder that ``names`` are relative to.
        names: of the photos.

    Raises:
        InputError: a photo lies outside of the root.
    """
    start = absolute(found_root)
    if start == root:
        return names
    paths = [f"{start}/{name}" for name in names]
    names = [os.path.relpath(path, root) for path in paths]
    for path, name in zip(paths, names, strict=True):
        require(
            not name.startswith("../"),
            f"{path}: not below {root}, the root of this database's photos; give --root FOLDER if "
            "the photos have moved, or build another database",
        )
    return names


def item_picture(root: str | Path | None, item: Item, side: int) -> np.ndarray | None:
    """An item's part of its photo, its longer side at most ``side`` pixels: u8[H,W,3] RGB.

    None if the photo is gone or cannot be read, or the root is unknown.
    """
    if root is None:
        return None
    try:
        path = photo_path(root, item.photo)
        full_size = photo_size(path)
        box = np.nan_to_num(item.box or (0, 0, *full_size)).clip(0, max(full_size))
        return read_part(path, box, full_size, side)
    except InputError:
        return None


def read_part(path: Path, box: np.ndarray, full_size: Size, side: int) -> np.ndarray:
    """The part of a photo in a box, its longer side at most ``side`` pixels: u8[H,W,3] RGB.

    Args:
        path: of the photo, which is decoded only as large as needed.
        box: f64[4] xyxy in pixels of the full photo.
        full_size: (width, height) of the full photo.
        side: px.

    Raises:
        PhotoError: the photo cannot be read.
    """
    longest = max(*(box[2:] - box[:2]), 1)
    photo = read_photo(path, min_short_side=math.ceil(min(full_size) * side / longest))
    return shrink_to(cut_box(photo, box, full_size), side)
