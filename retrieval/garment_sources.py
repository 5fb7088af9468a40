"""Where a database's garments come from: the detector, whole photos, or an annotated dataset.

Each source yields the garments of photos and makes the items to be stored.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dataset_helpers import DatasetSpec, load_spec
from engine.config import require
from engine.data.labels import CATEGORY
from engine.data.records import Garment, PhotoRecords
from engine.description.describer import CropSettings, Description
from engine.detection.detections import Detections
from engine.detection.finder import Found, GarmentFinder, given_garments, whole_photo
from engine.distributed import is_main
from engine.pixels.masks import to_rle
from engine.pixels.photos import PhotoError
from retrieval.store import Item, Store, item_key

YES = "yes"  # stored value of a binary attribute
READ_AT_ONCE = 4096  # photos
SURE = 0.5  # probability from which a value of a non-exclusive group is stored

logger = logging.getLogger("weft")


class GarmentSource(Protocol):
    """
    Attributes:
        categories: of the detector, [] without one.
    """

    categories: Sequence[str]

    def find(self, root: Path, names: Iterable[str]) -> Iterable[Found]:
        """The garments of the photos ``names``, which are relative to ``root`` and become keys."""

    def items(
        self, name: str, found: Detections, descriptions: Sequence[Description]
    ) -> list[Item]:
        """The items to store for a photo's garments, in the order of ``found``."""


class DetectedGarments:
    """The detector's garments.

    Args:
        finder: the detector.
        groups: of the descriptions' labels, and whether their values exclude each other.
    """

    def __init__(self, finder: GarmentFinder, groups: Mapping[str, bool]) -> None:
        self.finder, self.categories, self.groups = finder, finder.categories, groups

    def find(self, root: Path, names: Iterable[str]) -> Iterable[Found]:
        return self.finder.find((name, root / name) for name in names)

    def items(
        self, name: str, found: Detections, descriptions: Sequence[Description]
    ) -> list[Item]:
        items = []
        for i, description in enumerate(descriptions):
            item = _item(name, i, description)
            item.box = tuple(round(value, 2) for value in found.boxes[i].tolist())
            item.category = self.categories[found.labels[i] - 1]
            item.attributes = _answers(description, self.groups)
            item.extra["score"] = round(float(found.scores[i]), 4)
            items.append(item)
        return items


class WholePhotos:
    """Every photo shows one product; its category is the one that the model describes.

    Args:
        cut: the crops to come.
        workers: threads that decode.
        groups: as for ``DetectedGarments``.
    """

    categories: Sequence[str] = ()

    def __init__(self, cut: CropSettings, workers: int, groups: Mapping[str, bool]) -> None:
        self.cut, self.workers, self.groups = cut, workers, groups

    def find(self, root: Path, names: Iterable[str]) -> Iterable[Found]:
        photos = ((name, root / name) for name in names)
        return given_garments(photos, whole_photo, self.cut, self.workers)

    def items(
        self, name: str, found: Detections, descriptions: Sequence[Description]
    ) -> list[Item]:
        item = _item(name, 0, descriptions[0])
        item.attributes = _answers(descriptions[0], self.groups)
        item.category = item.attributes.pop(f"described_{CATEGORY}", None)
        return [item]


