"""Opens a dataset by the name of its format, through the cache."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.config import require
from engine.data.readers import (
    checks,
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

# The benchmarks that come as text lists.
LISTED = {
    "deepfashion": deepfashion.read,
    "deepfashion-fine": deepfashion_fine.read,
    "inshop": deepfashion_retrieval.read_inshop,
    "consumer2shop": deepfashion_retrieval.read_consumer2shop,
}
DATASETS = ("coco", "deepfashion2", *LISTED, "csv")


def open_dataset(
    format: str,
    root: Path,
    split: str,
    *,
    annotations: str | Path | None,
    images: str | Path | None,
    columns: dict[str, Any],
) -> PhotoRecords:
    """Read one split; the arguments and errors are those of ``dataset_helpers.load_dataset``.

    ``columns``: category, identity and attributes of a table; ignored by the other formats.
    """
    place = {"root": str(root.resolve())}
    folders: Sequence[Path] = ()
    if format == "coco":
        file = coco.find_annotations(root, split, annotations)
        folders = _image_folders(root, split, images, file)
        place = {"annotations": str(file.resolve())}
        read = partial(coco.read, file, folders)
    elif format == "csv":
        file = csv_table.find_table(root, annotations)
        folders = _image_folders(root, split, images, file)
        place = {"table": str(file.resolve()), "columns": str(columns)}
        read = partial(csv_table.read, file, folders, split, **columns)
    elif format == "deepfashion2":
        read = partial(deepfashion2.read, root, split)
    else:
        folders = deepfashion_common.image_folders(root)
        if images is not None:
            folders = _image_folders(root, split, images, root)
        read = partial(LISTED[format], root, folders, split)
    if format != "deepfashion2":
        place["images"] = str([str(folder.resolve()) for folder in folders])
    return load_or_build({"format": format, "split": split} | place, read)


def _image_folders(root: Path, split: str, images: str | Path | None, listing: Path) -> list[Path]:
    """Folders that may hold the photos named in ``listing``, most likely first.

    Absolute, since the cache is also read from other working directories.
    """
    if images is not None:
        named = (Path(images).absolute(), root / images)
        found = [folder for folder in dict.fromkeys(named) if folder.is_dir()]
        sentence = f"{images}: no such image folder; give its path from here or from {root}"
        require(bool(found), sentence)
        return found
    # CVAT's export has the photos of annotations/instances_train.json in images/train.
    subset = root / "images" / listing.stem.removeprefix("instances_")
    usual = [root / "images", subset, root / split, root / f"{split}2017", root, listing.parent]
    usual += [root / "test"] if split in checks.OTHER_SPLIT_NAMES else []  # Fashionpedia's val
    return [folder for folder in dict.fromkeys(map(Path.absolute, usual)) if folder.is_dir()]
