"""The log of a training, and the metrics that its curves show."""

from pathlib import Path

import pytest

from engine.errors import InputError
from engine.training.meters import RunLog, is_drawn

VALUES = {"loss": 2.0, "lr": 0.1, "seconds_per_step": 1.0, "samples_per_second": 1.0}


@pytest.mark.parametrize(
    ("metric", "drawn"),
    [("mask/AP", True), ("shop/category/top1", True), ("per_class/mask/hat/AP", False)],
)
def test_curves_show_main_metrics_only(metric: str, drawn: bool) -> None:
    assert is_drawn(metric) == drawn


@pytest.mark.parametrize("losses", [[float("nan"), 2.0], [float("nan")]])
def test_a_resumed_run_reads_a_log_with_only_skipped_steps(
    tmp_path: Path, losses: list[float]
) -> None:
    log = RunLog(tmp_path, {}, first_step=0, total_steps=3, last_epochs={"train": 0, "eval": 0})
    for step, loss in enumerate(losses, 1):
        log.train_step(step, step / 3, VALUES | {"loss": loss})
    log.close()
    again = RunLog(tmp_path, {}, first_step=2, total_steps=3, last_epochs={"train": 1, "eval": 0})
    again.evaluation(2, 2 / 3, {"mask": {"AP": 0.5}}, {})
    again.close()
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_a_full_disk_is_reported_in_one_sentence(tmp_path: Path) -> None:
    log = RunLog(tmp_path, {}, first_step=0, total_steps=3, last_epochs={})
    log.lines.close()
    sentence = f"cannot write the log in {tmp_path}: No space left on device; free space"
    with Path("/dev/full").open("w", buffering=1) as log.lines:
        with pytest.raises(InputError, match=sentence):
            log.train_step(1, 0.1, VALUES)
        with pytest.raises(InputError, match=sentence):
            log.close()
