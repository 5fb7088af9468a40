"""Shared code of the readers for DeepFashion's four benchmarks (Liu et al., CVPR 2016)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.data.readers import checks
from engine.data.readers.cache import fingerprint
from engine.data.readers.list_files import ListFiles, positions, ragged_rows_at, rows_at
from engine.data.readers.listed import Rows, to_columns
from engine.data.readers.problems import Problems
from engine.data.records import PhotoRecords
from engine.errors import InputError

CATEGORY_TYPES = {1: "upper", 2: "lower", 3: "full"}


def image_folders(root: Path) -> list[Path]:
    """Folders that the listed names (img/…) may be relative to, most likely first."""
    return [folder for folder in (root / "Img", root, root / "images") if folder.is_dir()]


def check_split(split: str, splits: Sequence[str]) -> None:
    """Raise InputError for a split that the benchmark does not have."""
    if split not in splits:
        raise InputError(f"split {split!r}: choose one of {', '.join(splits)}")


def categories_of(lists: ListFiles) -> tuple[list[str], list[str]]:
    """Category names and their groups ("upper", "lower", "full"), in the order of their numbers."""
    path = lists.optional("list_category_cloth.txt")
    if path is None:
        return [], []
    names, types = lists.table(path, 1)
    return names, [CATEGORY_TYPES.get(number, "") for number in types[:, 0].tolist()]


def to_zero_based(numbers: np.ndarray, count: int, problems: Problems) -> np.ndarray:
    """Category numbers 1..count -> 0..count-1; numbers out of range become -1 and are counted."""
    unknown = (numbers < 1) | (numbers > count)
    for number in numbers[unknown] if count else ():
        problems.add("category number out of range", f"{number}, of {count} categories")
    return np.where(unknown, -1, numbers - 1)


def boxes_of(
    lists: ListFiles, file_name: str, names: Sequence[str], *, before: int
) -> np.ndarray | None:
    """Boxes float64 [R, 4] xyxy, NaN for photos that the list lacks; None without the list.

    ``before``: how many other numbers are between the name and the box.
    """
    path = lists.optional(file_name)
    if path is None:
        return None
    listed, values = lists.table(path, before + 4)
    return rows_at(values[:, before:].astype(np.float64), positions(names, listed), np.nan)


def landmarks_of(
    lists: ListFiles, file_name: str, names: Sequence[str], *, skip: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Landmarks and offsets as in Rows, empty for photos that the list lacks; None without it.

    ``skip``: how many other numbers are between the name and the landmarks.
    """
    path = lists.optional(file_name)
    if path is None:
        return None
    listed, points, counts = lists.landmarks(path, skip)
    return ragged_rows_at(points, counts, positions(names, listed))


def finish(
    format: str, rows: Rows, folders: Sequence[Path], lists: ListFiles, **about: Sequence
) -> tuple[PhotoRecords, dict[str, str]]:
    """Check the photos and build the records, whose other arguments are in ``about``."""
    root = checks.choose_folder(rows.names, folders, lists.root)
    sources = lists.sources | {str(root.resolve()): fingerprint(root)}
    columns = to_columns(rows, root, lists.problems)
    ids = range(1, len(about["categories"]) + 1)
    records = PhotoRecords(columns, format=format, root=root, category_ids=ids, **about)
    records.problems = lists.problems.found()
    return records, sources
