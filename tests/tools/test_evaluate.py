"""evaluate.py detector: predictions of a network or from a file, and bad input."""

import json
import logging
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engine.checkpoint import save_checkpoint
from engine.data.labels import LabelGroup, LabelSpace, Source
from engine.description.multitask import build_multitask
from engine.detection.detector import build_detector
from tests.ranks import run_ranks
from tools import evaluate

CATEGORIES = ["coat", "dress"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A small untrained detector that returns every detection, however low its score."""
    torch.manual_seed(0)
    model = build_detector(num_classes=2, backbone="resnet18", weights="none", pyramid_channels=16)
    path = tmp_path_factory.mktemp("weights") / "detector.pt"
    config = {
        "arch": "maskrcnn", "backbone": "resnet18", "masks": True, "class_agnostic": False,
        "test_short_side": 32, "test_max_side": 48, "score_threshold": 0.0, "pyramid_channels": 16,
    }  # fmt: skip
    checkpoint = {
        "format": 1, "kind": "detector", "config": config, "categories": CATEGORIES,
        "category_ids": [3, 8], "attributes": [], "model": model.state_dict(), "step": 0,
        "epoch": 0.0, "best": {},
    }  # fmt: skip
    save_checkpoint(checkpoint, path)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three photos with a garment each, and DeepFashion2's grades in their annotations."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(1, 4):
        pixels = rng.integers(0, 256, (80, 60, 3)).astype(np.uint8)
        assert cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), pixels)
        images.append({"id": i, "file_name": f"{i}.png", "width": 60, "height": 80})
        polygon = [5, 5, 50, 5, 50, 70, 5, 70]
        annotations.append(
            {"id": i, "image_id": i, "category_id": 3 + 5 * (i % 2), "bbox": [5, 5, 45, 65],
             "area": 2925, "iscrowd": 0, "segmentation": [polygon], "scale": 1 + i % 3}
        )  # fmt: skip
    categories = [{"id": 3, "name": "coat"}, {"id": 8, "name": "dress"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "val.json").write_text(json.dumps(content))
    return tmp_path


def run(*arguments: object) -> int:
    """Run the script in this process; returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        evaluate.main([str(argument) for argument in arguments])
    logger = logging.getLogger("weft")  # as other tests expect to find it
    logger.handlers.clear()
    logger.propagate = True
    return ended.value.code


def truth_as_results(dataset: Path) -> list[dict]:
    annotations = json.loads((dataset / "val.json").read_text())["annotations"]
    names = ("image_id", "category_id", "bbox", "segmentation")
    return [{"score": 0.9} | {name: row[name] for name in names} for row in annotations]


def test_network_and_its_result_file_give_the_same_metrics(
    dataset: Path, weights: Path, capsys
) -> None:
    one, other = dataset / "one", dataset / "other"
    data = ("--data-path", dataset, "--device", "cpu")
    assert run("detector", "--weights", weights, *data, "--output-dir", one) == 0
    printed = capsys.readouterr().out
    for word in ("3 photos", "AP50", "box", "mask", "coat", "dress"):
        assert word in printed
    metrics = json.loads((one / "metrics.json").read_text())
    assert metrics["photos"] == 3
    assert metrics["per_class"]["mask"]["dress"]["garments"] == 2
    results = json.loads((one / "coco_results.json").read_text())
    assert {result["image_id"] for result in results} == {1, 2, 3}
    assert {result["category_id"] for result in results} <= {3, 8}

    file = one / "coco_results.json"
    assert run("detector", "--predictions", file, *data, "--output-dir", other) == 0
    assert json.loads((other / "metrics.json").read_text()) == metrics
    assert (other / "coco_results.json").read_text() == file.read_text()

    for sizes in (("--short-side", 28), ("--max-side", 36)):
        assert run("detector", "--weights", weights, *data, *sizes, "--output-dir", other) == 0
        assert (other / "coco_results.json").read_text() != file.read_text()


def test_perfect_results_score_one(dataset: Path, capsys) -> None:
    path = dataset / "results.json"
    path.write_text(json.dumps(truth_as_results(dataset)))
    out = dataset / "out"
    data = ("--data-path", dataset, "--output-dir", out)
    assert run("detector", "--predictions", path, *data) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["box"]["AP"] == metrics["mask"]["AP"] == 1
    assert metrics["box"]["APs"] == -1
    subsets = metrics["subsets"]["mask"]["scale"]
    assert {name: row["garments"] for name, row in subsets.items()} == {
        "small": 1, "modest": 1, "large": 1
    }  # fmt: skip
    assert "modest" in capsys.readouterr().out


def describe_garments(dataset: Path) -> list[list[int]]:
    """Add attributes to the dataset's garments; returns their ids for each garment."""
    document = json.loads((dataset / "val.json").read_text())
    document["attributes"] = [
        {"id": 30 + i, "name": name, "supercategory": "parts"} for i, name in enumerate("abcde")
    ]
    given = [[30, 31], [34], [32, 33]]
    for annotation, ids in zip(document["annotations"], given, strict=True):
        annotation["attribute_ids"] = ids
    (dataset / "val.json").write_text(json.dumps(document))
    return given


def test_attributes_of_a_result_file_are_evaluated(dataset: Path, capsys) -> None:
    results = truth_as_results(dataset)
    for result, ids in zip(results, describe_garments(dataset), strict=True):
        result["attribute_ids"] = ids
    path, out = dataset / "results.json", dataset / "out"
    arguments = ("detector", "--predictions", path, "--data-path", dataset, "--output-dir", out)

    def evaluated() -> dict:
        path.write_text(json.dumps(results))
        assert run(*arguments) == 0
        return json.loads((out / "metrics.json").read_text())

    assert evaluated()["with_attributes"]["mask"]["summary"]["AP"] == 1
    assert "AP50f75" in capsys.readouterr().out
    results[1]["attribute_ids"] = [30, 31, 32, 33]  # the one coat: all wrong
    metrics = evaluated()
    assert metrics["mask"]["AP"] == 1
    assert metrics["with_attributes"]["mask"]["summary"]["AP"] == 0.5
    assert metrics["with_attributes"]["box"]["per_class"]["coat"]["AP"] == 0
    for result in results:
        del result["attribute_ids"]
    assert "with_attributes" not in evaluated()


def write_multitask_weights(path: Path) -> Path:
    """A small untrained model with the dataset's categories and four of its attributes."""
    groups = (
        LabelGroup("category", ("Dress", "coat"), True),
        LabelGroup("parts", ("d", "C", "b", "a"), False),
    )
    vocabulary = {"category": (0, 1), "parts": (0, 1, 2, 3)}
    space = LabelSpace(groups, (Source("x", vocabulary),))
    tasks = ("category", "attributes")
    torch.manual_seed(1)
    model = build_multitask(space, trunk="resnet18", weights="none", tasks=tasks)
    with torch.no_grad():  # sure of all coats, of their parts a and c
        for classifier, bias in zip(model.classifiers, ([-50, 50], [-9, 9, -9, 9]), strict=True):
            classifier.weight.zero_()
            classifier.bias.copy_(torch.tensor(bias))
    config = {"trunk": "resnet18", "tasks": list(tasks), "crop_size": 32, "margin": 0.1}
    checkpoint = {"format": 1, "kind": "multitask", "config": config, "labels": space.to_plain()}
    torch.save(checkpoint | {"model": model.state_dict()}, path)
    return path


def test_both_networks_are_evaluated_together(dataset: Path, weights: Path) -> None:
    describe_garments(dataset)
    model = write_multitask_weights(dataset / "multitask.pt")
    data = ("--data-path", dataset, "--device", "cpu")
    one, two, again = dataset / "one", dataset / "two", dataset / "again"
    flags = ("detector", "--weights", weights, "--multitask-weights", model, *data)
    assert run(*flags, "--output-dir", one) == 0
    results = json.loads((one / "coco_results.json").read_text())
    assert {result["category_id"] for result in results} == {3}  # coats, however they are spelled
    assert {tuple(result["attribute_ids"]) for result in results} == {(30, 32)}
    metrics = json.loads((one / "metrics.json").read_text())
    assert metrics["with_attributes"]["mask"]["per_class"].keys() == {"coat", "dress"}

    file = one / "coco_results.json"
    assert run("detector", "--predictions", file, *data, "--output-dir", again) == 0
    assert json.loads((again / "metrics.json").read_text()) == metrics
    assert run_ranks(2, run, *flags, "--output-dir", two) == [0, 0]
    assert json.loads((two / "metrics.json").read_text()) == metrics


def test_only_one_of_several_processes_reports(dataset: Path) -> None:
    path = dataset / "results.json"
    path.write_text(json.dumps(truth_as_results(dataset)))
    arguments = ("detector", "--predictions", path, "--data-path", dataset, "--device", "cpu")
    assert run_ranks(2, run, *arguments, "--output-dir", dataset / "out") == [0, 0]
    assert json.loads((dataset / "out" / "metrics.json").read_text())["box"]["AP"] == 1


def test_categories_count_unless_class_agnostic(dataset: Path) -> None:
    results = [result | {"category_id": 3} for result in truth_as_results(dataset)]
    path, out = dataset / "results.json", dataset / "out"
    path.write_text(json.dumps(results))
    arguments = ("detector", "--predictions", path, "--data-path", dataset, "--output-dir", out)
    assert run(*arguments) == 0
    strict = json.loads((out / "metrics.json").read_text())
    assert run(*arguments, "--class-agnostic") == 0
    merged = json.loads((out / "metrics.json").read_text())
    assert strict["box"]["AP"] < 0.5
    assert merged["box"]["AP"] == 1
    assert list(merged["per_class"]["box"]) == ["garment"]


def test_no_detections_give_an_empty_list(dataset: Path) -> None:
    path, out = dataset / "results.json", dataset / "out"
    path.write_text("[]")
    assert run("detector", "--predictions", path, "--data-path", dataset, "--output-dir", out) == 0
    assert json.loads((out / "coco_results.json").read_text()) == []
    assert json.loads((out / "metrics.json").read_text())["box"]["AP"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "nowhere.pt"], "nowhere.pt"),
        (["--predictions", "nowhere.json"], "nowhere.json"),
        (["--weights", "WEIGHTS", "--short-side", "0"], "--short-side 0"),
        (["--weights", "WEIGHTS", "--max-side", "10"], "--max-side 10"),
        (["--weights", "WEIGHTS", "--batch-size", "0"], "--batch-size 0"),
        (["--weights", "WEIGHTS", "-j", "-1"], "--workers -1"),
        (["--weights", "WEIGHTS", "--split", "nope"], "nope"),
        (["--weights", "WEIGHTS", "--output-dir", "WEIGHTS/under"], "cannot make the folder"),
        ([], "--weights --predictions"),
        (["--weights", "WEIGHTS", "--multitask-weights", "nowhere.pt"], "nowhere.pt"),
        (["--weights", "WEIGHTS", "--multitask-weights", "WEIGHTS"], "multitask"),
        (
            ["--weights", "WEIGHTS", "--multitask-weights", "m.pt", "--class-agnostic"],
            "does not go with --class-agnostic",
        ),
        (["--predictions", "r.json", "--multitask-weights", "m.pt"], "needs --weights"),
        (["--weights", "WEIGHTS", "--predictions", "r.json"], "not allowed with"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    dataset: Path, weights: Path, capsys, arguments: list[str], message: str
) -> None:
    arguments = [argument.replace("WEIGHTS", str(weights)) for argument in arguments]
    assert run("detector", *arguments, "--data-path", dataset, "--device", "cpu") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert message in errors[0]


