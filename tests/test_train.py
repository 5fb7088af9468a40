"""train.py as users run it: a small training, killed and continued, on one and two processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.checkpoint import load_checkpoint
from engine.detection.detector_config import DetectorConfig
from engine.errors import InputError
from tests.datasets import coco_document, write_coco
from tests.engine.training.test_loop import make_trainer
from tests.kills import kill_at_step
from train import load_splits

ROOT = Path(__file__).parents[1]
SMALL = [
    "--backbone", "resnet18", "--weights", "none", "--short-sides", "64", "96", "--max-side", "128",
    "--test-short-side", "64", "--test-max-side", "128", "--rois-per-image", "8", "--lr", "0.002",
    "--device", "cpu", "--seed", "7",
]  # fmt: skip


@pytest.fixture(scope="module")
def wardrobe(tmp_path_factory) -> Path:
    """Seven training and three validation photos of rendered garments."""
    folder = tmp_path_factory.mktemp("wardrobe") / "set"
    command = [
        sys.executable, "tools/make_wardrobe.py", "--output", str(folder),
        "--count", "7", "--val-count", "3", "--size", "128",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def command_for(data: Path, output: Path, *flags: str, processes: int = 1) -> list[str]:
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    required = ["--dataset", "deepfashion2", "--data-path", str(data), "--output-dir", str(output)]
    return [*launch, "train.py", "detector", *required, *SMALL, *flags]


def run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def train(data: Path, output: Path, *flags: str, processes: int = 1) -> dict:
    done = run(command_for(data, output, *flags, processes=processes))
    assert done.returncode == 0, done.stderr
    return load_checkpoint(output / "checkpoint_latest.pt", "detector")


RESUME = ["--log-every", "1", "--checkpoint-every", "1", "--ema-decay", "0.9", "-b", "1", "-j", "1"]


@pytest.mark.parametrize(("processes", "flags"), [(1, ("--accumulate", "2")), (2, ())])
def test_a_run_killed_mid_epoch_ends_bit_for_bit_like_an_uninterrupted_one(
    wardrobe, tmp_path, processes, flags
):
    options = [*RESUME, *flags, "--epochs", "2", "--eval-every", "2"]
    whole = train(wardrobe, tmp_path / "whole", *options, processes=processes)
    command = command_for(wardrobe, tmp_path / "cut", *options, processes=processes)
    kill_at_step(command, tmp_path / "cut" / "log.jsonl", 2)
    cut_at = load_checkpoint(tmp_path / "cut" / "checkpoint_latest.pt")["step"]
    cut = train(wardrobe, tmp_path / "cut", *options, processes=processes)
    assert 1 <= cut_at < whole["step"] == cut["step"] == 8
    for part in ("model", "ema"):
        assert all(torch.equal(whole[part][name], cut[part][name]) for name in whole[part])
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut/log.jsonl").open()]
    assert steps == [*range(1, 9), 8]


def test_validation_photos_go_by_the_categories_names(tmp_path):
    document = coco_document()
    write_coco(tmp_path, document)
    document["categories"] = [{"id": 8, "name": "top"}, {"id": 3, "name": "skirt"}]
    write_coco(tmp_path, document, "val")
    config = DetectorConfig(data_path=str(tmp_path), output_dir=str(tmp_path / "run"))
    train, val = load_splits(config)
    assert train.garment_category.tolist() == [0, 1, 1, 0]
    assert (val.categories, val.category_ids) == (train.categories, train.category_ids)
    assert val.garment_category.tolist() == [1, 0, 0, 1]
    document["categories"][0]["name"] = "hat"
    write_coco(tmp_path, document, "val")
    with pytest.raises(InputError, match="has the categories hat, the training split only top, s"):
        load_splits(config)


def test_run_folder_test_only_and_class_agnostic(wardrobe, tmp_path):
    flags = ["--epochs", "1", "-b", "2", "-j", "0", "--class-agnostic", "--lsj-size", "96"]
    checkpoint = train(wardrobe, tmp_path, *flags)
    assert checkpoint["categories"] == ["garment"]
    assert checkpoint["config"]["augmentation"]["lsj_size"] == 96
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    numbers = metrics["best"]["metrics"]
    assert numbers["box"].keys() == numbers["mask"].keys()
    assert len(numbers["box"]) == 12
    (tmp_path / "metrics.json").unlink()
    assert run([*command_for(wardrobe, tmp_path, *flags), "--test-only"]).returncode == 0
    again = json.loads((tmp_path / "metrics.json").read_text())
    assert again["latest"]["metrics"] == numbers


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data-path", "/nowhere"], "/nowhere"),
        (["--epochs", "0"], "--epochs"),
        (["--weights", "missing.pt"], "missing.pt"),
        (["--dataset", "coco"], "annotation"),
        (["--device", "cuda"], "GPU"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(wardrobe, tmp_path, flags, words):
    if flags == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = run(command_for(wardrobe, tmp_path, *flags))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert words in done.stderr.splitlines()[-1]


def test_a_folder_that_cannot_be_made_is_told_before_the_evaluation(tmp_path):
    (tmp_path / "file").touch()

    def evaluate(model):
        raise AssertionError("judged in vain")

    trainer = make_trainer(tmp_path / "file", evaluate=evaluate)
    with pytest.raises(InputError, match="cannot make the folder"):
        trainer.evaluate_only()
