"""The photos of a benchmark: the user's dataset, or a wardrobe rendered for the benchmark."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from dataset_helpers import DATASETS, load_dataset
from engine.command_line import positive
from engine.config import require
from engine.data.readers import deepfashion2
from engine.data.records import Garment, Photo, PhotoRecords
from engine.pixels.masks import to_rle

RENDERER = Path(__file__).resolve().parents[1] / "make_wardrobe.py"


def add_photo_arguments(parser: argparse.ArgumentParser, photos: int) -> None:
    """Add the flags that select the benchmark's photos."""
    group = parser.add_argument_group("photos (without --data-path a wardrobe is rendered)")
    add, used = group.add_argument, f"photos to use (default: {photos})"
    add("--dataset", choices=DATASETS, default="coco", help="format (default: coco)")
    add("--data-path", type=Path, help="root folder of the dataset")
    add("--split", default="train", help="split of the dataset (default: train)")
    add("--photos", type=positive, default=photos, help=used)


@contextmanager
def some_photos(arguments: argparse.Namespace) -> Iterator[tuple[PhotoRecords, Path]]:
    """Photos with garments, spread over the dataset, and a folder for temporary files."""
    with tempfile.TemporaryDirectory(prefix="weft-benchmark-") as folder:
        if arguments.data_path:
            records = load_dataset(arguments.dataset, arguments.data_path, split=arguments.split)
        else:
            records = _render(Path(folder) / "wardrobe", arguments.photos)
        dressed = np.flatnonzero(np.diff(records.garment_offsets) > 0)
        require(len(dressed) > 0, f"{records.root}: no photo with garments")
        spread = np.linspace(0, len(dressed) - 1, min(arguments.photos, len(dressed)))
        records = records.subset(dressed[spread.astype(int)])
        require(records.has_masks, f"{records.root}: not every garment has a mask")
        yield records.keep_garments(~records.garment_crowd), Path(folder)


def _render(folder: Path, count: int) -> PhotoRecords:
    command = [sys.executable, RENDERER, "--output", folder, "--count", str(count)]
    subprocess.run([*command, "--val-count", "0"], check=True, stdout=subprocess.DEVNULL)
    return deepfashion2.read(folder, "train")


def in_sizes(records: PhotoRecords, large: int, folder: Path) -> Iterator[tuple[str, PhotoRecords]]:
    """The photos as they are and, unless ``large`` is 0, with a short side of ``large`` pixels.

    Each set is titled with the size of its first photo; enlarged ones are written to ``folder``.
    """
    for photos in (records, *([enlarge(records, large, folder)] if large else [])):
        yield "x".join(map(str, photos.sizes[0])), photos


def enlarge(records: PhotoRecords, short_side: int, folder: Path) -> PhotoRecords:
    """The same photos as JPEGs with a short side of ``short_side`` px, annotations scaled."""
    folder.mkdir(parents=True, exist_ok=True)
    photos = [_enlarge_photo(records[i], short_side, folder) for i in range(len(records))]
    about = {"categories": records.categories, "category_ids": records.category_ids}
    return PhotoRecords.from_photos(photos, root=folder, format=records.format, **about)


def _enlarge_photo(photo: Photo, short_side: int, folder: Path) -> Photo:
    factor = short_side / min(photo.width, photo.height)
    size = (round(photo.width * factor), round(photo.height * factor))
    pixels = cv2.resize(cv2.imread(str(photo.path)), size, interpolation=cv2.INTER_CUBIC)
    path = folder / f"{photo.image_id}.jpg"
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])
    garments = [_enlarge_garment(garment, photo, size) for garment in photo.garments]
    return Photo(path, photo.image_id, *size, garments=garments)


def _enlarge_garment(garment: Garment, photo: Photo, size: tuple[int, int]) -> Garment:
    factors = np.array(size) / (photo.width, photo.height)
    outline = garment.segmentation
    if isinstance(outline, list):
        outline = [polygon * factors for polygon in outline]
    elif outline is not None:
        mask = coco_mask.decode(to_rle(outline, photo.height, photo.width))
        outline = coco_mask.encode(np.asfortranarray(cv2.resize(mask, size)))
    area = garment.area * factors.prod()
    return Garment(garment.category, garment.box * np.tile(factors, 2), area, outline)
