"""The multitask half of a training: which tasks, which weights, judged by what."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.labels import LabelGroup, LabelSpace, Source, encode_labels, merge_labels
from engine.data.records import AttributeGroup, Garment, Photo, PhotoRecords
from engine.description.multitask_config import MultitaskConfig
from engine.description.multitask_task import (
    answer_weights,
    best_metric,
    build_model,
    labels_of,
    settings_of,
    usable_tasks,
)
from engine.errors import InputError
from engine.evaluation.multitask_metrics import EvaluationPart
from engine.pixels.view_transform import MultitaskAugmentation

ROOT = Path("/photos")
CATEGORY = LabelGroup("category", ("dress", "top", "hat"), True)
COLOR = LabelGroup("color", ("red", "blue"), True)
PARTS = LabelGroup("parts", ("zip", "hood"), False)


def space(*groups: LabelGroup) -> LabelSpace:
    everything = {group.name: tuple(range(len(group.values))) for group in groups}
    return LabelSpace(groups, (Source("x", everything),))


def config(**changes) -> MultitaskConfig:
    return MultitaskConfig(**({"output_dir": "unused", "dataset": ("csv:x",)} | changes))


def records_of(
    categories: list[int], colors: list[int] | None = None, identity: int = -1
) -> PhotoRecords:
    """A garment a photo; category -1 and color -1 are unknown."""
    photos = []
    for i, category in enumerate(categories):
        attributes = np.zeros(0 if colors is None else 2, np.int8)
        if colors is not None and colors[i] >= 0:
            attributes[:] = -1
            attributes[colors[i]] = 1
        garment = Garment(
            category, np.array([0, 0, 9, 9.0]), 81, identity=identity, attributes=attributes
        )
        photos.append(Photo(ROOT / f"{i}.jpg", i, 9, 9, "", [garment]))
    about = {"format": "test", "categories": ["dress", "top", "hat"], "category_ids": [1, 2, 3]}
    if colors is not None:
        groups = [AttributeGroup("Color", 0, 2, exclusive=True)]
        about |= {"attributes": ["red", "blue"], "attribute_groups": groups}
    return PhotoRecords.from_photos(photos, root=ROOT, **about)


def part(name: str, records: PhotoRecords) -> EvaluationPart:
    return EvaluationPart(name, records, dataset=None)


def test_tasks_without_labels_are_left_out_and_aspects_need_none(caplog):
    wanted = ("category", "attributes", "item", "box")
    assert usable_tasks(wanted, space(CATEGORY, COLOR)) == wanted
    assert usable_tasks(wanted, space(CATEGORY)) == ("category", "item", "box")
    assert usable_tasks(wanted, space(PARTS)) == ("attributes", "item", "box")
    with pytest.raises(InputError, match="--tasks category"):
        usable_tasks(("category",), space(COLOR))


def test_class_weights_by_hand():
    labels = space(CATEGORY, PARTS)
    encoded = [
        {"category": np.array([0, 0, 0, -1]), "parts": np.zeros((4, 2), np.int8)},
        {
            "category": np.array([1, -2]),
            "parts": np.array([[1, -1], [-1, -1]], np.int8),
        },
    ]
    weights = answer_weights(labels, encoded, 1.0)
    # 3 dresses and 1 top, 2 on average; nobody has a hat.
    torch.testing.assert_close(weights["category"], torch.tensor([2 / 3, 2.0, 1.0]))
    # One zip against one without; no hood.
    torch.testing.assert_close(weights["parts"], torch.tensor([1.0, 1.0]))
    half = answer_weights(labels, encoded, 0.5)
    torch.testing.assert_close(half["category"], weights["category"].sqrt())
    assert answer_weights(labels, encoded, 0.0) is None


def test_class_weights_are_at_most_twenty():
    encoded = [{"color": np.array([0] * 999 + [1])}]
    weights = answer_weights(space(COLOR), encoded, 1.0)
    torch.testing.assert_close(weights["color"], torch.tensor([500 / 999, 20.0]))


def test_class_weights_reach_the_loss_and_change_it():
    records = records_of([0, 0, 0, 1])
    labels = merge_labels([records], ["x"])
    encoded = [encode_labels(labels, records)]
    targets = {
        "source": torch.zeros(2, dtype=torch.int64),
        "labels": {"category": torch.tensor([0, 1])},
    }
    found = {"logits": {"category": torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])}}
    losses = {}
    for exponent in (0.0, 1.0):
        settings = config(
            trunk="resnet18", weights="none", tasks=("category",), class_weights=exponent
        )
        model = build_model(settings, labels, encoded, load=False)
        losses[exponent] = model.criterion(found, targets)["loss_category"].item()
    common, rare = (-torch.tensor([2.0, 0.0, 0.0]).log_softmax(0)[:2]).tolist()
    assert losses[0.0] == pytest.approx((common + rare) / 2)
    assert losses[1.0] == pytest.approx((common * 2 / 3 + rare * 2) / (2 / 3 + 2))


def test_labels_stored_with_the_weights():
    plain = labels_of(space(CATEGORY, COLOR))
    assert plain["categories"] == ["dress", "top", "hat"]
    assert plain["category_ids"] == [1, 2, 3]
    assert plain["attributes"] == ["red", "blue"]
    assert LabelSpace.from_plain(plain["labels"]) == space(CATEGORY, COLOR)
    assert labels_of(space(COLOR))["categories"] == []


def test_settings_say_how_crops_are_cut():
    augmentation = MultitaskAugmentation(crop_size=96, margin=0.25)
    settings = settings_of(config(), augmentation)
    assert (settings["crop_size"], settings["margin"]) == (96, 0.25)
    assert settings["augmentation"]["crop_size"] == 96
    with pytest.raises(InputError, match="--whole-photo"):
        settings_of(config(tasks=("box", "category")), augmentation)


def test_the_best_metric():
    unlabelled, colored = records_of([-1, -1]), records_of([-1, -1], [0, -1])
    labelled, products = records_of([0, -1]), records_of([-1, -1], identity=5)
    labels = space(CATEGORY, COLOR)
    parts = [part("a", unlabelled), part("b", colored), part("c", labelled), part("d", products)]
    assert best_metric(parts, labels, config()) == "b/color/top1"
    assert best_metric(parts[2:], labels, config()) == "c/category/top1"
    assert best_metric(parts, labels, config(tasks=("category", "item"))) == "c/category/top1"
    assert best_metric(parts, labels, config(tasks=("color", "shape"))) == "d/color/R@1"
    assert best_metric(parts, space(CATEGORY), config()) == "c/category/top1"
    assert best_metric(parts, labels, config(best_metric="d/item/mAP")) == "d/item/mAP"
    with pytest.raises(InputError, match="no labels to evaluate"):
        best_metric(parts[:1], labels, config())
    with pytest.raises(
        InputError, match="--best-metric e/item/mAP: the sets evaluated are a, b, c, d"
    ):
        best_metric(parts, labels, config(best_metric="e/item/mAP"))
