"""DeepFashion's In-shop and Consumer-to-shop Clothes Retrieval benchmarks.

    <path>/Img/img/WOMEN/Dresses/id_00000002/02_1_front.jpg
    <path>/Eval/list_eval_partition.txt
    <path>/Anno/list_bbox_*.txt, list_landmarks_*.txt, list_attr_cloth.txt, list_attr_items.txt

The newer download of In-shop has the attribute lists in <path>/Anno/attributes.

The identity of a photo is its product, and so are its attributes. No list holds the category: it is
the name of the folder above the product's folder.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.data.packing import SOURCES
from engine.data.readers import deepfashion_common as common
from engine.data.readers import list_files
from engine.data.readers.list_files import ListFiles
from engine.data.readers.listed import Rows
from engine.data.records import AttributeGroup, PhotoRecords

# Split -> its names in list_eval_partition.txt.
INSHOP_SPLITS = {
    "train": ("train",),
    "query": ("query",),
    "gallery": ("gallery",),
    "test": ("query", "gallery"),
}
CONSUMER2SHOP_SPLITS = ("train", "val", "test", "query", "gallery")
FOLDERS = ("Anno", "Anno/attributes", "Eval", "")


def read_inshop(
    root: Path, folders: Sequence[Path], split: str
) -> tuple[PhotoRecords, dict[str, str]]:
    """Read "train", "query", "gallery" or "test", which is query and gallery together.

    Arguments, results and errors as ``engine.data.readers.deepfashion.read``.
    """
    common.check_split(split, tuple(INSHOP_SPLITS))
    lists = ListFiles(root, *FOLDERS)
    partition = lists.words(lists.required("list_eval_partition.txt"), 2)
    names, items, parts = map(list, zip(*partition, strict=True)) if partition else ([], [], [])
    chosen = [row for row, part in enumerate(parts) if part in INSHOP_SPLITS[split]]
    return _read("inshop", lists, folders, names, items, chosen, [""] * len(names))


def read_consumer2shop(
    root: Path, folders: Sequence[Path], split: str
) -> tuple[PhotoRecords, dict[str, str]]:
    """Read "train", "val", "test", "query" (consumer photos of test) or "gallery".

    The gallery is all shop photos of val and test, as in the benchmark. A row of the partition
    pairs a consumer photo (source "user") with a shop photo; a photo may be in several rows.
    Arguments, results and errors as ``engine.data.readers.deepfashion.read``.
    """
    common.check_split(split, CONSUMER2SHOP_SPLITS)
    lists = ListFiles(root, *FOLDERS)
    partition = lists.words(lists.required("list_eval_partition.txt"), 3)
    photos: dict[str, tuple[str, str, set[str]]] = {}  # name -> item, source, splits
    for consumer, shop, item, part in partition:
        for name, source in ((consumer, "user"), (shop, "shop")):
            photos.setdefault(name, (item, source, set()))[2].add(part)
    names = list(photos)
    items = [item for item, _, _ in photos.values()]
    sources = [source for _, source, _ in photos.values()]
    chosen = [
        row
        for row, (_, source, parts) in enumerate(photos.values())
        if _is_in(split, source, parts)
    ]
    return _read("consumer2shop", lists, folders, names, items, chosen, sources)


def _is_in(split: str, source: str, parts: set[str]) -> bool:
    if split == "gallery":
        return source == "shop" and bool(parts & {"val", "test"})
    if split == "query":
        return source == "user" and "test" in parts
    return split in parts


def _read(
    name: str,
    lists: ListFiles,
    folders: Sequence[Path],
    all_names: Sequence[str],
    all_items: Sequence[str],
    chosen: Sequence[int],
    all_sources: Sequence[str],
) -> tuple[PhotoRecords, dict[str, str]]:
    """Records of the chosen rows; products and categories are numbered over all splits."""
    names, items = [all_names[row] for row in chosen], [all_items[row] for row in chosen]
    identities = sorted(set(all_items))
    categories = sorted({_category(photo) for photo in all_names} - {""})
    attributes, groups, matrix = _attributes(lists, items)
    rows = Rows(
        names=names,
        numbers=np.array(chosen, np.int64) + 1,
        category=list_files.positions([_category(photo) for photo in names], categories),
        identity=list_files.positions(items, identities),
        source=np.array([SOURCES.index(all_sources[row]) for row in chosen], np.int8),
        box=common.boxes_of(lists, f"list_bbox_{name}.txt", names, before=2),
        attributes=matrix,
        landmarks=common.landmarks_of(lists, f"list_landmarks_{name}.txt", names, skip=2),
    )
    return common.finish(
        name,
        rows,
        folders,
        lists,
        categories=categories,
        attributes=attributes,
        attribute_groups=groups,
        identities=identities,
    )


def _category(photo: str) -> str:
    """img/WOMEN/Dresses/id_00000002/02_1_front.jpg -> Dresses."""
    folders = photo.split("/")
    return folders[-3] if len(folders) >= 4 else ""


def _attributes(
    lists: ListFiles, items: Sequence[str]
) -> tuple[list[str], list[AttributeGroup], np.ndarray | None]:
    kinds, values = lists.optional("list_attr_cloth.txt"), lists.optional("list_attr_items.txt")
    if kinds is None or values is None:
        return [], [], None
    names, types, type_names = _attribute_names(lists, kinds)
    attributes, groups, order = list_files.group_by_type(names, types, type_names)
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        rows.setdefault(item, []).append(row)
    return attributes, groups, list_files.read_signs(values, rows, order, len(items))


def _attribute_names(lists: ListFiles, path: Path) -> tuple[list[str], list[int], dict[int, str]]:
    """Attribute names, the type number of each, and the names of the types.

    In-shop's list has names only; Consumer-to-shop's has a Chinese name, an English one (which may
    contain spaces) and the type.
    """
    rows = [line.split() for line in lists.rows(path)]
    typed = all(len(row) > 1 and row[-1].isdigit() for row in rows)
    if not typed:
        return [" ".join(row) for row in rows], [0] * len(rows), {0: "attribute"}
    names = [_english(row[:-1]) for row in rows]
    return names, [int(row[-1]) for row in rows], _type_names(lists)


def _english(words: Sequence[str]) -> str:
    """A name in two languages without its Chinese words."""
    return " ".join([word for word in words if word.isascii()] or words)


def _type_names(lists: ListFiles) -> dict[int, str]:
    path = lists.optional("list_attr_type.txt")
    names = {}
    for line in lists.rows(path) if path else ():
        words = line.split()
        numbers = [word for word in words if word.isdigit()]
        if numbers:
            names[int(numbers[0])] = _english([word for word in words if word not in numbers])
    return names
