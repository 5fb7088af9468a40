"""The training loop on a tiny network: exact resume, equal splits, skipped steps, early stop."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import train
from engine import distributed
from engine.checkpoint import load_checkpoint
from engine.config import TrainingConfig, plain
from engine.detection.detector_config import DetectorConfig
from engine.errors import InputError
from engine.lock import Lock
from engine.training import loop
from engine.training.loop import Task, Trainer, global_batch, sole_writer, step_seed
from engine.training.samplers import Draw, GlobalBatches
from tests.ranks import run_ranks


class Points(Dataset):
    """Sample i is a point that depends on all fields of its draw."""

    def __init__(self, count: int, bad: tuple[int, ...] = ()) -> None:
        self.count = count
        self.bad = bad

    def __getitem__(self, draw: Draw):
        rng = np.random.default_rng([draw.index, draw.epoch, draw.copy])
        x = torch.from_numpy(rng.normal(size=5)).float()
        return x * (float("nan") if draw.index in self.bad else 1), x.sum()

    def __len__(self) -> int:
        return self.count


class Net(nn.Module):
    """Two losses, batch norm, dropout from the global generator and a frozen layer."""

    def __init__(self, noise: float = 0.3) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.backbone = nn.ModuleDict({"body": nn.Linear(5, 7)})
        self.norm = nn.BatchNorm1d(7)
        self.drop = nn.Dropout(noise)
        self.head = nn.Linear(7, 1)
        self.frozen = nn.Linear(7, 1).requires_grad_(False)

    def forward(self, images, targets):
        features = self.drop(self.norm(self.backbone["body"](images)))
        error = (self.head(features)[:, 0] - targets) ** 2
        return {"loss_error": error.mean(), "loss_size": self.frozen(features).pow(2).mean() * 0.1}


def collate(samples: list) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.stack(column) for column in zip(*samples, strict=True))


def score(model: nn.Module) -> dict:
    assert not model.training
    return {"fit": {"AP": -sum(p.abs().sum().item() for p in model.parameters())}}


def make_trainer(folder: Path, net: nn.Module | None = None, *, points=14, bad=(), evaluate=score,
                 best_metric="fit/AP", **changes) -> Trainer:  # fmt: skip
    settings = {
        "epochs": 2, "batch_size": 2, "workers": 0, "lr": 0.05, "log_every": 1, "warmup_steps": 2,
        "checkpoint_every": 1, "ema_decay": 0.9, "lr_schedule": "cosine", "accumulate": 1,
    }  # fmt: skip
    config = TrainingConfig(output_dir=str(folder), **(settings | changes))
    batches = GlobalBatches(
        groups=np.zeros(points, dtype=int), factors=np.ones(points),
        batch_size=global_batch(config), seed=config.seed,
    )  # fmt: skip
    labels = {"categories": ["point"], "category_ids": [1], "attributes": []}
    task = Task(
        "detector", plain(config), labels, Points(points, bad), collate, batches, evaluate,
        best_metric,
    )  # fmt: skip
    return Trainer(net or Net(), task, config, torch.device("cpu"))


class Killed(Exception):
    pass


def train_and_die(folder: Path, after: int, **changes) -> None:
    """Train, and fail in the middle of the step after ``after``."""
    trainer = make_trainer(folder, **changes)
    step = trainer._train_step

    def mortal(batches):
        if trainer.state.step == after:
            raise Killed
        return step(batches)

    trainer._train_step = mortal
    with pytest.raises(Killed):
        trainer.fit()


def final_state(folder: Path) -> dict:
    return load_checkpoint(Path(folder) / "checkpoint_latest.pt")


def same(a, b) -> bool:
    """Bitwise equality of nested plain data."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


