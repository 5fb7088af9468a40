"""Train a network in one process, on many GPUs or on many machines.

    python train.py detector --dataset coco --data-path DATA --output-dir runs/d
    python train.py multitask --dataset csv:products csv:catalog:weight=2 --output-dir runs/m
    torchrun --nproc_per_node=8 train.py detector --dataset deepfashion2 --data-path DF2 \\
        --output-dir runs/d -b 2 --epochs 26
    torchrun --nnodes=2 --node_rank=0 --master_addr=HOST --nproc_per_node=8 train.py detector ...
    sbatch --nodes=2 --gpus-per-node=8 tools/launch_slurm.sh detector ...

Repeat the command after a crash or a kill: it continues from the last checkpoint in --output-dir.
"""

import argparse
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from data_aug import (
    DetectorAugmentation,
    DetectorTransform,
    MultitaskAugmentation,
    MultitaskTransform,
)
from dataset_helpers import DatasetSpec, DetectionDataset, load_dataset, load_spec, parse_spec
from engine import distributed
from engine.command_line import Parser
from engine.config import (
    TrainingConfig,
    add_arguments,
    from_arguments,
    plain,
    require,
)
from engine.data.crop_dataset import CropDataset, collate_crops
from engine.data.hygiene import report_leaks
from engine.data.labels import encode_labels, merge_labels
from engine.data.records import PhotoRecords
from engine.description import multitask_task
from engine.description.fit_anchors import fit_anchors
from engine.description.multitask_config import MultitaskConfig
from engine.detection import detector_task
from engine.detection.detector_config import DetectorConfig
from engine.errors import exits_cleanly
from engine.evaluation.metric_tables import print_metrics
from engine.evaluation.multitask_tables import print_multitask
from engine.training.loader import as_lists
from engine.training.loop import Task, Trainer, sole_writer
from engine.training.state import find_resume


def train_detector(
    config: DetectorConfig, augmentation: DetectorAugmentation, device: torch.device
) -> None:
    """Read the data, build the network and the task, then fit, or evaluate with --test-only."""
    resuming = is_resuming(config)
    with distributed.first_on_each_machine():
        train, val = load_splits(config)
        config = dataclasses.replace(config, masks=config.masks and train.has_masks)
        torch.manual_seed(config.seed)  # the same random new layers on every rank and in every run
        model = detector_task.build_model(config, train, load=not resuming)
    if val and distributed.is_main():
        report_leaks([train], {"val": val})
    transform = DetectorTransform(train, augmentation, seed=config.seed)
    task = Task(
        kind="detector",
        settings=plain(config) | {"augmentation": plain(augmentation)},
        labels=detector_task.labels_of(train, config),
        dataset=DetectionDataset(
            train, transform, class_agnostic=config.class_agnostic, strict=config.strict
        ),
        collate=as_lists,
        batches=detector_task.global_batches(train, config, one_shape=augmentation.lsj_size > 0),
        evaluate=detector_task.make_evaluator(val, config, device) if val else None,
        best_metric="mask/AP" if config.masks and val and val.has_masks else "box/AP",
    )
    run(model, task, config, device, show=print_metrics)


def load_splits(config: DetectorConfig) -> tuple[PhotoRecords, PhotoRecords | None]:
    """The training photos, and the validation photos unless nothing will be evaluated."""
    read = partial(
        load_dataset, config.dataset, config.data_path, images=config.images, strict=config.strict
    )
    train = read(split="train", annotations=config.annotations)
    learned = int((~train.garment_crowd).sum())
    sentence = f"{config.data_path}: the training split has no garment to train on"
    require(learned > 0 or config.test_only, sentence)
    if config.eval_every == 0 and not config.test_only:
        return train, None
    val = read(split="val", annotations=config.val_annotations)
    if not config.class_agnostic:
        unknown = [name for name in val.categories if name not in train.categories]
        require(
            not unknown,
            f"{config.data_path}: the validation split has the categories {', '.join(unknown)}, "
            f"the training split only {', '.join(train.categories)}",
        )
        val = val.in_categories_of(train)
    judged = int((~val.garment_crowd).sum())
    require(judged > 0, f"{config.data_path}: the validation split has no garment to evaluate on")
    return train, val


