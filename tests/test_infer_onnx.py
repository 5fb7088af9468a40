"""infer.py --runtime onnx: the garments that PyTorch finds, and what exported models cannot do."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from pycocotools import mask as coco_mask

import infer
from engine import model_flags
from engine.checkpoint import load_checkpoint, save_checkpoint
from engine.description.describer import Describer, DescriberSettings
from engine.detection import finder
from engine.onnx_runtime import METADATA, load_exported
from retrieval.embedders import GarmentEmbedder
from tests.test_infer import fails
from tests.tools.test_export_model import SPACE, checkpoint, detector, multitask
from tools.export.write import export_detector, export_multitask

CONFIG = {"arch": "maskrcnn", "backbone": "resnet18", "masks": True, "test_short_side": 64,
          "test_max_side": 96}  # fmt: skip
CATEGORIES = {"categories": ["top", "skirt"], "category_ids": [1, 5], "attributes": []}
CROPS = {"trunk": "resnet18", "crop_size": 64, "margin": 0.1}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with d.pt, d.onnx, m.pt and m.onnx; exporting takes seconds."""
    folder = tmp_path_factory.mktemp("models")
    saved = checkpoint("detector", detector(), CONFIG, **CATEGORIES)
    save_checkpoint(saved, folder / "d.pt")
    export_detector(detector(), saved, folder / "d.onnx")
    config = CROPS | {"tasks": list(multitask().tasks)}
    saved = checkpoint("multitask", multitask(), config, labels=SPACE.to_plain())
    save_checkpoint(saved, folder / "m.pt")
    export_multitask(multitask(), saved, 64, folder / "m.onnx")
    return folder


