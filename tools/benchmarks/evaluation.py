"""Lists of predictions -> COCO's twelve numbers, for boxes and masks, against pycocotools."""

import argparse
import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from engine.command_line import positive
from engine.data.records import Garment, Photo, PhotoRecords
from engine.detection.detections import Detections, to_coco_results
from engine.evaluation.coco_columns import GroundTruth
from engine.evaluation.coco_metrics import evaluate
from tools.benchmarks.timing import compare

WIDTH, HEIGHT = 400, 600
IOU_TYPES = {"box": "bbox", "mask": "segm"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--photos", type=positive, default=5000, help="synthetic photos (default: 5000)")
    add("--classes", type=positive, default=13, help="categories (default: 13)")
    add("--detections", type=positive, default=20, help="detections per photo (default: 20)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Each way starts from its own lists; both have indexed the ground truth before."""
    counts = (arguments.photos, arguments.classes, arguments.detections)
    records, predictions = workload(*counts)
    rows = [_compare(kind, records, predictions, arguments.rounds) for kind in IOU_TYPES]
    sizes = dict(zip(("photos", "classes", "detections"), counts, strict=True))
    return {"rows": rows} | sizes


def _compare(
    kind: str, records: PhotoRecords, predictions: dict[int, Detections], rounds: int
) -> dict[str, Any]:
    truth, summaries = GroundTruth(records), {}

    def ours(_: int) -> float:
        started = time.perf_counter()
        summaries["ours"] = list(evaluate(truth, predictions, kind=kind).summary.values())
        return time.perf_counter() - started

    def reference(_: int) -> float:
        seconds, summaries["reference"] = pycocotools_way(records, predictions, kind)
        return seconds

    ours(0)  # packs the ground truth's masks, once for all evaluations
    row = {"case": kind} | compare(ours, reference, items=1, rounds=rounds)
    apart = np.abs(np.subtract(summaries["ours"], summaries["reference"])).max()
    return row | {"numbers_differ_by": float(apart)}


def workload(
    photos: int, classes: int, detections: int, seed: int = 0
) -> tuple[PhotoRecords, dict[int, Detections]]:
    """Photos with one to three elliptic garments, and plausible detections on them."""
    rng = np.random.default_rng(seed)
    predictions = {}

    def made() -> Iterator[Photo]:
        for image_id in range(1, photos + 1):
            boxes = _random_boxes(rng, int(rng.integers(1, 4)))
            categories = rng.integers(0, classes, len(boxes))
            garments = [
                Garment(int(category), box, float(np.prod(box[2:] - box[:2])), _ellipse(box))
                for category, box in zip(categories, boxes, strict=True)
            ]
            predictions[image_id] = _found(rng, boxes, categories, classes, detections)
            path = Path(f"/p/{image_id}.jpg")
            yield Photo(path, image_id, WIDTH, HEIGHT, garments=garments)

    names = [f"class {number}" for number in range(classes)]
    ids = list(range(1, classes + 1))
    records = PhotoRecords.from_photos(
        made(), root=Path("/p"), format="benchmark", categories=names, category_ids=ids
    )
    return records, predictions


def _found(
    rng: np.random.Generator, boxes: np.ndarray, categories: np.ndarray, classes: int, count: int
) -> Detections:
    """Detections: two thirds are near a garment, and most of these have its category."""
    own = rng.integers(0, len(boxes), count)
    near = boxes[own] + rng.normal(0, 12, (count, 4))
    found = np.where(rng.random((count, 1)) < 0.67, near, _random_boxes(rng, count))
    found = found.clip(0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 2)
    right = rng.random(count) < 0.6
    labels = np.where(right, categories[own], rng.integers(0, classes, count)) + 1
    scores = np.sort(rng.random(count))[::-1].astype(np.float32)
    masks = [_ellipse(box) for box in found]
    return Detections(WIDTH, HEIGHT, found.astype(np.float32), scores, labels, masks)


def _random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """f64[count,4] xyxy inside the photo, sides log-uniform from 24 to 300 pixels."""
    size = np.exp(rng.uniform(np.log(24), np.log(300), (count, 2)))
    corner = rng.random((count, 2)) * ([WIDTH, HEIGHT] - size)
    return np.concatenate([corner, corner + size], axis=1)


def _ellipse(box: np.ndarray) -> dict:
    """RLE of the ellipse inside an xyxy box."""
    x1, y1, x2, y2 = (int(value) for value in box)
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8)
    center, half = ((x1 + x2) // 2, (y1 + y2) // 2), ((x2 - x1) // 2, (y2 - y1) // 2)
    cv2.ellipse(bitmap, center, half, 0, 0, 360, 1, -1)
    return coco_mask.encode(np.asfortranarray(bitmap))


def pycocotools_way(
    records: PhotoRecords, predictions: dict[int, Detections], kind: str
) -> tuple[float, list[float]]:
    """Seconds from result dicts to the summary, and the summary."""
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i, "width": WIDTH, "height": HEIGHT} for i in predictions],
        "categories": [{"id": number} for number in records.category_ids],
        "annotations": [row | {"id": i} for i, row in enumerate(_annotations(records), start=1)],
    }
    results = [
        row
        for image_id, found in predictions.items()
        for row in to_coco_results(image_id, found, records.category_ids)
    ]
    for row in results:
        del row["segmentation" if kind == "box" else "bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        started = time.perf_counter()
        evaluator = COCOeval(truth, truth.loadRes(results), IOU_TYPES[kind])
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return time.perf_counter() - started, evaluator.stats.tolist()


def _annotations(records: PhotoRecords) -> Iterator[dict]:
    for photo in records:
        for garment in photo.garments:
            x1, y1, x2, y2 = garment.box.tolist()
            yield {
                "image_id": photo.image_id,
                "category_id": garment.category + 1,
                "area": garment.area,
                "iscrowd": 0,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": garment.segmentation,
            }