KEYS = ("step", "model", "ema", "optimizer", "best", "evaluations_since_best")
VARIANTS = [{}, {"accumulate": 2, "points": 28}, {"optimizer": "adamw", "ema_decay": 0.0},
            {"precision": "bf16"}, {"workers": 1}, {"frozen_epochs": 1}]  # fmt: skip


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_killed_run_continues_bit_for_bit(tmp_path, changes):
    make_trainer(tmp_path / "whole", **changes).fit()
    whole, steps = final_state(tmp_path / "whole"), logged(tmp_path / "whole")
    assert whole["step"] == 14
    for after in (3, 7, 10):  # mid-epoch, at an epoch's end, in the second epoch
        folder = tmp_path / f"cut after {after}"
        train_and_die(folder, after, **changes)
        make_trainer(folder, **changes).fit()
        cut = final_state(folder)
        assert all(same(whole[key], cut[key]) for key in KEYS)
        assert logged(folder) == steps


def logged(folder: Path) -> list[tuple]:
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [(r["kind"], r["step"], r.get("loss")) for r in records]


def fit_on_ranks(folder: str, after: int, changes: dict) -> dict:
    if after:
        train_and_die(Path(folder), after, **changes)
    trainer = make_trainer(Path(folder), **changes)
    trainer.fit()
    return {"state": trainer.state.model.state_dict(), "rank": distributed.rank()}


@pytest.mark.parametrize("changes", [{"points": 28}, {"points": 28, "accumulate": 2}], ids=str)
def test_two_processes_resume_bit_for_bit_and_stay_equal(tmp_path, changes):
    whole = run_ranks(2, fit_on_ranks, str(tmp_path / "whole"), 0, changes)
    cut = run_ranks(2, fit_on_ranks, str(tmp_path / "cut"), 3, changes)
    assert same(whole[0]["state"], whole[1]["state"])
    assert all(same(a["state"], b["state"]) for a, b in zip(whole, cut, strict=True))


class LinearNet(Net):
    """Without batch statistics or noise, so that a batch's gradient is the mean of its parts."""

    def __init__(self) -> None:
        super().__init__(noise=0.0)
        self.norm = nn.Identity()


def fit_linear(folder: str, changes: dict) -> torch.Tensor:
    trainer = make_trainer(Path(folder), LinearNet(), points=12, **changes)
    trainer.fit()
    return trainer.state.model.backbone["body"].weight.detach()


def test_processes_and_micro_batches_train_as_one_process_with_the_same_global_batch(tmp_path):
    alone = fit_linear(str(tmp_path / "1"), {"batch_size": 6})
    micro = fit_linear(str(tmp_path / "m"), {"batch_size": 2, "accumulate": 3})
    two = run_ranks(2, fit_linear, str(tmp_path / "2"), {"batch_size": 3})
    three = run_ranks(3, fit_linear, str(tmp_path / "3"), {"batch_size": 1, "accumulate": 2})
    for weights in (micro, *two, *three):
        torch.testing.assert_close(weights, alone, rtol=1e-5, atol=1e-6)


def fit_in_stages(folder: str, batch_size: int) -> list[torch.Tensor]:
    """Backbone and head weights before each step and at the end."""
    trainer = make_trainer(
        Path(folder), LinearNet(), points=12, batch_size=batch_size, epochs=3, frozen_epochs=1,
        momentum=0.0, weight_decay=0.1,
    )  # fmt: skip
    net, step, seen = trainer.state.model, trainer._train_step, []

    def watched(batches):
        seen.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
        return step(batches)

    trainer._train_step = watched
    trainer.fit()
    return [*seen, torch.cat([p.detach().flatten() for p in net.parameters()])]


def test_a_frozen_backbone_trains_later_on_any_number_of_processes(tmp_path):
    alone = fit_in_stages(str(tmp_path / "1"), 6)
    backbone = slice(0, 5 * 7 + 7)
    assert len(alone) == 7  # two steps an epoch
    assert torch.equal(alone[0][backbone], alone[2][backbone])
    assert not torch.equal(alone[0], alone[2])
    later = [weights[backbone] for weights in alone[2:]]
    assert not any(torch.equal(a, b) for a, b in pairwise(later))
    for weights in run_ranks(2, fit_in_stages, str(tmp_path / "2"), 3):
        torch.testing.assert_close(torch.stack(weights), torch.stack(alone), rtol=1e-5, atol=1e-6)


