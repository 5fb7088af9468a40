"""Comparison of backbones: each with its own weights, the same recipe, and its cost."""

import json
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from engine import pretrained
from engine.errors import InputError
from tests.tools.benchmarks.test_floors import COLORS, write_photo
from tools import benchmark
from tools.benchmarks.backbones import sources_of


@pytest.fixture
def colors(tmp_path: Path) -> str:
    """24 training garments of three colors, 6 validation garments."""
    rows = ["file_name,color,split"]
    for i in range(30):
        color = list(COLORS)[i % 3]
        write_photo(tmp_path / "set" / f"{i}.png", color, 9 + i)
        rows.append(f"{i}.png,{color},{'val' if i >= 24 else 'train'}")
    (tmp_path / "set" / "labels.csv").write_text("\n".join(rows))
    return f"csv:{tmp_path / 'set'}"


def run(tmp_path: Path, *arguments: object, code: int = 0) -> dict:
    file = tmp_path / "report.json"
    argv = ["backbones", "--output-dir", tmp_path / "kept", "--json", file, *arguments]
    with pytest.raises(SystemExit) as ended:
        benchmark.main([*map(str, argv), "--size", "32", "--runs", "1"])
    assert ended.value.code == code
    return json.loads(file.read_text()) if code == 0 else {}


def test_report_lists_accuracy_and_cost(tmp_path: Path, colors: str, monkeypatch, capsys) -> None:
    def offline(_weights: object) -> dict:
        raise InputError("cannot download it")

    monkeypatch.setattr(pretrained, "_download", offline)
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "r18.pth")
    names = ["mobilenet_v3_large", "resnet18", "resnet34"]
    weights = [f"resnet18={tmp_path / 'r18.pth'}", "resnet34=none"]
    found = run(tmp_path, "--dataset", colors, "--backbones", *names, "--weights", *weights)
    assert found["garments"] == {"train": 24, "val": 6}
    missing, small, large = found["rows"]
    assert missing["missing"] == "cannot download it" and "macs" not in missing
    assert small["accuracy"]["color"]["top1"] == 1, "colors this plain survive random filters"
    assert small["accuracy"]["color"]["labelled"] == 6
    # Without its classifier of 512 x 1000 + 1000, and 32 x 32 is a 49th of 224 x 224.
    assert small["parameters"] == 11_689_512 - 513_000
    assert small["macs"] == pytest.approx((1.814e9 - 512_000) / 49, rel=1e-3)
    assert large["parameters"] == 21_797_672 - 513_000 and large["macs"] > small["macs"]
    assert large["ms_per_crop"] > 0 and large["peak_mib"] > 0
    printed = capsys.readouterr().out
    assert "100.0±0.0" in printed and "cannot download it" in printed
    assert len(list((tmp_path / "kept").glob("*.npz"))) == 2


def test_weights_of_each_backbone() -> None:
    two = ["resnet18", "resnet50"]
    assert sources_of(["none", "resnet50=a=b.pth"], two) == {
        "resnet18": "none",
        "resnet50": "a=b.pth",
    }
    assert set(sources_of(["resnet50=x"], two).values()) == {"imagenet", "x"}
    with pytest.raises(InputError, match="resnet34 is not compared"):
        sources_of(["resnet34=x"], two)


def test_bad_input_is_one_sentence(tmp_path: Path, colors: str, capsys) -> None:
    run(tmp_path, "--dataset", colors, "--weights", "resnet9=x", code=2)
    error = capsys.readouterr().err
    assert "resnet9 is not compared" in error and error.count("\n") == 1
    whole = tmp_path / "set" / "labels.csv"
    whole.write_text(whole.read_text().replace(",split", ",season"))
    run(tmp_path, "--dataset", colors, code=2)
    assert "share photos" in capsys.readouterr().err
