"""The garment detector: box and mask AP as COCO defines them.

    python tools/evaluate.py detector --weights runs/d/checkpoint_best.pt \\
        --dataset coco --data-path photos/ --annotations photos/val.json --output-dir eval/
    python tools/evaluate.py detector --weights weights/detector.pt --data-path photos/ \\
        --multitask-weights weights/multitask.pt        # both networks, as infer.py uses them
    python tools/evaluate.py detector --predictions coco_results.json --data-path photos/

It prints COCO's twelve numbers for boxes and masks, AP per category and, where they are annotated,
AP on DeepFashion2's scale, occlusion, zoom-in and viewpoint subsets. Garments outside a subset are
ignored: detecting or missing one neither helps nor hurts. Last come precision and recall of
infer.py at each --score-threshold. Categories are matched by name; detections of categories that
the dataset lacks are dropped.

If the dataset has attributes, and the multitask model or attribute_ids in the result file predict
them, Fashionpedia's AP IoU+F1 is reported, too: a detection also needs the right attributes. With
both networks duplicates are removed, while AP rewards a second guess about the same garment; so
compare these results by precision and recall rather than by AP.

--output-dir gets metrics.json and coco_results.json. All numbers in metrics.json are 0..1; -1 means
that there was nothing to measure.
"""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from dataset_helpers import load_dataset
from engine import distributed
from engine.backbones import prepare_for_inference
from engine.checkpoint import load_checkpoint
from engine.config import require
from engine.data.readers.coco_results import read_results
from engine.data.records import PhotoRecords
from engine.description.answers import EVERY_VALUE, DescribedDetections
from engine.detection.dataset_predictions import gather_predictions, predict_shard
from engine.detection.detections import Detections, to_coco_results
from engine.detection.detector import build_from_checkpoint
from engine.detection.predict import PredictSettings
from engine.evaluation.attribute_ap import evaluate_with_attributes
from engine.evaluation.coco_columns import GroundTruth
from engine.evaluation.coco_metrics import evaluate_all
from engine.evaluation.metric_tables import (
    print_metrics,
    print_operating_points,
    print_with_attributes,
)
from engine.evaluation.operating_points import operating_points
from engine.files import JsonList, replacing
from engine.model_flags import OVERLAP, add_view_flags, build_describer, share
from engine.training.meters import write_json
from tools.evaluations.shared import add_running, start

DATASETS = ("coco", "deepfashion2")  # those with boxes of every garment

Predictions = Mapping[int, Detections | None]


def evaluate(arguments: argparse.Namespace) -> None:
    """Get predictions from the network or a file, evaluate them, print and write the result."""
    device = start(arguments)
    alone = arguments.multitask_weights == "none"
    sentence = "--multitask-weights: needs --weights, and does not go with --class-agnostic"
    require(alone or (arguments.weights and not arguments.class_agnostic), sentence)
    checkpoint = load_checkpoint(arguments.weights, "detector") if arguments.weights else None
    with distributed.first_on_each_machine():
        records = load_dataset(
            arguments.dataset,
            arguments.data_path,
            split=arguments.split,
            annotations=arguments.annotations,
            images=arguments.images,
        )
    class_agnostic = arguments.class_agnostic
    if checkpoint is None:
        predictions = {}
        if distributed.is_main():
            predictions = read_results(
                arguments.predictions, records, class_agnostic=class_agnostic
            )
        category_ids = records.category_ids
    else:
        class_agnostic = class_agnostic or checkpoint["config"]["class_agnostic"]
        categories, category_ids = checkpoint["categories"], checkpoint["category_ids"]
        if not class_agnostic:
            _check_categories(categories, records, arguments)
        predictions = _predict(checkpoint, records, arguments, device)
        if not class_agnostic and predictions is not None:
            predictions = _with_labels_of(records, predictions, categories)
            category_ids = records.category_ids
    if distributed.is_main():
        metrics = _judge(records, predictions, class_agnostic, arguments.overlap)
        if arguments.output_dir:
            write_json(arguments.output_dir / "metrics.json", metrics)
            path = arguments.output_dir / "coco_results.json"
            _write_results(path, predictions, category_ids, records.attribute_ids)


def _check_categories(
    categories: list[str], records: PhotoRecords, arguments: argparse.Namespace
) -> None:
    # Only categories in use: Roboflow also lists a supercategory that no garment has.
    annotated = [records.categories[i] for i in np.unique(records.garment_category)]
    require(
        set(annotated) <= set(categories),
        f"{arguments.weights} finds {', '.join(categories)}; {arguments.data_path} is annotated "
        f"with {', '.join(annotated)}: use --class-agnostic to ignore categories",
    )


