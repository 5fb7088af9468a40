"""The detector's predictions for a dataset, split among processes, and their evaluation."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from engine import distributed
from engine.data.records import PhotoRecords
from engine.detection.detections import Detections
from engine.detection.predict import PredictSettings, detect_photos, with_progress
from engine.evaluation.coco_columns import GroundTruth
from engine.evaluation.coco_metrics import evaluate_all
from engine.pixels.photos import PhotoError

logger = logging.getLogger("weft")


def predict_shard(
    model: nn.Module,
    records: PhotoRecords,
    settings: PredictSettings,
    device: torch.device,
    *,
    describe: Callable[[np.ndarray, Detections], Detections] | None = None,
    progress: bool = False,
) -> dict[int, Detections | None]:
    """This rank's share of the predictions: {image id: detections, None if unreadable}.

    Unreadable photos are named in a warning. ``describe`` (photo u8[H,W,3], detections) may add to
    the detections of a photo.
    """
    indices = distributed.shard(len(records))
    photos = (((index, records.path(index)), records.path(index)) for index in indices)
    results = detect_photos(model, photos, settings, device, keep_photo=describe is not None)
    if progress:
        results = with_progress(results, len(indices))
    shard = {}
    for (index, path), result, photo in results:
        found = _usable(result, records.sizes[index].tolist(), path)
        if found is not None and describe:
            found = describe(photo, found)
        shard[int(records.image_ids[index])] = found
    return shard


def _usable(result: Detections | PhotoError, size: list[int], path: Path) -> Detections | None:
    """The detections; None, with a warning, for unreadable photos or ones of another size."""
    problem = result
    if isinstance(result, Detections):
        if [result.width, result.height] == size:
            return result
        problem = f"{path}: is {result.width}×{result.height}, annotated as {size[0]}×{size[1]}"
    logger.warning("counted as a photo without detections: %s", problem)
    return None


def gather_predictions(
    shard: dict[int, Detections | None], image_ids: np.ndarray
) -> dict[int, Detections | None] | None:
    """All ranks' predictions on rank 0, in the order of ``image_ids``; None on the other ranks.

    Raises:
        AssertionError: an id was predicted by two ranks, or by none.
    """
    gathered = distributed.gather_objects(shard)
    if gathered is None:
        return None
    ids, counts = np.unique([i for part in gathered for i in part], return_counts=True)
    repeated = ids[counts > 1]
    odd = np.setxor1d(ids, image_ids)
    assert not repeated.size, f"image ids predicted by several ranks: {repeated[:20].tolist()}"
    assert not odd.size, f"image ids missing or unknown: {odd[:20].tolist()}"
    merged = {image_id: found for part in gathered for image_id, found in part.items()}
    return {image_id: merged[image_id] for image_id in image_ids.tolist()}


def evaluate_detector(
    model: nn.Module,
    records: PhotoRecords,
    settings: PredictSettings,
    device: torch.device,
    *,
    class_agnostic: bool = False,
    truth: GroundTruth | None = None,
) -> dict[str, Any]:
    """Evaluate a detector on a dataset; every rank calls it and gets the same result.

    Args:
        model, settings, device: as for ``detect_photos``.
        records: the dataset.
        class_agnostic: merge all categories into one.
        truth: the packed ground truth of ``records``, to reuse it in repeated evaluations.

    Returns:
        {"box": the 12 COCO numbers, "mask": the same (if model and dataset have masks),
        "per_class": {kind: {category: {"AP", "AP50", "AP75", "garments"}}}, "photos": count,
        "unreadable": count of unreadable photos, which count as having no detections}.
    """
    shard = predict_shard(model, records, settings, device)
    predictions = gather_predictions(shard, records.image_ids)
    metrics = None
    if predictions is not None:
        truth = truth or GroundTruth(records)
        metrics = evaluate_all(truth, predictions, class_agnostic=class_agnostic)
    return distributed.broadcast_object(metrics)
