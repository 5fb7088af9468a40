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
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from data_aug import DetectorAugmentation, DetectorTransform
from dataset_helpers import DetectionDataset, load_dataset
from engine import detector_task, distributed
from engine.config import DetectorConfig, add_arguments, from_arguments, plain
from engine.errors import InputError, exits_cleanly
from engine.loop import Task, Trainer, as_lists
from engine.metric_tables import print_metrics
from engine.records import PhotoRecords
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
        model = detector_task.build_model(config, train, load=not resuming)
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
        evaluate=detector_task.judge_of(val, config, device) if val else None,
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