def train_multitask(
    config: MultitaskConfig, augmentation: MultitaskAugmentation, device: torch.device
) -> None:
    """Read the datasets, build the network and the task, then fit, or evaluate (--test-only)."""
    resuming = is_resuming(config)
    with distributed.first_on_each_machine():
        specs, train, val = load_sets(config)
        titles = [spec.title for spec in specs]
        labels = merge_labels(train, titles, category_branches=config.category_branches)
        encoded = [encode_labels(labels, records) for records in train]
        tasks = multitask_task.usable_tasks(config.tasks, labels)
        config = dataclasses.replace(config, tasks=tasks)
        torch.manual_seed(config.seed)  # the same random new layers on every rank and in every run
        model = multitask_task.build_model(config, labels, encoded, load=not resuming)
    if not resuming:
        fit_anchors(model, train, augmentation, multitask_task.describe_settings(config), device)
    transform = MultitaskTransform(
        augmentation, seed=config.seed, train=True, aspects=model.aspects
    )
    if distributed.is_main():
        report_leaks(train, val)
    parts = multitask_task.evaluation_parts(val, augmentation)
    task = Task(
        kind="multitask",
        settings=multitask_task.settings_of(config, augmentation),
        labels=multitask_task.labels_of(labels),
        dataset=CropDataset(
            list(zip(train, encoded, strict=True)), transform, strict=config.strict
        ),
        collate=collate_crops,
        batches=multitask_task.global_batches(config, train, [spec.weight for spec in specs]),
        evaluate=multitask_task.make_evaluator(parts, labels, config, device) if parts else None,
        best_metric=multitask_task.best_metric(parts, labels, config) if parts else "",
    )
    run(model, task, config, device, show=print_multitask)


def load_sets(
    config: MultitaskConfig,
) -> tuple[list[DatasetSpec], list[PhotoRecords], dict[str, PhotoRecords]]:
    """The datasets of --dataset: specs, training records, validation records by title."""
    specs = [parse_spec(text) for text in config.specs]
    train = [load_spec(spec, spec.split, strict=config.strict) for spec in specs]
    garments = sum(len(records.garment_category) for records in train)
    require(garments > 0, "--dataset: none of the sets has a garment to train on")
    judged = [spec for spec in specs if spec.val != "none"]
    if config.eval_every == 0 and not config.test_only:
        judged = []
    require(bool(judged) or not config.test_only, "--test-only: every --dataset says val=none")
    val = {spec.title: load_spec(spec, spec.val, strict=config.strict) for spec in judged}
    return specs, train, val


def is_resuming(config: TrainingConfig) -> bool:
    """Whether a checkpoint will replace the starting weights."""
    return find_resume(config.resume, Path(config.output_dir)) is not None


def run(
    model: nn.Module,
    task: Task,
    config: TrainingConfig,
    device: torch.device,
    *,
    show: Callable[[dict[str, Any], Console], None],
) -> None:
    """Fit, or with --test-only evaluate and show the metrics."""
    if not config.test_only:
        with sole_writer(Path(config.output_dir)):
            Trainer(model, task, config, device).fit()
        return
    metrics = Trainer(model, task, config, device).evaluate_only()
    if distributed.is_main():
        show(metrics, Console())


NETWORKS = {
    "detector": (
        "Mask R-CNN: finds garments in photos",
        train_detector, DetectorConfig, DetectorAugmentation,
    ),
    "multitask": (
        "ResNet: predicts a garment's category and attributes, embeds it for search",
        train_multitask, MultitaskConfig, MultitaskAugmentation,
    ),
}  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    networks = parser.add_subparsers(dest="network", required=True, metavar="NETWORK")
    for name, (purpose, _, *settings) in NETWORKS.items():
        network = networks.add_parser(name, help=purpose)
        for settings_class in settings:
            add_arguments(network, settings_class)
    return parser.parse_args()


@exits_cleanly
def main() -> None:
    arguments = parse_arguments()
    _, train, *settings = NETWORKS[arguments.network]
    config, augmentation = (from_arguments(cls, arguments) for cls in settings)
    device = distributed.init(config.device)
    distributed.configure_logging()
    train(config, augmentation, device)
    distributed.shutdown()


if __name__ == "__main__":
    main()
