"""train.py multitask: a small mix of sets, killed and continued, on one, two and three processes.

Each set labels something else, so that what is known is spread unevenly over batches and processes.
"""

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import resnet18

import train
from engine.checkpoint import load_checkpoint
from engine.description import multitask
from engine.description.multitask import build_multitask_from_checkpoint
from engine.description.multitask_config import MultitaskConfig
from engine.errors import InputError
from engine.pixels.view_transform import MultitaskAugmentation
from engine.training.meters import flatten_scalars
from tests.kills import kill_at_step
from tests.ranks import run_ranks
from tests.test_train import code_of

ROOT = Path(__file__).parents[1]
COLORS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 200)}
SMALL = [
    "--trunk", "resnet18", "--crop-size", "32", "--device", "cpu", "-j", "0", "--lr", "0.01",
    "--optimizer", "sgd", "--seed", "7", "--log-every", "1", "--checkpoint-every", "1",
    "--trainable-layers", "1", "--frozen-epochs", "1", "--photos-per-identity", "2",
]  # fmt: skip


def draw_set(root: Path, columns: list[str], rows: list[list]) -> None:
    """``labels.csv`` and photos: a striped square of the row's color (gray where unknown)."""
    (root / "images").mkdir(parents=True)
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "split", *columns], *rows])
    for number, row in enumerate(rows):
        photo = np.full((40, 34 + number, 3), 245, np.uint8)
        known = [COLORS[value] for value in row if value in COLORS]
        photo[6:36, 5:30] = known[0] if known else (120, 120, 120)
        photo[6 : 36 : 2 + number % 3, 5:30] //= 2
        cv2.imwrite(str(root / "images" / row[0]), photo[..., ::-1])


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Products in three colors, some unknown; wardrobe photos with a category; starting weights."""
    root = tmp_path_factory.mktemp("sets")
    products = [
        [f"p{i}.png", "val" if i > 7 else "train", f"item {i // 2}", color]
        for i, color in enumerate(["red", "red", "", "", "green", "green", "blue", "", "red", ""])
    ]
    draw_set(root / "shop", ["identity", "color"], products)
    worn = [
        [f"w{i}.png", "val" if i % 3 == 2 else "train", name]
        for i, name in enumerate(["top", "dress", "dress", "top", "hat", "top", "", "dress", "top"])
    ]
    draw_set(root / "wardrobe", ["category"], worn)
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), root / "resnet18.pth")
    return root


def flags_for(data: Path, output: Path, *flags: str) -> list[str]:
    sets = ["--dataset", f"csv:{data}/shop:weight=2", f"csv:{data}/wardrobe"]
    start = ["--weights", str(data / "resnet18.pth")]
    return ["multitask", *sets, *start, "--output-dir", str(output), *SMALL, *flags]


def settings(*flags: str) -> tuple[MultitaskConfig, MultitaskAugmentation]:
    """What the flags mean; all randomness that depends on the process is off."""
    sys.argv = ["train.py", *flags]
    arguments = train.parse_arguments()
    return tuple(train.from_arguments(c, arguments) for c in train.NETWORKS["multitask"][2:])


def fit(flags: list[str], *, trained: bool = True) -> dict | None:
    """Train in this process (or rank) and return the last checkpoint."""
    multitask.DROPOUT = 0.0
    config, augmentation = settings(*flags)
    train.train_multitask(config, augmentation, torch.device("cpu"))
    path = Path(config.output_dir) / "checkpoint_latest.pt"
    return load_checkpoint(path, "multitask") if trained else None


@pytest.fixture(autouse=True)
def _undo(monkeypatch) -> None:
    monkeypatch.setattr(multitask, "DROPOUT", multitask.DROPOUT)
    monkeypatch.setattr(sys, "argv", sys.argv)


def test_processes_train_and_evaluate_like_one_with_the_same_global_batch(data, tmp_path):
    def flags(name: str, batch_size: int) -> list[str]:
        options = ["-b", str(batch_size), "--epochs", "2", "--eval-every", "2"]
        return flags_for(data, tmp_path / name, *options, "--task-weights", "learned")

    alone = fit(flags("1", 6))
    trunk = torch.load(data / "resnet18.pth", weights_only=True)
    moved = alone["model"]["backbone.body.layer4.0.conv1.weight"]
    assert not torch.equal(moved, trunk["layer4.0.conv1.weight"])
    assert alone["epoch"] == 2
    expected = alone["best"]["metrics"]
    together, _ = run_ranks(2, fit, flags("2", 3))
    torch.testing.assert_close(together["model"], alone["model"], rtol=1e-5, atol=1e-6)
    assert_alike(together["best"]["metrics"], expected)
    run_ranks(3, fit, [*flags("1", 1), "--test-only"])
    judged = json.loads((tmp_path / "1" / "metrics.json").read_text())
    assert_alike(judged["latest"]["metrics"], expected)


def assert_alike(found: dict, expected: dict) -> None:
    found, expected = flatten_scalars(found), flatten_scalars(expected)
    assert found.keys() == expected.keys()
    assert len(found) > 10
    assert list(found.values()) == pytest.approx(list(expected.values()))


@pytest.mark.parametrize(
    "flags",
    [
        ["--precision", "bf16", "--item-loss", "triplet", "--class-weights", "1", "--balance", "1"],
        ["--tasks", "box", "category", "item", "--whole-photo", "--ema-decay", "0.9"],
        ["--trunk", "mobilenet_v3_large", "--weights", "none", "--frozen-epochs", "0"],
        ["--tasks", "category", "--accumulate", "2", "--optimizer", "adamw"],
    ],
    ids=" ".join,
)
def test_every_way_to_train_takes_finite_steps(data, tmp_path, flags):
    checkpoint = fit(flags_for(data, tmp_path, "-b", "6", "--epochs", "1", *flags))
    assert checkpoint["bad_steps"] == 0
    assert checkpoint["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in checkpoint["model"].values())


def test_compiling_means_the_trunk(data, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: lambda x: ran.append(1) or call(x))
    flags = ["-b", "8", "--epochs", "1", "--compile", "--eval-every", "0", "--tasks", "shape"]
    checkpoint = fit(flags_for(data, tmp_path, *flags))
    assert len(ran) == checkpoint["step"] > 0


def test_one_task_alone_has_its_loss_only(data, tmp_path):
    checkpoint = fit(flags_for(data, tmp_path, "-b", "4", "--epochs", "1", "--tasks", "category"))
    assert checkpoint["config"]["tasks"] == ["category"]
    assert checkpoint["best"]["metrics"].keys() == {"shop", "wardrobe"}
    assert "color" not in checkpoint["best"]["metrics"]["shop"]
    line = (tmp_path / "log.jsonl").read_text().splitlines()[0]
    assert '"loss_category"' in line
    assert '"loss_item"' not in line


def test_photos_in_both_training_and_validation_are_reported(data, tmp_path, caplog):
    sets = ["--dataset", f"csv:{data}/wardrobe:val=train"]
    flags = [*flags_for(data, tmp_path, "--tasks", "category"), "--test-only"]
    start = flags.index("--dataset")
    fit([*flags[:start], *sets, *flags[start + 3 :]], trained=False)
    told = [
        record.message for record in caplog.records if "also in the training data" in record.message
    ]
    assert len(told) == 1
    assert told[0].startswith("wardrobe: 6 of 6 validation photos")


def test_trained_weights_can_be_fine_tuned_on_other_datasets(data, tmp_path, caplog):
    flags = flags_for(data, tmp_path / "a", "-b", "8", "--epochs", "1", "--tasks", "category")
    before = fit(flags)
    draw_set(tmp_path / "new", ["category"], [[f"{i}.png", "train", "abcde"[i]] for i in range(5)])
    start = ["--weights", str(tmp_path / "a" / "checkpoint_best.pt"), "--tasks", "category"]
    sets = ["--dataset", f"csv:{tmp_path}/new:val=none"]
    common = ["--output-dir", str(tmp_path / "b"), "--epochs", "1", "-b", "5", *SMALL]
    after = fit(["multitask", *sets, *start, *common, "--frozen-epochs", "0", "--lr", "1e-9"])
    name = "backbone.body.layer4.0.conv1.weight"
    torch.testing.assert_close(after["model"][name], before["model"][name])
    assert len(after["model"]["classifiers.0.weight"]) == 5


def test_a_run_of_other_datasets_is_not_resumed(data, tmp_path):
    flags = flags_for(data, tmp_path, "-b", "8", "--epochs", "1", "--tasks", "category")
    fit(flags)
    config, augmentation = settings(*flags)
    config = dataclasses.replace(config, dataset=config.dataset[1:])
    with pytest.raises(InputError, match="other datasets or labels"):
        train.train_multitask(config, augmentation, torch.device("cpu"))


def test_a_killed_run_ends_bit_for_bit_alike_and_its_weights_can_be_evaluated(
    data, tmp_path, capsys
):
    def flags(name: str) -> list[str]:
        options = ["-b", "4", "--epochs", "2", "-j", "1", "--ema-decay", "0.9"]
        return flags_for(data, tmp_path / name, *options)

    assert code_of(flags("whole")) == 0
    whole = load_checkpoint(tmp_path / "whole" / "checkpoint_latest.pt")
    command = [sys.executable, "train.py", *flags("cut")]
    kill_at_step(command, tmp_path / "cut" / "log.jsonl", 4)
    cut_at = load_checkpoint(tmp_path / "cut" / "checkpoint_latest.pt")["step"]
    assert subprocess.run(command, cwd=ROOT, timeout=300).returncode == 0
    cut = load_checkpoint(tmp_path / "cut" / "checkpoint_latest.pt")
    assert 3 <= cut_at < whole["step"] == cut["step"]
    for part in ("model", "ema"):
        assert all(torch.equal(whole[part][name], cut[part][name]) for name in whole[part])
    capsys.readouterr()
    assert code_of([*flags("whole"), "--test-only"]) == 0
    assert "wardrobe" in capsys.readouterr().out
    model = build_multitask_from_checkpoint(
        load_checkpoint(tmp_path / "whole" / "checkpoint_best.pt", "multitask")
    )
    assert [group.name for group in model.labels.groups] == ["category", "color"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tasks", "box"], "--whole-photo"),
        (["--tasks", "box", "item", "--whole-photo"], "--tasks box: give category or attributes"),
        (["--best-metric", "nowhere/item/R@1"], "shop, wardrobe"),
        (["--dataset", "csv:/nowhere"], "/nowhere"),
        (["--category-branches"], "--category-branches"),
        (["--weights", "missing.pth"], "missing.pth"),
    ],
)
def test_bad_input_is_one_sentence(data, tmp_path, flags, words):
    with pytest.raises(InputError, match=words):
        fit(flags_for(data, tmp_path, *flags))
