"""What a resumed run restores and refuses, on the tiny network of test_loop.py."""

from pathlib import Path

import pytest
from torch import nn

from engine.checkpoint import load_checkpoint, save_checkpoint, weights_of
from engine.errors import InputError
from tests.engine.training.test_loop import make_trainer, score, train_and_die


def test_a_changed_best_metric_is_compared_by_its_own_values(tmp_path):
    def judge(model):
        return score(model) | {"other": {"AP": 5.0}}

    first = make_trainer(tmp_path, epochs=1, evaluate=judge).fit()
    trainer = make_trainer(tmp_path, epochs=1, evaluate=judge, best_metric="other/AP")
    assert trainer.state.best == first | {"metric": "other/AP", "value": 5.0}
    trainer = make_trainer(tmp_path, epochs=1, evaluate=judge, best_metric="third/AP")
    assert trainer.state.best == {}


def test_the_runs_own_checkpoint_takes_precedence_over_a_given_file(tmp_path):
    train_and_die(tmp_path / "a", 3)
    start = str(tmp_path / "a" / "checkpoint_latest.pt")
    train_and_die(tmp_path / "b", 5, resume=start)
    assert make_trainer(tmp_path / "b", resume=start).state.step == 5


def test_a_run_resumed_in_another_folder_has_its_own_best(tmp_path):
    """The first run's best weights are not in the second run's folder."""
    make_trainer(tmp_path / "a", epochs=1, evaluate=lambda model: {"fit": {"AP": 1.0}}).fit()
    start = str(tmp_path / "a" / "checkpoint_latest.pt")
    worse = {"epochs": 2, "evaluate": lambda model: {"fit": {"AP": 0.5}}}
    best = make_trainer(tmp_path / "b", resume=start, **worse).fit()
    assert (best["epoch"], best["value"]) == (2, 0.5)
    assert load_checkpoint(tmp_path / "b" / "checkpoint_best.pt")["step"] == best["step"]
    assert make_trainer(tmp_path / "a", **worse).fit()["value"] == 1.0


def test_a_resumed_run_uses_its_new_settings(tmp_path):
    train_and_die(tmp_path, 3, optimizer="sgd")
    now = {"weight_decay": 0.5, "momentum": 0.25, "backbone_lr_factor": 0.125}
    trainer = make_trainer(tmp_path, optimizer="sgd", **now)
    groups = trainer.state.optimizer.param_groups
    assert {g["weight_decay"] for g in groups} == {0.0, 0.5}
    assert {g["momentum"] for g in groups} == {0.25}
    assert {g["lr_scale"] for g in groups} == {0.125, 1.0}
    moments = trainer.state.optimizer.state_dict()["state"]
    assert all(state["momentum_buffer"].abs().sum() > 0 for state in moments.values())


def test_a_run_can_be_resumed_in_another_precision(tmp_path):
    train_and_die(tmp_path, 3)
    trainer = make_trainer(tmp_path, precision="fp16")
    assert trainer.state.step == 3


def test_a_run_of_another_optimizer_is_refused(tmp_path):
    train_and_die(tmp_path, 3, optimizer="adamw")
    with pytest.raises(InputError, match="was trained with --optimizer adamw"):
        make_trainer(tmp_path, optimizer="sgd")


def test_a_run_of_another_network_is_refused(tmp_path):
    make_trainer(tmp_path, epochs=1).fit()
    with pytest.raises(InputError, match="does not fit the network"):
        make_trainer(tmp_path, nn.Linear(2, 2))


def test_a_changed_global_batch_keeps_the_epoch(tmp_path):
    train_and_die(tmp_path, 7)
    trainer = make_trainer(tmp_path, batch_size=7)
    assert (trainer.state.step, trainer.state.epoch) == (2, 1.0)
    assert (trainer.state.evaluated_step, trainer.state.best["step"]) == (2, 2)


def test_a_best_value_of_nan_is_dropped(tmp_path):
    trainer = make_trainer(tmp_path, epochs=1)
    trainer.state.best = {"value": float("nan"), "metric": "fit/AP", "metrics": {}}
    trainer.state.use_best_metric("fit/AP")
    assert trainer.state.best == {}


@pytest.fixture(scope="module")
def dead_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dead")
    train_and_die(folder, 3)
    return folder / "checkpoint_latest.pt"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (weights_of, "weights without training state; give it as --weights"),
        (lambda c: c | {"categories": ["hat"]}, "categories hat, this dataset has point; choose"),
        (lambda c: c | {"labels": {"color": ["red"]}}, "was trained on other datasets or labels"),
        (lambda c: c | {"kind": "multitask"}, "to start over choose another --output-dir"),
    ],
)
def test_checkpoints_of_other_runs_are_refused(tmp_path, dead_run, change, sentence):
    save_checkpoint(change(load_checkpoint(dead_run)), tmp_path / "checkpoint_latest.pt")
    with pytest.raises(InputError, match=sentence):
        make_trainer(tmp_path)
    assert make_trainer(tmp_path, resume="none").state.step == 0


def test_changed_settings_are_reported_except_harmless_ones(tmp_path, dead_run, caplog):
    make_trainer(tmp_path, resume=str(dead_run), momentum=0.5, log_every=3)
    (message,) = [r.message for r in caplog.records if "settings changed" in r.message]
    assert message == "settings changed since the checkpoint: momentum 0.9 -> 0.5"