def test_it_logs_means_and_saves_every_few_steps(tmp_path):
    make_trainer(tmp_path / "each", evaluate=None).fit()
    losses = [loss for _, _, loss in logged(tmp_path / "each")]
    make_trainer(tmp_path / "few", evaluate=None, log_every=5).fit()
    kinds, steps, means = zip(*logged(tmp_path / "few"), strict=True)
    assert (set(kinds), steps) == ({"train"}, (5, 10, 14))
    parts = losses[:5], losses[5:10], losses[10:]
    assert means == pytest.approx([sum(part) / len(part) for part in parts])
    train_and_die(tmp_path / "killed", 6, evaluate=None, checkpoint_every=4)
    assert final_state(tmp_path / "killed")["step"] == 4


@pytest.mark.parametrize(("every", "epochs"), [(0, []), (2, [2, 3])])
def test_it_evaluates_every_few_epochs_and_at_the_end(tmp_path, every, epochs):
    make_trainer(tmp_path, points=4, epochs=3, eval_every=every).fit()
    judged = [step / 2 for kind, step, _ in logged(tmp_path) if kind == "eval"]
    assert judged == epochs


def test_large_gradients_are_clipped(tmp_path):
    trainer = make_trainer(tmp_path, LinearNet(), points=2, epochs=1, evaluate=None,
                           clip_norm=0.01, momentum=0.0, weight_decay=0.0)  # fmt: skip
    before = [p.detach().clone() for p in trainer.trainable]
    trainer.fit()
    moved = [(p.detach() - b).norm() for p, b in zip(trainer.trainable, before, strict=True)]
    (rate,) = {group["lr"] for group in trainer.state.optimizer.param_groups}
    assert torch.stack(moved).norm().item() == pytest.approx(rate * 0.01, rel=1e-3)


def test_every_forward_pass_has_its_own_seed():
    places = [(step, rank, micro) for step in range(4) for rank in range(3) for micro in range(2)]
    assert len({step_seed(0, *place) for place in places}) == len(places)
    assert step_seed(0, 1, 0, 0) != step_seed(1, 1, 0, 0)


def test_after_an_unknown_best_metric_the_run_can_be_resumed(tmp_path):
    def evaluate(model):
        return {"fit": {"PQ": 0.5}, "photos": 3}

    with pytest.raises(
        InputError, match="--best-metric fit/AP: the evaluation gives fit/PQ, photos"
    ):
        make_trainer(tmp_path, evaluate=evaluate, epochs=1).fit()
    assert make_trainer(tmp_path, epochs=1).fit()["step"] == 7


def test_a_bad_batch_is_skipped_and_the_rest_trains(tmp_path, caplog):
    make_trainer(tmp_path, bad=(4,), max_bad_steps=2).fit()  # one an epoch, so never in a row
    state = final_state(tmp_path)
    assert (state["step"], state["bad_steps"]) == (14, 0)
    assert all(torch.isfinite(v).all() for v in state["model"].values())
    assert state["model"]["norm.num_batches_tracked"] == 12
    assert sum("skipped" in record.message for record in caplog.records) == 2


def bad_on_one_rank(folder: str) -> tuple:
    trainer = make_trainer(Path(folder), LinearNet(), bad=(4,), batch_size=1, epochs=1)
    trainer.fit()
    return trainer.state.step, trainer.state.model.backbone["body"].weight.detach()


def test_a_bad_batch_on_one_rank_is_skipped_by_all(tmp_path):
    (step_a, a), (step_b, b) = run_ranks(2, bad_on_one_rank, str(tmp_path))
    assert step_a == step_b == 7
    assert torch.equal(a, b)
    assert torch.isfinite(a).all()


def test_training_aborts_when_no_step_is_good(tmp_path):
    with pytest.raises(InputError, match="3 steps in a row"):
        make_trainer(tmp_path, bad=tuple(range(14)), max_bad_steps=3).fit()


