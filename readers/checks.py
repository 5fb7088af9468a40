"""What can be wrong with an annotation, and what is done about it.

Readers call the ``clean_*`` functions on every raw value. They return the value in our form or
raise BadRecord; the reader then counts the problem and leaves the photo or garment out.
"""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

# Every kind of problem and its consequence.
CONSEQUENCES = {
    "missing photo": "photo left out",
    "empty photo": "photo left out",
    "truncated photo": "photo left out",
    "unreadable photo": "photo left out",
    "too large photo": "photo left out",
    "photo size differs from its annotation": "photo left out",
    "file name leaves the image folder": "photo left out",
    "malformed photo entry": "photo left out",
    "malformed annotation file": "photo left out",
    "duplicate image id": "later photo left out",
    "malformed annotation": "garment left out",
    "duplicate annotation id": "later garment left out",
    "annotation of an unlisted photo": "garment left out",
    "unknown category id": "garment left out",
    "box not finite": "garment left out",
    "degenerate box": "garment left out",
    "box outside the photo": "garment left out",
    "box reaches out of the photo": "box clipped",
    "polygon of fewer than 3 points": "polygon left out",
    "malformed mask": "garment left out",
    "mask size differs from the photo": "garment left out",
    "empty mask": "garment left out",
    "garment without a mask in a set with masks": "garment left out",
    "malformed landmarks": "landmarks left out",
}
EXAMPLES_KEPT = 5
BOX_TOLERANCE = 2.0  # pixels by which annotators' boxes may leave the photo without being clipped


class BadRecord(Exception):
    """A raw value that cannot be used; ``kind`` is a key of CONSEQUENCES."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass
class Problem:
    """One kind of problem in one source: how often, and the first few places."""

    kind: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def line(self) -> str:
        """The one line a user reads."""
        return f"{self.kind} ×{self.count} ({CONSEQUENCES[self.kind]}): {self.examples[0]}"


class Problems:
    """Counts problems by kind, in the order they first appear."""

    def __init__(self) -> None:
        self.by_kind: dict[str, Problem] = {}

    def add(self, kind: str, example: str) -> None:
        """Count one; ``example`` names the place and the value."""
        problem = self.by_kind.setdefault(kind, Problem(kind))
        problem.count += 1
        if len(problem.examples) < EXAMPLES_KEPT:
            problem.examples.append(example)

    def merge(self, problems: list[Problem]) -> None:
        """Add another collection's counts (from a worker process)."""
        for problem in problems:
            mine = self.by_kind.setdefault(problem.kind, Problem(problem.kind))
            mine.count += problem.count
            mine.examples = (mine.examples + problem.examples)[:EXAMPLES_KEPT]

    def found(self) -> list[Problem]:
        """All kinds that occurred."""
        return list(self.by_kind.values())


def shorten(value: Any, length: int = 60) -> str:
    """A value as text for a message, cut if long."""
    text = repr(value[:10] if isinstance(value, (list, str)) else value)
    return text if len(text) <= length else text[: length - 1] + "…"


def clean_number(value: Any) -> float:
    """A JSON number as float (huge integers become inf)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRecord("malformed annotation", f"{shorten(value)} is not a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def clean_integer(value: Any, what: str, kind: str = "malformed annotation") -> int:
    """A whole JSON number that fits 64 bits (1.0 counts as 1)."""
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or abs(value) >= 2**63:
        raise BadRecord(kind, f"{what} {shorten(value)} is not a whole number")
    return int(value)


def clean_grade(value: Any) -> int:
    """DeepFashion2's 1..3 grades; anything else is 0, unknown."""
    return value if value in (1, 2, 3) and not isinstance(value, bool) else 0


def clean_box(corners: list[float], width: int, height: int) -> np.ndarray:
    """float64 [4] xyxy out of four numbers, as annotated (see ``clip_box``)."""
    box = np.array(corners, np.float64)
    if not np.isfinite(box).all():
        raise BadRecord("box not finite", f"box {shorten(corners)}")
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        raise BadRecord("degenerate box", f"box {shorten(box.tolist())} has no area")
    if min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        detail = f"box {shorten(box.tolist())} on a {width}×{height} photo"
        raise BadRecord("box outside the photo", detail)
    return box


def clip_box(box: np.ndarray, width: int, height: int) -> np.ndarray:
    """Clip a box that leaves the photo by more than the tolerance, else return it as it is."""
    clipped = np.clip(box, 0, [width, height, width, height])
    return clipped if np.abs(clipped - box).max() > BOX_TOLERANCE else box


