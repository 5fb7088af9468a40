"""The multitask model: categories, attributes, and retrieval by its aspect vectors.

    python tools/evaluate.py multitask --weights runs/m/checkpoint_best.pt \\
        --dataset csv:clothing csv:products --output-dir eval/
    python tools/evaluate.py multitask --weights m.pt --dataset csv:catalog \\
        --query-views back alt1 --gallery-view main

Exclusive groups (category, color ...): top-1/3/5 accuracy, macro and weighted F1 among the values
that the dataset itself uses; values that the model does not know count as misses and are listed.
Attributes: precision, recall, F1, Hamming, and recall@k in three variants: pooled over photos (as
in DeepFashion papers), per image (out of min(k, positives)), per attribute (macro).

Aspects: Recall@K, mAP and MRR of retrieving the same garment, where the dataset has identities; the
queries are user photos and the gallery shop photos if it has both, else every photo searches all
others. P@10 by a label is the share of the ten nearest garments of other products with the query's
label. With --query-views and --gallery-view, in datasets with a column for each photo's view, the
queries are the photos of those views, the gallery is the first gallery-view photo of each product;
labels are compared among gallery-view photos; "other color R@1" is how often the nearest photo,
excluding the product's photos of the same color, is the same product.

--output-dir gets metrics.json (0..1, with 95% bootstrap intervals), for each exclusive group
report_SET_GROUP.txt and confusion_SET_GROUP.csv and .png, for attributes attributes_SET_GROUP.csv,
and neighbors_SET.jpg, a dozen garments with what each aspect finds nearest. Of names that differ
only in characters that file names lack, the later ones are numbered.
"""

import argparse
import csv
import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console

from dataset_helpers import load_spec, parse_specs
from engine import distributed
from engine.backbones import prepare_for_inference
from engine.checkpoint import load_checkpoint
from engine.config import require
from engine.data.labels import LabelGroup, LabelSpace
from engine.description import multitask_task
from engine.description.describe import DescribeSettings, describe
from engine.description.multitask import build_multitask_from_checkpoint
from engine.errors import InputError
from engine.evaluation.aspect_metrics import ViewRoles
from engine.evaluation.classify_metrics import confusion, predicted, report
from engine.evaluation.confusion import draw_confusion, write_confusion
from engine.evaluation.multitask_metrics import (
    Descriptions,
    EvaluationPart,
    evaluate_part,
    scores_in_dataset_values,
)
from engine.evaluation.multitask_tables import print_multitask
from engine.files import plain_file_name, replacing
from engine.pixels.view_transform import MultitaskAugmentation
from engine.training.meters import write_json
from tools.evaluations.neighbors import write_neighbors
from tools.evaluations.shared import add_running, add_views, start, views_of

MOST_CLASSES_DRAWN = 150


def evaluate(arguments: argparse.Namespace) -> None:
    """Describe and evaluate every dataset's garments on all ranks; rank 0 prints and writes."""
    settings, views = _settings(arguments), views_of(arguments)
    device = start(arguments)
    checkpoint = load_checkpoint(arguments.weights, "multitask")
    parts = _load_parts(arguments, checkpoint)
    _check_views(views, parts)
    model = prepare_for_inference(
        build_multitask_from_checkpoint(checkpoint), device, settings.precision
    )
    metrics: dict[str, Any] = {}
    taken: set[str] = set()
    for part in parts:
        found = describe(model, part, settings, device, progress=True)
        metrics[part.name] = evaluate_part(part, found, model.labels, views=views, details=True)
        if arguments.output_dir and found is not None:
            folder, own = arguments.output_dir, metrics[part.name]
            _write_groups(folder, taken, part, found, model.labels, own)
            if found.aspects:
                name = plain_file_name(part.name, taken)
                write_neighbors(folder / f"neighbors_{name}.jpg", part, found)
    if distributed.is_main():
        print_multitask(metrics, Console())
        if arguments.output_dir:
            write_json(arguments.output_dir / "metrics.json", metrics)


def _settings(arguments: argparse.Namespace) -> DescribeSettings:
    return DescribeSettings(
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        precision=arguments.precision,
    )


def _load_parts(arguments: argparse.Namespace, checkpoint: dict[str, Any]) -> list[EvaluationPart]:
    specs = parse_specs(arguments.dataset)
    try:
        cropping = MultitaskAugmentation(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in checkpoint["config"]["augmentation"].items()
            }
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{arguments.weights}: does not say how crops are cut ({error})") from None
    if arguments.crop_size is not None:
        cropping = dataclasses.replace(cropping, crop_size=arguments.crop_size)
    with distributed.first_on_each_machine():
        records = {spec.title: load_spec(spec, arguments.split or spec.val) for spec in specs}
    return multitask_task.evaluation_parts(records, cropping)


def _check_views(views: ViewRoles | None, parts: list[EvaluationPart]) -> None:
    """InputError for a view that no dataset has, which would silently measure nothing."""
    if views is None:
        return
    groups = [group for part in parts for group in part.labels.groups if group.name == views.column]
    known = {value for group in groups for value in group.values}
    for view in (*views.queries, views.gallery):
        sentence = f"view {view!r}: the datasets' column {views.column!r} has {sorted(known)}"
        require(view in known, sentence)


def _write_groups(
    folder: Path,
    taken: set[str],
    part: EvaluationPart,
    found: Descriptions,
    labels: LabelSpace,
    metrics: dict[str, Any],
) -> None:
    for group in part.labels.groups:
        answer = scores_in_dataset_values(part, found, labels, group)
        if answer is None:
            continue
        ending = plain_file_name(f"{part.name}_{group.name}", taken)
        if group.exclusive:
            _write_exclusive(folder, ending, group, *answer)
        else:
            _write_attributes(
                folder / f"attributes_{ending}.csv", metrics[group.name]["attributes"]
            )


def _write_exclusive(folder: Path, ending: str, group: LabelGroup, scores, targets) -> None:
    answers = predicted(scores)
    with replacing(folder / f"report_{ending}.txt", "w") as file:
        file.write(report(answers, targets, group.values))
    matrix = confusion(answers, targets, len(group.values))
    write_confusion(folder / f"confusion_{ending}.csv", matrix, group.values)
    if (matrix.sum(axis=1) > 0).sum() <= MOST_CLASSES_DRAWN:
        draw_confusion(folder / f"confusion_{ending}.png", matrix, group.values, group.name)


def _write_attributes(path: Path, attributes: dict[str, dict[str, float]]) -> None:
    with replacing(path, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["attribute", "precision", "recall", "f1", "positives"])
        for name, row in attributes.items():
            numbers = [f"{row[column]:.4f}" for column in ("precision", "recall", "f1")]
            table.writerow([name, *numbers, row["positives"]])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``evaluate``."""
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint or weights file")
    parser.add_argument(
        "--dataset", action="extend", nargs="+", required=True,
        metavar="FORMAT:PATH[:key=value]...",
        help="datasets to evaluate on; keys: split, val, name, category, identity, attributes, "
        "annotations, images, mask (see train.py multitask --help)",
    )  # fmt: skip
    parser.add_argument("--split", help="split of every dataset (default: each one's val=, or val)")
    parser.add_argument("--output-dir", type=Path, help="where to write the results")
    parser.add_argument(
        "--crop-size", type=int, metavar="N",
        help="side of the crops in pixels (default: as trained; a third more is often better)",
    )  # fmt: skip
    add_views(parser.add_argument_group("views of a product"))
    add_running(parser, batch_size=32, what="garments")
