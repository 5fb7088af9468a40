"""DeepFashion2 (Ge et al., CVPR 2019) as it is distributed, without conversion.

    <path>/train/image/000001.jpg         <path>/train/annos/000001.json
    <path>/validation/image/…             <path>/validation/annos/…

An annotation file holds ``source`` ("shop" or "user"), ``pair_id`` and the garments ``item1``,
``item2`` …, in any order; photo sizes come from the photos. A garment's identity is (pair_id,
style): garments with the same pair_id and the same style above 0 are the same product; style 0
means no identity.

Items of a rendered wardrobe (tools/make_wardrobe.py) also hold ``factors``, which describe their
look. Those in FACTORS become attribute groups.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.data.packing import SOURCES, concatenate, pack
from engine.data.readers import checks
from engine.data.readers.cache import fingerprint
from engine.data.readers.listed import exclusive_groups
from engine.data.readers.parallel import map_chunks
from engine.data.readers.problems import BadRecord, Problem, Problems, shorten
from engine.data.records import Garment, Photo, PhotoRecords
from engine.errors import InputError
from engine.pixels.photos import PhotoError, check_photo

CATEGORIES = (
    "short sleeve top",
    "long sleeve top",
    "short sleeve outwear",
    "long sleeve outwear",
    "vest",
    "sling",
    "shorts",
    "trousers",
    "skirt",
    "short sleeve dress",
    "long sleeve dress",
    "vest dress",
    "sling dress",
)
# Number of landmarks of each category. In the COCO conversion a garment has the landmarks of all
# categories in a row, and only the slice of its own category is filled.
LANDMARKS = (25, 33, 31, 39, 15, 15, 10, 14, 8, 29, 37, 19, 19)
LANDMARK_STARTS = (0, 25, 58, 89, 128, 143, 158, 168, 182, 190, 219, 256, 275)
ALL_LANDMARKS = 294

# Factors with named values, each an exclusive attribute group; the other factors are numbers.
FACTORS = ("color", "texture", "neckline", "collar", "closure", "pocket")

FOLDERS = {"val": "validation"}  # split -> folder, where they differ


class _Part(NamedTuple):
    """One chunk of annotation files, parsed by a worker process."""

    columns: dict[str, np.ndarray]
    items: int  # garments listed, usable or not
    problems: list[Problem]
    factors: list[tuple[str, ...]]  # of each garment, ordered as FACTORS, "" = unknown


def read(root: Path, split: str) -> tuple[PhotoRecords, dict[str, str]]:
    """Read one split; unusable records are left out and counted.

    Returns:
        The records and the fingerprints of the folders they came from.

    Raises:
        InputError: the split's folders are missing or nothing in them is usable.
    """
    folder = root / FOLDERS.get(split, split)
    annos, images = folder / "annos", folder / "image"
    for needed in (annos, images):
        if not needed.is_dir():
            raise InputError(
                f"{needed}: no such folder; DeepFashion2 has <split>/annos and <split>/image"
            )
    sources = {str(path.resolve()): fingerprint(path) for path in (annos, images)}
    problems = Problems()
    names = _numbered(annos, problems)
    columns, factors = _parse_all(folder, names, problems)
    attributes, groups, matrix = exclusive_groups(FACTORS, zip(*factors, strict=True))
    if attributes:
        columns["attribute_values"] = matrix.ravel()
        columns["attribute_values_offsets"] = np.arange(len(matrix) + 1) * len(attributes)
    records = PhotoRecords(
        columns,
        format="deepfashion2",
        root=images,
        categories=CATEGORIES,
        category_ids=range(1, len(CATEGORIES) + 1),
        attributes=attributes,
        attribute_groups=groups,
    )
    records = checks.drop_maskless(records, problems)
    records.problems = problems.found()
    return records, sources


def _numbered(annos: Path, problems: Problems) -> list[str]:
    """Stems of the annotation files, sorted by number, which is the image id."""
    numbers: dict[int, str] = {}
    for stem in sorted(path.stem for path in annos.glob("*.json")):
        place = f"{annos / stem}.json"
        if not (stem.isascii() and stem.isdigit() and int(stem) < 2**63):
            problems.add("malformed annotation file", f"{place}: name not a number below 2^63")
        elif numbers.setdefault(int(stem), stem) != stem:
            problems.add("duplicate image id", f"{place}: and {numbers[int(stem)]}.json")
    return [numbers[number] for number in sorted(numbers)]


def _parse_all(
    folder: Path, names: Sequence[str], problems: Problems
) -> tuple[dict[str, np.ndarray], list[tuple[str, ...]]]:
    """The columns of all annotation files, and every garment's factors."""
    parts, factors = [], []
    numbered = 0
    for part in map_chunks(partial(_parse_chunk, folder), names, f"parsing {folder.name}"):
        # Annotation ids count all garments of the split, as the official COCO conversion does.
        part.columns["garment_annotation_id"] = part.columns["garment_annotation_id"] + numbered
        numbered += part.items
        problems.merge(part.problems)
        parts.append(part.columns)
        factors += part.factors
    return concatenate(parts or [pack([], folder)]), factors


