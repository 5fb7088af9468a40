"""Pseudo-labels photos of known category with boxes and masks: a COCO dataset for the detector.

    python tools/outline_photos.py csv:PHONE --words T-Shirt=top Pants=trousers --alone \\
        --output-dir outlined/
    python tools/outline_photos.py csv:PRODUCTS --words Tshirts=top --add coco:STREET \\
        --add-times 2 --output-dir outlined/          # merged with a dataset with masks, twice
    python train.py detector --data-path outlined/ --images ROOT --weights weights/detector.pt

A detector trained on street photos fails on a shirt lying on a bed. For each photo whose category
is listed in --words, the detector locates the garment, --words gives its class, and the mask comes
from removing a studio background or from GrabCut. Doubtful photos are left out. Train on the result
and repeat: the next detector finds more. --absent hat shoes states that the photos contain neither,
so that a detector unlearns to take hair for hats and fists for shoes. --alone states that each
photo shows a single garment, on a floor or a bed, so that other detections (a strip of floor above
trousers as a top) are false.

--output-dir gets train.json and, from the datasets of --add, val.json (val=NAME in a dataset
selects its validation split, val=none omits it); the folder that file names are relative to is
printed. finds.json is training data for the multitask model: the detections on these photos and
the garments of --add, each with the attribute "is garment", yes or no. If the model is trained on
it too (train.py multitask --dataset ...
coco:outlined/:annotations=finds.json:images=ROOT:category=none:val=none), infer.py drops what it
takes for false detections. The tool can be killed at any time; run it again to continue.
"""

import argparse
import json
import os
import random
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pycocotools import mask as coco_mask

from dataset_helpers import load_spec, parse_spec
from engine import distributed
from engine.command_line import Parser, positive
from engine.config import require
from engine.data.labels import IS_GARMENT, NO, YES
from engine.data.records import PhotoRecords
from engine.detection.detections import Detections
from engine.detection.duplicates import drop_duplicates
from engine.detection.finder import GarmentFinder
from engine.detection.predict import with_progress
from engine.errors import exits_cleanly
from engine.files import absolute, replacing
from engine.model_flags import (
    DETECTOR_WEIGHTS,
    OVERLAP,
    add_running_flags,
    build_finder,
    detection_basis,
)
from engine.outputs import journal
from engine.outputs.photo_run import check_folder, claim_folder, stamp_of
from engine.pixels.photos import read_photo
from engine.wording import counted
from tools.convert_dataset import annotations
from tools.outlining.outline import judge_finds, outline
from tools.outlining.words import add_words_flag, photos_by_category, words_of

UNREADABLE = "unreadable"  # tried again by the next run: stamps do not show permissions
UNLIKELY = 0.05  # score threshold: even weak detections help to locate a known garment
WRITTEN = ("train.json", "val.json", "finds.json")
Record = dict[str, Any]


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    logger = distributed.configure_logging()
    output = arguments.output_dir
    check_folder(output, WRITTEN)
    finder = open_finder(arguments)
    words = words_of(arguments.words, finder.categories)
    added, judged = load_outlined(arguments, finder.categories)
    photos = choose(arguments, words)
    folder, lock = claim_folder(output, WRITTEN)
    with lock:
        records = outline_all(finder, photos, folder, basis_of(arguments, finder))
        roots = [absolute(part.root) for part in (*added, *judged)]
        root = Path(os.path.commonpath([*(Path(photo).parent for photo in photos), *roots]))
        document = partial(Document, finder.categories, root)
        train = document(added * arguments.add_times, records)
        train.write(output / "train.json")
        document(added, records, finds=True).write(output / "finds.json")
        if judged:
            document(judged, []).write(output / "val.json")
        else:  # that of an earlier run would not match the other files
            (output / "val.json").unlink(missing_ok=True)
    for how, count in Counter(record["how"] for record in records).most_common():
        logger.info("%5d %s", count, how)
    logger.info("%s: %s for training", output, counted(len(train.images), "photo"))
    logger.info("file names are relative to --images %s", root)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add(
        "datasets", nargs="+", metavar="FORMAT:PATH[:key=value]...",
        help="photos of one garment each, with its category; as in train.py multitask --help",
    )  # fmt: skip
    add_words_flag(parser)
    add(
        "--absent", nargs="+", default=[], metavar="CATEGORY",
        help="categories that no photo contains, whatever the detector finds",
    )  # fmt: skip
    add(
        "--alone", action="store_true",
        help="each photo shows a single garment, on a floor or a bed",
    )  # fmt: skip
    add("--output-dir", type=Path, required=True, help="folder for train.json")
    add(
        "--add", nargs="+", default=[], metavar="FORMAT:PATH[:key=value]...",
        help="datasets with masks to merge into the same files (val=none: no validation split)",
    )  # fmt: skip
    add(
        "--add-times", type=positive, default=1, metavar="N",
        help="how many times to repeat them in train.json, to weight them more (default: 1)",
    )  # fmt: skip
    add(
        "--most", type=positive, metavar="N",
        help="maximum number of photos per category, drawn at random (default: all)",
    )  # fmt: skip
    add(
        "--detector-weights", type=Path, default=DETECTOR_WEIGHTS, metavar="FILE",
        help="detector's checkpoint or weights file (default: weights/detector.pt)",
    )  # fmt: skip
    add_running_flags(parser)
    arguments = parser.parse_args(argv)
    arguments.score_threshold, arguments.overlap = UNLIKELY, 1.0
    return arguments


