"""Every annotation format -> records of photos and garments -> torch datasets.

    records = load_dataset("coco", "photos/", split="train")      # or "deepfashion2"
    records[0].garments[0].box

Formats: DATASETS below; each has its reader in ``readers/``.
"""

import logging
from pathlib import Path

from engine.errors import InputError
from engine.records import PhotoRecords
from readers import coco

DATASETS = ("coco", "deepfashion2")

logger = logging.getLogger("weft")


def load_dataset(
    name: str,
    path: str | Path,
    *,
    split: str = "train",
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    strict: bool = False,
) -> PhotoRecords:
    """Read one split of a dataset."""
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"{path}: no such folder")
    file = coco.find_annotations(root, split, annotations)
    return coco.read(file, coco.find_images(root, split, images))
