"""Builds the parts of a multitask training: tasks, network, losses, sampling order, evaluation."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.config import plain, require
from engine.data.crop_dataset import CropDataset
from engine.data.labels import ASPECTS, CATEGORY, LabelGroup, LabelSpace
from engine.data.records import PhotoRecords
from engine.description.criterion import Criterion
from engine.description.describe import DescribeSettings, evaluate_multitask
from engine.description.losses import positive_weights
from engine.description.multitask import ASPECT_DIMS, Multitask, build_multitask
from engine.description.multitask_config import MultitaskConfig
from engine.errors import InputError
from engine.evaluation.multitask_metrics import EvaluationPart
from engine.pixels.view_transform import MultitaskAugmentation, MultitaskTransform
from engine.training.loop import global_batch
from engine.training.mixing import MixedBatches

MOST_WEIGHT = 20.0  # cap on a label's weight: one seen once must not dominate the loss

Encoded = dict[str, np.ndarray]  # see engine.data.labels.encode_labels

logger = logging.getLogger("weft")


def settings_of(config: MultitaskConfig, augmentation: MultitaskAugmentation) -> dict[str, Any]:
    """All settings of the run, saved in checkpoints; inference reads from them how to cut crops.

    Raises:
        InputError: settings that contradict each other.
    """
    sentence = "--tasks box: give --whole-photo too; a crop around the garment gives its box away"
    require("box" not in config.tasks or augmentation.whole_photo, sentence)
    sentence = "--tasks box: give category or attributes too, which read what the box holds"
    require("box" not in config.tasks or {"category", "attributes"} & {*config.tasks}, sentence)
    crops = {name: getattr(augmentation, name) for name in ("crop_size", "margin", "background")}
    return plain(config) | crops | {"augmentation": plain(augmentation)}


def usable_tasks(wanted: Sequence[str], labels: LabelSpace) -> tuple[str, ...]:
    """The wanted tasks that some dataset has labels for; aspects need none, thanks to views.

    Raises:
        InputError: nothing is left.
    """
    names = {group.name for group in labels.groups}
    there = {*ASPECTS, "box"}
    there |= {"category"} if CATEGORY in names else set()
    there |= {"attributes"} if names - {CATEGORY} else set()
    missing = [task for task in wanted if task not in there]
    tasks = tuple(task for task in wanted if task in there)
    require(bool(tasks), f"--tasks {' '.join(missing)}: no --dataset has labels for it")
    if missing:
        logger.info("not learned, no set has labels for it: %s", ", ".join(missing))
    return tasks


def build_model(
    config: MultitaskConfig, labels: LabelSpace, encoded: Sequence[Encoded], *, load: bool
) -> Multitask:
    """The network with its losses, and its starting weights unless a checkpoint replaces them.

    Args:
        config: the run's settings, its tasks those of ``usable_tasks``.
        labels: what is asked about a garment.
        encoded: every training set's answers, for the class weights.
        load: fill in ``--weights``.
    """
    model = build_multitask(
        labels,
        trunk=config.trunk,
        weights=config.weights,
        load=load,
        trainable_layers=config.trainable_layers,
        stride_in_1x1=config.stride_in_1x1,
        tasks=config.tasks,
    )
    model.criterion = Criterion(
        labels,
        config.tasks,
        ASPECT_DIMS,
        task_weights=config.loss_weights(),
        smoothing=config.label_smoothing,
        attribute_loss=config.attribute_loss,
        item_loss=config.item_loss,
        class_weights=answer_weights(labels, encoded, config.class_weights),
    )
    return model


def answer_weights(
    labels: LabelSpace, encoded: Sequence[Encoded], exponent: float
) -> dict[str, Tensor] | None:
    """Class weights: the relative inverse frequency of each value to the power of ``exponent``.

    For exclusive groups relative to the mean frequency of values that occur, for multi-label groups
    to the number of negatives of the same value. Values that no garment has weigh 1.

    Returns:
        {group: f32[V]}; None for an exponent of 0.
    """
    if exponent == 0:
        return None
    weights = {}
    for group in labels.groups:
        yes, no = _counts(group, encoded)
        relative = positive_weights(yes, no, MOST_WEIGHT) ** exponent
        weights[group.name] = torch.where(yes > 0, relative, 1.0)
    return weights


def _counts(group: LabelGroup, encoded: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """f32[V] how often each value occurs, and f32[V] what to compare that with."""
    answers = np.concatenate([part[group.name] for part in encoded])
    if not group.exclusive:
        yes, no = (answers == 1).sum(axis=0), (answers == -1).sum(axis=0)
    else:
        yes = np.bincount(answers[answers >= 0], minlength=len(group.values))
        no = np.full(len(yes), yes.sum() / max((yes > 0).sum(), 1))
    return torch.from_numpy(yes).float(), torch.from_numpy(no).float()


def global_batches(
    config: MultitaskConfig, train: Sequence[PhotoRecords], weights: Sequence[float]
) -> MixedBatches:
    """The sampling order: the sets mixed by weight, photos of one product together."""
    return MixedBatches(
        train,
        weights=weights,
        batch_size=global_batch(config),
        seed=config.seed,
        per_identity=config.photos_per_identity if "item" in config.tasks else 1,
        balance=config.balance,
    )


def labels_of(labels: LabelSpace) -> dict[str, Any]:
    """The checkpoint entries that define the meaning of the model's outputs."""
    categories = [v for group in labels.groups if group.name == CATEGORY for v in group.values]
    return {
        "categories": categories,
        "category_ids": list(range(1, len(categories) + 1)),
        "attributes": [
            v for group in labels.groups if group.name != CATEGORY for v in group.values
        ],
        "labels": labels.to_plain(),
    }