def open_finder(arguments: argparse.Namespace) -> GarmentFinder:
    """The detector, without duplicate removal.

    Raises:
        InputError: --absent names a category that it does not have.
    """
    device = distributed.init(arguments.device)
    finder = build_finder(arguments, device)
    known = ", ".join(finder.categories)
    for category in arguments.absent:
        require(category in finder.categories, f"--absent {category}: name one of {known}")
    return finder


def load_outlined(
    arguments: argparse.Namespace, categories: list[str]
) -> tuple[list[PhotoRecords], list[PhotoRecords]]:
    """The training and validation records of the datasets of --add.

    Raises:
        InputError: they have categories that the detector lacks, or garments without category or
            mask.
    """
    specs = [parse_spec(text) for text in arguments.add]
    added = [load_spec(spec, spec.split) for spec in specs]
    judged = [load_spec(spec, spec.val) for spec in specs if spec.val != "none"]
    for records in (*added, *judged):
        unknown = sorted(set(records.categories) - set(categories))
        require(not unknown, f"{records.root}: the detector knows no {', '.join(unknown)}")
        unnamed = int((records.garment_category < 0).sum())
        require(unnamed == 0, f"{records.root}: {unnamed} garments have no category; name them")
        bare = int((~records.garment_has_mask).sum())
        sentence = f"{records.root}: {bare} garments have no mask; --add takes datasets with masks"
        require(bare == 0, sentence)  # train.py would train boxes only, on all photos
    return added, judged


def choose(arguments: argparse.Namespace, words: dict[str, str]) -> dict[str, str]:
    """Absolute path -> the detector's category of its garment, at most --most photos of each.

    Raises:
        InputError: there are none.
    """
    specs = [parse_spec(text) for text in arguments.datasets]
    by_category = photos_by_category((load_spec(spec, spec.split) for spec in specs), words)
    chance = random.Random(0)
    chosen = {}
    for category, paths in sorted(by_category.items()):
        names = list(map(str, paths))
        chance.shuffle(names)
        chosen |= dict.fromkeys(names[: arguments.most], category)
    return chosen


def basis_of(arguments: argparse.Namespace, finder: GarmentFinder) -> Record:
    """All that outlines depend on beside the photo and the category of its garment."""
    said = {"absent": sorted(set(arguments.absent)), "alone": arguments.alone, "once": OVERLAP}
    return detection_basis(arguments, finder.settings) | said


