"""COCO result files -> detections by image id, to evaluate the results of any program.

A result file is a JSON list with one object per detection: image_id, category_id, score, and bbox
[x, y, width, height], segmentation (RLE or polygons), or both; optionally attribute_ids, the
predicted attributes, as Fashionpedia has them.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from engine.data.readers import checks
from engine.data.readers.problems import BadRecord, Problems, shorten
from engine.data.records import PhotoRecords
from engine.detection.detections import Detections
from engine.errors import InputError
from engine.pixels.masks import RLE, to_rle


def read_results(
    path: Path, records: PhotoRecords, *, class_agnostic: bool = False
) -> dict[int, Detections]:
    """Detections for every photo of ``records``, possibly none.

    Numbers keep their float64 precision; detections are sorted by score, ties in the file's order.

    Args:
        path: the file.
        records: the dataset.
        class_agnostic: ignore category ids; unknown ones become label 1.

    Raises:
        InputError: the file is not such a list, or an entry does not fit the dataset. No entry is
            skipped, since that would silently change the metrics.
    """
    path = Path(path)
    entries = checks.load_json(path)
    if not isinstance(entries, list):
        raise InputError(f"{path}: a COCO result file is a JSON list of detections")
    reader = _Reader(records, _first(entries), class_agnostic=class_agnostic)
    for position, entry in enumerate(entries):
        try:
            reader.add(entry)
        except BadRecord as bad:
            raise InputError(f"{path}: entry {position} (counted from 0): {bad}") from None
    return reader.detections()


def _first(entries: list) -> dict:
    return entries[0] if entries and isinstance(entries[0], dict) else {}


class _Reader:
    """Checks entries and groups them by photo; all must have the optional keys of the first one."""

    def __init__(self, records: PhotoRecords, first: dict, *, class_agnostic: bool) -> None:
        self.class_agnostic = class_agnostic
        self.with_masks = "segmentation" in first
        self.with_attributes = "attribute_ids" in first and bool(records.attributes)
        self.attributes = {id_: number for number, id_ in enumerate(records.attribute_ids)}
        self.sizes = dict(zip(records.image_ids.tolist(), records.sizes.tolist(), strict=True))
        self.labels = {id_: label for label, id_ in enumerate(records.category_ids, start=1)}
        self.found: dict[int, list[tuple]] = {image_id: [] for image_id in self.sizes}

    def add(self, entry: Any) -> None:
        """Add one entry.

        Raises:
            BadRecord: it does not fit the dataset.
        """
        if not isinstance(entry, dict):
            raise _bad("not an object")
        image_id = entry.get("image_id")
        if type(image_id) is not int or image_id not in self.sizes:
            raise _bad(
                f"image_id {shorten(image_id)} is not one of the dataset's usable photos (infer.py "
                "numbers photos differently; use evaluate.py detector --weights instead)"
            )
        label = self._label(entry.get("category_id"))
        score = checks.clean_number(entry.get("score"))
        if not math.isfinite(score):
            raise _bad(f"score {score}")
        mask = self._mask(entry, *self.sizes[image_id])
        box = _box(entry, mask)
        self.found[image_id].append((score, label, box, mask, self._attributes(entry)))

    def _label(self, category_id: Any) -> int:
        if type(category_id) is int and category_id in self.labels:
            return self.labels[category_id]
        if not self.class_agnostic:
            raise _bad(f"category_id {shorten(category_id)} is not one of the dataset's")
        return 1

    def _mask(self, entry: dict, width: int, height: int) -> RLE | None:
        if not self.with_masks:
            return None
        if "segmentation" not in entry:
            raise _bad("no segmentation, while the first entry has one")
        segmentation = entry["segmentation"]
        if isinstance(segmentation, dict):
            return _rle(segmentation, width, height)
        polygons = checks.clean_polygons(segmentation, Problems(), "")
        if polygons is None:
            raise _bad("empty segmentation")
        return to_rle(polygons, height, width)

    def _attributes(self, entry: dict) -> np.ndarray | None:
        if not self.with_attributes:
            return None
        ids = entry.get("attribute_ids")
        if not isinstance(ids, list):
            raise _bad("no list attribute_ids, while the first entry has one")
        row = np.zeros(len(self.attributes), bool)
        for id_ in ids:
            if type(id_) is not int or id_ not in self.attributes:
                raise _bad(f"attribute id {shorten(id_)} is not one of the dataset's")
            row[self.attributes[id_]] = True
        return row

    def detections(self) -> dict[int, Detections]:
        """All entries added so far, by image id, best score first."""
        return {image_id: self._detections(image_id) for image_id in self.found}

    def _detections(self, image_id: int) -> Detections:
        rows = sorted(self.found[image_id], key=lambda row: -row[0])
        return Detections(
            *self.sizes[image_id],
            boxes=np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
            scores=np.array([row[0] for row in rows], np.float64),
            labels=np.array([row[1] for row in rows], np.int64),
            masks=[row[3] for row in rows] if self.with_masks else None,
            attributes=self._stacked(rows) if self.with_attributes else None,
        )

    def _stacked(self, rows: list[tuple]) -> np.ndarray:
        return np.array([row[4] for row in rows], bool).reshape(-1, len(self.attributes))


def _box(entry: dict, mask: RLE | None) -> list[float]:
    """The entry's box, or that of its mask, as xyxy."""
    box = entry.get("bbox")
    if box is None:
        if mask is None:
            raise _bad("neither bbox nor segmentation")
        box = coco_mask.toBbox(mask).tolist()
    if not isinstance(box, list) or len(box) != 4:
        raise _bad(f"bbox {shorten(box)} is not [x, y, width, height]")
    x, y, width, height = (checks.clean_number(value) for value in box)
    if not all(map(math.isfinite, (x, y, width, height))) or width < 0 or height < 0:
        raise _bad(f"bbox {shorten(box)}: not finite, or a negative side")
    return [x, y, x + width, y + height]


def _rle(rle: dict, width: int, height: int) -> RLE:
    try:
        return checks.clean_rle(rle, width, height)
    except BadRecord as bad:
        if bad.kind != "empty mask":  # unlike an annotation, a detection may have an empty mask
            raise
    return to_rle(rle, height, width)


def _bad(detail: str) -> BadRecord:
    return BadRecord("malformed detection", detail)
