"""Converts any supported dataset to one COCO instance file.

    python tools/convert_dataset.py deepfashion2 DF2 --split train --output df2_train.json
    python tools/convert_dataset.py coco photos/ --split val --output clean.json   (drops faults)

Photos are not copied; file names in the output are relative to the folder that is printed. Faulty
records are logged and skipped.

DeepFashion2 is converted as by its official converter: ids (the photo's number; garments numbered
from 1 in order), ``area`` is the area of the box, 294 keypoints with only the garment's own filled
in, ``pair_id`` and ``style``. Two differences: category names are the dataset's own ("short sleeve
top", not the converter's "short_sleeved_shirt"), and ``scale``, ``occlusion``, ``zoom_in``,
``viewpoint`` and a photo's ``source`` are added.

For datasets with more labels, annotations also have ``attributes`` ({group: value} for exclusive
groups, {group: list of values} for others, possibly empty; unknown groups are missing) and
``identity``, its name. The coco reader understands both. Garments without a category get the
category "unknown" with id 0.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from dataset_helpers import DATASETS, load_dataset
from engine.command_line import Parser
from engine.data.readers.checks import GRADES
from engine.data.readers.coco import find_annotations
from engine.data.readers.csv_table import find_table
from engine.data.readers.deepfashion2 import ALL_LANDMARKS, spread_landmarks
from engine.data.readers.parallel import progress_bar
from engine.data.records import Garment, PhotoRecords
from engine.distributed import configure_logging
from engine.errors import exits_cleanly
from engine.files import exists, replacing, require_other

UNKNOWN_ID = 0


@exits_cleanly
def main() -> None:
    """Read, write, and log the folder that file names are relative to."""
    arguments = parse_arguments()
    logger = configure_logging()
    refuse_to_overwrite_the_source(arguments)
    records = load_dataset(
        arguments.dataset,
        arguments.path,
        split=arguments.split,
        annotations=arguments.annotations,
        images=arguments.images,
        strict=arguments.strict,
    )
    with replacing(arguments.output, "w") as file:
        write_document(file, records)
    logger.info("%s: file names are relative to %s", arguments.output, records.root)


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("dataset", choices=DATASETS, help="format of the source")
    parser.add_argument("path", help="root folder of the dataset")
    parser.add_argument("--split", default="train", help="split to convert (default: train)")
    parser.add_argument("--output", required=True, type=Path, help="JSON file to write")
    parser.add_argument(
        "--annotations", help="coco, csv: the file, if not <path>/<split>.json or labels.csv"
    )
    parser.add_argument("--images", help="folder of the photos, if not <path>/images ...")
    parser.add_argument("--strict", action="store_true", help="stop at the first fault")
    return parser.parse_args()


def refuse_to_overwrite_the_source(arguments: argparse.Namespace) -> None:
    """InputError if --output is the annotation file that would be read."""
    finders = {"coco": partial(find_annotations, split=arguments.split), "csv": find_table}
    if arguments.dataset in finders and exists(arguments.output):
        find = finders[arguments.dataset]
        source = find(Path(arguments.path), annotations=arguments.annotations)
        require_other(arguments.output, [source], "--output")


def write_document(file: IO[str], records: PhotoRecords) -> None:
    """Write entry by entry, so that the document is never in memory as a whole."""
    head = {
        "info": {"description": f"converted from {records.format}"},
        "licenses": [],
        "categories": categories(records),
    }
    file.write(json.dumps(head)[:-1])
    write_list(file, "images", images(records))
    with progress_bar() as progress:
        photos = progress.track(range(len(records)), description="converting")
        write_list(file, "annotations", annotations(records, photos))
    file.write("\n}\n")


def write_list(file: IO[str], name: str, entries: Iterable[dict[str, Any]]) -> None:
    """Append a key to the document: a list with one entry per line."""
    file.write(f',\n"{name}": [')
    for number, entry in enumerate(entries):
        file.write(",\n" if number else "\n")
        # allow_nan=False: NaN is not JSON, and other programs could not read it.
        file.write(json.dumps(entry, allow_nan=False))
    file.write("]")


def categories(records: PhotoRecords) -> list[dict[str, Any]]:
    """COCO's list of categories."""
    listed = list(zip(records.category_ids, records.categories, strict=True))
    if (records.garment_category < 0).any():
        listed.insert(0, (UNKNOWN_ID, records.category_name(-1)))
    entries = [{"id": number, "name": name, "supercategory": "clothes"} for number, name in listed]
    if records.format == "deepfashion2":
        keypoints = {"keypoints": [str(i + 1) for i in range(ALL_LANDMARKS)], "skeleton": []}
        entries = [entry | keypoints for entry in entries]
    return entries