def outline_all(
    finder: GarmentFinder, photos: dict[str, str], folder: Path, basis: Record
) -> list[Record]:
    """Journal a record of each photo that has none by this category, basis and state of the file.

    Records of other photos stay, for runs that choose them again.

    Args:
        finder: the detector.
        photos: photo -> the category of its garment.
        folder: of the journal.
        basis: as ``basis_of`` gives it.

    Returns:
        The records of all photos.
    """
    expected = {
        path: {"known": category, "stamp": stamp_of(Path(path), "")} | basis
        for path, category in photos.items()
    }

    def valid(record: Record) -> bool:
        if record["photo"] not in expected:
            return True
        wanted = expected[record["photo"]]
        return record["how"] != UNREADABLE and all(record.get(k) == v for k, v in wanted.items())

    done = journal.merge(folder, valid)
    left = [path for path in photos if path not in done]
    found = finder.find((path, Path(path)) for path in left)
    with journal.Appender(folder, 0) as appender:
        for path, result, photo in with_progress(found, len(left)):
            record = {"photo": path} | expected[path]
            appender.add(record | outlined(record, result, photo, finder.categories))
    journal.merge(folder, lambda record: True)
    return [record for record in journal.read(folder) if record["photo"] in photos]


def outlined(record: Record, result: Any, photo: Any, categories: list[str]) -> Record:
    """What is journaled of a photo beside its record so far.

    Raises:
        InputError: the detector finds boxes only.
    """
    if not isinstance(result, Detections):
        return {"how": UNREADABLE, "garments": [], "finds": []}
    sentence = "--detector-weights: this detector finds no masks; give one trained with masks"
    require(result.masks is not None, sentence)
    if photo.shape[1::-1] != (result.width, result.height):  # decoded at a fraction
        photo = read_photo(Path(record["photo"]))
    about = {name: record[name] for name in ("known", "absent", "alone")}
    how, garments = outline(photo, result, categories, **about)
    finds = judge_finds(drop_duplicates(result, OVERLAP), categories, **about)
    return {
        "how": how,
        "size": [result.height, result.width],
        "garments": [[name, mask["counts"].decode()] for name, mask in garments],
        "finds": [[name, mask["counts"].decode(), real] for name, mask, real in finds],
    }


class Document:
    """A COCO file of datasets and of pseudo-labeled photos.

    Args:
        categories: of the detector.
        root: folder that file names are relative to.
        sets: datasets whose garments are copied.
        photos: records, as ``outline_all`` returns them.
        finds: of these the detections, and for every annotation whether it is a garment.
    """

    def __init__(
        self,
        categories: list[str],
        root: Path,
        sets: list[PhotoRecords],
        photos: list[Record],
        *,
        finds: bool = False,
    ) -> None:
        self.root, self.finds = root, finds
        self.numbers = {name: number for number, name in enumerate(categories, 1)}
        self.images: list[Record] = []
        self.annotations: list[Record] = []
        for records in sets:
            self._add_set(records)
        for record in photos:
            self._add_photo(record)

    def _add_set(self, records: PhotoRecords) -> None:
        for index in range(len(records)):
            height, width = records.sizes[index].tolist()[::-1]
            self._add_image(absolute(records.path(index)), height, width)
            for entry in annotations(records, [index]):
                place = records.category_ids.index(entry["category_id"])
                self._add_garment(records.categories[place], entry)

    def _add_photo(self, record: Record) -> None:
        garments = record["finds" if self.finds else "garments"]
        if not garments:
            return
        self._add_image(Path(record["photo"]), *record["size"])
        for name, counts, *is_garment in garments:
            mask = {"size": record["size"], "counts": counts}
            about = {"bbox": coco_mask.toBbox(mask).tolist(), "area": int(coco_mask.area(mask))}
            self._add_garment(name, about | {"iscrowd": 0, "segmentation": mask}, *is_garment)

    def write(self, path: Path) -> None:
        categories = [{"id": number, "name": name} for name, number in self.numbers.items()]
        parts = {"images": self.images, "annotations": self.annotations, "categories": categories}
        with replacing(path, "w") as file:
            json.dump(parts, file)

    def _add_image(self, path: Path, height: int, width: int) -> None:
        name = path.relative_to(self.root).as_posix()
        entry = {"id": len(self.images) + 1, "file_name": name, "width": width, "height": height}
        self.images.append(entry)

    def _add_garment(self, name: str, entry: Record, is_garment: bool = True) -> None:
        place = {"id": len(self.annotations) + 1, "image_id": len(self.images)}
        place |= {"attributes": {IS_GARMENT: YES if is_garment else NO}} if self.finds else {}
        self.annotations.append(entry | place | {"category_id": self.numbers[name]})


if __name__ == "__main__":
    main()
