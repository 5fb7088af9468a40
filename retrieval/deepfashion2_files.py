"""DeepFashion2's retrieval files in the official JSON: ground truth (queries, gallery) and results.

queries  [{"query_image_id", "style", "cls", "pair_id", "bbox": [x1, y1, x2, y2]}]
gallery  [{"gallery_image_id", "style", "pair_id", "bbox"}]
results  [{"query_image_id", "query_bbox", "query_cls", "query_score",
           "gallery_image_id": [20 numbers], "gallery_bbox": [20 boxes]}]
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from engine.data.records import PhotoRecords
from engine.errors import InputError
from engine.files import replacing
from retrieval.deepfashion2 import QueryResult, TrueGarment

Row = TypeVar("Row")


def queries_and_gallery(records: PhotoRecords) -> tuple[list[TrueGarment], list[TrueGarment]]:
    """(queries, gallery): the garments of a split's consumer photos and of its shop photos."""
    sides: dict[str, list[TrueGarment]] = {"user": [], "shop": []}
    for row, photo in enumerate(records.garment_photo.tolist()):
        source = records.source_of(photo)
        if source in sides:
            sides[source].append(
                TrueGarment(
                    image_id=int(records.image_ids[photo]),
                    box=tuple(records.garment_box[row].tolist()),
                    pair_id=int(records.garment_pair_id[row]),
                    style=int(records.garment_style[row]),
                    category=int(records.garment_category[row]) + 1,
                )
            )
    return sides["user"], sides["shop"]


def read_queries(path: Path) -> list[TrueGarment]:
    """Read a file of queries; InputError names the entry that is not one."""
    return _read(path, lambda row: _true_garment(row, "query_image_id", int(row["cls"])))


def read_gallery(path: Path) -> list[TrueGarment]:
    """Read a file of gallery garments; InputError names the entry that is not one."""
    return _read(path, lambda row: _true_garment(row, "gallery_image_id", 0))


def _true_garment(row: dict[str, Any], image_key: str, category: int) -> TrueGarment:
    pair_id, style = int(row["pair_id"]), int(row["style"])
    return TrueGarment(int(row[image_key]), _box(row["bbox"]), pair_id, style, category)


def write_results(path: Path, results: Iterable[QueryResult]) -> None:
    """Write a result file."""
    rows = [
        {
            "query_image_id": r.image_id, "query_bbox": list(r.box), "query_cls": r.category,
            "query_score": r.score, "gallery_image_id": list(r.found_images),
            "gallery_bbox": [list(box) for box in r.found_boxes],
        }
        for r in results
    ]  # fmt: skip
    with replacing(path, "w") as file:
        json.dump(rows, file)


def read_results(path: Path) -> list[QueryResult]:
    """Read a result file; a result may hold any number of gallery detections.

    Raises:
        InputError: naming the entry that is not a result.
    """
    return _read(path, _query_result)


def _query_result(row: dict[str, Any]) -> QueryResult:
    images = tuple(int(image) for image in row["gallery_image_id"])
    boxes = tuple(_box(box) for box in row["gallery_bbox"])
    if len(images) != len(boxes):
        raise ValueError(f"{len(images)} gallery images but {len(boxes)} boxes")
    score = float(row["query_score"])
    if not math.isfinite(score):
        raise ValueError(f"{score} is no score")  # NaN cannot be compared with other scores
    box = _box(row["query_bbox"])
    return QueryResult(int(row["query_image_id"]), box, int(row["query_cls"]), score, images, boxes)


def _box(values: Sequence[float]) -> tuple[float, float, float, float]:
    box = tuple(float(value) for value in values)
    if len(box) != 4 or not np.isfinite(box).all():
        raise ValueError(f"{values} is no box")
    return box


def _read(path: Path, convert: Callable[[dict[str, Any]], Row]) -> list[Row]:
    try:
        rows = json.loads(Path(path).read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a file in the official format") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); write it again") from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: must hold a list of objects")
    converted = []
    for number, row in enumerate(rows):
        try:
            converted.append(convert(row))
        except KeyError as error:
            raise InputError(f"{path}: entry {number} lacks {error}") from error
        except (TypeError, ValueError, OverflowError) as error:  # the last: int(Infinity)
            raise InputError(f"{path}: entry {number}: {error}") from error
    return converted
