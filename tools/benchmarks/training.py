"""A training step of Mask R-CNN: forward, backward, optimizer."""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from data_aug import DetectorAugmentation
from engine.training.loader import to_device
from engine.training.samplers import Draw
from tools.benchmarks.loader import NO_COLOR, both_ways
from tools.benchmarks.models import add_model_arguments, prepare, twins
from tools.benchmarks.photos import add_photo_arguments, some_photos
from tools.benchmarks.timing import compare, timed

# Tiny, so that all steps find the same proposals; the optimizer's work does not depend on it.
LEARNING_RATE = 1e-9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_photo_arguments(parser, photos=2)
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time steps on a batch of all photos; our activations are channels-last, as in training."""
    prepare(arguments)
    with some_photos(arguments) as (records, _):
        settings = DetectorAugmentation(
            short_sides=(arguments.short_side,), max_side=arguments.max_side,
            flip=0, affine=0, **NO_COLOR,
        )  # fmt: skip
        samples, full_samples = both_ways(records, settings)
        draws = [samples[Draw(0, i, 0, 0)] for i in range(len(records))]
        full = [full_samples[i] for i in range(len(records))]
    ours, theirs = twins(arguments, len(records.categories))
    ours = ours.to(memory_format=torch.channels_last)
    steps = [_step(ours, draws, arguments.device), _step(theirs, full, arguments.device)]
    mine, other = (timed(step, arguments.device) for step in steps)
    mine(0), other(0)  # the first steps set things up
    shape = "x".join(map(str, draws[0][0].shape[:0:-1]))
    case = f"{arguments.backbone}, batch {len(draws)} of {shape}"
    row = {"case": case} | compare(mine, other, items=1, rounds=arguments.rounds)
    return {"rows": [row], "garments": [len(target["labels"]) for _, target in draws]}


def _step(model: nn.Module, samples: list[tuple], device: str) -> Callable[[int], None]:
    """One whole step on the samples."""
    model.train()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, LEARNING_RATE, momentum=0.9, weight_decay=1e-4)
    images, targets = (to_device(list(part), device) for part in zip(*samples, strict=True))

    def step(_: int) -> None:
        losses = model(images, [dict(target) for target in targets])
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
