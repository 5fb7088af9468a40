"""From what a user typed (files, folders, patterns) to a sorted list of photos."""

# Plain strings throughout: a folder may hold a million photos.
# ruff: noqa: PTH100, PTH112, PTH116, PTH118, PTH120, PTH207

import fnmatch
import glob
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.errors import InputError

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
OTHER_SUFFIXES = (".heic", ".heif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif",
                  ".jp2", ".ppm")  # fmt: skip
PHOTO_SUFFIXES = (*JPEG_SUFFIXES, *OTHER_SUFFIXES)

# A results folder holds MARKER; the pictures in its PICTURE_FOLDERS are never photos to look at.
MARKER = ".weft"
PICTURE_FOLDERS = ("overlays", "crops", "similar")

logger = logging.getLogger("weft")


def find_photos(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    """Collect photos, each once, however many arguments lead to it.

    Folders are searched with everything below them (hidden entries left out; links followed, loops
    noticed) for files with a photo's suffix. A file named outright counts whatever its suffix.
    A pattern (``*``, ``?``, ``[...]``, ``**``) stands for what it matches. Pictures that an earlier
    run wrote are left out, so that results may lie among the photos.

    Returns:
        The root, the deepest folder that holds all arguments, and the photos' paths relative to
        it, sorted: two folders with photos of the same names don't collide.

    Raises:
        InputError: for an argument that leads nowhere, or when there are no photos at all.
    """
    found: set[str] = set()
    roots: list[str] = []
    entered: set[tuple[int, int]] = set()
    for path in (path for argument in arguments for path in _expand(argument)):
        path = os.path.abspath(path)  # links stay, unlike with Path.resolve
        if os.path.isdir(path):
            roots.append(path)
            found.update(_walk(path, entered))
        else:
            roots.append(os.path.dirname(path))
            found.add(path)
    folders = {os.path.dirname(path) for path in found}
    results = {folder for folder in folders if _is_result(folder)}
    photos = {path for path in found if os.path.dirname(path) not in results}
    if len(photos) < len(found):
        logger.info("left out %d pictures that an earlier run wrote", len(found) - len(photos))
    if not photos:
        where = ", ".join(arguments)
        raise InputError(f"no photos in {where}: give photos, folders that hold some, or a pattern")
    root = os.path.commonpath(roots)
    return Path(root), sorted(os.path.relpath(path, root) for path in photos)


def _expand(argument: str) -> list[str]:
    # A name that exists is meant literally, even with brackets in it.
    if os.path.lexists(argument):
        return [argument]
    matches = sorted(_matches(argument))
    if not matches:
        raise InputError(f"{argument}: no such file or folder, and no pattern that matches any")
    return matches


def _matches(pattern: str) -> list[str]:
    """Files and folders that a pattern stands for; ``**`` stands for any folders, or none."""
    start, deep, rest = pattern.partition("**/")
    if not deep:
        return glob.glob(pattern)
    # Not glob's own ``**``, which follows a link to a folder above it for ever.
    patterns = rest.rstrip("/").split("/")
    found, entered = [], set()
    for top in sorted(glob.glob(start or "./")):
        for path in _walk(top, entered):
            parts = os.path.relpath(path, top).split("/")
            # A pattern may also stand for a folder that holds the photo.
            if any(_fit(parts[:count], ["**", *patterns]) for count in range(1, len(parts) + 1)):
                found.append(path)
    return found


def _fit(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    first, *rest = patterns
    if first == "**":
        return any(_fit(parts[count:], rest) for count in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], first) and _fit(parts[1:], rest)


def _walk(top: str, entered: set[tuple[int, int]]) -> Iterator[str]:
    """Paths of the photos below a folder, without folders that have been entered already."""

    def warn(error: OSError) -> None:
        logger.warning("cannot look into %s: %s", error.filename, error.strerror)

    for folder, subfolders, files in os.walk(top, onerror=warn, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in entered:
            subfolders.clear()  # a link back to where we have been
            continue
        entered.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in files:
            if name.lower().endswith(PHOTO_SUFFIXES) and not name.startswith("."):
                yield os.path.join(folder, name)


def _is_result(folder: str) -> bool:
    """Whether the folder is, or lies in, a picture folder of a results folder."""
    parent, name = os.path.split(folder)
    if name in PICTURE_FOLDERS and os.path.isdir(os.path.join(parent, MARKER)):
        return True
    return parent != folder and _is_result(parent)