def images(records: PhotoRecords) -> Iterator[dict[str, Any]]:
    """COCO's image entries."""
    sizes = records.sizes.tolist()
    for i, image_id in enumerate(records.image_ids.tolist()):
        width, height = sizes[i]
        name = records.file_name_of(i)
        entry = {"id": image_id, "file_name": name, "width": width, "height": height}
        source = records.source_of(i)
        yield entry | ({"source": source} if source else {})


def annotations(records: PhotoRecords, photos: Iterable[int]) -> Iterator[dict[str, Any]]:
    """COCO's annotation entries of the photos with these indices."""
    for i in photos:
        photo = records[i]
        for garment in photo.garments:
            known = garment.category >= 0
            category_id = records.category_ids[garment.category] if known else UNKNOWN_ID
            place = {"id": garment.annotation_id, "image_id": photo.image_id}
            place["category_id"] = category_id
            more = extras(garment, records.format) | labels(garment, records)
            yield place | shape(garment) | more


def shape(garment: Garment) -> dict[str, Any]:
    """Box, area and mask in COCO's terms."""
    x1, y1, x2, y2 = garment.box.tolist()
    # Rounded to a millionth of a pixel, so that 8.1 - 4 gives 4.1 and not 4.1 plus rounding error.
    bbox = [round(value, 6) for value in (x1, y1, x2 - x1, y2 - y1)]
    entry = {
        "bbox": compact(bbox),
        "area": compact([garment.area])[0],
        "iscrowd": int(garment.crowd),
    }
    mask = garment.segmentation
    if isinstance(mask, dict):
        entry["segmentation"] = {"size": mask["size"], "counts": mask["counts"].decode()}
    elif mask is not None:
        entry["segmentation"] = [compact(polygon.ravel().tolist()) for polygon in mask]
    return entry


def extras(garment: Garment, dataset: str) -> dict[str, Any]:
    """A garment's landmarks, pair, style and grades, which COCO's instances lack."""
    entry: dict[str, Any] = {}
    if garment.landmarks is not None:
        entry["num_keypoints"] = int((garment.landmarks[:, 2] > 0).sum())
        own = compact(garment.landmarks.ravel().astype(np.float64).round(3).tolist())
        is_spread = dataset == "deepfashion2"
        entry["keypoints"] = spread_landmarks(own, garment.category) if is_spread else own
    if garment.pair_id >= 0:
        entry |= {"pair_id": garment.pair_id, "style": garment.style}
    grades = {grade: getattr(garment, grade) for grade in GRADES}
    return entry | {grade: value for grade, value in grades.items() if value}


def labels(garment: Garment, records: PhotoRecords) -> dict[str, Any]:
    """Attributes and identity, by their names."""
    attributes: dict[str, str | list[str]] = {}
    for group in records.attribute_groups:
        signs = garment.attributes[group.start : group.stop]
        held = [records.attributes[group.start + i] for i in np.flatnonzero(signs > 0)]
        if held and group.exclusive:
            attributes[group.name] = held[0]
        elif signs.any():
            attributes[group.name] = held  # an empty list if it is known to have none of them
    entry: dict[str, Any] = {"attributes": attributes} if attributes else {}
    if records.identities and garment.identity >= 0:
        entry["identity"] = records.identities[garment.identity]
    return entry


def compact(values: list[float]) -> list[float | int]:
    """Whole numbers as ints: without ".0" a converted DeepFashion2 is much smaller."""
    return [int(value) if value.is_integer() else value for value in values]


if __name__ == "__main__":
    main()
