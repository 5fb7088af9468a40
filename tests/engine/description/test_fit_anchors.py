"""Anchors are fitted to the garments trained on, once, alike on any number of processes."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dataset_helpers import load_spec, parse_spec
from engine.data.labels import merge_labels
from engine.description.describe import DescribeSettings
from engine.description.fit_anchors import fit_anchors
from engine.description.multitask import Multitask, build_multitask
from engine.pixels.view_transform import MultitaskAugmentation
from tests.ranks import run_ranks

PHOTOS = 11
CPU = torch.device("cpu")
SMALL = MultitaskAugmentation(crop_size=32)
SETTINGS = DescribeSettings(batch_size=2, workers=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A table of noise photos, one of them broken."""
    root = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(PHOTOS)]
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "category"], *([n, "top"] for n in names)])
    for name in names:
        cv2.imwrite(str(root / name), rng.integers(0, 256, (40, 40, 3), np.uint8))
    content = (root / names[3]).read_bytes()
    (root / names[3]).write_bytes(content[: len(content) // 2])
    return root


def fitted(folder: Path, tasks: tuple[str, ...] = ("item", "shape")) -> Multitask:
    records = load_spec(parse_spec(f"csv:{folder}"), "train")
    torch.manual_seed(0)
    model = build_multitask(
        merge_labels([records], ["noise"]),
        trunk="resnet18",
        weights="none",
        tasks=tasks,
        dims={"item": 5, "shape": 5},
    )
    fit_anchors(model, [records], SMALL, SETTINGS, CPU)
    return model


def item_projection(folder: Path) -> torch.Tensor:
    return fitted(folder).aspect_heads.heads["item"].anchor.projection


def test_item_is_fitted_once_and_shape_stays_random(folder):
    model = fitted(folder)
    item, shape = (model.aspect_heads.heads[name].anchor for name in ("item", "shape"))
    assert item.fitted
    unfitted = build_multitask(
        model.labels, trunk="resnet18", weights="none", tasks=model.tasks, dims=model.dims
    ).aspect_heads.heads
    assert not torch.allclose(item.projection, unfitted["item"].anchor.projection, atol=0.1)
    assert torch.equal(shape.projection, unfitted["shape"].anchor.projection)
    item.projection.zero_()
    fit_anchors(model, [load_spec(parse_spec(f"csv:{folder}"), "train")], SMALL, SETTINGS, CPU)
    assert not item.projection.any()


def test_a_model_without_anchors_is_left_alone(folder):
    fitted(folder, tasks=("category",))


def test_all_processes_get_the_same_directions(folder):
    alone = item_projection(folder)
    for count in (2, 3):
        for projection in run_ranks(count, item_projection, folder):
            torch.testing.assert_close(projection.abs(), alone.abs(), atol=1e-4, rtol=0)
