"""Checks of raw annotation values, shared by the readers.

Every ``clean_*`` function returns a value in the form of ``engine.data.records`` or raises
BadRecord; the reader then counts the problem and leaves out the photo or garment.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from engine.data.readers.problems import BadRecord, Problems, shorten
from engine.data.records import PhotoRecords
from engine.errors import InputError
from engine.files import is_file
from engine.pixels.masks import to_rle

GRADES = ("scale", "occlusion", "zoom_in", "viewpoint")  # DeepFashion2's four, each 1..3
OTHER_SPLIT_NAMES = {"val": ("validation", "valid"), "validation": ("val", "valid")}
BOX_TOLERANCE = 2.0  # pixels by which a box may leave the photo without being clipped


def choose_folder(names: Sequence[str], folders: Sequence[Path], listing: Path) -> Path:
    """The first folder that holds any of the photos named in ``listing``.

    Raises:
        InputError: none of them does.
    """
    names = [name for name in names if "\0" not in name]
    for folder in folders:
        below = (_relative_name(folder, name) for name in names)
        if not names or any(is_file(folder / name) for name in below if name[:1] != "/"):
            return folder
    looked, example = ", ".join(map(str, folders)), shorten("".join(names[:1]), 120)
    raise InputError(
        f"{listing}: its photos, such as {example}, are not in {looked}; name the image folder"
    )


def _relative_name(folder: Path, name: str) -> str:
    """A listed name relative to the folder; some tools write absolute or Windows paths."""
    if "\\" in name and not is_file(folder / name):
        name = name.replace("\\", "/")
    return name.removeprefix(f"{folder}/")


def load_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        InputError: it cannot be read or parsed; says at which place.
    """
    try:
        return json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise InputError(
            f"{path}: is not valid JSON at {place} (character {error.pos}: {error.msg}); "
            "the file is cut off or damaged, copy it again"
        ) from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply; is it the right file?") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path}: is not readable JSON ({error}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def clean_number(value: Any) -> float:
    """A JSON number as float (huge integers become inf)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRecord("malformed annotation", f"{shorten(value)} is not a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def clean_numbers(values: Any, kind: str, group: int) -> np.ndarray:
    """A flat list of numbers as float64 [len / group, group], all below a million.

    Rasterizers overflow on larger coordinates.
    """
    try:
        array = np.array(values)
    except ValueError:  # lists of different lengths inside
        array = np.empty(0, object)
    if not isinstance(values, list) or array.ndim != 1 or array.dtype.kind not in "if":
        raise BadRecord(kind, f"{shorten(values)} is not a list of numbers")
    if len(array) % group or not (np.abs(array) < 1e6).all():
        raise BadRecord(kind, f"{shorten(values)}: {len(array)} values, or some out of range")
    return array.astype(np.float64).reshape(-1, group)


def clean_integer(value: Any, what: str, kind: str = "malformed annotation") -> int:
    """A whole JSON number that fits 64 bits (1.0 counts as 1)."""
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or abs(value) >= 2**63:
        raise BadRecord(kind, f"{what} {shorten(value)} is not a whole number")
    return int(value)


def clean_grade(value: Any) -> int:
    """One of DeepFashion2's grades, 1..3; anything else becomes 0, unknown."""
    return value if value in (1, 2, 3) and not isinstance(value, bool) else 0


def clean_box(
    corners: list[float], width: int, height: int, problems: Problems, where: str
) -> np.ndarray:
    """float64 [4] xyxy; clipped (and counted) if it leaves the photo by more than BOX_TOLERANCE."""
    box = np.array(corners, np.float64)
    shown = f"box {shorten(box.tolist(), 80)}"
    if not np.isfinite(box).all():
        raise BadRecord("box not finite", shown)
    x1, y1, x2, y2 = corners
    if x2 <= x1 or y2 <= y1:
        raise BadRecord("degenerate box", f"{shown} has no area")
    if min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        raise BadRecord("box outside the photo", f"{shown} on a {width}×{height} photo")
    clipped = np.clip(box, 0, [width, height, width, height])
    if np.abs(clipped - box).max() <= BOX_TOLERANCE:
        return box
    detail = f"{where}: {shown} on a {width}×{height} photo"
    problems.add("box reaches out of the photo", detail)
    return clipped


