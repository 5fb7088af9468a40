"""Learning rate, parameter groups and the weight average, against hand-worked values."""

import pytest
import torch
from torch import nn

from engine.config import TrainingConfig
from engine.training.optim import (
    WeightAverage,
    base_lr,
    build_optimizer,
    lr_factor,
    parameter_groups,
    set_lr,
)


def config(**changes) -> TrainingConfig:
    return TrainingConfig(**({"output_dir": "unused"} | changes))


def test_the_default_rate_scales_with_the_global_batch_and_a_given_rate_does_not():
    assert base_lr(config(), 16) == 0.02
    assert base_lr(config(), 4) == 0.005
    assert base_lr(config(optimizer="adamw"), 64) == 0.0004
    assert base_lr(config(lr=0.3), 4) == 0.3


def test_multistep_by_hand():
    settings = config(epochs=10, lr_steps=(4, 7), warmup_steps=5)
    rates = [lr_factor(step, settings, steps_per_epoch=10) for step in range(100)]
    assert rates[:6] == pytest.approx([0.001, 0.2008, 0.4006, 0.6004, 0.8002, 1.0])
    assert rates[39] == 1.0
    assert rates[40] == rates[69] == pytest.approx(0.1)
    assert rates[70] == rates[99] == pytest.approx(0.01)


def test_cosine_by_hand():
    settings = config(epochs=10, lr_schedule="cosine", warmup_steps=10)
    rates = [lr_factor(step, settings, steps_per_epoch=11) for step in range(110)]
    assert max(rates) == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[109] < 0.001


def test_short_runs_warm_up_for_at_most_a_tenth():
    assert lr_factor(2, config(epochs=1, warmup_steps=500), steps_per_epoch=20) == 1.0


@pytest.mark.parametrize(
    ("optimizer", "weights"),
    # Gradient 0.6, velocity 0.6; then 0.594 and 1.134. Decay by a hundredth, then a whole rate.
    [("sgd", [0.94, 0.8266]), ("adamw", [0.89, 0.7811])],
)
def test_two_optimizer_updates_by_hand(optimizer, weights):
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    update = build_optimizer(net, config(optimizer=optimizer, momentum=0.9, weight_decay=0.1))
    for weight in weights:
        set_lr(update, 0.1)
        net.weight.grad = torch.full((1, 1), 0.5)
        update.step()
        assert net.weight.item() == pytest.approx(weight)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"body": nn.Conv2d(3, 2, 1), "fpn": nn.Conv2d(2, 2, 1)})
        self.norm = nn.BatchNorm2d(2)
        self.head = nn.Linear(2, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_groups_split_body_and_decay_and_skip_frozen_weights():
    net = Net()
    groups = parameter_groups(net, config(weight_decay=0.1, backbone_lr_factor=0.5))
    found = {(g["lr_scale"], g["weight_decay"]): g["params"] for g in groups}
    assert set(found) == {(1.0, 0.0), (1.0, 0.1), (0.5, 0.0), (0.5, 0.1)}
    assert [p is net.backbone["body"].weight for p in found[0.5, 0.1]] == [True]
    assert {id(p) for p in found[1.0, 0.1]} == {
        id(net.backbone["fpn"].weight), id(net.head.weight)
    }  # fmt: skip
    assert sum(len(g["params"]) for g in groups) == 8


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_set_lr_scales_each_group(name):
    optimizer = build_optimizer(Net(), config(optimizer=name, backbone_lr_factor=0.1))
    set_lr(optimizer, 2.0)
    assert sorted(group["lr"] for group in optimizer.param_groups) == [0.2, 0.2, 2.0, 2.0]


def test_weight_average_follows_the_formula_and_copies_buffers():
    net = nn.BatchNorm1d(1)
    average = WeightAverage(net, decay=0.5)
    with torch.no_grad():
        net.weight.fill_(3.0)
        net.running_mean.fill_(7.0)
    average.update(net, updates=1)  # decay (1 + 1) / (10 + 1)
    assert average.model.weight.item() == pytest.approx(1 + (3 - 1) * (1 - 2 / 11))
    assert average.model.running_mean.item() == 7.0
    average.update(net, updates=1000)  # decay capped at 0.5
    assert average.model.weight.item() == pytest.approx((2.6363636 + 3) / 2)
    assert not average.model.training
    assert not any(p.requires_grad for p in average.model.parameters())
