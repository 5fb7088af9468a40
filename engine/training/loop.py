"""The training loop of both networks.

It is independent of data and architecture: a model maps a batch to a dict of scalar losses, an
``evaluate`` callback maps a model to a dict of metrics. Randomness within a step is seeded by
(seed, step, rank, micro-batch), the learning rate depends on the step only, and the batches on
(seed, epoch). So a checkpoint needs no RNG states and a resumed run equals an uninterrupted one
bit for bit.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from engine import distributed
from engine.checkpoint import save_checkpoint, weights_of
from engine.config import TrainingConfig
from engine.errors import InputError
from engine.files import explain_os_errors, make_folder, remove_leftovers
from engine.lock import Lock
from engine.precision import autocast
from engine.pretrained import BODY
from engine.training.loader import batches_of, to_device
from engine.training.meters import LogWindow, RunLog, flatten_scalars, write_json
from engine.training.mixing import MixedBatches
from engine.training.optim import base_lr, lr_factor, set_lr
from engine.training.samplers import GlobalBatches, RankBatches
from engine.training.state import TrainingState

logger = logging.getLogger("weft")

SHUTDOWN_SECONDS = 60.0  # how long to wait for the processes of a killed run to end


@dataclass(frozen=True)
class Task:
    """The network-specific part of a training.

    Attributes:
        kind: "detector" or "multitask", written into checkpoints.
        settings: all settings of the run, as plain data; saved with the run.
        labels: checkpoint entries that belong to the weights: categories, category_ids,
            attributes; for a multitask model also labels, its whole label space.
        dataset: maps a Draw to one sample.
        collate: list of samples -> (images, targets), as the model takes them.
        batches: the global batch list (``samplers`` or ``mixing``), drawn for
            global_batch(config) samples each.
        evaluate: model -> nested dict of metrics, called on all ranks, the same result on each;
            None without a validation set.
        best_metric: path of the metric that selects the best weights, such as "mask/AP".
    """

    kind: str
    settings: dict[str, Any]
    labels: dict[str, Any]
    dataset: Dataset
    collate: Callable[[list], tuple]
    batches: GlobalBatches | MixedBatches
    evaluate: Callable[[nn.Module], dict[str, Any]] | None
    best_metric: str


def global_batch(config: TrainingConfig) -> int:
    """Samples per optimizer step over all ranks and micro-batches."""
    return config.batch_size * config.accumulate * distributed.world_size()


def step_seed(seed: int, step: int, rank: int, micro: int) -> int:
    """The seed for the randomness of one forward pass (sampling of RoIs, dropout)."""
    return int(np.random.SeedSequence([seed, step, rank, micro]).generate_state(1, np.uint64)[0])


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock, on rank 0; all ranks must enter before they read a checkpoint.

    Waits for the processes of a killed run to end, which may still write a checkpoint.

    Raises:
        InputError: on every rank, if another run keeps the lock or the folder is not writable.
    """
    lock, trouble, advice = contextlib.nullcontext(), None, "choose another --output-dir"
    if distributed.is_main():
        try:
            with explain_os_errors(folder, "cannot write to", advice):
                folder.mkdir(parents=True, exist_ok=True)
                lock = Lock(folder / ".lock", folder, advice, patience=SHUTDOWN_SECONDS)
                remove_leftovers(folder)
        except InputError as error:
            trouble = str(error)
    trouble = distributed.broadcast_object(trouble)
    if trouble is not None:
        raise InputError(trouble)
    with lock:
        yield


