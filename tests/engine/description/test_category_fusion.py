"""Names are those that the product of both networks' probabilities holds likeliest."""

import numpy as np
import pytest
import torch

from engine.data.labels import CATEGORY, IS_GARMENT, LabelGroup, LabelSpace, Source
from engine.description.category_fusion import (
    RECOGNIZED,
    category_columns,
    fuse_categories,
    recognized_rows,
)
from engine.detection.detections import Detections

VALUES = ("Shirt", "Top", "bag", "Dress", "hat")
SPACE = LabelSpace(
    (LabelGroup(CATEGORY, VALUES, True),),
    (Source("phone", {CATEGORY: (0, 3, 4)}), Source("street", {CATEGORY: (1, 2, 3)})),
)


def found(probabilities: list) -> Detections:
    """Garments that the detector calls what it holds likeliest."""
    rows = np.float32(probabilities)
    boxes = np.tile(np.float32([0, 0, 5, 7]), (len(rows), 1))
    return Detections(5, 7, boxes, rows.max(axis=1), rows.argmax(axis=1) + 1, None, rows)


def test_columns_are_those_of_a_training_set_with_exactly_these_categories() -> None:
    assert category_columns(SPACE, ["dress", "top", "Bag"]) == [3, 1, 2]
    assert category_columns(SPACE, ["hat", "shirt", "dress"]) == [4, 0, 3]


@pytest.mark.parametrize(
    "categories", [[], ["top", "bag"], ["top", "bag", "dress", "hat"], ["top", "bag", "cape"]]
)
def test_categories_are_not_matched_across_different_vocabularies(categories: list[str]) -> None:
    assert category_columns(SPACE, categories) is None


def test_a_model_without_categories_fuses_nothing() -> None:
    colors = LabelSpace((LabelGroup("color", ("red",), True),), (Source("a", {"color": (0,)}),))
    assert category_columns(colors, ["red"]) is None


@pytest.mark.parametrize(
    ("detector", "opinion", "expected"),
    [
        ([0.8, 0.1, 0.1], [0.2, 0.7, 0.1], 1),  # .855·.2 = .171, .200·.7 = .140
        ([0.8, 0.1, 0.1], [0.15, 0.75, 0.1], 2),  # .128, .150
        ([0.8, 0.0, 0.1], [0.01, 0.98, 0.01], 1),  # out of the question
        ([0.2, 0.1, 0.6], [0.7, 0.1, 0.2], 1),  # .227, .020, .140
        ([0.1, 0.9, 0.0], [1 / 3, 1 / 3, 1 / 3], 2),
    ],
)
def test_the_category_with_the_highest_product_wins(
    detector: list, opinion: list, expected: int
) -> None:
    before = found([detector])
    after = fuse_categories(before, np.float32([opinion]))
    assert after.labels.tolist() == [expected]
    assert after.labels.dtype == np.int64
    assert before.labels.tolist() == [np.argmax(detector) + 1]  # untouched
    assert after.scores is before.scores and after.boxes is before.boxes


def test_garments_do_not_depend_on_each_other() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.full(5, 0.3), 13)
    opinions = rng.dirichlet(np.full(5, 0.3), 13).astype(np.float32)
    together = fuse_categories(found(rows), opinions).labels
    alone = [
        fuse_categories(found([row]), opinion[None]).labels[0]
        for row, opinion in zip(rows, opinions, strict=True)
    ]
    assert together.tolist() == alone
    assert 0 < (together != found(rows).labels).sum() < 13


def test_fusion_of_empty_and_unknown_probabilities() -> None:
    assert len(fuse_categories(found(np.zeros((1, 3))).only([]), np.zeros((0, 3), np.float32))) == 0
    assert fuse_categories(found([[0.7]]), np.ones((1, 1), np.float32)).labels.tolist() == [1]
    given = Detections(5, 7, np.zeros((1, 4)), np.ones(1), np.int64([2]), None)
    assert fuse_categories(given, np.float32([[0.9, 0.1]])) is given


def test_detections_more_likely_false_are_dropped() -> None:
    group = LabelGroup(IS_GARMENT, ("no", "Yes", "partly"), True)
    rows = torch.log(torch.tensor([[1.0, 1, 1], [1, 2.1, 1], [1, 1.9, 1], [0.1, 9, 1]]))
    assert RECOGNIZED == 0.5  # of the second 2.1 / 4.1, of the third 1.9 / 3.9
    assert recognized_rows(rows, group) == [1, 3]
    assert recognized_rows(torch.zeros(0, 3), group) == []


def test_overflow_is_no_verdict() -> None:
    """Dropped, the garment would be gone without a word; kept, its photo is reported."""
    group = LabelGroup(IS_GARMENT, ("no", "yes"), True)
    assert recognized_rows(torch.tensor([[9, 0], [torch.nan, torch.nan]]), group) == [1]


def test_without_a_yes_nothing_is_dropped() -> None:
    group = LabelGroup(IS_GARMENT, ("0", "1"), True)
    assert recognized_rows(torch.tensor([[9.0, 0], [0, 9]]), group) == [0, 1]
