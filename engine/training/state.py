"""The state of a training run, and how it is saved to and restored from a checkpoint."""

import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine import distributed
from engine.checkpoint import FORMAT, load_checkpoint
from engine.config import TrainingConfig
from engine.errors import InputError
from engine.training.meters import flatten_scalars
from engine.training.optim import WeightAverage, build_optimizer

logger = logging.getLogger("weft")


class TrainingState:
    """Model, optimizer, weight average, loss scaler and counters of one run.

    Attributes:
        settings: all settings of the run, as plain data that goes into checkpoints.
        step: optimizer steps done (skipped ones count).
        evaluated_step: the step of the last evaluation.
        evaluations_since_best: for early stopping.
        bad_steps: skipped steps in a row.
        best: the best evaluation so far, {} before the first whose value is a number:
            {"step", "epoch", "value", "metric", "metrics"}.
    """

    COUNTERS = ("step", "evaluated_step", "evaluations_since_best", "bad_steps", "best")

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        device: torch.device,
        *,
        settings: dict[str, Any],
        steps_per_epoch: int,
    ) -> None:
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model = model.to(device, memory_format=layout).train()
        self.average = WeightAverage(self.model, config.ema_decay) if config.ema_decay else None
        self.optimizer = build_optimizer(self.model, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.statistics = [b for norm in _batch_norms(self.model) for b in norm.buffers()]
        self.snapshot = [statistic.clone() for statistic in self.statistics]
        self.config = config
        self.settings = settings
        self.steps_per_epoch = steps_per_epoch
        self.step = 0
        self.evaluated_step = 0
        self.evaluations_since_best = 0
        self.bad_steps = 0
        self.best: dict[str, Any] = {}

    @property
    def epoch(self) -> float:
        """Passes over the training set so far."""
        return self.step / self.steps_per_epoch

    @property
    def evaluated_epoch(self) -> float:
        """Passes over the training set before the last evaluation."""
        return self.evaluated_step / self.steps_per_epoch

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is evaluated and published: the weight average if there is one."""
        return self.average.model if self.average else self.model

    @torch.no_grad()
    def snapshot_batch_norms(self) -> None:
        """Copy the running statistics before a step, for ``restore_batch_norms``."""
        if self.statistics:
            torch._foreach_copy_(self.snapshot, self.statistics)

    @torch.no_grad()
    def restore_batch_norms(self) -> None:
        """Undo changes since ``snapshot_batch_norms``; a NaN would never leave the statistics."""
        if self.statistics:
            torch._foreach_copy_(self.statistics, self.snapshot)

    def sync_batch_norms(self) -> None:
        """Average the running batch-norm statistics over ranks. All ranks call it."""
        average_batch_norms(self.model)
        if self.average:
            average_batch_norms(self.average.model)

    def checkpoint(self, kind: str, labels: dict[str, Any]) -> dict[str, Any]:
        """The run as a plain dict. All ranks call it: batch-norm statistics are averaged first."""
        self.sync_batch_norms()
        return {
            "format": FORMAT,
            "kind": kind,
            **labels,
            "config": self.settings,
            "epoch": self.epoch,
            "steps_per_epoch": self.steps_per_epoch,
            **{name: getattr(self, name) for name in self.COUNTERS},
            "model": self.model.state_dict(),
            "ema": self.average.model.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def use_best_metric(self, metric: str) -> None:
        """Make ``best`` hold the value of ``metric``; before a resume it may have been another."""
        if not self.best:
            return
        value = self.best["value"]
        if self.best.get("metric", metric) != metric:
            value = flatten_scalars(self.best["metrics"]).get(metric, math.nan)
            self.evaluations_since_best = 0
        self.best = {} if math.isnan(value) else self.best | {"metric": metric, "value": value}

    def resume(self, kind: str, labels: dict[str, Any]) -> None:
        """Restore the checkpoint that ``--resume`` selects, if there is one.

        Raises:
            InputError: a file of another kind of run, other categories, optimizer or network.
        """
        path = find_resume(self.config.resume, Path(self.config.output_dir))
        if path is None:
            return
        try:
            checkpoint = load_checkpoint(path, kind)
        except InputError as error:
            raise InputError(f"{error}; to start over choose another --output-dir") from error
        _refuse_other_run(path, checkpoint, labels, self.config.optimizer)
        try:
            self.model.load_state_dict(checkpoint["model"])
            _load_optimizer(self.optimizer, checkpoint["optimizer"])
            if self.average:
                self.average.model.load_state_dict(checkpoint["ema"] or checkpoint["model"])
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"{path}: does not fit the network of these settings; repeat the "
                "flags it was started with or choose another --output-dir"
            ) from error
        if checkpoint["scaler"]:  # empty if the run was not fp16 before: keep the initial scale
            self.scaler.load_state_dict(checkpoint["scaler"])
        for name in self.COUNTERS:
            setattr(self, name, checkpoint[name])
        if path.parent.resolve() != Path(self.config.output_dir).resolve():
            # The weights of the best evaluation so far are in the other run's folder.
            self.best, self.evaluations_since_best = {}, 0
        # With another global batch size an epoch has another number of steps: keep the epoch.
        scale = self.steps_per_epoch / checkpoint["steps_per_epoch"]
        self.step = round(self.step * scale)
        self.evaluated_step = round(self.evaluated_step * scale)
        if self.best:
            self.best["step"] = round(self.best["step"] * scale)
        logger.info("continuing %s at step %d (epoch %.2f)", path, self.step, self.epoch)
        _report_changes(checkpoint["config"], self.settings)


def _refuse_other_run(
    path: Path, checkpoint: dict[str, Any], labels: dict[str, Any], optimizer: str
) -> None:
    """InputError if the checkpoint is of no run, or of one with other labels or optimizer."""
    if "optimizer" not in checkpoint:
        raise InputError(f"{path}: weights without training state; give it as --weights")
    if checkpoint["categories"] != labels["categories"]:
        raise InputError(
            f"{path}: was trained on the categories {', '.join(checkpoint['categories'])}, "
            f"this dataset has {', '.join(labels['categories'])}; choose another --output-dir"
        )
    if checkpoint.get("labels") != labels.get("labels"):
        raise InputError(
            f"{path}: was trained on other datasets or labels; repeat the --dataset flags it "
            "was started with or choose another --output-dir"
        )
    theirs = checkpoint["config"]["optimizer"]
    if theirs != optimizer:
        raise InputError(
            f"{path}: was trained with --optimizer {theirs}, whose state {optimizer} cannot use; "
            "use that or choose another --output-dir"
        )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without nesting."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value) if isinstance(value, dict) else {name: value}
    return flat


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore the optimizer's moments, but keep this run's lr, weight decay and momentum."""
    settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)


