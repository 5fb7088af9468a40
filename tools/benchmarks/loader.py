"""Training samples per second of one loader process: photo file -> sample of training size."""

import argparse
from typing import Any

import cv2
import torch

from data_aug import DetectorAugmentation, DetectorTransform
from dataset_helpers import DetectionDataset
from engine.data.records import PhotoRecords
from engine.training.samplers import Draw
from tools.benchmarks.photos import add_photo_arguments, in_sizes, some_photos
from tools.benchmarks.reference import ReferencePhotos, resizer
from tools.benchmarks.timing import compare, timed

NO_COLOR = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
AUGMENTATIONS = {
    "flip": {"affine": 0} | NO_COLOR,
    "flip+color": {"affine": 0},
    "flip+color+affine": {},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_photo_arguments(parser, photos=12)
    add, sides = parser.add_argument, DetectorAugmentation().short_sides
    add(
        "--short-sides",
        type=int,
        nargs="+",
        default=sides,
        help=f"short sides of the samples {sides}",
    )
    add("--max-side", type=int, default=1333, help="bound on the long side (default: 1333)")
    enlarged = "short side of the enlarged photos (default: 1212; 0: none)"
    add("--large", type=int, default=1212, help=enlarged)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Photos as given and enlarged, with growing augmentation.

    The reference resizes in its model; its time is given with that (both ways then end at the
    same sample) and as "not resized" without.
    """
    torch.set_num_threads(1)  # as in the process of a loader
    cv2.setNumThreads(1)
    rows = []
    with some_photos(arguments) as (records, folder):
        for size, photos in in_sizes(records, arguments.large, folder):
            for name, strengths in AUGMENTATIONS.items():
                rows += _compare(f"{size} {name}", photos, strengths, arguments)
    return {"rows": rows, "short_sides": list(arguments.short_sides)}


def _compare(
    title: str, records: PhotoRecords, strengths: dict, arguments: argparse.Namespace
) -> list[dict]:
    sides = tuple(arguments.short_sides)
    settings = DetectorAugmentation(short_sides=sides, max_side=arguments.max_side, **strengths)
    ours, theirs = both_ways(records, settings)
    work = {"items": len(records), "rounds": arguments.rounds}
    loads = timed(lambda i: theirs[i])
    resize = resizer(settings)
    makes = timed(lambda i: resize.resize(*theirs[i]))
    draws = timed(lambda i: ours[Draw(0, i, 0, i)])
    draws(0), makes(0)
    return [
        {"case": title} | compare(draws, makes, **work),
        {"case": f"{title}, not resized"} | compare(draws, loads, **work),
    ]


def both_ways(
    records: PhotoRecords, settings: DetectorAugmentation
) -> tuple[DetectionDataset, ReferencePhotos]:
    """Our dataset and the reference's, of the same photos and augmentation."""
    ours = DetectionDataset(records, DetectorTransform(records, settings, seed=0))
    return ours, ReferencePhotos(records, settings)
