"""Label metrics over the dataset's values, of which the model may know only some."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.labels import LabelGroup, LabelSpace
from engine.data.records import AttributeGroup, Garment, Photo, PhotoRecords
from engine.evaluation.multitask_metrics import Descriptions, EvaluationPart, evaluate_part

BOX = np.array([0, 0, 8, 8.0])


def part_of(categories: list[int], attributes: list[list[int]]) -> EvaluationPart:
    """Categories coat, dress, cape; color red/blue; tags with bow, with belt; trims with lace."""
    photos = [
        Photo(Path(f"/data/{i}.jpg"), i, 8, 8, garments=[
            Garment(category, BOX, 64, attributes=np.array(values, np.int8))
        ])
        for i, (category, values) in enumerate(zip(categories, attributes, strict=True))
    ]  # fmt: skip
    records = PhotoRecords.from_photos(
        photos,
        root=Path("/data"),
        format="csv",
        categories=["coat", "dress", "cape"],
        category_ids=[1, 2, 3],
        attributes=["red", "blue", "bow", "belt", "lace"],
        attribute_groups=[
            AttributeGroup("Color", 0, 2, True),
            AttributeGroup("tags", 2, 4, False),
            AttributeGroup("trims", 4, 5, False),
        ],
    )
    return EvaluationPart("shop", records, torch.utils.data.TensorDataset())


MODEL = LabelSpace(
    (
        LabelGroup("category", ("hat", "dress", "coat"), True),
        LabelGroup("color", ("blue", "red"), True),
        LabelGroup("tags", ("belt", "bow"), False),
        LabelGroup("trims", ("lace",), False),
    ),
    (),
)
UNLABELLED = [0, 0, 0, 0, 0]


def described(count: int, **logits: list) -> Descriptions:
    tables = {name: np.array(rows, np.float32) for name, rows in logits.items()}
    return Descriptions(np.arange(count), tables, {}, [])


def test_predictions_are_restricted_to_the_datasets_values() -> None:
    part = part_of([0, 1, 2, -1], [UNLABELLED] * 4)
    # hat is not a value of the dataset: the best among dress and coat counts.
    found = described(4, category=[[9, 1, 2], [9, 1, 2], [9, 1, 2], [9, 1, 2]])
    category = evaluate_part(part, found, MODEL, details=True)["category"]
    assert category["labelled"] == 3
    assert category["top1"] == pytest.approx(1 / 3)
    assert category["unheard_of"] == {"cape": 1}
    # coat: TP 1, predicted 3 times; dress and cape: never predicted.
    assert category["macro_f1"] == pytest.approx((2 * 1 / (1 + 3) + 0 + 0) / 3)
    low, high = category["intervals"]["macro_f1"]
    assert 0 <= low < category["macro_f1"] < high


def test_groups_missing_from_the_model_or_the_dataset_are_left_out() -> None:
    part = part_of([0, 1], [UNLABELLED, UNLABELLED])
    metrics = evaluate_part(part, described(2, color=[[0, 1], [0, 1]]), MODEL)
    assert metrics == {"garments": 2, "unreadable": 0}


def test_values_match_ignoring_case_if_there_is_no_exact_match() -> None:
    space = LabelSpace((LabelGroup("color", ("Blue", "RED", "red"), True),), ())
    part = part_of([-1] * 2, [[1, -1, 0, 0, 0], [-1, 1, 0, 0, 0]])
    color = evaluate_part(part, described(2, color=[[0, 9, 1], [2, 9, 1]]), space)["color"]
    assert color["top1"] == 1  # red, not RED, and Blue
    assert "unheard_of" not in color


def test_values_in_another_order_and_unreadable_photos() -> None:
    part = part_of([-1] * 3, [[1, -1, 0, 0, 0], [-1, 1, 0, 0, 0], [1, -1, 0, 0, 0]])
    found = Descriptions(
        np.array([0, 2]), {"color": np.array([[0, 1], [1, 0]], np.float32)}, {}, [1]
    )
    metrics = evaluate_part(part, found, MODEL)
    assert metrics["unreadable"] == 1
    assert (
        metrics["color"]["top1"] == 1 / 2
    )  # garment 0 is red and predicted red, 2 is predicted blue


def test_multi_label_groups_alone_and_together() -> None:
    part = part_of([-1] * 2, [[0, 0, 1, -1, 1], [0, 0, 1, 1, -1]])
    found = described(2, tags=[[-1, 2], [3, -1]], trims=[[1], [1]])  # tags: belt, bow
    metrics = evaluate_part(part, found, MODEL, details=True)
    tags = metrics["tags"]
    assert tags["labelled"] == 2
    assert tags["attributes"]["bow"] == {"precision": 1, "recall": 0.5, "f1": 2 / 3, "positives": 2}
    assert tags["micro_f1"] == pytest.approx(2 * 2 / (2 + 3))
    assert tags["hamming"] == 1 / 4
    assert metrics["all attributes"]["recall@3_pooled"] == 1
    assert "all attributes" not in evaluate_part(part, described(2, tags=[[1, 1], [1, 1]]), MODEL)


def test_a_group_and_an_aspect_of_the_same_name_share_an_entry() -> None:
    part = part_of([-1] * 3, [[1, -1, 0, 0, 0], [1, -1, 0, 0, 0], [-1, 1, 0, 0, 0]])
    logits = {"color": np.array([[0, 1], [0, 1], [1, 0]], np.float32)}
    vectors = {"color": np.eye(3, dtype=np.float32), "item": np.eye(3, dtype=np.float32)}
    metrics = evaluate_part(
        part, Descriptions(np.arange(3), logits, vectors, []), MODEL, details=True
    )
    assert metrics["color"]["top1"] == 1
    assert metrics["color"]["P@10_color"] == metrics["item"]["P@10_color"] == 1 / 2
    assert set(metrics["color"]["intervals"]) == {"top1", "macro_f1", "weighted_f1", "P@10_color"}