def clean_polygons(polygons: list, problems: Problems, where: str) -> list[np.ndarray]:
    """COCO polygons (flat x, y lists) as float64 [K, 2] each; too short ones are left out."""
    cleaned = []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2:
            detail = f"polygon {shorten(polygon)} is not a list of x, y pairs"
            raise BadRecord("malformed mask", detail)
        if not all(type(value) in (int, float) for value in polygon):
            raise BadRecord("malformed mask", "a polygon holds something else than numbers")
        if len(polygon) < 6:
            problems.add("polygon of fewer than 3 points", f"{where}: {shorten(polygon)}")
            continue
        points = np.array([clean_number(value) for value in polygon]).reshape(-1, 2)
        # Beyond this, rasterizers overflow their integers.
        if not (np.abs(points) < 1e6).all():
            raise BadRecord("malformed mask", f"polygon {shorten(polygon)} is not finite")
        cleaned.append(points)
    if not cleaned:
        raise BadRecord("empty mask", "no usable polygon")
    return cleaned


def clean_rle(rle: dict, width: int, height: int) -> dict:
    """Compressed RLE out of compressed or uncompressed RLE, its runs checked to fill the photo.

    The check matters beyond tidiness: decoders write where the runs tell them to.
    """
    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width]:
        detail = f"mask size {shorten(size)} on a {width}×{height} photo"
        raise BadRecord("mask size differs from the photo", detail)
    if isinstance(counts, list):
        if not all(type(run) is int and 0 <= run <= width * height for run in counts):
            raise BadRecord("malformed mask", "RLE counts are not run lengths")
        runs = np.array(counts, np.int64)
    elif isinstance(counts, str) and counts.isascii():
        runs = rle_runs(counts.encode())
    else:
        raise BadRecord("malformed mask", f"RLE counts {shorten(counts)}")
    if runs.sum() != width * height or (runs < 0).any():
        raise BadRecord("malformed mask", "the RLE's runs do not fill the photo")
    if runs[1::2].sum() == 0:
        raise BadRecord("empty mask", "the RLE has no pixel")
    if isinstance(counts, list):
        return coco_mask.frPyObjects({"size": size, "counts": counts}, height, width)
    return {"size": size, "counts": counts.encode()}


def rle_runs(counts: bytes) -> np.ndarray:
    """int64 run lengths of a compressed COCO RLE (pycocotools' maskApi.c, rleFrString).

    Each run is a little-endian group of 5-bit digits, one character each; bit 5 says that more
    follow, bit 4 of the last one is the sign. From the fourth run on, the difference to the run
    two before is stored.
    """
    digits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    last = (digits & 0x20) == 0
    if len(digits) == 0 or digits.min() < 0 or digits.max() > 63 or not last[-1]:
        raise BadRecord("malformed mask", "RLE counts are not COCO's encoding")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:
        raise BadRecord("malformed mask", "an RLE run is absurdly long")
    shift = 5 * (np.arange(len(digits)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((digits & 0x1F) << shift, starts)
    runs -= np.where(digits[ends] & 0x10, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def clean_landmarks(values: Any) -> np.ndarray:
    """float32 [K, 3] out of a flat x, y, v list."""
    numbers = isinstance(values, list) and all(type(v) in (int, float) for v in values)
    if not numbers or len(values) % 3:
        raise BadRecord("malformed landmarks", f"landmarks {shorten(values)}")
    landmarks = np.array([clean_number(v) for v in values]).reshape(-1, 3)
    if not (np.abs(landmarks) < 1e6).all() or not np.isin(landmarks[:, 2], (0, 1, 2)).all():
        raise BadRecord("malformed landmarks", f"landmarks {shorten(values)}")
    return landmarks.astype(np.float32)


class PhotoFolder:
    """Turns a dataset's file names into paths, none of which leaves the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real_root = root.resolve()
        self._checked: set[Path] = {root}

    def path(self, file_name: Any) -> Path:
        """The file's path; refuses absolute names, ``..`` and links that lead out."""
        if not isinstance(file_name, str) or not file_name or "\0" in file_name:
            raise BadRecord("malformed photo entry", f"file name {shorten(file_name)}")
        name = PurePosixPath(file_name)
        path = self.root / name
        if name.is_absolute() or ".." in name.parts or not self._stays_inside(path):
            raise BadRecord("file name leaves the image folder", shorten(file_name))
        return path

    def _stays_inside(self, path: Path) -> bool:
        try:
            os.fsencode(path)
            if path.parent not in self._checked:
                path.parent.resolve().relative_to(self._real_root)
                self._checked.add(path.parent)
            if path.is_symlink():
                path.resolve().relative_to(self._real_root)
        except (ValueError, OSError, RuntimeError):  # outside; unencodable; a loop of links
            return False
        return True
