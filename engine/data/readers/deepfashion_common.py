"""What the four benchmarks of DeepFashion (Liu et al., CVPR 2016) have in common."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.data.readers import checks
from engine.data.readers.cache import fingerprint
from engine.data.readers.list_files import ListFiles, align_ragged, aligned, positions
from engine.data.readers.listed import Rows, to_columns
from engine.data.readers.problems import Problems
from engine.data.records import PhotoRecords
from engine.errors import InputError

CATEGORY_TYPES = {1: "upper", 2: "lower", 3: "full"}


def image_folders(root: Path) -> list[Path]:
    """Folders that the lists' names (img/…) may be relative to, the likeliest first."""
    return [folder for folder in (root / "Img", root, root / "images") if folder.is_dir()]


def check_split(split: str, splits: Sequence[str]) -> None:
    """Refuse a split that the benchmark does not have."""
    if split not in splits:
        raise InputError(f"split {split!r}: choose one of {', '.join(splits)}")


def categories_of(lists: ListFiles) -> tuple[list[str], list[str]]:
    """Names in the order of their numbers, and the part of the body each is for."""
    path = lists.optional("list_category_cloth.txt")
    if path is None:
        return [], []
    names, types = lists.table(path, 1)
    return names, [CATEGORY_TYPES.get(number, "") for number in types[:, 0].tolist()]


def from_one_based(numbers: np.ndarray, count: int, problems: Problems) -> np.ndarray:
    """Category numbers 1..count -> 0..count-1; what is out of range becomes -1, unknown."""
    unknown = (numbers < 1) | (numbers > count)
    for number in numbers[unknown] if count else ():
        problems.add("category number out of range", f"{number}, of {count} categories")
    return np.where(unknown, -1, numbers - 1)


def boxes_of(
    lists: ListFiles, file_name: str, names: Sequence[str], *, before: int
) -> np.ndarray | None:
    """float64 [R, 4] xyxy, NaN for photos that the list lacks; None without the list.

    ``before``: how many other numbers stand between name and box.
    """
    path = lists.optional(file_name)
    if path is None:
        return None
    listed, values = lists.table(path, before + 4)
    return aligned(values[:, before:].astype(np.float64), positions(names, listed), np.nan)


def landmarks_of(
    lists: ListFiles, file_name: str, names: Sequence[str], *, skip: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Landmarks and offsets as Rows has them; none for photos that the list lacks."""
    path = lists.optional(file_name)
    if path is None:
        return None
    listed, points, counts = lists.landmarks(path, skip)
    return align_ragged(points, counts, positions(names, listed))


def finish(
    name: str, rows: Rows, folders: Sequence[Path], lists: ListFiles, **about: Sequence
) -> tuple[PhotoRecords, dict[str, str]]:
    """Look at the photos and pack it all; ``about`` are the records' names."""
    root = checks.choose_folder(rows.names, folders, lists.root)
    sources = lists.sources | {str(root.resolve()): fingerprint(root)}
    columns = to_columns(rows, root, lists.problems)
    ids = range(1, len(about["categories"]) + 1)
    records = PhotoRecords(columns, name=name, root=root, category_ids=ids, **about)
    records.problems = lists.problems.found()
    return records, sources
