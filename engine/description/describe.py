"""Runs the multitask model over annotated garments, on all ranks, and evaluates its outputs.

Ranks are assigned whole batches, so the composition of batches, and with it the result, does not
depend on the number of processes. Crops are cut on threads while the model runs.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import Dataset

from engine import distributed
from engine.config import require
from engine.data.labels import LabelSpace
from engine.errors import InputError
from engine.evaluation.multitask_metrics import Descriptions, EvaluationPart, evaluate_part
from engine.pixels.photos import PhotoError
from engine.precision import autocast
from engine.threads import map_ahead, threads
from engine.training.samplers import Draw

MOST_QUERIES = 5000  # of a dataset, in the evaluations during training

logger = logging.getLogger("weft")


@dataclass(frozen=True)
class DescribeSettings:
    """How garments go through the multitask model.

    Attributes:
        batch_size: crops per forward pass.
        workers: threads that decode photos and cut crops; 0: the main thread does it.
        precision: "fp32", "bf16" or "fp16", of the forward pass.

    Raises:
        InputError: a value out of range, named by its flag.
    """

    batch_size: int = 32
    workers: int = 2
    precision: str = "fp32"

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, f"--batch-size {self.batch_size}: must be at least 1")
        require(self.workers >= 0, f"--workers {self.workers}: must not be negative")


def evaluate_multitask(
    model: nn.Module,
    labels: LabelSpace,
    parts: Sequence[EvaluationPart],
    settings: DescribeSettings,
    device: torch.device,
) -> dict[str, Any]:
    """Evaluate a multitask model during training; all ranks call it and get the same result.

    In large datasets only ``MOST_QUERIES`` garments, evenly spaced, are used as retrieval queries.

    Args:
        model: has ``describe(images, masks)``; in evaluation mode.
        labels: the model's label space.
        parts: the datasets to evaluate on.
        settings, device: how and where to run.

    Returns:
        {part: what ``engine.evaluation.multitask_metrics.evaluate_part`` returns}.
    """
    return {
        part.name: evaluate_part(
            part,
            describe(model, part, settings, device),
            labels,
            max_queries=MOST_QUERIES,
        )
        for part in parts
    }


def describe(
    model: nn.Module,
    part: EvaluationPart,
    settings: DescribeSettings,
    device: torch.device,
    *,
    progress: bool = False,
) -> Descriptions | None:
    """The model's outputs for all garments of a dataset, on rank 0; None on the other ranks."""
    shard = describe_shard(model, part.dataset, settings, device, progress=progress)
    return gather_descriptions(shard, len(part.dataset))


def describe_shard(
    model: nn.Module,
    dataset: Dataset,
    settings: DescribeSettings,
    device: torch.device,
    *,
    progress: bool = False,
) -> Descriptions:
    """The model's outputs for this rank's share of the garments.

    Args:
        model: see ``evaluate_multitask``.
        dataset: dataset[Draw(0, i, 0, 0)] -> (image u8 [3, S, S], target with "mask" u8 [S, S]) of
            garment i; raises PhotoError where the photo cannot be read.
        settings, device: see ``evaluate_multitask``.
        progress: show a bar on rank 0.
    """
    count, size = len(dataset), settings.batch_size
    share = distributed.shard(-(-count // size))
    batches = [range(b * size, min((b + 1) * size, count)) for b in share]
    shown = batches
    if progress and distributed.is_main():
        shown = track(batches, "describing", console=Console(stderr=True))
    indices = (i for batch in batches for i in batch)
    with threads(settings.workers) as pool:
        samples = map_ahead(pool, partial(_load, dataset), indices, settings.workers + size)
        return _concatenate(
            [_describe(model, batch, samples, settings.precision, device) for batch in shown]
        )


def _load(dataset: Dataset, index: int) -> tuple[Tensor, Tensor] | None:
    """Image and mask of a garment, None and a warning where the photo cannot be read."""
    try:
        image, target = dataset[Draw(0, index, 0, 0)]
    except PhotoError as error:
        logger.warning("left out: %s", error)
        return None
    return image, target["mask"]


@torch.inference_mode()
def _describe(
    model: nn.Module, batch: range, samples: Iterator, precision: str, device: torch.device
) -> Descriptions:
    loaded = {index: next(samples) for index in batch}
    unreadable = [index for index, sample in loaded.items() if sample is None]
    readable = {index: sample for index, sample in loaded.items() if sample is not None}
    if not readable:
        return Descriptions(np.zeros(0, np.int64), {}, {}, unreadable)
    images, masks = (torch.stack(column) for column in zip(*readable.values(), strict=True))
    with autocast(device, precision):
        output = model.describe(images.to(device), masks.to(device))
    logits, aspects = (
        {name: value.float().cpu().numpy() for name, value in output[kind].items()}
        for kind in ("logits", "aspects")
    )
    return Descriptions(np.array(list(readable)), logits, aspects, unreadable)


def _concatenate(rows: Sequence[Descriptions]) -> Descriptions:
    full = [row for row in rows if len(row.garments)]
    joined = [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
        for parts in ([row.logits for row in full], [row.aspects for row in full])
    ]
    garments = np.concatenate([np.zeros(0, np.int64), *(row.garments for row in full)])
    return Descriptions(garments, *joined, [index for row in rows for index in row.unreadable])


def gather_descriptions(shard: Descriptions, count: int) -> Descriptions | None:
    """All ranks' descriptions on rank 0, None on the others.

    Raises:
        AssertionError: a garment of ``range(count)`` was described twice, or never.
        InputError: no photo can be read; on every rank.
    """
    gathered = distributed.gather_objects(shard)

    def merge() -> tuple[Descriptions, None]:
        merged = _concatenate(gathered)
        seen = np.sort(np.concatenate([merged.garments, np.array(merged.unreadable, np.int64)]))
        assert np.array_equal(seen, np.arange(count)), "garments described twice or never"
        if count and not len(merged.garments):
            raise InputError("no photo of the dataset to evaluate on can be read")
        return merged, None

    return distributed.on_main(merge)[0]