class Trainer:
    """Trains ``model`` on ``task``, resuming from the checkpoint in the run folder if there is one.

    Raises:
        InputError: when the run folder belongs to another kind of run, the loss stays non-finite
            for ``max_bad_steps`` steps, or nothing can be written.
    """

    def __init__(
        self, model: nn.Module, task: Task, config: TrainingConfig, device: torch.device
    ) -> None:
        self.task, self.config, self.device = task, config, device
        self.folder = Path(config.output_dir)
        self.total_steps = config.epochs * len(task.batches)
        self.peak_lr = base_lr(config, global_batch(config))
        self.state = TrainingState(
            model, config, device, settings=task.settings, steps_per_epoch=len(task.batches)
        )
        self.state.resume(task.kind, task.labels)
        self.state.use_best_metric(task.best_metric)
        if config.compile:
            self.state.model.backbone.compile(dynamic=True)
        self.trainable = [p for p in self.state.model.parameters() if p.requires_grad]
        named = self.state.model.named_parameters()
        self.freezable = [p for name, p in named if name.startswith(BODY) and p.requires_grad]
        self._apply_freezing()

    def fit(self) -> dict[str, Any]:
        """Train to the end, as the folder's ``sole_writer``.

        Returns:
            The best evaluation (see ``TrainingState.best``).
        """
        self.log = RunLog(
            self.folder,
            self.task.settings,
            first_step=self.state.step,
            total_steps=self.total_steps,
            last_epochs={"train": self.state.epoch, "eval": self.state.evaluated_epoch},
        )
        try:
            # The run may have been killed between an epoch's checkpoint and its evaluation.
            if self.state.step > self.state.evaluated_step and self._evaluation_is_due():
                self._evaluate()
            if self.state.step >= self.total_steps:
                logger.info(
                    "all %d epochs are done; increase --epochs to continue", self.config.epochs
                )
            elif not self._should_stop():
                self._run_steps()
        finally:
            self.log.close()
        return self.state.best

    def _run_steps(self) -> None:
        state, config = self.state, self.config
        batches = self._batches()
        window = LogWindow()
        while state.step < self.total_steps:
            # Unfreeze the body at the end of --frozen-epochs
            if self.frozen != self._backbone_is_frozen():
                self._apply_freezing()

            # Load, forward, backward, update
            window.add(*self._train_step(batches))
            self.log.advance()

            # Log
            if state.step % config.log_every == 0 or state.step == self.total_steps:
                self._log_training(window)
                window = LogWindow()

            # Checkpoint and evaluate
            if state.step % state.steps_per_epoch == 0:
                self._save(self._checkpoint())
                if self._evaluation_is_due():
                    with window.paused():
                        self._evaluate()
                if self._should_stop():
                    break
            elif state.step % config.checkpoint_every == 0:
                self._save(self._checkpoint())

    def _backbone_is_frozen(self) -> bool:
        return self.state.epoch < self.config.frozen_epochs

    def _apply_freezing(self) -> None:
        """Freeze or unfreeze the body for the current step. All ranks call it.

        Frozen parameters have ``requires_grad=False``, which skips the body's backward pass. DDP
        registers the trainable parameters when it wraps a model, so each stage wraps it again.
        """
        self.frozen = self._backbone_is_frozen()
        for parameter in self.freezable:
            parameter.requires_grad_(not self.frozen)
        # Drop the old wrapper first: its hooks would all-reduce gradients a second time.
        self.wrapped = self.state.model
        self.wrapped = self._wrap()

    def _train_step(self, batches: Iterator[tuple]) -> tuple[dict[str, Tensor], float]:
        """One optimizer step.

        Returns:
            Its mean losses as scalars on the device, {} if the step was skipped; and the seconds
            spent waiting for data.
        """
        state, accumulate = self.state, self.config.accumulate
        means: dict[str, Tensor] = {}
        waited = 0.0
        state.snapshot_batch_norms()
        for micro in range(accumulate):
            # Load
            started = time.perf_counter()
            images, targets = to_device(next(batches), self.device)
            waited += time.perf_counter() - started

            # Forward and backward. DDP decides in forward whether backward will all-reduce, so
            # both are inside no_sync.
            seed = step_seed(self.config.seed, state.step, distributed.rank(), micro)
            torch.manual_seed(seed)
            with self._no_sync(unless=micro == accumulate - 1):
                with autocast(self.device, self.config.precision):
                    losses = self.wrapped(images, targets)
                    loss = sum(losses.values()) / accumulate
                state.scaler.scale(loss).backward()
            for name, value in (losses | {"loss": loss * accumulate}).items():
                means[name] = means.get(name, 0) + value.detach().float() / accumulate

        # Clip, and check for NaN. The reduced gradients are the same on every rank, so all ranks
        # decide alike without a collective. This is the only intended host-device sync of a step.
        state.scaler.unscale_(state.optimizer)
        norm = nn.utils.clip_grad_norm_(self.trainable, self.config.clip_norm or float("inf"))
        finite = bool(torch.isfinite(norm))

        # Update
        factor = lr_factor(state.step, self.config, state.steps_per_epoch)
        set_lr(state.optimizer, self.peak_lr * factor)
        if finite:
            state.scaler.step(state.optimizer)
        else:
            state.restore_batch_norms()
        state.scaler.update()
        state.optimizer.zero_grad()
        state.step += 1
        if finite and state.average:
            state.average.update(state.model, state.step)
        self._count_bad_steps(finite, means)
        return (means if finite else {}), waited

    def _count_bad_steps(self, finite: bool, losses: dict[str, Tensor]) -> None:
        state = self.state
        state.bad_steps = 0 if finite else state.bad_steps + 1
        if finite:
            return
        shown = ", ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
        logger.warning("step %d skipped on all ranks: gradient not finite (%s)", state.step, shown)
        if state.bad_steps >= self.config.max_bad_steps:
            raise InputError(
                f"the gradient was not finite for {state.bad_steps} steps in a row (at step "
                f"{state.step}): lower --lr, lengthen --warmup-steps or use --precision fp32"
            )

    def _log_training(self, window: LogWindow) -> None:
        """Log the losses averaged over steps and ranks. All ranks call it."""
        record = window.mean_losses()
        seconds = window.seconds() / window.steps
        record["lr"] = max(group["lr"] for group in self.state.optimizer.param_groups)
        record["seconds_per_step"] = seconds
        record["data_seconds_per_step"] = window.waited / window.steps
        record["samples_per_second"] = global_batch(self.config) / seconds
        if self.device.type == "cuda":
            record["peak_memory_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        self.log.train_step(self.state.step, self.state.epoch, record)

    def _evaluation_is_due(self) -> bool:
        epoch, partial = divmod(self.state.step, self.state.steps_per_epoch)
        every = self.config.eval_every
        if self.task.evaluate is None or every == 0 or partial:
            return False
        return epoch % every == 0 or self.state.step == self.total_steps

    def evaluate_only(self) -> dict[str, Any]:
        """Evaluate the current weights and write metrics.json; no checkpoint is written."""
        state = self.state
        make_folder(self.folder)  # on every rank, so that all fail alike, and before the work
        metrics = self.task.evaluate(state.evaluated_model.eval())
        if distributed.is_main():
            latest = {"step": state.step, "epoch": state.epoch, "metrics": metrics}
            write_json(self.folder / "metrics.json", {"latest": latest, "best": state.best})
        return metrics

    def _evaluate(self) -> None:
        """Evaluate the weights, keep them if they are the best, and save a checkpoint."""
        state = self.state
        state.sync_batch_norms()
        metrics = self.task.evaluate(state.evaluated_model.eval())
        state.model.train()
        value = self._best_metric_of(metrics)
        state.evaluated_step = state.step
        state.evaluations_since_best += 1
        if math.isnan(value):
            logger.warning(
                "%s is not a number, so these weights cannot become the best", self.task.best_metric
            )
        elif not state.best or value > state.best["value"]:
            state.evaluations_since_best = 0
            state.best = {"step": state.step, "epoch": state.epoch, "value": value}
            state.best |= {"metric": self.task.best_metric, "metrics": metrics}
        checkpoint = self._checkpoint()
        if distributed.is_main() and state.evaluations_since_best == 0:
            save_checkpoint(weights_of(checkpoint), self.folder / "checkpoint_best.pt")
        self.log.evaluation(state.step, state.epoch, metrics, state.best)
        # Saved last, since it records that the evaluation is done: if killed before, it repeats.
        self._save(checkpoint)
        logger.info(
            "epoch %g: %s %.4f (%s)", state.epoch, self.task.best_metric, value, self._best()
        )

    def _best_metric_of(self, metrics: dict[str, Any]) -> float:
        scalars = flatten_scalars(metrics)
        if self.task.best_metric not in scalars:
            raise InputError(
                f"--best-metric {self.task.best_metric}: the evaluation gives "
                f"{', '.join(scalars)}; repeat the command with one of these, the training so far "
                "is saved"
            )
        return scalars[self.task.best_metric]

    def _should_stop(self) -> bool:
        patience = self.config.patience
        if patience == 0 or self.state.evaluations_since_best < patience:
            return False
        name, since = self.task.best_metric, self.state.evaluations_since_best
        logger.info("stopping: %d evaluations without a better %s (%s)", since, name, self._best())
        return True

    def _best(self) -> str:
        best = self.state.best
        return "best {value:.4f} at epoch {epoch:g}".format(**best) if best else "no best yet"

    def _checkpoint(self) -> dict[str, Any]:
        """The current state of the run. All ranks call it."""
        return self.state.checkpoint(self.task.kind, self.task.labels)

    def _save(self, checkpoint: dict[str, Any]) -> None:
        """Write checkpoint_latest.pt on rank 0."""
        if distributed.is_main():
            save_checkpoint(checkpoint, self.folder / "checkpoint_latest.pt")

    def _batches(self) -> Iterator[tuple]:
        """The rank's batches from the current step to the end."""
        sampler = RankBatches(
            self.task.batches,
            first_step=self.state.step,
            last_step=self.total_steps,
            accumulate=self.config.accumulate,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )
        task = self.task
        return batches_of(task.dataset, task.collate, sampler, self.config, self.device)

    def _wrap(self) -> nn.Module:
        if distributed.world_size() == 1:
            return self.state.model
        return DistributedDataParallel(
            self.state.model,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            broadcast_buffers=False,  # sync_batch_norms averages them where it matters
            gradient_as_bucket_view=True,
        )

    def _no_sync(self, *, unless: bool) -> contextlib.AbstractContextManager:
        """DDP's ``no_sync`` for all micro-batches but the last."""
        if unless or self.wrapped is self.state.model:
            return contextlib.nullcontext()
        return self.wrapped.no_sync()
