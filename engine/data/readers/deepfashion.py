"""DeepFashion's Category and Attribute Prediction benchmark, coarse labels.

    <path>/Img/img/…                        photos
    <path>/Eval/list_eval_partition.txt     train | val | test
    <path>/Anno_coarse/list_*.txt           or Anno/: categories, attributes, boxes, landmarks

289,222 photos, each with one box, one of 50 categories and 1000 attributes (present, absent or
unknown) of five types. Cape, Nightdress, Shirtdress and Sundress have no photos; they stay in the
list so that categories keep the benchmark's numbers.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.data.readers import deepfashion_common as common
from engine.data.readers import list_files
from engine.data.readers.list_files import ListFiles
from engine.data.readers.listed import Rows
from engine.data.records import AttributeGroup, PhotoRecords

SPLITS = ("train", "val", "test")
ATTRIBUTE_TYPES = {1: "texture", 2: "fabric", 3: "shape", 4: "part", 5: "style"}


def read(root: Path, folders: Sequence[Path], split: str) -> tuple[PhotoRecords, dict[str, str]]:
    """Read one split.

    Args:
        root: the benchmark's folder.
        folders: where the photos may be.
        split: one of SPLITS.

    Returns:
        The records and the fingerprints of the lists and the photo folder.

    Raises:
        InputError: the partition is missing, or a list is damaged.
    """
    common.check_split(split, SPLITS)
    lists = ListFiles(root, "Anno_coarse", "Anno", "Eval", "")
    partition = lists.words(lists.required("list_eval_partition.txt"), 1)
    chosen = [row for row, (_, part) in enumerate(partition) if part == split]
    names = [partition[row][0] for row in chosen]
    categories, category_groups = common.categories_of(lists)
    attributes, attribute_groups, matrix = _attributes(lists, names)
    rows = Rows(
        names=names,
        numbers=np.array(chosen, np.int64) + 1,
        category=_category_of(lists, names, len(categories)),
        box=common.boxes_of(lists, "list_bbox.txt", names, before=0),
        attributes=matrix,
        # Unlike the other benchmarks' lists, this one has no column for the kind of variation.
        landmarks=common.landmarks_of(lists, "list_landmarks.txt", names, skip=1),
    )
    return common.finish(
        "deepfashion",
        rows,
        folders,
        lists,
        categories=categories,
        category_groups=category_groups,
        attributes=attributes,
        attribute_groups=attribute_groups,
    )


def _category_of(lists: ListFiles, names: Sequence[str], count: int) -> np.ndarray | None:
    path = lists.optional("list_category_img.txt")
    if path is None:
        return None
    listed, numbers = lists.table(path, 1)
    places = list_files.positions(names, listed)
    numbers = list_files.rows_at(numbers[:, 0], places, 1)
    category = common.to_zero_based(numbers, count, lists.problems)
    return np.where(places < 0, -1, category)


def _attributes(
    lists: ListFiles, names: Sequence[str]
) -> tuple[list[str], list[AttributeGroup], np.ndarray | None]:
    kinds, values = lists.optional("list_attr_cloth.txt"), lists.optional("list_attr_img.txt")
    if kinds is None or values is None:
        return [], [], None
    attributes, types = lists.table(kinds, 1)
    attributes, groups, order = list_files.group_by_type(attributes, types[:, 0], ATTRIBUTE_TYPES)
    rows = {name: [row] for row, name in enumerate(names)}
    return attributes, groups, list_files.read_signs(values, rows, order, len(names))
