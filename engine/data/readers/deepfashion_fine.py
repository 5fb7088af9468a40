"""DeepFashion's Category and Attribute Prediction benchmark, fine labels.

    <path>/Img/img/…                    photos
    <path>/Anno_fine/train.txt          photo names; the other files have a row per photo:
                     train_cate.txt     category, from 1
                     train_attr.txt     26 values, 0 or 1
                     train_bbox.txt     x1 y1 x2 y2
                     train_landmards.txt    x y of eight landmarks, 0 0 = absent

20,000 photos; the 26 attributes form six exclusive groups.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.data.readers import deepfashion_common as common
from engine.data.readers import list_files
from engine.data.readers.list_files import ListFiles
from engine.data.readers.listed import Rows
from engine.data.records import AttributeGroup, PhotoRecords
from engine.errors import InputError

SPLITS = ("train", "val", "test")
ATTRIBUTES = {
    "pattern": ("floral", "graphic", "striped", "embroidered", "pleated", "solid", "lattice"),
    "sleeve": ("long_sleeve", "short_sleeve", "sleeveless"),
    "length": ("maxi_length", "mini_length", "no_dress"),
    "neckline": ("crew_neckline", "v_neckline", "square_neckline", "no_neckline"),
    "fabric": ("denim", "chiffon", "cotton", "leather", "faux", "knit"),
    "fit": ("tight", "loose", "conventional"),
}
LANDMARKS = 8


def read(root: Path, folders: Sequence[Path], split: str) -> tuple[PhotoRecords, dict[str, str]]:
    """Read one split; arguments, results and errors as ``engine.data.readers.deepfashion.read``."""
    common.check_split(split, SPLITS)
    lists = ListFiles(root, "Anno_fine", "")
    names = _names(lists.required(f"{split}.txt"))
    categories, category_groups = common.categories_of(lists)
    category = _numbers(lists, names, 1, f"{split}_cate.txt")
    if category is not None:
        category = common.to_zero_based(category[:, 0], len(categories), lists.problems)
    box = _numbers(lists, names, 4, f"{split}_bbox.txt")
    attributes, groups = attribute_groups()
    marks = _numbers(lists, names, len(attributes), f"{split}_attr.txt")
    if marks is None:
        attributes, groups = [], []
    rows = Rows(
        names=names,
        numbers=np.arange(len(names)) + _photos_before(lists, split) + 1,
        category=category,
        box=None if box is None else box.astype(np.float64),
        attributes=None if marks is None else _one_value_each(marks, groups, names, lists),
        landmarks=_landmarks(lists, names, split),
    )
    return common.finish(
        "deepfashion-fine",
        rows,
        folders,
        lists,
        categories=categories,
        category_groups=category_groups,
        attributes=attributes,
        attribute_groups=groups,
    )


def attribute_groups() -> tuple[list[str], list[AttributeGroup]]:
    """The 26 attributes in the files' order, and their six groups."""
    attributes, groups = [], []
    for name, values in ATTRIBUTES.items():
        start = len(attributes)
        groups.append(AttributeGroup(name, start, start + len(values), exclusive=True))
        attributes += values
    return attributes, groups


def _names(path: Path) -> list[str]:
    return [line.strip() for line in list_files.read_lines(path) if line.strip()]


def _photos_before(lists: ListFiles, split: str) -> int:
    """Number of photos in the splits before this one, so that image ids differ between splits."""
    paths = [lists.optional(f"{earlier}.txt") for earlier in SPLITS[: SPLITS.index(split)]]
    return sum(len(_names(path)) for path in paths if path)


def _numbers(
    lists: ListFiles, names: Sequence[str], columns: int, *file_names: str
) -> np.ndarray | None:
    """One row of numbers per photo, int64 [R, columns]; None without the file."""
    path = lists.optional(*file_names)
    if path is None:
        return None
    values = list_files.parse_numbers(path, " ".join(list_files.read_lines(path)))
    if len(values) != columns * len(names):
        raise InputError(
            f"{path}: holds {len(values)} numbers, but {len(names)} photos need {columns} each; "
            "it is damaged or belongs to another split"
        )
    return values.reshape(-1, columns)


def _one_value_each(
    marks: np.ndarray, groups: Sequence[AttributeGroup], names: Sequence[str], lists: ListFiles
) -> np.ndarray:
    """Marks 0 or 1 [R, 26] -> int8 [R, 26]: 1 yes, -1 no; all 0 in groups without exactly one 1."""
    values = np.where(marks > 0, 1, -1).astype(np.int8)
    for group in groups:
        marked = (marks[:, group.start : group.stop] > 0).sum(axis=1)
        values[marked != 1, group.start : group.stop] = 0
        for row in np.flatnonzero(marked > 1):
            where = f"{names[row]}: {group.name}"
            lists.problems.add("several answers where one is right", where)
    return values


def _landmarks(
    lists: ListFiles, names: Sequence[str], split: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Eight landmarks per photo, and offsets.

    The benchmark misspells the file's name; some copies correct it.
    """
    spellings = (f"{split}_landmarks.txt", f"{split}_landmards.txt")
    values = _numbers(lists, names, 2 * LANDMARKS, *spellings)
    if values is None:
        return None
    points = values.reshape(-1, 2)
    visible = np.where(points.any(axis=1), 2, 0)
    landmarks = np.column_stack([points, visible]).astype(np.float32)
    return landmarks, np.arange(len(names) + 1) * LANDMARKS
