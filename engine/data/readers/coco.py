"""COCO instance annotations: one JSON file, polygons or RLE masks or boxes only.

Besides the standard keys, these are read if present: ``keypoints``, and
DeepFashion2's ``pair_id``, ``style``, ``scale``, ``occlusion``, ``zoom_in``, ``viewpoint`` (and a
photo's ``source``), so that converting DeepFashion2 loses nothing; and attributes and identities
(``engine.data.readers.coco_labels``).
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from engine.data.packing import SOURCES
from engine.data.readers import checks
from engine.data.readers.cache import fingerprint
from engine.data.readers.checks import PhotoFolder
from engine.data.readers.coco_labels import CocoLabels
from engine.data.readers.deepfashion2 import ALL_LANDMARKS, LANDMARKS, slice_landmarks
from engine.data.readers.parallel import check_photos
from engine.data.readers.problems import BadRecord, Problems, shorten
from engine.data.records import Garment, Photo, PhotoRecords
from engine.errors import InputError
from engine.pixels.masks import to_rle
from engine.pixels.photo_files import Header, PhotoError


def find_annotations(root: Path, split: str, annotations: str | Path | None) -> Path:
    """Path of the annotation file: ``annotations`` (also relative to the root) or a usual name.

    Raises:
        InputError: there is no such file.
    """
    if annotations is not None:
        candidates = [Path(annotations), root / annotations]
    else:
        candidates = [root / f"{split}.json", root / "annotations" / f"{split}.json"]
        for start in ("instances", "instances_attributes"):  # the second is Fashionpedia's
            candidates += sorted((root / "annotations").glob(f"{start}_{split}*.json"))
        # Roboflow's export has the file among the photos, and calls validation "valid".
        names = (split, *checks.OTHER_SPLIT_NAMES.get(split, ()))
        candidates += [root / name / "_annotations.coco.json" for name in names]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = ", ".join(map(str, candidates))
    raise InputError(f"no annotation file for {root}: looked for {looked}; name it explicitly")


def read(annotations: Path, folders: list[Path]) -> tuple[PhotoRecords, dict[str, str]]:
    """Read one annotation file; unusable records are left out and counted.

    Args:
        annotations: the JSON file.
        folders: where the photos may be; the first that holds any of them is used.

    Returns:
        The records and the fingerprints of the file and folder they came from.

    Raises:
        InputError: the file is not JSON or not COCO's structure.
    """
    sources = {str(annotations.resolve()): fingerprint(annotations)}
    document = load_document(annotations)
    names, ids = _categories(document["categories"], annotations)
    problems = Problems()
    root = checks.choose_folder(_file_names(document["images"]), folders, annotations)
    sources[str(root.resolve())] = fingerprint(root)
    entries = _photo_entries(document["images"], PhotoFolder(root), problems)
    labels = CocoLabels(document, problems)
    reader = _Annotations(document["annotations"], entries, ids, labels, problems)
    records = PhotoRecords.from_photos(
        reader.photos(),
        root=root,
        format="coco",
        categories=names,
        category_ids=ids,
        attributes=labels.names,
        attribute_ids=labels.ids,
        attribute_groups=labels.groups,
        identities=labels.identities,
    )
    records = checks.drop_maskless(records, problems)
    records.problems = problems.found()
    return records, sources


def load_document(path: Path) -> dict[str, Any]:
    """Parse the JSON and check its top level.

    Raises:
        InputError: it is not JSON or lacks one of COCO's lists.
    """
    document = checks.load_json(path)
    if not isinstance(document, dict):
        kind = type(document).__name__
        raise InputError(f"{path}: holds a {kind} instead of a COCO object; is it a result file?")
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise InputError(f"{path}: has no list {key!r}, so it is not a COCO annotation file")
    return document


def _categories(entries: list, path: Path) -> tuple[list[str], list[int]]:
    names, ids = [], []
    for entry in entries:
        try:
            ids.append(checks.clean_integer(entry["id"], "category id"))
            names.append(entry["name"])
        except (BadRecord, KeyError, TypeError):
            shown = shorten(entry)
            raise InputError(
                f"{path}: category {shown} needs a whole number 'id' and a 'name'"
            ) from None
        if not isinstance(names[-1], str):
            raise InputError(f"{path}: category name {shorten(names[-1])} is not text")
    if not names:
        raise InputError(f"{path}: lists no categories")
    if len(set(ids)) < len(ids):
        repeated = min(value for value in ids if ids.count(value) > 1)
        raise InputError(f"{path}: category id {repeated} is listed twice")
    # Some exports give a class and its supercategory the same name; results need different ones.
    names = [
        name if name not in names[:i] else f"{name} ({ids[i]})" for i, name in enumerate(names)
    ]
    return names, ids


def _file_names(images: list) -> list[str]:
    names = [image.get("file_name") for image in images if isinstance(image, dict)]
    return [name for name in names if isinstance(name, str)]


class _Entry:
    """A photo entry of the JSON that has been checked."""

    __slots__ = ("height", "image_id", "path", "source", "width")

    def __init__(self, image: Any, folder: PhotoFolder) -> None:
        if not isinstance(image, dict):
            raise BadRecord("malformed photo entry", "not an object")
        kind = "malformed photo entry"
        self.image_id = checks.clean_integer(image.get("id"), "id", kind)
        self.path = folder.path(image.get("file_name"))
        self.width, self.height = (
            None if image.get(key) is None else checks.clean_integer(image[key], key, kind)
            for key in ("width", "height")
        )
        source = image.get("source", "")
        self.source = source if source in SOURCES else ""

    def check_size(self, found: Header | PhotoError) -> None:
        """Check the size against the photo's header, or take it from there if the JSON has none."""
        if isinstance(found, PhotoError):
            raise BadRecord(f"{found.kind} photo", str(found))
        real = found.upright_size
        annotated = (self.width or real[0], self.height or real[1])
        if annotated != real:
            detail = f"{self.path.name} is {real[0]}×{real[1]}, annotated as"
            detail += f" {annotated[0]}×{annotated[1]}"
            if found.orientation >= 5 and annotated == real[::-1]:
                detail += " (before EXIF rotation; annotate it upright)"
            raise BadRecord("photo size differs from its annotation", detail)
        self.width, self.height = real


