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
from engine.files import absolute
from engine.pixels.masks import to_rle
from engine.pixels.photos import PhotoError
from retrieval.pictures import relative_names
from retrieval.store import Item, Store, item_key

YES = "yes"  # stored value of a binary attribute
READ_AT_ONCE = 4096  # photos
MIN_PROBABILITY = 0.5  # of a value of a non-exclusive group, to be stored

logger = logging.getLogger("weft")


class GarmentSource(Protocol):
    """The interface.

    Attributes:
        categories: of the detector; empty without one.
    """

    categories: Sequence[str]

    def find(self, root: Path, names: Iterable[str]) -> Iterable[Found]:
        """The garments of the photos ``names``, which are relative to ``root``."""

    def items(
        self, name: str, found: Detections, descriptions: Sequence[Description]
    ) -> list[Item]:
        """The items to store for a photo's garments, in the order of ``found``."""


class DetectedGarments:
    """The garments that the detector finds.

    Args:
        finder: the detector.
        groups: label group of the descriptions -> whether its values exclude each other.
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
            item.attributes = _predicted_attributes(description, self.groups)
            item.extra["score"] = round(float(found.scores[i]), 4)
            items.append(item)
        return items


class WholePhotos:
    """Every photo shows one product; its category is the multitask model's prediction.

    Args:
        cut: how the garments' crops will be cut.
        workers: threads that decode photos.
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
        item.attributes = _predicted_attributes(descriptions[0], self.groups)
        item.category = item.attributes.pop(f"described_{CATEGORY}", None)
        return [item]


class AnnotatedGarments:
    """The garments, labels and identities of an annotated dataset.

    Args:
        specs: splits of the dataset, as given to ``--dataset``; all with the same path.
        cut: how the garments' crops will be cut.
        workers: threads that decode photos.

    Attributes:
        root: the folder that the photos' names are relative to; the dataset's until ``name_from``.
        places: name -> (records, index of the photo there, prefix that keeps identity numbers of
            different splits apart).

    Raises:
        InputError: the dataset cannot be read, or the specs name several datasets.
    """

    categories: Sequence[str] = ()

    def __init__(self, specs: Sequence[DatasetSpec], cut: CropSettings, workers: int) -> None:
        self.cut, self.workers = cut, workers
        require(
            len({Path(spec.path).resolve() for spec in specs}) == 1,
            "--dataset: a database holds splits of one dataset; build another for another dataset",
        )
        parts = [load_spec(spec, spec.split) for spec in specs]
        # Without ``..``, which images= may hold: names must not lead out of the common folder.
        roots = [absolute(records.root) for records in parts]
        self.root = Path(os.path.commonpath(roots))
        self.places: dict[str, tuple[PhotoRecords, int, str]] = {}
        for spec, records, folder in zip(specs, parts, roots, strict=True):
            start = folder.relative_to(self.root)
            prefix = f"{spec.split} " if len(specs) > 1 else ""
            for index in range(len(records)):
                name = (start / records.file_name_of(index)).as_posix()
                self.places[name] = records, index, prefix
        repeated = sum(map(len, parts)) - len(self.places)
        if repeated and is_main():
            logger.warning(
                "photo listed more than once ×%d (only the garments of its last listing are "
                "stored)", repeated,
            )  # fmt: skip

    def name_from(self, root: Path) -> None:
        """Name the photos relative to a database's root.

        Raises:
            InputError: a photo lies outside of it.
        """
        names = relative_names(root, self.root, list(self.places))
        self.root, self.places = root, dict(zip(names, self.places.values(), strict=True))

    def find(self, root: Path, names: Iterable[str]) -> Iterable[Found]:
        self.name_from(root)  # only the process that opened the database has done so
        photos = ((name, root / name) for name in names)
        return given_garments(
            photos, lambda name, size: self._detections(root, name, size), self.cut, self.workers
        )

    def _detections(self, root: Path, name: str, full_size: tuple[int, int]) -> Detections:
        records, index, _ = self.places[name]
        photo, (width, height) = records[index], full_size
        if full_size != (photo.width, photo.height):  # changed since the dataset was read
            sizes = f"annotated as {photo.width}×{photo.height}, is {width}×{height}"
            raise PhotoError("unreadable", root / name, sizes)
        boxes = np.array([garment.box for garment in photo.garments]).reshape(-1, 4)
        outlines = [garment.segmentation for garment in photo.garments]
        masks = [None if one is None else to_rle(one, height, width) for one in outlines]
        scores, labels = np.ones(len(boxes), np.float32), np.zeros(len(boxes), np.int64)
        return Detections(width, height, boxes, scores, labels, masks)

    def items(
        self, name: str, found: Detections, descriptions: Sequence[Description]
    ) -> list[Item]:
        items = self.annotated_items(name)
        for item, description in zip(items, descriptions, strict=True):
            item.extra |= _colors(description)
        return items

    def annotated_items(self, name: str) -> list[Item]:
        """The annotated garments of a photo as items, without what a model adds."""
        records, index, prefix = self.places[name]
        photo = records[index]
        items = []
        for number, garment in enumerate(photo.garments, 1):
            item = Item(item_key(name, number), name, number, tuple(garment.box.tolist()))
            item.category = records.categories[garment.category] if garment.category >= 0 else None
            item.attributes = _annotated_attributes(garment, records)
            if garment.identity >= 0:
                # Names are the same in all splits; numbers (DeepFashion2's pairs) restart in each.
                names = records.identities
                item.identity = names[garment.identity] if names else f"{prefix}{garment.identity}"
            item.extra = {"source": photo.source} if photo.source else {}
            items.append(item)
        return items

    def are_stored(self, store: Store, names: Sequence[str]) -> Iterator[bool]:
        """Whether each photo's annotation in a store is the same as in the dataset now."""
        for start in range(0, len(names), READ_AT_ONCE):
            chunk = names[start : start + READ_AT_ONCE]
            current = {name: self.annotated_items(name) for name in chunk}
            # One more key than a photo has garments finds a garment that the annotation has lost.
            keys = [
                item_key(name, number)
                for name, items in current.items()
                for number in range(1, len(items) + 2)
            ]
            stored = iter(store.get(keys))
            for items in current.values():
                pairs = [(item, next(stored)) for item in items]
                same = all(old and _annotation(old) == _annotation(item) for item, old in pairs)
                yield next(stored) is None and same