class AnnotatedGarments:
    """The garments, labels and identities of an annotated set.

    Args:
        specs: parts of the set, as ``--dataset`` names them; all below one path.
        cut: the crops to come.
        workers: threads that decode.

    Attributes:
        root: the folder that the photos' names start from.
        places: name -> (records, index of the photo there, what tells its split's identities from
            other splits' of the same number).

    Raises:
        InputError: the set cannot be read, or the specs name several sets.
    """

    categories: Sequence[str] = ()

    def __init__(self, specs: Sequence[DatasetSpec], cut: CropSettings, workers: int) -> None:
        self.cut, self.workers = cut, workers
        require(
            len({Path(spec.path).resolve() for spec in specs}) == 1,
            "--dataset: several splits of one set go into a database, other sets into their own",
        )
        parts = [load_spec(spec, spec.split) for spec in specs]
        self.root = Path(os.path.commonpath([records.root.absolute() for records in parts]))
        self.places: dict[str, tuple[PhotoRecords, int, str]] = {}
        for spec, records in zip(specs, parts, strict=True):
            start = records.root.absolute().relative_to(self.root)
            part = f"{spec.split} " if len(specs) > 1 else ""
            for index in range(len(records)):
                name = (start / records.file_name_of(index)).as_posix()
                self.places[name] = records, index, part
        again = sum(map(len, parts)) - len(self.places)
        if again and is_main():
            logger.warning(
                "photo listed more than once ×%d (only the garments that it is listed with last "
                "are stored)", again,
            )  # fmt: skip

    def find(self, root: Path, names: Iterable[str]) -> Iterable[Found]:
        photos = ((name, root / name) for name in names)
        return given_garments(
            photos, lambda name, size: self._detections(root, name, size), self.cut, self.workers
        )

    def _detections(self, root: Path, name: str, full_size: tuple[int, int]) -> Detections:
        records, index, _ = self.places[name]
        photo, (width, height) = records[index], full_size
        boxes, masks = [], []
        for garment in photo.garments:
            fills_photo = garment.box.tolist() == [0, 0, photo.width, photo.height]
            if not fills_photo and full_size != (photo.width, photo.height):
                sizes = f"annotated as {photo.width}×{photo.height}, is {width}×{height}"
                raise PhotoError("unreadable", root / name, sizes)
            boxes.append([0, 0, *full_size] if fills_photo else garment.box)
            outline = garment.segmentation
            masks.append(None if outline is None else to_rle(outline, height, width))
        boxes, count = np.array(boxes, np.float64).reshape(-1, 4), len(boxes)
        return Detections(
            width, height, boxes, np.ones(count, np.float32), np.zeros(count, np.int64), masks
        )

    def items(
        self, name: str, found: Detections, descriptions: Sequence[Description]
    ) -> list[Item]:
        items = self.labeled(name)
        for item, box, description in zip(items, found.boxes, descriptions, strict=True):
            item.box = tuple(box.tolist())
            item.extra |= _colors(description)
        return items

    def labeled(self, name: str) -> list[Item]:
        """The annotation of a photo's garments as items."""
        records, index, part = self.places[name]
        photo = records[index]
        items = []
        for number, garment in enumerate(photo.garments, 1):
            item = Item(item_key(name, number), name, number, tuple(garment.box.tolist()))
            item.category = records.categories[garment.category] if garment.category >= 0 else None
            item.attributes = _held(garment, records)
            if garment.identity >= 0:
                # Names hold in all splits, numbers (DeepFashion2's pairs) begin anew in each.
                names = records.identities
                item.identity = names[garment.identity] if names else f"{part}{garment.identity}"
            item.extra = {"source": photo.source} if photo.source else {}
            items.append(item)
        return items

    def are_stored(self, store: Store, names: Sequence[str]) -> Iterator[bool]:
        """Whether a store says of each photo what the annotation says now."""
        for start in range(0, len(names), READ_AT_ONCE):
            told = {name: self.labeled(name) for name in names[start : start + READ_AT_ONCE]}
            # One number more than a photo has: a garment that the annotation has lost.
            keys = [item_key(name, i + 1) for name in told for i in range(len(told[name]) + 1)]
            stored = iter(store.get(keys))
            for items in told.values():
                pairs = [(item, next(stored)) for item in items]
                same = all(old and _annotation(old) == _annotation(item) for item, old in pairs)
                yield next(stored) is None and same


def _annotation(item: Item) -> tuple:
    source = item.extra.get("source")
    return item.key, item.box, item.category, item.attributes, item.identity, source


def _held(garment: Garment, records: PhotoRecords) -> dict[str, str]:
    """The answers of an annotated garment; a value that excludes no other has a name of its own."""
    answers: dict[str, str] = {}
    for group in records.attribute_groups:
        signs = garment.attributes[group.start : group.stop]
        held = [records.attributes[group.start + i] for i in np.flatnonzero(signs == 1)]
        if not group.exclusive:
            answers |= dict.fromkeys(held, YES)
        elif held:
            answers[group.name] = held[0]
    return answers


def _item(name: str, i: int, description: Description) -> Item:
    return Item(item_key(name, i + 1), name, i + 1, extra=_colors(description))


def _colors(description: Description) -> dict[str, Any]:
    return {
        "colors": [
            {"name": color, "hex": code, "share": share}
            for color, code, share in description.colors
        ]
    }


def _answers(description: Description, groups: Mapping[str, bool]) -> dict[str, str]:
    """The likeliest value of each group; of a group whose values do not exclude each other, each
    value that is likely, as an attribute of its own."""
    answers = {}
    for group, ranked in description.labels.items():
        if groups[group]:
            name = f"described_{CATEGORY}" if group == CATEGORY else group
            answers[name] = ranked[0][0]
        else:
            answers |= {value: YES for value, probability in ranked if probability >= SURE}
    return answers
