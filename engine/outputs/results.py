"""The results of one photo: its record in the journal and its pictures.

    OUTPUT/
        overlays/<photo's path>.jpg               the photo with its garments drawn in
        crops/<photo's path>/<number>_<category>.jpg   the crop of each garment's box
        .weft/                                    the journal (engine/outputs/journal.py)

These names include the photo's suffix, so that a.jpg and a.png do not collide.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from engine.description.describer import Description
from engine.detection.detections import Detections
from engine.files import explain_os_errors
from engine.outputs import feature_file
from engine.outputs.journal import Record
from engine.pixels.draw import draw_garments
from engine.pixels.geometry import cut_box, shrink_to
from engine.pixels.photos import PhotoError

LONGEST_NAME = 200  # bytes of one path component; file systems allow 255, including suffixes
LONGEST_CROP = 4096  # pixels; the limit of JPEG is 65,500
JPEG_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 90]


def image_id(name: str) -> int:
    """A photo's id in the COCO results, from its name alone, so that all runs agree.

    52 bits of SHA-256: exact in JavaScript and in float64 columns.
    """
    return int(hashlib.sha256(os.fsencode(name)).hexdigest()[:13], 16)


def overlay_path(name: str) -> str:
    """Path of a photo's overlay relative to the output folder."""
    return f"overlays/{_picture_path(name)}.jpg"


def crop_path(name: str, number: int, category: str) -> str:
    """Path of a garment's crop relative to the output folder."""
    return f"crops/{_picture_path(name)}/{number}_{slug(category)}.jpg"


def slug(category: str) -> str:
    """A category's name as part of a file name."""
    return re.sub(r"\W+", "_", category)[:60]


def _picture_path(name: str) -> str:
    """The photo's relative path; too long file names are shortened to leave room for a suffix.

    Folders named ``*.jpg`` get an underscore more, so that no overlay has a folder's name.
    """
    name = re.sub(r"\.jpg_*(?=/)", r"\g<0>_", name)
    path = PurePosixPath(name)
    raw = os.fsencode(path.name)
    if len(raw) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:16]
    start = raw[: LONGEST_NAME - 20].decode(errors="ignore")
    return str(path.with_name(f"{start}~{digest}"))


def garments_record(
    name: str,
    found: Detections,
    categories: Sequence[str],
    *,
    descriptions: Sequence[Description] | None = None,
    vectors: bool = False,
    similar: Sequence[list[dict[str, Any]]] | None = None,
    pictures: bool,
) -> Record:
    """A readable photo's entry in garments.json.

    Boxes are xyxy in pixels of the upright photo, rounded to 1/100; ``area_share`` is the share of
    the photo that the mask (without masks: the box) covers. ``dropped`` is the number of detections
    that the multitask model took for false.

    Args:
        name: the photo's path relative to the root of the run.
        found: its garments.
        categories: of the detector, in order.
        descriptions: of each garment, or None.
        vectors: include the descriptions' vectors (``engine.outputs.feature_file.encode``), which
            are moved to their own file later.
        similar: each garment's similar items of a database, JSON-ready, or None.
        pictures: include the paths of the pictures that ``save_pictures`` writes.
    """
    garments = [_garment(found, i, categories) for i in range(len(found))]
    for garment, description in zip(garments, descriptions or [], strict=descriptions is not None):
        garment |= description.to_plain()
        if vectors:
            garment["vectors"] = feature_file.encode(description.vectors)
    for garment, items in zip(garments, similar or [], strict=similar is not None):
        garment["similar"] = items
    record = {"photo": name, "image_id": image_id(name), "width": found.width,
              "height": found.height, "garments": garments,
              "dropped": found.dropped}  # fmt: skip
    if pictures:
        record["overlay"] = overlay_path(name)
        for garment in garments:
            garment["crop"] = crop_path(name, garment["number"], garment["category"])
    return record


def _garment(found: Detections, i: int, categories: Sequence[str]) -> dict[str, Any]:
    category = categories[int(found.labels[i]) - 1]
    x1, y1, x2, y2 = (round(float(value), 2) for value in found.boxes[i])
    garment = {
        "number": i + 1,
        "category": category,
        "score": round(float(found.scores[i]), 5),
        "box": [x1, y1, x2, y2],
    }
    area = (x2 - x1) * (y2 - y1)
    if found.masks is not None:
        rle = found.masks[i]
        area = float(coco_mask.area(rle))
        garment["mask"] = {"size": list(rle["size"]), "counts": rle["counts"].decode()}
    garment["area_share"] = round(area / (found.width * found.height), 5)
    return garment


def pictures_of(record: Record) -> Iterator[str]:
    """Paths of all pictures named in a record, relative to the output folder."""
    if "overlay" in record:
        yield record["overlay"]
    for garment in record["garments"]:
        if "crop" in garment:
            yield garment["crop"]
        yield from (item["picture"] for item in garment.get("similar", ()) if "picture" in item)


def unreadable_record(name: str, error: PhotoError) -> Record:
    """The record of a photo that cannot be read."""
    reason = str(error).removeprefix(f"{error.path}: ")
    return {"photo": name, "kind": error.kind, "reason": reason}


def save_pictures(
    output: Path, name: str, found: Detections, photo: np.ndarray, categories: Sequence[str]
) -> None:
    """Write a photo's overlay and crops, replacing those of an earlier run.

    Args:
        output: the results folder.
        name: the photo's path relative to the root of the run.
        found: its garments.
        photo: u8[H,W,3] RGB, possibly decoded at reduced size.
        categories: of the detector, in its order.

    Raises:
        InputError: they cannot be written.
    """
    names = [categories[label - 1] for label in found.labels]
    overlay = draw_garments(
        photo,
        found.boxes,
        found.masks,
        names,
        found.scores,
        categories=categories,
        size=(found.width, found.height),
    )
    shutil.rmtree(output / "crops" / _picture_path(name), ignore_errors=True)
    for number, (category, box) in enumerate(zip(names, found.boxes, strict=True), start=1):
        crop = shrink_to(cut_box(photo, box, (found.width, found.height)), LONGEST_CROP)
        write_jpeg(output / crop_path(name, number, category), crop)
    write_jpeg(output / overlay_path(name), overlay)


def write_jpeg(path: Path, picture: np.ndarray) -> None:
    """Write u8[H,W,3] RGB. Not atomic, since the journal only lists complete pictures."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), JPEG_QUALITY)
    with explain_os_errors(path, "cannot write", "free space and run again"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