def write_noise(path: Path, height: int, width: int) -> None:
    noise = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    cv2.imwrite(str(path), noise)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """One that needs no padding, an upright one that does, a broken one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    write_noise(folder / "full.png", 64, 96)
    write_noise(folder / "upright.png", 150, 100)
    (folder / "broken.png").write_text("no photo")
    return folder


@pytest.fixture(autouse=True)
def _small_detector(monkeypatch) -> Iterator[None]:
    # The usual limits (1000 proposals, 100 garments) would take a minute.
    monkeypatch.setattr(finder, "build_from_checkpoint", lambda _: detector())
    yield


def run(models: Path, photos: Path, output: Path, kind: str, *flags: str) -> dict:
    runtime = ["--runtime", "onnx"] if kind == "onnx" else []
    weights = ["--weights", models / f"d.{kind}", "--multitask-weights", models / f"m.{kind}"]
    arguments = [photos, "--output-dir", output, *weights, *runtime]
    arguments += ["--score-threshold", "0.2", "--overlap", "1", *flags]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["infer.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            infer.main()
    assert ended.value.code == 0
    return json.loads((output / "garments.json").read_text())


def by_name(document: dict) -> dict[str, list]:
    return {photo["photo"]: photo["garments"] for photo in document["photos"]}


def test_same_garments_as_pytorch(models: Path, photos: Path, tmp_path: Path) -> None:
    expected = run(models, photos, tmp_path / "torch", "pt", "--tta")
    document = run(models, photos, tmp_path / "onnx", "onnx", "--tta")
    assert [entry["photo"] for entry in document["unreadable"]] == ["broken.png"]
    theirs, ours = by_name(expected), by_name(document)
    assert theirs.keys() == ours.keys() == {"full.png", "upright.png"}
    assert len(ours["full.png"]) > 1 and len(ours["upright.png"]) > 1
    pairs = [zip(ours[name], theirs[name], strict=True) for name in ours]
    for mine, other in chain(*pairs):
        assert mine["category"] == other["category"]
        np.testing.assert_allclose(mine["box"], other["box"], atol=0.1)
        assert mine["score"] == pytest.approx(other["score"], abs=1e-4)
        assert coco_mask.iou([mine["mask"]], [other["mask"]], [0])[0, 0] > 0.95
        for group, values in mine["labels"].items():
            found = {v["value"]: v["probability"] for v in values}
            wanted = {v["value"]: v["probability"] for v in other["labels"][group]}
            assert found == pytest.approx(wanted, abs=2e-3)


def test_photos_of_every_shape_and_size(models: Path, photos: Path, tmp_path: Path) -> None:
    write_noise(photos / "wide.png", 9, 700)
    write_noise(photos / "tall.png", 700, 31)
    larger = ["--short-side", "97", "--max-side", "197"]
    document = run(models, photos, tmp_path / "out", "onnx", *larger)
    assert all(by_name(document).values())
    assert document["summary"]["photos"] == 5 and document["summary"]["unreadable"] == 1
    for photo in document["photos"]:
        for garment in photo["garments"]:
            assert 0 <= garment["box"][0] < garment["box"][2] <= photo["width"]
            assert 0 <= garment["box"][1] < garment["box"][3] <= photo["height"]


def test_vectors_compare_with_those_of_the_original(models: Path) -> None:
    checkpoints = load_exported(models / "m.onnx", "multitask"), load_checkpoint(models / "m.pt")
    device, settings = torch.device("cpu"), DescriberSettings()
    ours, theirs = (
        GarmentEmbedder(Describer(checkpoint, device, settings), "both").schema
        for checkpoint in checkpoints
    )
    assert ours == theirs, "so databases of either are searched with the other"


def test_photos_without_garments(models: Path, photos: Path, tmp_path: Path) -> None:
    document = run(models, photos, tmp_path / "out", "onnx", "--score-threshold", "1")
    assert by_name(document) == {"full.png": [], "upright.png": []}


def test_continues_unless_the_exported_model_changed(models, photos, tmp_path, capsys) -> None:
    (photos / "broken.png").unlink()  # it would be tried again each time
    run(models, photos, tmp_path / "out", "pt")
    for printed in ("2 of them now", "0 of them now"):  # PyTorch's results are not taken over
        capsys.readouterr()
        run(models, photos, tmp_path / "out", "onnx")
        assert printed in capsys.readouterr().out
    # Metadata alone: another file, the same network.
    other = tmp_path / "models"
    other.mkdir()
    (other / "d.onnx").write_bytes((models / "d.onnx").read_bytes())
    exported = onnx.load(models / "m.onnx")
    (about,) = (entry for entry in exported.metadata_props if entry.key == METADATA)
    told = json.loads(about.value)
    about.value = json.dumps(told | {"config": told["config"] | {"margin": 0.2}})
    onnx.save(exported, other / "m.onnx")
    run(other, photos, tmp_path / "out", "onnx")
    assert "2 of them now" in capsys.readouterr().out


def test_flags_that_exported_models_lack_are_one_sentence(
    models: Path, photos: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    command = [photos, "--output-dir", tmp_path / "out"]
    onnx = [*command, "--runtime", "onnx", "--multitask-weights", "none", "--weights"]
    assert "d.onnx: an exported model" in fails(capsys, *command, "--weights", models / "d.onnx")
    given = ["--weights", models / "d.pt", "--multitask-weights", models / "m.onnx"]
    assert "m.onnx: an exported model" in fails(capsys, *command, *given)
    assert "tools/export_model.py" in fails(capsys, *onnx, models / "d.pt")
    given = ["--runtime", "onnx", "--weights", models / "d.onnx", "--multitask-weights"]
    assert "m.pt: --runtime onnx takes" in fails(capsys, *command, *given, models / "m.pt")
    assert "holds a detector" in fails(capsys, *command, *given, models / "d.onnx")
    assert "no such model" in fails(capsys, *onnx, models / "gone.onnx")
    flags = [["--device", "cuda"], ["--precision", "bf16"], ["--mirror"]]
    for flag in flags:
        assert flag[0] in fails(capsys, *onnx, models / "d.onnx", *flag)
    monkeypatch.setattr(model_flags, "DETECTOR_WEIGHTS", models / "none.pt")
    assert "none.onnx: no such model" in fails(capsys, *onnx[:-1])