def clean_polygons(polygons: Any, problems: Problems, where: str) -> list[np.ndarray] | None:
    """Polygons (flat x, y lists) as float64 [K, 2] each, None if there are none.

    Polygons of fewer than 3 points are left out and counted.
    """
    if not polygons:
        return None
    if not isinstance(polygons, list):
        raise BadRecord("malformed mask", f"segmentation {shorten(polygons)}")
    if not isinstance(polygons[0], list):  # VIA writes a single polygon without the outer list
        polygons = [polygons]
    cleaned = []
    for polygon in polygons:
        points = clean_numbers(polygon, "malformed mask", 2)
        if len(points) >= 3:
            cleaned.append(points)
        else:
            problems.add("polygon of fewer than 3 points", f"{where}: {shorten(polygon)}")
    if not cleaned:
        raise BadRecord("empty mask", "no usable polygon")
    return cleaned


def clean_rle(rle: dict, width: int, height: int) -> dict:
    """Compressed RLE from compressed or uncompressed RLE, which must have the photo's size."""
    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width]:
        detail = f"mask size {shorten(size)} on a {width}×{height} photo"
        raise BadRecord("mask size differs from the photo", detail)
    if isinstance(counts, list):
        listed = all(type(run) is int and 0 <= run <= width * height for run in counts)
    else:
        listed = isinstance(counts, str) and counts.isascii()
    if not listed or not counts:
        raise BadRecord("malformed mask", f"RLE counts {shorten(counts)}")
    try:
        clean = to_rle(rle, height, width)
    except InputError as error:
        raise BadRecord("malformed mask", str(error)) from None
    if coco_mask.area(clean) == 0:
        raise BadRecord("empty mask", "the RLE has no pixel")
    return clean


def clean_landmarks(values: Any) -> np.ndarray:
    """float32 [K, 3] from a flat list of x, y, visibility."""
    landmarks = clean_numbers(values, "malformed landmarks", 3)
    visibility = landmarks[:, 2]
    if not ((visibility == 0) | (visibility == 1) | (visibility == 2)).all():
        raise BadRecord("malformed landmarks", "a visibility other than 0, 1, 2")
    return landmarks.astype(np.float32)


def identity_of(pair_id: int, style: int) -> int:
    """DeepFashion2's (pair_id, style) as one number; -1 for style 0 or a missing pair_id."""
    return (pair_id << 16) + style if 0 <= pair_id < 1 << 40 and 0 < style < 1 << 16 else -1


def drop_maskless(records: PhotoRecords, problems: Problems) -> PhotoRecords:
    """If at least half of the garments have a mask, leave out those without.

    Otherwise the dataset stays as it is and trains boxes only.
    """
    masked = records.garment_has_mask
    if masked.all() or 2 * masked.sum() < len(masked):
        return records
    for g in np.flatnonzero(~masked):
        where = f"annotation {records.garment_annotation_id[g]}"
        problems.add("garment without a mask in a set with masks", where)
    return records.keep_garments(masked)


class PhotoFolder:
    """Turns a dataset's file names into paths and makes sure that they stay inside the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real_root = root.resolve()
        self._checked: set[Path] = {root}

    def path(self, file_name: Any) -> Path:
        """The file's path.

        Raises:
            BadRecord: the name is not usable text, is absolute, contains ``..`` or leads through a
                link out of the folder.
        """
        if not isinstance(file_name, str) or not _is_utf8(file_name) or "\0" in file_name:
            raise BadRecord("malformed photo entry", f"file name {shorten(file_name)}")
        name = PurePosixPath(_relative_name(self.root, file_name))
        if not name.parts:
            raise BadRecord("malformed photo entry", "no file name")
        path = self.root / name
        if name.is_absolute() or ".." in name.parts or not self._stays_inside(path):
            raise BadRecord("file name leaves the image folder", shorten(file_name))
        return path

    def _stays_inside(self, path: Path) -> bool:
        try:
            if path.parent not in self._checked:
                path.parent.resolve().relative_to(self._real_root)
                self._checked.add(path.parent)
            if path.is_symlink():
                path.resolve().relative_to(self._real_root)
        except (ValueError, RuntimeError):  # outside, or a loop of links
            return False
        except OSError:  # name too long or no access: reading the file will report it
            return True
        return True


def _is_utf8(text: str) -> bool:
    """Whether text can be encoded; JSON may contain lone surrogates, which file names cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
