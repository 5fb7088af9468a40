"""Builds the parts of a detector training: network, labels, sampling order, evaluation."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from engine.data.records import PhotoRecords
from engine.detection.dataset_predictions import evaluate_detector
from engine.detection.detector import Detector, build_detector
from engine.detection.detector_config import DetectorConfig
from engine.detection.predict import PredictSettings
from engine.evaluation.coco_metrics import GroundTruth
from engine.training.loop import global_batch
from engine.training.samplers import GlobalBatches, aspect_groups, repeat_factors


def build_model(config: DetectorConfig, train: PhotoRecords, *, load: bool) -> Detector:
    """The network; without ``load``, weights are left random, since a checkpoint replaces them."""
    categories = labels_of(train, config)["categories"]
    return build_detector(
        num_classes=len(categories),
        categories=categories,
        arch=config.arch,
        backbone=config.backbone,
        weights=config.weights,
        load=load,
        trainable_backbone_layers=config.trainable_backbone_layers,
        stride_in_1x1=config.stride_in_1x1,
        pyramid_channels=config.pyramid_channels,
        masks=config.masks,
        rois_per_image=config.rois_per_image,
        box_dropout=config.box_dropout,
    )


def labels_of(train: PhotoRecords, config: DetectorConfig) -> dict[str, Any]:
    """The checkpoint entries that name the network's labels."""
    if config.class_agnostic:
        return {"categories": ["garment"], "category_ids": [1], "attributes": []}
    return {
        "categories": train.categories,
        "category_ids": train.category_ids,
        "attributes": train.attributes,
    }


def global_batches(
    train: PhotoRecords, config: DetectorConfig, *, one_shape: bool
) -> GlobalBatches:
    """The sampling order: photos of similar shape together, rare categories more often.

    Args:
        train: the training photos.
        config: the run's settings.
        one_shape: all samples have the same shape, so photos are not grouped.
    """
    factor = -1 if one_shape else config.aspect_ratio_group_factor
    learned = ~train.garment_crowd
    factors = repeat_factors(
        train.garment_photo[learned],
        train.garment_category[learned],
        len(train),
        config.repeat_threshold,
    )
    return GlobalBatches(
        groups=aspect_groups(train.sizes, factor),
        factors=factors,
        batch_size=global_batch(config),
        seed=config.seed,
    )


def make_evaluator(
    val: PhotoRecords, config: DetectorConfig, device: torch.device
) -> Callable[[nn.Module], dict[str, Any]]:
    """A function from a model to its COCO metrics on the validation set, the same on every rank."""
    settings = PredictSettings.as_evaluated(
        vars(config),
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
