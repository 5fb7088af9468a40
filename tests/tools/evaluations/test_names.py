"""``evaluate.py names``: counts worked by hand, on several ranks, and bad input."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from engine.detection import finder
from engine.detection.detections import Detections
from engine.pixels.photos import PhotoError
from tests import ranks
from tests.fake_detector import CATEGORIES, FakeDetector, write_weights
from tools import evaluate
from tools.evaluations import names

# The fake detector calls a photo of this brightness top, bag or hat, by its remainder of 3.
PHOTOS = [
    ("shirt.png", "Shirt", 120), ("polo.png", "Polo", 180), ("dark.png", "Shirt", 60),
    ("taken_for_a_bag.png", "Shirt", 121), ("bag.png", "Bag", 124), ("hat.png", "Cap", 122),
    ("shoe.png", "Shoe", 122),
]  # fmt: skip
WORDS = ("--words", "Shirt=top", "Polo=top", "Bag=bag", "Cap=hat")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    lines = ["file_name,category,split"]
    for name, category, brightness in PHOTOS:
        photo = np.full((40, 60, 3), brightness, np.uint8)
        assert cv2.imwrite(str(tmp_path / name), photo)
        lines.append(f"{name},{category},val")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    write_weights(tmp_path / "d.pt")
    return tmp_path


def run(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finder, "build_from_checkpoint", lambda checkpoint: torch.nn.Identity())
        patch.setattr(finder, "detect_photos", FakeDetector().detect)
        with pytest.raises(SystemExit) as ended:
            evaluate.main(["names", *map(str, arguments)])
    return ended.value.code


def flags(dataset: Path, *more: object) -> tuple:
    return ("--dataset", f"csv:{dataset}", "--detector-weights", dataset / "d.pt", "--device",
            "cpu", "--multitask-weights", "none", *more)  # fmt: skip


def test_counts_by_hand_and_on_any_number_of_processes(dataset: Path, capsys) -> None:
    one, two = dataset / "one", dataset / "two"
    assert run(*flags(dataset, *WORDS, "--output-dir", one)) == 0
    metrics = json.loads((one / "metrics.json").read_text())
    counts = {"photos": 4, "unreadable": 0, "named": 3, "empty": 0, "shown": 4, "right": 3}
    assert metrics["top"] == counts
    counts = {"photos": 6, "unreadable": 0, "named": 5, "empty": 0, "shown": 6, "right": 5}
    assert metrics["all"] == counts
    assert list(metrics) == ["bag", "hat", "top", "all"]
    assert "83.3 %" in capsys.readouterr().out

    for world_size in (2, 3):
        codes = ranks.run_ranks(world_size, run, *flags(dataset, *WORDS, "--output-dir", two))
        assert codes == [0] * world_size
        assert json.loads((two / "metrics.json").read_text()) == metrics


def test_most_limits_photos_per_category(dataset: Path) -> None:
    out = dataset / "out"
    assert run(*flags(dataset, *WORDS, "--most", 1, "--output-dir", out)) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert {name: row["photos"] for name, row in metrics.items()} == {
        "bag": 1, "hat": 1, "top": 1, "all": 3
    }  # fmt: skip


def test_counts_of_one_photo_by_hand() -> None:
    """Several right detections count once as named, each as right; also none, and no photo."""
    detector = SimpleNamespace(categories=CATEGORIES)
    key = 3, "bag"

    def found(*labels: int) -> Detections:
        count = len(labels)
        return Detections(9, 9, np.zeros((count, 4)), np.ones(count), np.array(labels, int), None)

    counts = {"photos": 1, "named": 1, "empty": 0, "shown": 3, "right": 2}
    assert names.count_photo((key, found(2, 1, 2), None), detector, None) == counts
    counts = {"photos": 1, "named": 0, "empty": 1, "shown": 0, "right": 0}
    assert names.count_photo((key, found(), None), detector, None) == counts
    broken = PhotoError("truncated", Path("x.jpg"), "cut off")
    assert names.count_photo((key, broken, None), detector, None) == {"photos": 1, "unreadable": 1}

    described = SimpleNamespace(describe=lambda photo, own, categories: (found(1), []))
    counts = {"photos": 1, "named": 0, "empty": 0, "shown": 1, "right": 0}
    assert names.count_photo((key, found(2), None), detector, described) == counts


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Shirt"], "--words Shirt: write WORD=CATEGORY"),
        (["Shirt=coat"], "name one of top, bag, hat"),
        (["Trousers=top"], "no photo has any of them"),
    ],
)
def test_bad_category_names_are_one_sentence(
    dataset: Path, capsys, words: list[str], message: str
) -> None:
    assert run(*flags(dataset, "--words", *words)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