def evaluation_parts(
    val: Mapping[str, PhotoRecords], augmentation: MultitaskAugmentation
) -> list[EvaluationPart]:
    """Each validation dataset's garments, cropped as in inference."""
    cropping = MultitaskTransform(augmentation, seed=0, train=False, aspects=())
    return [
        EvaluationPart(name, records, CropDataset([(records, {})], cropping, strict=True))
        for name, records in val.items()
    ]


def make_evaluator(
    parts: Sequence[EvaluationPart],
    labels: LabelSpace,
    config: MultitaskConfig,
    device: torch.device,
) -> Callable[[nn.Module], dict[str, Any]]:
    """A function from a model to its metrics on every part, the same on every rank."""
    return partial(
        evaluate_multitask,
        labels=labels,
        parts=parts,
        settings=describe_settings(config),
        device=device,
    )


def describe_settings(config: MultitaskConfig) -> DescribeSettings:
    """How the model is run over garments in evaluations during training."""
    return DescribeSettings(
        batch_size=config.batch_size, workers=config.workers, precision=config.precision
    )


def best_metric(
    parts: Sequence[EvaluationPart], labels: LabelSpace, config: MultitaskConfig
) -> str:
    """``--best-metric``, or the main metric of the first dataset that has labels for some task.

    Raises:
        InputError: the named dataset is not evaluated, or no dataset has labels to evaluate on.
    """
    names = [part.name for part in parts]
    if config.best_metric is not None:
        sentence = f"--best-metric {config.best_metric}: the sets evaluated are {', '.join(names)}"
        require(config.best_metric.split("/")[0] in names, sentence)
        return config.best_metric
    for part in parts:
        metric = _natural_metric(part, labels, config.tasks)
        if metric is not None:
            return f"{part.name}/{metric}"
    raise InputError(
        f"{', '.join(names)}: no labels to evaluate the tasks {', '.join(config.tasks)} on; give "
        "--eval-every 0 or a set with labels"
    )


def _natural_metric(part: EvaluationPart, labels: LabelSpace, tasks: Sequence[str]) -> str | None:
    """Accuracy of the category, else of the first attribute group, else R@1 of the first aspect."""
    known = {group.name for group in labels.groups}
    for group in part.labels.groups:
        task = "category" if group.name == CATEGORY else "attributes"
        answers = part.targets[group.name]
        answered = (answers >= 0 if group.exclusive else answers != 0).any()
        if task in tasks and group.name in known and answered:
            return f"{group.name}/{'top1' if group.exclusive else 'micro_f1'}"
    aspects = [aspect for aspect in ASPECTS if aspect in tasks]
    if aspects and (part.records.garment_identity >= 0).any():
        return f"{aspects[0]}/R@1"
    return None
