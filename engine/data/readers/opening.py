"""From a format's name to its reader, through the cache."""

from collections.abc import Sequence
from pathlib import Path

from engine.data.readers import (
    coco,
    csv_table,
    deepfashion,
    deepfashion2,
    deepfashion_common,
    deepfashion_fine,
    deepfashion_retrieval,
)
from engine.data.readers.cache import load_or_build
from engine.data.records import PhotoRecords

# The benchmarks that are read from lists.
LISTED = {
    "deepfashion": deepfashion.read,
    "deepfashion-fine": deepfashion_fine.read,
    "inshop": deepfashion_retrieval.read_inshop,
    "consumer2shop": deepfashion_retrieval.read_consumer2shop,
}
DATASETS = ("coco", "deepfashion2", *LISTED, "csv")


def open_coco(
    root: Path, split: str, annotations: str | Path | None, images: str | Path | None
) -> PhotoRecords:
    """A split of a COCO dataset."""
    file = coco.find_annotations(root, split, annotations)
    folders = coco.find_images(root, split, images, file)
    key = {"name": "coco", "split": split, "annotations": str(file.resolve())}
    return load_or_build(key | _places(folders), lambda: coco.read(file, folders))


def open_csv(
    root: Path,
    split: str,
    table: str | Path | None,
    images: str | Path | None,
    *,
    category: str | None,
    identity: str | None,
    attributes: Sequence[str] | None,
) -> PhotoRecords:
    """A split of a table, with these columns."""
    file = csv_table.find_table(root, table)
    folders = coco.find_images(root, split, images, file)
    columns = {"category": category, "identity": identity, "attributes": attributes}
    key = {"name": "csv", "split": split, "table": str(file.resolve()), "columns": str(columns)}
    return load_or_build(
        key | _places(folders), lambda: csv_table.read(file, folders, split, **columns)
    )


def open_deepfashion2(root: Path, split: str) -> PhotoRecords:
    """A split of DeepFashion2."""
    key = {"name": "deepfashion2", "split": split, "root": str(root.resolve())}
    return load_or_build(key, lambda: deepfashion2.read(root, split))


def open_listed(name: str, root: Path, split: str, images: str | Path | None) -> PhotoRecords:
    """A split of one of the benchmarks that are LISTED."""
    folders = deepfashion_common.image_folders(root)
    if images is not None:
        folders = coco.find_images(root, split, images, root)
    key = {"name": name, "split": split, "root": str(root.resolve())}
    return load_or_build(key | _places(folders), lambda: LISTED[name](root, folders, split))


def _places(folders: Sequence[Path]) -> dict[str, str]:
    return {"images": str([str(folder.resolve()) for folder in folders])}
