"""Finds the photos that command-line arguments (files, folders, patterns) name."""

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

# A results folder contains MARKER; pictures in its PICTURE_FOLDERS are output, never input.
MARKER = ".weft"
SIMILAR = "similar"
PICTURE_FOLDERS = ("overlays", "crops", SIMILAR)

logger = logging.getLogger("weft")


def find_photos(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    """Collect photos, each once, even if several arguments name it.

    Folders are searched recursively for files with a photo's suffix; hidden entries are left out,
    links are followed except in loops. A file that is named explicitly may have any suffix.
    Patterns use ``*``, ``?``, ``[...]`` and ``**``. Pictures written by an earlier run are left
    out, so that results may be stored among the photos.

    Returns:
        The root, which is the deepest folder that contains all arguments, and the photos' sorted
        paths relative to it.

    Raises:
        InputError: an argument names nothing, or there are no photos.
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
        raise InputError(f"no photos in {where}: give photos, folders of photos, or a pattern")
    root = os.path.commonpath(roots)
    return Path(root), sorted(os.path.relpath(path, root) for path in photos)


def _expand(argument: str) -> list[str]:
    # An existing name is not a pattern, even if it contains brackets.
    if os.path.lexists(argument):
        return [argument]
    matches = sorted(_matches(argument))
    if not matches:
        raise InputError(f"{argument}: no such file or folder, and as a pattern it matches none")
    return matches


def _matches(pattern: str) -> list[str]:
    """Files and folders that match a pattern; ``**`` matches any number of folders."""
    start, deep, rest = pattern.partition("**/")
    if not deep:
        return glob.glob(pattern)
    # Not glob's own ``**``, which follows link loops until the path is too long.
    patterns = rest.rstrip("/").split("/")
    found, entered = [], set()
    for top in sorted(glob.glob(start or "./")):
        for path in _walk(top, entered):
            parts = os.path.relpath(path, top).split("/")
            # The pattern may also match a folder that contains the photo.
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
    """Paths of the photos below a folder; skips folders in ``entered`` and adds new ones to it."""

    def warn(error: OSError) -> None:
        logger.warning("cannot look into %s: %s", error.filename, error.strerror)

    for folder, subfolders, files in os.walk(top, onerror=warn, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in entered:
            subfolders.clear()  # reached before, through a link
            continue
        entered.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in files:
            if name.lower().endswith(PHOTO_SUFFIXES) and not name.startswith("."):
                yield os.path.join(folder, name)


def _is_result(folder: str) -> bool:
    """Whether the folder is a picture folder of a results folder, or inside one."""
    parent, name = os.path.split(folder)
    if name in PICTURE_FOLDERS and os.path.isdir(os.path.join(parent, MARKER)):
        return True
    return parent != folder and _is_result(parent)
