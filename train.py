"""Train a network in one process, on many GPUs or on many machines.

    python train.py detector --dataset coco --data-path DATA --output-dir runs/d
    torchrun --nproc_per_node=8 train.py detector --dataset deepfashion2 --data-path DF2 \\
        --output-dir runs/d -b 2 --epochs 26
    torchrun --nnodes=2 --node_rank=0 --master_addr=HOST --nproc_per_node=8 train.py detector ...
    sbatch --nodes=2 --gpus-per-node=8 tools/launch_slurm.sh detector ...

A run continues where its --output-dir stands: repeat the command after a crash or a kill.
"""

import argparse
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from data_aug import DetectorAugmentation, DetectorTransform
from dataset_helpers import DetectionDataset, load_dataset
from engine import distributed
from engine.coco_metrics import GroundTruth
from engine.config import DetectorConfig, add_arguments, from_arguments, plain
from engine.detector import build_detector
from engine.errors import InputError, exits_cleanly
from engine.loop import Task, Trainer, as_lists, global_batch
from engine.metric_tables import print_metrics
from engine.predict import PredictSettings, evaluate_detector
from engine.records import PhotoRecords
from engine.samplers import GlobalBatches, aspect_groups, repeat_factors
from engine.state import find_resume


def train_detector(
    config: DetectorConfig, augmentation: DetectorAugmentation, device: torch.device
) -> None:
    """Read the data, build the network and the task, then fit, or evaluate with --test-only."""
    resuming = find_resume(config.resume, Path(config.output_dir)) is not None
    with distributed.first_on_each_machine():
        train, val = load_splits(config)
        config = dataclasses.replace(config, masks=config.masks and train.has_masks)
        torch.manual_seed(config.seed)  # new layers start alike on every rank and in every run
        model = build_model(config, train, load=not resuming)
    transform = DetectorTransform(train, augmentation, seed=config.seed)
    task = Task(
        kind="detector",
        settings=plain(config) | {"augmentation": plain(augmentation)},
        labels=labels_of(train, config),
        dataset=DetectionDataset(
            train, transform, class_agnostic=config.class_agnostic, strict=config.strict
        ),
        collate=as_lists,
        batches=global_batches(train, config, augmentation),
        evaluate=judge_of(val, config, device) if val else None,
        best_metric="mask/AP" if config.masks and val and val.has_masks else "box/AP",
    )
    trainer = Trainer(model, task, config, device)
    if config.test_only:
        metrics = trainer.evaluate_only()
        if distributed.is_main():
            print_metrics(metrics, Console())
    else:
        trainer.fit()


def load_splits(config: DetectorConfig) -> tuple[PhotoRecords, PhotoRecords | None]:
    """The training photos, and the validation photos unless nothing will be evaluated."""
    read = partial(
        load_dataset, config.dataset, config.data_path, images=config.images, strict=config.strict
    )
    train = read(split="train", annotations=config.annotations)
    if config.eval_every == 0 and not config.test_only:
        return train, None
    val = read(split="val", annotations=config.val_annotations)
    if val.categories != train.categories:
        raise InputError(
            f"{config.data_path}: the validation split names the categories "
            f"{', '.join(val.categories)}, the training split {', '.join(train.categories)}"
        )
    return train, val


def build_model(config: DetectorConfig, train: PhotoRecords, *, load: bool) -> nn.Module:
    """The network, with its starting weights unless a checkpoint will replace them anyway."""
    return build_detector(
        num_classes=1 if config.class_agnostic else len(train.categories),
        arch=config.arch,
        backbone=config.backbone,
        weights=config.weights,
        load=load,
        trainable_backbone_layers=config.trainable_backbone_layers,
        stride_in_1x1=config.stride_in_1x1,
        masks=config.masks,
        rois_per_image=config.rois_per_image,
    )


def labels_of(train: PhotoRecords, config: DetectorConfig) -> dict[str, list]:
    """What the network's class numbers mean; it travels with the weights."""
    if config.class_agnostic:
        return {"categories": ["garment"], "category_ids": [1], "attributes": []}
    return {
        "categories": train.categories,
        "category_ids": train.category_ids,
        "attributes": train.attributes,
    }


def global_batches(
    train: PhotoRecords, config: DetectorConfig, augmentation: DetectorAugmentation
) -> GlobalBatches:
    """The sampling order: photos of similar shape together, rare categories more often."""
    # A fixed crop gives every sample the same shape, so grouping would only hurt the mixing.
    factor = -1 if augmentation.lsj_size else config.aspect_ratio_group_factor
    photo_of = np.repeat(np.arange(len(train)), np.diff(train.garment_offsets))
    factors = repeat_factors(photo_of, train.garment_category, len(train), config.repeat_threshold)
    return GlobalBatches(
        groups=aspect_groups(train.sizes, factor),
        factors=factors,
        batch_size=global_batch(config),
        seed=config.seed,
    )


def judge_of(
    val: PhotoRecords, config: DetectorConfig, device: torch.device
) -> Callable[[nn.Module], dict[str, Any]]:
    """A function from a model to its COCO metrics on the validation photos, alike on every rank."""
    settings = PredictSettings(
        short_side=config.test_short_side,
        max_side=config.test_max_side,
        batch_size=config.batch_size,
        workers=config.workers,
        precision=config.precision,
    )
    return partial(
        evaluate_detector,
        records=val,
        settings=settings,
        device=device,
        class_agnostic=config.class_agnostic,
        truth=GroundTruth(val),
    )


def parse_arguments() -> tuple[DetectorConfig, DetectorAugmentation]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    networks = parser.add_subparsers(dest="network", required=True, metavar="NETWORK")
    detector = networks.add_parser("detector", help="Mask R-CNN: finds garments in photos")
    add_arguments(detector, DetectorConfig)
    add_arguments(detector, DetectorAugmentation)
    arguments = parser.parse_args()
    return (
        from_arguments(DetectorConfig, arguments),
        from_arguments(DetectorAugmentation, arguments),
    )


@exits_cleanly
def main() -> None:
    config, augmentation = parse_arguments()
    device = distributed.init(config.device)
    distributed.configure_logging()
    train_detector(config, augmentation, device)
    distributed.shutdown()


if __name__ == "__main__":
    main()