def test_early_stop_keeps_the_best_weights(tmp_path):
    values = iter([1.0, 3.0, 2.0, 2.5, 9.0])
    steps = []

    def evaluate(model):
        steps.append(model.head.weight.clone())
        return {"fit": {"AP": next(values)}}

    best = make_trainer(tmp_path, evaluate=evaluate, epochs=9, patience=2).fit()
    assert (best["epoch"], best["value"], len(steps)) == (2.0, 3.0, 4)
    weights = load_checkpoint(tmp_path / "checkpoint_best.pt")
    assert torch.equal(weights["model"]["head.weight"], steps[1])
    assert "optimizer" not in weights
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["best"]["value"] == 3.0
    assert metrics["latest"]["metrics"]["fit"]["AP"] == 2.5
    make_trainer(tmp_path, evaluate=evaluate, epochs=9, patience=2).fit()
    assert len(steps) == 4, "a stopped run stays stopped"


def test_nan_is_never_the_best(tmp_path):
    values = iter([float("nan"), 1.0, float("nan"), 2.0])
    best = make_trainer(
        tmp_path, evaluate=lambda model: {"fit": {"AP": next(values)}}, epochs=4, patience=3
    ).fit()
    assert (best["epoch"], best["value"]) == (4.0, 2.0)
    assert load_checkpoint(tmp_path / "checkpoint_best.pt")["epoch"] == 4


def test_a_metric_that_is_always_nan_stops_the_run_without_a_best(tmp_path):
    trainer = make_trainer(
        tmp_path, evaluate=lambda model: {"fit": {"AP": float("nan")}}, epochs=9, patience=2
    )
    assert trainer.fit() == {}
    assert trainer.state.epoch == 2
    assert not (tmp_path / "checkpoint_best.pt").exists()


def test_a_run_killed_before_its_evaluation_evaluates_when_resumed(tmp_path):
    def dies(model):
        raise Killed

    with pytest.raises(Killed):
        make_trainer(tmp_path, evaluate=dies, epochs=1).fit()
    best = make_trainer(tmp_path, epochs=1).fit()
    assert best["step"] == 7


def test_a_run_killed_while_saving_the_best_evaluates_again(tmp_path, monkeypatch):
    def die(checkpoint, path):
        if path.name == "checkpoint_best.pt":
            raise Killed
        save(checkpoint, path)

    save = loop.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", die)
        with pytest.raises(Killed):
            make_trainer(tmp_path, epochs=1).fit()
    best = make_trainer(tmp_path, epochs=1).fit()
    assert (tmp_path / "checkpoint_best.pt").exists()
    assert json.loads((tmp_path / "metrics.json").read_text())["best"] == best
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines].count("eval") == 1


def test_only_one_run_at_a_time_trains_in_a_folder(tmp_path):
    lock = Lock(tmp_path / ".lock", tmp_path, "")
    with pytest.raises(InputError, match="open for writing"), sole_writer(tmp_path):
        pass
    lock.close()
    with sole_writer(tmp_path):
        make_trainer(tmp_path, epochs=1).fit()


def refused(folder: str) -> str:
    try:
        with sole_writer(Path(folder)):
            return ""
    except InputError as error:
        return str(error)


def test_all_processes_report_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    first, second = run_ranks(2, refused, str(tmp_path / "file"))
    assert first == second
    assert "file" in first


def test_a_run_waits_for_the_last_checkpoint_of_a_killed_one(tmp_path, monkeypatch):
    train_and_die(tmp_path / "dying", 3)
    planned = make_trainer(tmp_path / "run")

    def wait_for_the_other(*details, **more) -> Lock:
        shutil.copy(tmp_path / "dying" / "checkpoint_latest.pt", tmp_path / "run")
        return Lock(*details, **more)

    monkeypatch.setattr(loop, "Lock", wait_for_the_other)
    config = DetectorConfig(data_path="", **vars(planned.config))
    train.run(Net(), planned.task, config, torch.device("cpu"), show=print)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["step"] == 4


def test_the_run_folder_holds_all_documented_files(tmp_path):
    make_trainer(tmp_path).fit()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "log.jsonl", "curves.png", "tensorboard", "metrics.json",
                     "checkpoint_latest.pt", "checkpoint_best.pt"}  # fmt: skip
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert {"loss", "loss_error", "loss_size", "lr", "seconds_per_step"} <= record.keys()
    assert record["loss"] == pytest.approx(record["loss_error"] + record["loss_size"])
