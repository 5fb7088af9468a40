"""Baselines: the probe learns, features are cached, evaluation is like a model's."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from dataset_helpers import load_dataset
from engine.errors import InputError
from tests.datasets import write_coco
from tools import benchmark
from tools.benchmarks import floors, pooled_features
from tools.benchmarks.linear_probe import fit_and_score
from tools.benchmarks.pooled_features import PooledFeatures, cached_features

COLORS = {"red": (200, 30, 30), "blue": (30, 40, 200), "green": (30, 160, 60)}


class MeanColor:
    """A replacement for the ResNet: the mean color, three numbers."""

    name, dim = "mean", 3

    def __init__(self, *_: object, **__: object) -> None:
        self.seen = 0

    def __call__(self, photos: Sequence[np.ndarray]) -> np.ndarray:
        self.seen += len(photos)
        return np.stack([photo.mean((0, 1)) for photo in photos]).astype(np.float32)


def write_photo(path: Path, color: str, width: int = 21) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    photo = np.full((61, 47, 3), 250, np.uint8)
    photo[10:50, 23 - width // 2 : 24 + width // 2] = COLORS[color]
    cv2.imwrite(str(path), photo[:, :, ::-1])


def write_shop(root: Path) -> Path:
    """Five products of different widths: main photos in two colors and a back view in one."""
    rows = ["file_name,item_id,color,view,category"]
    for number in range(5):
        for color in list(COLORS)[:2]:
            for view in ("main", "back")[: 2 if color == "red" else 1]:
                name = f"{number}-{color}-{view}.png"
                write_photo(root / "images" / name, color, 9 + 6 * number)
                rows.append(f"{name},P{number},{color},{view},{'wide' if number > 2 else 'slim'}")
    (root / "labels.csv").write_text("\n".join(rows))
    return root


def report(tmp_path: Path, *arguments: object) -> dict:
    file = tmp_path / "report.json"
    argv = ["floors", "--weights", "w.pth", "--output-dir", tmp_path / "floors", "--json", file]
    with pytest.raises(SystemExit) as ended:
        benchmark.main([*map(str, argv), *map(str, arguments)])
    assert ended.value.code == 0
    return json.loads(file.read_text())["floors"]


def test_probe_learns_labeled_garments() -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(3, 11)) * 4
    targets = rng.integers(0, 3, 701)
    features = (centers[targets] + rng.normal(size=(701, 11))).astype(np.float32)
    known = np.where(np.arange(701) % 7 == 0, -1, targets)
    scores = fit_and_score(features[:600], known[:600], features[600:], 5)
    assert (scores.argmax(axis=1) == targets[600:]).mean() > 0.9
    assert np.isneginf(scores[:, 3:]).all()
    two = np.minimum(targets, 1)
    scores = fit_and_score(features[:600], two[:600], features[600:], 2)
    assert (scores.argmax(axis=1) == two[600:]).mean() > 0.9


def test_features_are_per_box_and_computed_once(tmp_path: Path, monkeypatch) -> None:
    records = load_dataset("coco", write_coco(tmp_path / "data"))
    network, file = MeanColor(), tmp_path / "features.npz"
    monkeypatch.setattr(pooled_features, "BATCH", 2)
    first = cached_features(network, records, file)
    assert first.shape == (len(records.garment_photo), 3)
    garment = records[0].garments[0]
    x1, y1 = np.floor(garment.box[:2]).astype(int)
    x2, y2 = np.ceil(garment.box[2:]).astype(int)
    photo = cv2.imread(str(records.path(0)), cv2.IMREAD_COLOR_RGB)[y1:y2, x1:x2]
    np.testing.assert_allclose(first[0], photo.mean((0, 1)), atol=1)
    seen = network.seen
    assert np.array_equal(cached_features(network, records, file), first)
    assert network.seen == seen
    file.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match=r"features\.npz"):
        cached_features(network, records, file)


def test_catalog_is_evaluated_like_the_model(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(floors, "PooledFeatures", MeanColor)
    views = ["--query-views", "back", "--gallery-view", "main"]
    shop = f"csv:{write_shop(tmp_path / 'shop')}"
    found = report(tmp_path, "--dataset", shop, *views, "--by-halves")
    whole, half = found["shop, descriptors"], found["shop (every second product), descriptors"]
    assert (whole["garments"], half["garments"]) == (15, 6)  # P1 and P3 are the second ones
    assert whole["item"]["queries"] == 5
    assert whole["shape"]["other_color_R@1"] == 1  # the two colors of a product are one outline
    assert whole["color"]["other_color_R@1"] == 0
    assert "R@1" in found["shop, resnet50"]["item"]
    assert "category" not in found["shop, resnet50"]  # no part of its own to learn from


def test_datasets_of_one_name_are_refused(tmp_path: Path, capsys) -> None:
    flags = ("--weights", "w.pth", "--output-dir", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        benchmark.main(["floors", *flags, "--dataset", "csv:a/shop", "csv:b/shop"])
    assert ended.value.code == 2
    assert "give each its own with name=" in capsys.readouterr().err


def test_labels_are_learned_on_the_training_split(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(floors, "PooledFeatures", MeanColor)
    rows = ["file_name,color,split"]
    for i in range(30):
        color = list(COLORS)[i % 3]
        write_photo(tmp_path / "set" / f"{i}.png", color, 9 + i)
        rows.append(f"{i}.png,{color},{'val' if i >= 24 else 'train'}")
    (tmp_path / "set" / "labels.csv").write_text("\n".join(rows))
    found = report(tmp_path, "--dataset", f"csv:{tmp_path / 'set'}")
    assert found["set, resnet50"]["color"]["top1"] == 1
    assert found["set, resnet50"]["color"]["labelled"] == 6


def test_pooled_features_equal_the_resnets(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = resnet50(weights=None).eval()
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    file = tmp_path / "weights.pth"
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("batches_tracked")}
    torch.save(state, file)
    network = PooledFeatures(file, stride_in_1x1=True, size=64)
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
    mean, std = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])[..., None, None]
    model.fc = torch.nn.Identity()
    with torch.inference_mode():
        expected = model((pixels - mean) / std).numpy()
    found = network([photo])
    assert found.shape == (1, network.dim) == (1, 2048)
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3 * np.abs(expected).max())
    torch.save({"conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(InputError, match="not the weights of a resnet50"):
        PooledFeatures(file, stride_in_1x1=True)