def test_categories_are_matched_by_name(dataset: Path, weights: Path, capsys) -> None:
    def evaluated(name: str, categories: list[dict], new_id: dict[int, int]) -> tuple[dict, list]:
        changed = json.loads(content) | {"categories": categories}
        rows = [row for row in changed["annotations"] if row["category_id"] in new_id]
        for row in rows:
            row["category_id"] = new_id[row["category_id"]]
        (dataset / "val.json").write_text(json.dumps(changed | {"annotations": rows}))
        out = dataset / name
        data = ("--data-path", dataset, "--output-dir", out, "--device", "cpu")
        assert run("detector", "--weights", weights, *data) == 0
        metrics = json.loads((out / "metrics.json").read_text())
        # The file uses the dataset's category ids: read back, it gives the same metrics.
        assert run("detector", "--predictions", out / "coco_results.json", *data) == 0
        assert json.loads((out / "metrics.json").read_text()) == metrics
        return metrics, json.loads((out / "coco_results.json").read_text())

    content = (dataset / "val.json").read_text()
    coat, dress = json.loads(content)["categories"]
    metrics, results = evaluated("same", [coat, dress], {3: 3, 8: 8})
    others = [{"id": 0, "name": "dress"}, {"id": 5, "name": "coat"}]
    other_metrics, other_results = evaluated("others", others, {3: 5, 8: 0})
    for result in other_results:
        result["category_id"] = {0: 8, 5: 3}[result["category_id"]]
    assert other_results == results
    assert other_metrics["per_class"]["mask"]["coat"] == metrics["per_class"]["mask"]["coat"]
    group = {"id": 0, "name": "clothes"}  # as Roboflow lists one, of no garment
    more_metrics, more_results = evaluated("more", [group, coat, dress], {3: 3, 8: 8})
    assert more_results == results and more_metrics["box"] == metrics["box"]
    fewer_metrics, fewer_results = evaluated("fewer", [dress], {8: 8})
    assert fewer_results == [result for result in results if result["category_id"] == 8]
    assert fewer_metrics["box"]["AP"] == metrics["per_class"]["box"]["dress"]["AP"]


def test_weights_for_other_categories_are_refused(dataset: Path, weights: Path, capsys) -> None:
    content = json.loads((dataset / "val.json").read_text())
    content["categories"][0]["name"] = "hat"
    (dataset / "val.json").write_text(json.dumps(content))
    arguments = ("detector", "--weights", weights, "--data-path", dataset, "--device", "cpu")
    assert run(*arguments) == 2
    assert re.search(r"coat, dress.*hat, dress.*--class-agnostic", capsys.readouterr().err)
    assert run(*arguments, "--class-agnostic") == 0