def find_resume(resume: str, folder: Path) -> Path | None:
    """The checkpoint to resume from, None to start over. All ranks call it.

    Args:
        resume: "none"; "auto": the run folder's latest checkpoint; or a file, used only if the run
            folder has no checkpoint yet.
        folder: the run folder.

    Raises:
        InputError: only some ranks see the run folder's checkpoint, which every rank reads.
    """
    if resume == "none":
        return None
    path = folder / "checkpoint_latest.pt"
    seen = distributed.broadcast_object(distributed.gather_objects(path.is_file()))
    if any(seen) and not all(seen):
        raise InputError(f"only some ranks see {path}: --output-dir must be shared by all nodes")
    if all(seen):
        return path
    return None if resume == "auto" else Path(resume)


def average_batch_norms(model: nn.Module) -> None:
    """Give all ranks the mean of a model's running batch-norm statistics. All ranks call it.

    Each rank computes statistics from its own share of the data; without averaging, ranks would
    evaluate slightly different models and a checkpoint would hold only those of rank 0.
    """
    if distributed.world_size() == 1:
        return
    for norm in _batch_norms(model):
        for statistic in (norm.running_mean, norm.running_var):
            distributed.sum_over_ranks(statistic).div_(distributed.world_size())


def _batch_norms(model: nn.Module) -> list[nn.Module]:
    """The modules with running statistics."""
    kind = nn.modules.batchnorm._BatchNorm
    return [m for m in model.modules() if isinstance(m, kind) and m.track_running_stats]


def _report_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    harmless = {"resume", "output_dir", "workers", "device", "log_every", "checkpoint_every"}
    before, now = _flat(before), _flat(now)
    changed = [
        f"{name} {before[name]} -> {value}"
        for name, value in now.items()
        if name in before and name not in harmless and before[name] != value
    ]
    if changed and distributed.is_main():
        logger.warning("settings changed since the checkpoint: %s", "; ".join(changed))
