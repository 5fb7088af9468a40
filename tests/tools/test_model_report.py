"""model_report.py: costs, receptive fields and measurements of networks, and bad input."""

import csv
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from engine.cost.flops import LayerCost, layer_costs
from engine.cost.network_graph import trace
from engine.cost.receptive_field import field_of
from tests.datasets import write_photo
from tools import model_report
from tools.report.measure import peak_on_cpu
from tools.report.networks import build
from tools.report.pictures import draw_costs
from tools.report.tables import ORDERS


def run(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        model_report.main([str(argument) for argument in arguments])
    assert ended.value.code == code


def report(folder: Path, *arguments: object) -> dict:
    run(*arguments, "--output-dir", folder)
    return json.loads((folder / "report.json").read_text())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_report_files_of_a_classifier(tmp_path: Path, capsys) -> None:
    write_photo(tmp_path / "photos" / "a.jpg", 80, 60)
    (tmp_path / "photos" / "b.jpg").write_bytes(b"no photo")
    size = ("--size", 64, 96, "--runs", 1, "-b", 2, "--threads", 1, "--photos", tmp_path / "photos")
    found = report(tmp_path / "out", "resnet18", *size)
    output = capsys.readouterr()
    assert "b.jpg" in output.err
    assert "with batch 2 on 1 thread;" in output.out
    layers = rows(tmp_path / "out" / "layers.csv")
    assert sum(int(row["macs"]) for row in layers) == found["macs"] == found["flops"] // 2
    assert sum(int(row["parameters"]) for row in layers) == found["parameters"] == 11_689_512
    first = layers[0]
    assert (first["layer"], first["kind"], first["output"]) == (
        "conv1",
        "Conv2d 7x7 /2",
        "2x64x32x48",
    )
    assert int(first["macs"]) == 2 * 32 * 48 * 49 * 3 * 64
    fields = {row["layer"]: row for row in rows(tmp_path / "out" / "fields.csv")}
    assert fields["layer4.1"]["field_height"] == "435"
    assert found["field"] == [435, 435] and found["stride"] == [32, 32]
    visible = found["effective_fields"]
    assert 1 < visible["conv1"] <= 7 < visible["layer4.1"] < 96
    assert found["median_ms"] >= found["fastest_ms"] > 0 and found["peak_mib"] > 1
    assert found["weights_mib"] == pytest.approx(11_699_132 * 4 / 2**20, rel=0.01)
    for name in ("costs.png", "fields.png"):
        assert cv2.imread(str(tmp_path / "out" / name)).std() > 10


def test_dropping_and_dilating_change_cost_and_fields() -> None:
    costs, seen = [], []
    for change in (["--drop-last", "0"], ["--drop-last", "2"], ["--dilate", "1"]):
        size = ["--size", "64", "64"]
        network = build(model_report.parse_arguments(["resnet18", *size, *change]))
        costs.append(layer_costs(network.model, *network.inputs))
        graph = trace(network.body, network.inputs[0])
        seen.append(field_of(graph, list(graph.maps())[-1]))
    body, dropped, dilated = (sum(row.parameters for row in rows) for rows in costs)
    assert dropped < body == dilated < 11_689_512
    body, dropped, dilated = (sum(row.macs for row in rows) for rows in costs)
    assert dropped < body < dilated
    body, dropped, dilated = seen
    assert dropped.size < body.size == dilated.size
    assert (body.stride, dropped.stride, dilated.stride) == ((32, 32), (16, 16), (16, 16))


def test_report_of_our_networks(tmp_path: Path, capsys) -> None:
    detector = ("detector", "--backbone", "resnet18", "--garments", 3)
    run(*detector, "--size", 64, 96, "--runs", 0, "--top", 99)
    output = capsys.readouterr().out
    assert re.search(r"roi_heads.mask_head.0.0 +Conv2d 3x3 +3x256x14x14 +590,080", output)
    assert re.search(r"fpn.extra_blocks +maxpool2d +1x2 +64", output)
    run("multitask", "--backbone", "resnet18", "--size", 64, 64, "--runs", 0, "--top", 99)
    output = capsys.readouterr().out
    assert re.search(r"backbone.body.layer4.1.conv2 +Conv2d 3x3 +1x512x2x2", output)
    assert re.search(r"classifiers.1 +Linear 512 -> 1000 +1x1000 +513,000 +0.51", output)


def test_networks_without_receptive_fields_are_still_counted(capsys) -> None:
    run("swin_t", "--size", 64, 64, "--runs", 0)
    output = capsys.readouterr().out
    assert "no receptive fields" in output
    assert "28,288,354 parameters" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet51",), "resnet51: no network of that name"),
        (("resnet18", "--top", -1), "--top -1"),
        (("resnet18", "--weights", "missing.pt"), "missing.pt: no such weights file"),
        (("resnet18", "--drop-last", 9), "--drop-last 9"),
        (("detector", "--drop-last", 1), "are for torchvision's networks"),
        (("multitask", "--size", 64, 96), "square"),
        (("vit_b_16", "--size", 96, 96), "--size 96 96: the network cannot process such a picture"),
        (("googlenet", "--size", 7, 7, "--drop-last", 1), "--size 7 7: the network cannot process"),
        (("resnet18", "--photos", "x.jpg"), "--photos: only used with --output-dir"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple, message: str, capsys) -> None:
    run(*arguments, code=2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_missing_photos_are_reported_before_measuring(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(model_report, "layer_costs", lambda *_: pytest.fail("counts first"))
    run("resnet18", "--photos", tmp_path / "gone.jpg", "--output-dir", tmp_path / "out", code=2)
    assert "gone.jpg: no such file" in capsys.readouterr().err


def test_other_networks_weights_are_refused(tmp_path: Path, capsys) -> None:
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "odd.pt")
    run("resnet18", "--weights", tmp_path / "odd.pt", code=2)
    assert "odd.pt: not weights of resnet18" in capsys.readouterr().err


def test_peak_memory_by_hand() -> None:
    """Two maps at once: the first layer's output exists while the second one is computed."""
    model = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.Sigmoid())
    x = torch.rand(1000, 1000)
    with torch.inference_mode():
        assert peak_on_cpu(lambda: model(x)) == 2 * x.nbytes


def test_layers_are_sorted_by_the_given_order() -> None:
    costs = [LayerCost("a", "", None, 5, 1), LayerCost("b", "", None, 1, 9)]
    ordered = {
        name: "".join(row.name for row in sorted(costs, key=ORDERS[name])) for name in ORDERS
    }
    assert ordered == {"macs": "ba", "parameters": "ab", "execution": "ab"}


def test_layers_of_a_deep_network_are_grouped_into_bars(tmp_path: Path) -> None:
    costs = [LayerCost(f"stage{i // 50}.{i}.conv", "", None, 1, i) for i in range(500)]
    draw_costs(tmp_path / "costs.png", costs, "deep")
    picture = cv2.imread(str(tmp_path / "costs.png"))
    assert picture.shape[0] < 1200
    assert np.ptp(picture) > 100
