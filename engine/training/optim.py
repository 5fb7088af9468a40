"""Parameter groups, the learning rate as a pure function of the step, and the weight average."""

import bisect
import copy
import math

import torch
from torch import nn

from engine.config import TrainingConfig
from engine.pretrained import BODY

BASE_LR = {"sgd": 0.02, "adamw": 0.0002}
BASE_BATCH = 16


def base_lr(config: TrainingConfig, global_batch: int) -> float:
    """The peak learning rate: ``--lr`` if given, else the optimizer's base rate, scaled.

    For SGD it is proportional to the global batch size (Goyal et al. 2017, arXiv 1706.02677), for
    AdamW to its square root (Malladi et al. 2022, arXiv 2205.10287).
    """
    if config.lr is not None:
        return config.lr
    larger = global_batch / BASE_BATCH
    return BASE_LR[config.optimizer] * (larger if config.optimizer == "sgd" else math.sqrt(larger))


def lr_factor(step: int, config: TrainingConfig, steps_per_epoch: int) -> float:
    """The learning rate of optimizer step ``step`` (from 0), as a factor of the peak rate.

    A pure function, so there is no state to save and restore. A linear warm-up from 0.1 % to 1,
    at most a tenth of the training so that short runs also reach the peak, is followed by the
    schedule's decay: multistep drops, or a half cosine down to 0.
    """
    total = config.epochs * steps_per_epoch
    warmup = min(config.warmup_steps, total // 10)
    if step < warmup:
        return 0.001 + 0.999 * step / warmup
    if config.lr_schedule == "multistep":
        drops = bisect.bisect_right(config.lr_steps, step // steps_per_epoch)
        return config.lr_gamma**drops
    progress = (step - warmup) / max(total - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * progress))


def parameter_groups(model: nn.Module, config: TrainingConfig) -> list[dict]:
    """Trainable parameters as at most four optimizer groups: (body, rest) × (decayed, not).

    The body is the pretrained part, without a detector's pyramid. Vectors (norm weights, biases)
    get no weight decay. ``lr_scale`` of a group multiplies the learning rate.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith(BODY), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decayed else 0.0,
            "lr_scale": config.backbone_lr_factor if in_body else 1.0,
        }
        for (in_body, decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer of ``--optimizer``; call ``set_lr`` before every step."""
    groups = parameter_groups(model, config)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=0.0)
    return torch.optim.SGD(groups, lr=0.0, momentum=config.momentum)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set every group's learning rate to ``lr`` times its ``lr_scale``."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


class WeightAverage:
    """Exponential moving average of a model's weights, as a model that can be evaluated.

    The decay warms up as (1 + updates) / (10 + updates), so that the initial weights soon lose
    their influence. Buffers (counters, statistics) are copied, not averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, updates: int) -> None:
        """Move towards ``model`` after optimizer step number ``updates`` (from 1)."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        average = [p.detach() for p in self.model.parameters()]
        torch._foreach_lerp_(average, [p.detach() for p in model.parameters()], 1 - decay)
        buffers = list(self.model.buffers())
        if buffers:
            torch._foreach_copy_(buffers, list(model.buffers()))
