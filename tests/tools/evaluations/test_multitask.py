"""``evaluate.py multitask``: a small untrained model, a table of photos, files and bad input."""

import csv
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.checkpoint import save_checkpoint
from engine.config import plain
from engine.data.labels import LabelGroup, LabelSpace, Source
from engine.description.multitask import build_multitask
from engine.pixels.view_transform import MultitaskAugmentation
from tests.datasets import write_photo
from tests.ranks import run_ranks
from tools import evaluate
from tools.evaluations import multitask

LABELS = LabelSpace(
    (
        LabelGroup("category", ("coat", "dress", "hat"), True),
        LabelGroup("color", ("red", "blue"), True),
    ),
    (Source("shop", {"category": (0, 1, 2), "color": (0, 1)}),),
)
TASKS = ("category", "attributes", "item", "color")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A small untrained model."""
    torch.manual_seed(0)
    model = build_multitask(LABELS, trunk="resnet18", weights="none", tasks=TASKS)
    cropping = plain(MultitaskAugmentation(crop_size=32))
    checkpoint = {
        "format": 1, "kind": "multitask", "step": 0, "epoch": 0.0, "best": {},
        "config": {"trunk": "resnet18", "tasks": list(TASKS), "augmentation": cropping},
        "categories": ["coat", "dress", "hat"], "category_ids": [1, 2, 3],
        "attributes": ["red", "blue"], "labels": LABELS.to_plain(), "model": model.state_dict(),
    }  # fmt: skip
    path = tmp_path_factory.mktemp("weights") / "multitask.pt"
    save_checkpoint(checkpoint, path)
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """Eleven photos of four products: main and back views, one category unknown to the model."""
    root = tmp_path_factory.mktemp("data") / "shop"
    rows = []
    for i in range(11):
        write_photo(root / f"{i}.jpg", 40, 52, seed=i)
        category = ("coat", "dress", "poncho")[i % 3]
        view = "back" if i % 2 else "main"
        rows.append([f"{i}.jpg", category, f"P{i // 3}", ("red", "blue")[i % 2], view])
    with (root / "labels.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "category", "item_id", "color", "view"])
        writer.writerows(rows)
    return root


def run(*arguments: object) -> int:
    """Run the script in this process; returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        evaluate.main([str(argument) for argument in ("multitask", *arguments, "--device", "cpu")])
    logger = logging.getLogger("weft")  # as other tests expect to find it
    logger.handlers.clear()
    logger.propagate = True
    return ended.value.code


def test_metrics_tables_and_files(weights: Path, shop: Path, tmp_path: Path, capsys) -> None:
    views = ("--query-views", "back", "--gallery-view", "main")
    data = ("--weights", weights, "--dataset", f"csv:{shop}", "-b", "4")
    assert run(*data, *views, "--output-dir", tmp_path / "alone") == 0
    printed = capsys.readouterr().out
    for word in (
        "shop: 11 garments",
        "top-1",
        "poncho (",
        "R@1",
        "P@10 color",
    ):
        assert word in printed
    metrics = json.loads((tmp_path / "alone" / "metrics.json").read_text())
    category = metrics["shop"]["category"]
    assert category["labelled"] == 11
    assert category["unheard_of"] == {"poncho": 3}
    assert category["top1"] <= 8 / 11
    assert metrics["shop"]["item"]["queries"] > 0
    assert set(metrics["shop"]["color"]) >= {"top1", "P@10_color", "intervals"}
    names = {path.name for path in (tmp_path / "alone").iterdir()}
    assert {"report_shop_category.txt", "confusion_shop_color.csv"} <= names
    assert {"confusion_shop_category.png", "neighbors_shop.jpg"} <= names
    table = list(csv.reader((tmp_path / "alone" / "confusion_shop_category.csv").open()))
    assert np.array([row[1:] for row in table[1:]], int).sum() == 11

    assert run_ranks(2, run, *data, *views, "--output-dir", tmp_path / "two") == [0, 0]
    assert json.loads((tmp_path / "two" / "metrics.json").read_text()) == metrics


def test_datasets_and_groups_of_similar_names_have_their_own_files(
    tmp_path: Path, monkeypatch
) -> None:
    answer = np.eye(2), np.arange(2)
    monkeypatch.setattr(multitask, "scores_in_dataset_values", lambda *_: answer)
    monkeypatch.setattr(multitask, "draw_confusion", lambda *_: None)
    taken: set[str] = set()
    for name, group in (("a b", "c"), ("a_b", "c"), ("a", "b_c"), ("a", "b c")):
        labels = LabelSpace((LabelGroup(group, ("x", "y"), True),), ())
        part = SimpleNamespace(name=name, labels=labels)
        multitask._write_groups(tmp_path, taken, part, None, labels, {})
    assert len(list(tmp_path.glob("report_*"))) == len(list(tmp_path.glob("confusion_*"))) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "nowhere.pt"], "nowhere.pt"),
        (["--dataset", "csv:nowhere"], "nowhere"),
        (["--dataset", "xml:SHOP"], "xml"),
        (["--dataset", "csv:SHOP"], "give each its own with name="),
        (["--gallery-view", "main"], "give both"),
        (["-b", "0"], "--batch-size 0"),
        (["--crop-size", "3"], "--crop-size 3"),
        (["--output-dir", "WEIGHTS/under"], "cannot make the folder"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    weights: Path, shop: Path, capsys, arguments: list[str], message: str
) -> None:
    given = [text.replace("WEIGHTS", str(weights)).replace("SHOP", str(shop)) for text in arguments]
    assert run("--weights", weights, "--dataset", f"csv:{shop}", *given) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert message in errors[0]


def test_unknown_views_are_refused_by_name(weights: Path, shop: Path, capsys) -> None:
    flags = ("--query-views", "front", "--gallery-view", "main")
    assert run("--weights", weights, "--dataset", f"csv:{shop}", *flags) == 2
    assert "front" in capsys.readouterr().err
