"""train.py as users run it: a small training, killed and continued, on one and two processes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import train
from engine.checkpoint import load_checkpoint
from engine.detection.detector_config import DetectorConfig
from engine.errors import InputError
from tests.datasets import coco_document, write_coco
from tests.engine.training.test_loop import make_trainer
from tests.kills import kill_at_step
from tests.ranks import run_ranks
from tools import make_wardrobe

ROOT = Path(__file__).parents[1]
SMALL = [
    "--backbone", "resnet18", "--weights", "none", "--short-sides", "64", "96", "--max-side", "128",
    "--test-short-side", "64", "--test-max-side", "128", "--rois-per-image", "8", "--lr", "0.002",
    "--pyramid-channels", "16", "--device", "cpu", "--seed", "7",
]  # fmt: skip


@pytest.fixture(scope="module")
def wardrobe(tmp_path_factory) -> Path:
    """Seven training and three validation photos of rendered garments."""
    folder = tmp_path_factory.mktemp("wardrobe") / "set"
    sizes = ("--count", "7", "--val-count", "3", "--size", "128")
    with pytest.raises(SystemExit):
        make_wardrobe.main(["--output", str(folder), *sizes])
    return folder


def flags_for(data: Path, output: Path, *flags: str) -> list[str]:
    required = ["--dataset", "deepfashion2", "--data-path", str(data), "--output-dir", str(output)]
    return ["detector", *required, *SMALL, *flags]


def code_of(flags: list[str]) -> int:
    """The script's exit code, run in this process (or rank)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *flags])
        with pytest.raises(SystemExit) as ended:
            train.main()
    return ended.value.code


def latest(folder: Path) -> dict:
    return load_checkpoint(folder / "checkpoint_latest.pt", "detector")


RESUME = ["--log-every", "1", "--checkpoint-every", "1", "--ema-decay", "0.9", "-b", "1", "-j", "1"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


@pytest.mark.parametrize(
    ("launch", "run_whole", "flags"),
    [
        ([], code_of, ("--accumulate", "2")),
        (TORCHRUN, lambda flags: max(run_ranks(2, code_of, flags)), ()),
    ],
    ids=["python", "torchrun"],
)
def test_a_run_killed_mid_epoch_ends_bit_for_bit_like_an_uninterrupted_one(
    wardrobe, tmp_path, launch: list[str], run_whole: Callable, flags: tuple
):
    options = [*RESUME, *flags, "--epochs", "2", "--eval-every", "2"]
    assert run_whole(flags_for(wardrobe, tmp_path / "whole", *options)) == 0
    whole = latest(tmp_path / "whole")
    flags = flags_for(wardrobe, tmp_path / "cut", *options)
    command = [sys.executable, *launch, "train.py", *flags]
    kill_at_step(command, tmp_path / "cut" / "log.jsonl", 2)
    cut_at = latest(tmp_path / "cut")["step"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    cut = latest(tmp_path / "cut")
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
    learned, val = train.load_splits(config)
    assert learned.garment_category.tolist() == [0, 1, 1, 0]
    assert (val.categories, val.category_ids) == (learned.categories, learned.category_ids)
    assert val.garment_category.tolist() == [1, 0, 0, 1]
    document["categories"][0]["name"] = "hat"
    write_coco(tmp_path, document, "val")
    with pytest.raises(InputError, match="has the categories hat, the training split only top, s"):
        train.load_splits(config)


def test_run_folder_test_only_and_class_agnostic(wardrobe, tmp_path):
    some = ["--epochs", "1", "-b", "2", "-j", "0", "--class-agnostic", "--lsj-size", "96"]
    flags = flags_for(wardrobe, tmp_path, *some)
    assert code_of(flags) == 0
    checkpoint = latest(tmp_path)
    assert checkpoint["categories"] == ["garment"]
    assert checkpoint["config"]["augmentation"]["lsj_size"] == 96
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    numbers = metrics["best"]["metrics"]
    assert numbers["box"].keys() == numbers["mask"].keys()
    assert len(numbers["box"]) == 12
    (tmp_path / "metrics.json").unlink()
    assert code_of([*flags, "--test-only"]) == 0
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
def test_bad_input_is_one_sentence_and_exit_code_2(wardrobe, tmp_path, flags, words, capsys):
    if flags == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert code_of(flags_for(wardrobe, tmp_path, *flags)) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_a_dataset_of_crowds_only_is_refused(tmp_path, capsys):
    """As CVAT exports everything that was painted with its brush."""
    document = coco_document()
    crowds = [annotation | {"iscrowd": 1} for annotation in document["annotations"]]
    data = write_coco(tmp_path / "data", document | {"annotations": crowds})
    flags = flags_for(data, tmp_path / "run", "--dataset", "coco", "--eval-every", "0")
    assert code_of(flags) == 2
    assert "no garment to train on" in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_that_cannot_be_made_is_reported_before_the_evaluation(tmp_path):
    (tmp_path / "file").touch()

    def evaluate(model):
        raise AssertionError("judged in vain")

    trainer = make_trainer(tmp_path / "file", evaluate=evaluate)
    with pytest.raises(InputError, match="cannot make the folder"):
        trainer.evaluate_only()