def _with_labels_of(
    records: PhotoRecords, predictions: Predictions, categories: list[str]
) -> Predictions:
    """The predictions with the dataset's labels, without categories that the dataset lacks.

    Args:
        records: of the dataset.
        predictions: with label k for ``categories[k - 1]``.
        categories: the network's, in any order.
    """
    numbers = {name: label for label, name in enumerate(records.categories, start=1)}
    label_of = np.array([0, *(numbers.get(name, 0) for name in categories)])

    def translated(found: Detections) -> Detections:
        known = found.only(np.flatnonzero(label_of[found.labels]))
        return dataclasses.replace(known, labels=label_of[known.labels])

    return {id_: found and translated(found) for id_, found in predictions.items()}


def _predict(
    checkpoint: dict, records: PhotoRecords, arguments: argparse.Namespace, device: torch.device
) -> Predictions | None:
    """Every photo's detections on rank 0; None on the others."""
    settings = PredictSettings.as_evaluated(
        checkpoint["config"],
        short_side=arguments.short_side,
        max_side=arguments.max_side,
        mirror=arguments.mirror,
        close_up=arguments.close_up,
        zoom=arguments.zoom,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        precision=arguments.precision,
    )
    model = prepare_for_inference(build_from_checkpoint(checkpoint), device, settings.precision)
    describer = build_describer(arguments, device, top_k=EVERY_VALUE)
    describe = describer and DescribedDetections(
        describer, checkpoint["categories"], records, arguments.overlap
    )
    shard = predict_shard(model, records, settings, device, describe=describe, progress=True)
    return gather_predictions(shard, records.image_ids)


def _judge(
    records: PhotoRecords, predictions: Predictions, class_agnostic: bool, overlap: float
) -> dict[str, Any]:
    """Compute and print all metrics."""
    truth, console = GroundTruth(records), Console()
    metrics = evaluate_all(truth, predictions, class_agnostic=class_agnostic, subsets=True)
    print_metrics(metrics, console)
    points = operating_points(
        truth,
        predictions,
        kind="mask" if "mask" in metrics else "box",
        overlap=overlap,
        class_agnostic=class_agnostic,
    )
    print_operating_points(points, console)
    metrics |= {"operating_points": points}
    found = {id_: d for id_, d in predictions.items() if d is not None}
    predicted = all(d.attributes is not None for d in found.values())
    if truth.has_attributes and predicted and not class_agnostic:
        kinds = [kind for kind in ("box", "mask") if kind in metrics]
        described = {kind: evaluate_with_attributes(truth, found, kind=kind) for kind in kinds}
        print_with_attributes(described, console)
        metrics |= {"with_attributes": described}
    return metrics


def _write_results(
    path: Path, predictions: Predictions, category_ids: list[int], attribute_ids: list[int]
) -> None:
    """A COCO result file, written photo by photo."""
    with replacing(path) as file:
        results = JsonList(file)
        for image_id, found in predictions.items():
            if found:
                for result in to_coco_results(image_id, found, category_ids, attribute_ids):
                    results.add(result)
        results.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``evaluate``."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, help="checkpoint or weights file to run")
    source.add_argument(
        "--predictions", type=Path, help="COCO result file to evaluate, instead of --weights"
    )
    data = parser.add_argument_group("dataset")
    data.add_argument("--dataset", choices=DATASETS, default="coco", help="format (default: coco)")
    data.add_argument("--data-path", type=Path, required=True, help="root folder of the dataset")
    data.add_argument("--split", default="val", help="part of the dataset (default: val)")
    data.add_argument("--annotations", type=Path, help="coco: annotation file")
    data.add_argument("--images", type=Path, help="coco: folder the file names are relative to")
    parser.add_argument(
        "--multitask-weights", metavar="FILE", default="none",
        help="multitask model's checkpoint or weights file, to correct categories and predict "
        "attributes as infer.py does (default: none, the detector alone)",
    )  # fmt: skip
    parser.add_argument("--output-dir", type=Path, help="where to write the results")
    parser.add_argument(
        "--class-agnostic", action="store_true", help="ignore categories: all are one, garment"
    )
    parser.add_argument(
        "--overlap", type=share, default=OVERLAP, metavar="0..1",
        help="for precision and recall at score thresholds, and for both networks together: mask "
        f"IoU above which two detections are duplicates, as in infer.py (default: {OVERLAP})",
    )  # fmt: skip
    run = add_running(parser, batch_size=1, what="photos")
    sizes = "pixels to which a photo's short side is resized (default: as trained)"
    run.add_argument("--short-side", type=int, metavar="N", help=sizes)
    bound = "bound on its long side (default: as trained)"
    run.add_argument("--max-side", type=int, metavar="N", help=bound)
    add_view_flags(run)