def _annotation(item: Item) -> tuple:
    source = item.extra.get("source")
    return item.key, item.box, item.category, item.attributes, item.identity, source


def _annotated_attributes(garment: Garment, records: PhotoRecords) -> dict[str, str]:
    """An annotated garment's attributes: the value of each exclusive group; of other groups each
    value that it has, as an attribute of its own with the value "yes"."""
    attributes: dict[str, str] = {}
    for group in records.attribute_groups:
        signs = garment.attributes[group.start : group.stop]
        held = [records.attributes[group.start + i] for i in np.flatnonzero(signs == 1)]
        if not group.exclusive:
            attributes |= dict.fromkeys(held, YES)
        elif held:
            attributes[group.name] = held[0]
    return attributes


def _item(name: str, i: int, description: Description) -> Item:
    return Item(item_key(name, i + 1), name, i + 1, extra=_colors(description))


def _colors(description: Description) -> dict[str, Any]:
    return {
        "colors": [
            {"name": color, "hex": code, "share": share}
            for color, code, share in description.colors
        ]
    }


def _predicted_attributes(description: Description, groups: Mapping[str, bool]) -> dict[str, str]:
    """The likeliest value of each exclusive group; of other groups each likely value, as an
    attribute of its own with the value "yes"."""
    attributes = {}
    for group, ranked in description.labels.items():
        if groups[group]:
            name = f"described_{CATEGORY}" if group == CATEGORY else group
            attributes[name] = ranked[0][0]
        else:
            attributes |= {
                value: YES for value, probability in ranked if probability >= MIN_PROBABILITY
            }
    return attributes