def _parse_chunk(folder: Path, names: Sequence[str]) -> _Part:
    chunk = _Chunk(folder)
    photos = [photo for name in names if (photo := chunk.photo(name)) is not None]
    columns = pack(photos, chunk.images.root)
    return _Part(columns, chunk.items, chunk.problems.found(), chunk.factors)


class _Chunk:
    """Parses a chunk of annotation files, counting garments and problems."""

    def __init__(self, folder: Path) -> None:
        self.annos = folder / "annos"
        self.images = checks.PhotoFolder(folder / "image")
        self.items = 0
        self.problems = Problems()
        self.factors: list[tuple[str, ...]] = []

    def photo(self, name: str) -> Photo | None:
        """The photo of one annotation file; None, counted as a problem, if it cannot be used."""
        file = self.annos / f"{name}.json"
        raw = checks.load_json(file)
        try:
            if not isinstance(raw, dict):
                raise BadRecord("malformed annotation file", f"{file}: not an object")
            items = [(key, raw[key]) for key in raw if key not in ("source", "pair_id")]
            first = self.items + 1
            self.items += len(items)
            path = self.images.path(f"{name}.jpg")
            header = check_photo(path)
            pair_id = checks.clean_integer(raw.get("pair_id", -1), "pair_id")
        except PhotoError as error:
            self.problems.add(f"{error.kind} photo", str(error))
            return None
        except BadRecord as bad:
            self.problems.add(bad.kind, f"{file}: {bad}")
            return None
        self.problems.add_traits(header.traits, path.name)
        source = raw.get("source")
        photo = Photo(path, int(name), *header.upright_size)
        photo.source = source if source in SOURCES else ""
        for number, (key, item) in enumerate(items, first):
            try:
                garment = self._garment(item, photo, pair_id, f"{file} {key}")
            except BadRecord as bad:
                self.problems.add(bad.kind, f"{file} {key}: {bad}")
                continue
            garment.annotation_id = number
            photo.garments.append(garment)
            self.factors.append(_factors(item))
        return photo

    def _garment(self, item: Any, photo: Photo, pair_id: int, where: str) -> Garment:
        if not isinstance(item, dict):
            raise BadRecord("malformed annotation", "not an object")
        category = checks.clean_integer(item.get("category_id"), "category_id") - 1
        if category not in range(len(CATEGORIES)):
            raise BadRecord("unknown category id", f"category_id {category + 1}")
        corners = item.get("bounding_box")
        if not isinstance(corners, list) or len(corners) != 4:
            raise BadRecord("malformed annotation", f"bounding_box {shorten(corners)}")
        corners = [checks.clean_number(value) for value in corners]
        box = checks.clean_box(corners, photo.width, photo.height, self.problems, where)
        polygons = checks.clean_polygons(item.get("segmentation"), self.problems, where)
        style = checks.clean_integer(item.get("style", 0), "style")
        return Garment(
            category=category,
            box=box,
            area=float((box[2:] - box[:2]).prod()),
            segmentation=polygons,
            identity=checks.identity_of(pair_id, style),
            style=style,
            pair_id=pair_id,
            landmarks=self._landmarks(item.get("landmarks"), category, where),
            **{grade: checks.clean_grade(item.get(grade)) for grade in checks.GRADES},
        )

    def _landmarks(self, values: Any, category: int, where: str) -> np.ndarray | None:
        if not values:
            return None
        try:
            landmarks = checks.clean_landmarks(values)
            if len(landmarks) != LANDMARKS[category]:
                detail = f"{len(landmarks)} landmarks, but a {CATEGORIES[category]} has"
                raise BadRecord("malformed landmarks", f"{detail} {LANDMARKS[category]}")
        except BadRecord as bad:
            self.problems.add(bad.kind, f"{where}: {bad}")
            return None
        return landmarks


def _factors(item: dict) -> tuple[str, ...]:
    known = item.get("factors")
    known = known if isinstance(known, dict) else {}
    values = (known.get(name) for name in FACTORS)
    return tuple(value if isinstance(value, str) else "" for value in values)


def slice_landmarks(landmarks: np.ndarray, category: int) -> np.ndarray:
    """The landmarks of a garment's category among all 294: [294, 3] -> [K, 3]."""
    start = LANDMARK_STARTS[category]
    return landmarks[start : start + LANDMARKS[category]]


def spread_landmarks(flat: list[float], category: int) -> list[float]:
    """The inverse of ``slice_landmarks`` on flat lists: x, y, v, … -> 294 · 3 values."""
    before = 3 * LANDMARK_STARTS[category]
    return [0] * before + flat + [0] * (3 * ALL_LANDMARKS - before - len(flat))