def _photo_entries(
    images: list, folder: PhotoFolder, problems: Problems
) -> dict[int, "_Entry | None"]:
    """image id -> entry; None if the photo is listed but cannot be used."""
    entries: dict[int, _Entry | None] = {}
    for number, image in enumerate(images):
        try:
            entry = _Entry(image, folder)
            if entry.image_id in entries:
                raise BadRecord("duplicate image id", f"{entry.path.name} has id {entry.image_id}")
            entries[entry.image_id] = entry
        except BadRecord as bad:
            problems.add(bad.kind, f"images[{number}]: {bad}")
            if isinstance(image, dict) and isinstance(image.get("id"), int):
                entries.setdefault(image["id"], None)
    listed = [entry for entry in entries.values() if entry is not None]
    for entry, found in zip(listed, check_photos([e.path for e in listed]), strict=True):
        try:
            entry.check_size(found)
            problems.add_traits(found.traits, entry.path.name)
        except BadRecord as bad:
            problems.add(bad.kind, str(bad))
            entries[entry.image_id] = None
    return entries


class _Annotations:
    """Turns raw annotations into garments, photo by photo."""

    def __init__(
        self,
        annotations: list,
        entries: dict,
        ids: list[int],
        labels: CocoLabels,
        problems: Problems,
    ) -> None:
        self.entries, self.labels = entries, labels
        self.category_of = {category_id: index for index, category_id in enumerate(ids)}
        self.problems = problems
        self.seen: dict[int, tuple] = {}  # annotation id -> image id, category id and box
        ids = [a.get("id") for a in annotations if isinstance(a, dict)]
        # Far enough below 2^63 to go on from; nobody counts up to the ids above.
        ids = [int(i) for i in ids if isinstance(i, (int, float)) and abs(i) < 2**62]
        self.fresh = itertools.count(1 + max(ids, default=0))
        self.by_photo: dict[int, list[tuple[int, dict]]] = {}
        for number, annotation in enumerate(annotations):
            image_id = self._photo_of(annotation, number)
            if image_id is not None:
                self.by_photo.setdefault(image_id, []).append((number, annotation))

    def photos(self) -> Iterator[Photo]:
        """Photos in the order of the file, each with its usable garments."""
        for entry in self.entries.values():
            if entry is None:
                continue
            garments = []
            for number, annotation in self.by_photo.get(entry.image_id, ()):
                where = f"annotations[{number}] on {entry.path.name}"
                try:
                    garments.append(self._garment(annotation, number, entry, where))
                except BadRecord as bad:
                    self.problems.add(bad.kind, f"{where}: {bad}")
            yield Photo(
                entry.path, entry.image_id, entry.width, entry.height, entry.source, garments
            )

    def _photo_of(self, annotation: Any, number: int) -> int | None:
        """The image id of the annotation, None if it has no usable photo."""
        try:
            if not isinstance(annotation, dict):
                raise BadRecord("malformed annotation", "not an object")
            image_id = checks.clean_integer(annotation.get("image_id"), "image_id")
            if image_id not in self.entries:
                raise BadRecord("annotation of an unlisted photo", f"image_id {image_id}")
        except BadRecord as bad:
            self.problems.add(bad.kind, f"annotations[{number}]: {bad}")
            return None
        return image_id if self.entries[image_id] is not None else None

    def _garment(self, annotation: dict, number: int, entry: _Entry, where: str) -> Garment:
        annotation_id = checks.clean_integer(annotation.get("id", number + 1), "id")
        category_id = checks.clean_integer(annotation.get("category_id"), "category_id")
        if category_id not in self.category_of:
            raise BadRecord("unknown category id", f"category_id {category_id}")
        segmentation = self._segmentation(annotation.get("segmentation"), entry, where)
        box = self._box(annotation.get("bbox"), segmentation, entry, where)
        about = entry.image_id, category_id, *box
        if self.seen.get(annotation_id) == about:
            raise BadRecord("duplicate annotation", f"id {annotation_id}")
        if annotation_id in self.seen:  # some tools start numbering at every photo
            self.problems.add("duplicate annotation id", f"{where}: id {annotation_id}")
            annotation_id = next(self.fresh)
        self.seen[annotation_id] = about
        area = annotation.get("area")
        area = checks.clean_number((box[2:] - box[:2]).prod() if area is None else area)
        if not 0 <= area < np.inf:
            raise BadRecord("malformed annotation", f"area {area}")
        style = self._integer_or(annotation, "style", 0)
        pair_id = self._integer_or(annotation, "pair_id", -1)
        return Garment(
            category=self.category_of[category_id],
            box=box,
            area=area,
            segmentation=segmentation,
            crowd=annotation.get("iscrowd") in (1, True),
            annotation_id=annotation_id,
            identity=self.labels.identity(annotation, checks.identity_of(pair_id, style)),
            style=style,
            pair_id=pair_id,
            landmarks=self._landmarks(annotation.get("keypoints"), category_id - 1, where),
            attributes=self.labels.attributes(annotation, where, self.problems),
            **{grade: checks.clean_grade(annotation.get(grade)) for grade in checks.GRADES},
        )

    def _box(
        self, bbox: Any, segmentation: list | dict | None, entry: _Entry, where: str
    ) -> np.ndarray:
        """The annotated box, or that of the mask: float64 [4] xyxy."""
        if bbox is None and segmentation is not None:
            bbox = coco_mask.toBbox(to_rle(segmentation, entry.height, entry.width)).tolist()
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise BadRecord("malformed annotation", f"bbox {shorten(bbox)}")
        x, y, width, height = map(checks.clean_number, bbox)
        corners = [x, y, x + width, y + height]
        return checks.clean_box(corners, entry.width, entry.height, self.problems, where)

    def _segmentation(self, value: Any, entry: _Entry, where: str) -> list | dict | None:
        if isinstance(value, dict) and value:
            return checks.clean_rle(value, entry.width, entry.height)
        return checks.clean_polygons(value, self.problems, where)

    def _landmarks(self, value: Any, category: int, where: str) -> np.ndarray | None:
        if not value:
            return None
        try:
            landmarks = checks.clean_landmarks(value)
        except BadRecord as bad:
            self.problems.add(bad.kind, f"{where}: {bad}")
            return None
        if len(landmarks) == ALL_LANDMARKS and category in range(len(LANDMARKS)):
            return slice_landmarks(landmarks, category)
        return landmarks

    def _integer_or(self, annotation: dict, key: str, default: int) -> int:
        try:
            return checks.clean_integer(annotation.get(key, default), key)
        except BadRecord:  # other datasets use these keys for something else
            return default
