"""Reports the progress of a training: progress bar, JSON lines, TensorBoard, curves.

Only rank 0 has a ``RunLog`` that writes; on the other ranks its methods do nothing.

    output_dir/
        config.json          every setting of the run, the launch command, library versions
        log.jsonl            one line per log step ("train") and per evaluation ("eval")
        tensorboard/         the same numbers, live
        curves.png           the same numbers as a picture, redrawn at every evaluation
        metrics.json         the last and the best evaluation
"""

import contextlib
import json
import math
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from engine import distributed
from engine.files import explain_os_errors, replacing

ROUNDING = 1e-4  # of epochs in the log
# The metrics that curves.png shows: the detector's, the multitask model's.
DRAWN = ("/AP", "/AP50", "/top1", "/micro_f1", "/R@1")


class RunLog:
    """Writes the logs of a run folder.

    Args:
        folder: the run's ``--output-dir``, created when missing.
        config: plain dict of settings, written to config.json.
        first_step: the step training continues from.
        total_steps: length of the progress bar.
        last_epochs: kind of log line ("train", "eval") -> the epoch up to which lines of an
            earlier part of the run are kept; a killed run may have logged more than its last
            checkpoint covers.

    Raises:
        InputError: a file cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        config: dict,
        *,
        first_step: int,
        total_steps: int,
        last_epochs: dict[str, float],
    ) -> None:
        self.folder = Path(folder)
        self.active = distributed.is_main()
        if not self.active:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "config.json", config | {"environment": _environment()})
        self.records = _read_log(self.folder / "log.jsonl", last_epochs)
        with replacing(self.folder / "log.jsonl", "w") as file:
            file.writelines(json.dumps(record) + "\n" for record in self.records)
        with self._explain_errors():
            self.lines = (self.folder / "log.jsonl").open("a", buffering=1)
            self.board = SummaryWriter(self.folder / "tensorboard", purge_step=first_step + 1)
        self.progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[status]}"),
            refresh_per_second=2,
            disable=not sys.stderr.isatty(),
        )
        self.task = self.progress.add_task("", total=total_steps, completed=first_step, status="")
        self.progress.start()

    def advance(self) -> None:
        """Count one optimizer step in the progress bar."""
        if self.active:
            self.progress.advance(self.task)

    def train_step(self, step: int, epoch: float, values: dict[str, float]) -> None:
        """Record losses, learning rate and times of a log step."""
        if not self.active:
            return
        self._write("train", step, epoch, values)
        status = f"loss {values['loss']:.3f}  lr {values['lr']:.2g}"
        self.progress.update(self.task, status=status)
        if not sys.stderr.isatty():
            left = (self.progress.tasks[0].total - step) * values["seconds_per_step"]
            losses = "  ".join(f"{k} {v:.3f}" for k, v in values.items() if k.startswith("loss"))
            print(
                f"step {step}/{self.progress.tasks[0].total}  epoch {epoch:.2f}  {losses}  "
                f"lr {values['lr']:.3g}  {values['seconds_per_step']:.2f} s/step  "
                f"{values['samples_per_second']:.2f} samples/s  eta {_hours(left)}",
                file=sys.stderr,
                flush=True,
            )

    def evaluation(self, step: int, epoch: float, metrics: dict[str, Any], best: dict) -> None:
        """Record an evaluation, rewrite metrics.json and redraw the curves."""
        if not self.active:
            return
        self._write("eval", step, epoch, flatten_scalars(metrics))
        latest = {"step": step, "epoch": epoch, "metrics": metrics}
        write_json(self.folder / "metrics.json", {"latest": latest, "best": best})
        draw_curves(self.records, self.folder / "curves.png")

    def close(self) -> None:
        """End the bar and flush the writers."""
        if self.active:
            self.progress.stop()
            with self._explain_errors():
                self.board.close()
                self.lines.close()

    def _write(self, kind: str, step: int, epoch: float, values: dict[str, float]) -> None:
        record = _without_nan({"kind": kind, "step": step, "epoch": round(epoch, 4), **values})
        self.records.append(record)
        with self._explain_errors():
            self.lines.write(json.dumps(record) + "\n")
            for name, value in values.items():
                self.board.add_scalar(f"{kind}/{name}", value, step)

    def _explain_errors(self) -> contextlib.AbstractContextManager:
        return explain_os_errors(self.folder, "cannot write the log in")


class LogWindow:
    """Sums over the steps between two log lines; the losses stay on the device."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.steps = 0
        self.good_steps = 0
        self.waited = 0.0
        self.losses: dict[str, Tensor] = {}

    def add(self, losses: dict[str, Tensor], waited: float) -> None:
        """Add one step: its losses, {} if it was skipped, and the seconds waited for data."""
        self.steps += 1
        self.good_steps += bool(losses)
        self.waited += waited
        for name, value in losses.items():
            self.losses[name] = self.losses.get(name, 0) + value

    def mean_losses(self) -> dict[str, float]:
        """Mean losses over the steps not skipped and over all ranks. All ranks call it."""
        if not self.good_steps:
            return {"loss": float("nan")}
        sums = distributed.sum_over_ranks(torch.stack(list(self.losses.values())))
        means = sums / (self.good_steps * distributed.world_size())
        return dict(zip(self.losses, means.tolist(), strict=True))

    def seconds(self) -> float:
        """Wall time in seconds since the window opened, without pauses."""
        return time.perf_counter() - self.started

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of the block."""
        before = time.perf_counter()
        yield
        self.started += time.perf_counter() - before


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically; NaN and infinity become null, since JSON has neither."""
    with replacing(path, "w") as file:
        json.dump(_without_nan(content), file, indent=2)
        file.write("\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def flatten_scalars(tree: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """{"box": {"AP": .4}} -> {"box/AP": .4}; anything that is not a number is left out."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten_scalars(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[prefix + name] = value
    return flat


def is_drawn(metric: str) -> bool:
    """Whether curves.png shows a metric: the main ones, not those of every single category."""
    return metric.endswith(DRAWN) and not metric.startswith("per_class/")


def draw_curves(records: list[dict[str, Any]], path: Path) -> None:
    """Draw the losses (left, smoothed) and the DRAWN metrics (right) over the epochs as a PNG."""
    # Imported here, since importing matplotlib is slow and most commands never draw.
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    right.set_prop_cycle(color=colormaps["tab20"].colors)
    train = [r for r in records if r["kind"] == "train"]
    for name in sorted({key for r in train for key in r if key.startswith("loss")}):
        epochs, values = _points(train, name)
        left.plot(epochs, _smooth(values), label=name, linewidth=2 if name == "loss" else 1)
    evaluations = [r for r in records if r["kind"] == "eval"]
    for name in sorted({key for r in evaluations for key in r if is_drawn(key)}):
        right.plot(*_points(evaluations, name), marker="o", markersize=3, label=name)
    for axis, title in ((left, "training loss"), (right, "validation")):
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
        if axis.lines:  # beside the curves, since several datasets have dozens
            axis.legend(fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    # Learned task weights can turn a loss negative.
    left.set_ylim(bottom=0 if left.dataLim.y0 >= 0 else None)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)


def _points(records: list[dict[str, Any]], name: str) -> np.ndarray:
    """Epochs and values f64[2,N], without records that lack the value (all steps skipped)."""
    points = [(r["epoch"], r[name]) for r in records if r.get(name) is not None]
    return np.array(points, np.float64).reshape(-1, 2).T


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centered moving average f64[N] over a fiftieth of the values, shorter at the ends."""
    if not values.size:
        return values
    width = max(len(values) // 50, 1)
    kernel = np.ones(width)
    weight = np.convolve(np.ones_like(values), kernel, mode="same")
    return np.convolve(values, kernel, mode="same") / weight


def _read_log(path: Path, last_epochs: dict[str, float]) -> list[dict[str, Any]]:
    """The log lines of an earlier part of this run up to ``last_epochs``; skips incomplete lines.

    Compared by epoch, since steps change with the global batch size.
    """
    records = []
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if record["epoch"] <= last_epochs[record["kind"]] + ROUNDING:
                records.append(record)
    return records


def _environment() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "command": shlex.join(sys.argv),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "gpu": gpu,
        "world_size": distributed.world_size(),
    }


def _hours(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
