"""DeepFashion2's consumer-to-shop rule, worked by hand."""

import json
from pathlib import Path

import pytest

from dataset_helpers import load_dataset
from engine.errors import InputError
from retrieval.deepfashion2 import QueryResult, TrueGarment, box_ious, evaluate_results, summarize
from retrieval.deepfashion2_files import (
    queries_and_gallery,
    read_gallery,
    read_queries,
    read_results,
    write_results,
)
from tests.datasets import write_df2, write_df2_truth

LEFT, RIGHT, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (90, 90, 95, 95)
HALF = (0, 0, 10, 5)  # IoU 1/2 with LEFT
LESS = (0, 0, 10, 4.9)

# Photo 1 shows product (7, 1) at the left and something without a style at the right.
QUERIES = [TrueGarment(1, LEFT, 7, 1, 8), TrueGarment(1, RIGHT, 7, 0, 2)]
GALLERY = [
    TrueGarment(50, LEFT, 7, 1, 0),
    TrueGarment(51, RIGHT, 7, 1, 0),
    TrueGarment(51, LEFT, 7, 2, 0),  # another style
    TrueGarment(52, LEFT, 8, 1, 0),  # another pair
]


def result(box=LEFT, category=8, score=0.5, found=((50, LEFT),), image=1) -> QueryResult:
    images, boxes = tuple(f[0] for f in found), tuple(f[1] for f in found)
    return QueryResult(image, box, category, score, images, boxes)


def outcome_of(*results: QueryResult, min_iou: float | None = None, queries=QUERIES) -> tuple:
    (outcome,) = evaluate_results(queries, GALLERY, results, min_iou=min_iou)
    return outcome.rank, outcome.failure


def test_garment_without_style_is_no_query_but_is_assigned_detections() -> None:
    assert outcome_of(result()) == (1, "")
    assert outcome_of(result(box=RIGHT)) == (None, "not_detected")


def test_undetected_query_counts_as_a_miss() -> None:
    assert outcome_of() == (None, "not_detected")
    assert outcome_of(result(image=2)) == (None, "not_detected")


def test_detection_without_overlap_goes_to_the_first_garment() -> None:
    assert outcome_of(result(box=FAR)) == (1, "")
    assert outcome_of(result(box=FAR), min_iou=0.1) == (None, "not_detected")
    assert outcome_of(result(box=FAR), queries=QUERIES[::-1]) == (None, "not_detected")


def test_strict_variant_requires_overlap() -> None:
    assert outcome_of(result(box=HALF), min_iou=0.5) == (1, "")
    assert outcome_of(result(box=LESS), min_iou=0.5) == (None, "not_detected")
    assert outcome_of(result(box=LESS)) == (1, "")


def test_best_scored_detection_of_the_right_class_counts() -> None:
    wrong = ((52, LEFT),)
    assert outcome_of(result(category=3)) == (None, "wrong_class")
    assert outcome_of(result(category=3, score=0.9, found=wrong), result()) == (1, "")
    assert outcome_of(result(score=0.9, found=wrong), result()) == (None, "wrong_neighbor")
    assert outcome_of(result(score=0.5), result(score=0.5, found=wrong)) == (
        1,
        "",
    )  # first of equals


def test_a_result_must_overlap_a_garment_of_the_same_pair_and_style() -> None:
    found = ((52, LEFT), (51, LEFT), (50, LESS), (50, RIGHT), (50, HALF))
    assert outcome_of(result(found=found)) == (5, "")
    assert outcome_of(result(found=found[:4])) == (None, "wrong_neighbor")
    assert outcome_of(result(found=())) == (None, "wrong_neighbor")
    assert outcome_of(result(found=((51, RIGHT),))) == (1, "")


def test_shares_and_losses_by_hand() -> None:
    """Five queries: hits at 1 and at 6, both in photo 1, a wrong class, and two not detected."""
    queries = [
        TrueGarment(1, LEFT, 7, 1, 8),
        TrueGarment(1, RIGHT, 7, 2, 8),
        TrueGarment(2, LEFT, 7, 1, 8),
        TrueGarment(3, LEFT, 7, 1, 8),
        TrueGarment(4, LEFT, 7, 1, 8),
    ]
    nothing = ((52, LEFT),) * 5
    results = [
        result(),
        result(box=RIGHT, found=(*nothing, (51, LEFT))),
        result(image=2, category=9),
    ]
    metrics = summarize(evaluate_results(queries, GALLERY, results))
    assert metrics["queries"] == 5
    shares = [metrics[f"top{k}"] for k in (1, 5, 10, 15, 20)]
    assert shares == [1 / 5, 1 / 5, 2 / 5, 2 / 5, 2 / 5]
    assert metrics["lost"]["top1"] == {
        "not_detected": 2 / 5, "wrong_class": 1 / 5, "wrong_neighbor": 1 / 5
    }  # fmt: skip
    assert metrics["lost"]["top10"]["wrong_neighbor"] == 0
    assert summarize([])["queries"] == 0


def test_box_ious() -> None:
    ious = box_ious([LEFT, (5, 5, 15, 15), (3, 3, 3, 3)], [LEFT, HALF])
    assert ious.tolist() == [[1, 0.5], [pytest.approx(25 / 175), 0], [0, 0]]
    assert box_ious([(1, 1, 1, 1)], [(1, 1, 1, 1)]).tolist() == [[0]]


def test_files_are_read_back_unchanged(tmp_path: Path) -> None:
    write_df2_truth(tmp_path, QUERIES, GALLERY)
    assert read_queries(tmp_path / "val_query.json") == QUERIES
    assert read_gallery(tmp_path / "val_gallery.json") == GALLERY
    results = [result(), result(found=())]
    write_results(tmp_path / "results.json", results)
    assert read_results(tmp_path / "results.json") == results
    first = json.loads((tmp_path / "results.json").read_text())[0]
    assert first == {
        "query_image_id": 1, "query_bbox": [0, 0, 10, 10], "query_cls": 8, "query_score": 0.5,
        "gallery_image_id": [50], "gallery_bbox": [[0, 0, 10, 10]],
    }  # fmt: skip


def test_queries_and_gallery_of_a_dataset(tmp_path: Path) -> None:
    """Photo 1 is a user's with two garments, 2 and 10 are shops'."""
    queries, gallery = queries_and_gallery(
        load_dataset("deepfashion2", write_df2(tmp_path), split="train")
    )
    assert {(g.image_id, g.pair_id, g.style, g.category) for g in queries} == {
        (1, 7, 2, 8), (1, 7, 0, 1)
    }  # fmt: skip
    assert [(g.image_id, g.pair_id, g.style, g.category) for g in gallery] == [
        (2, 7, 2, 8), (10, 9, 2, 13)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("{}", "list"),
        ('[{"query_image_id": 1}]', "entry 0 lacks 'gallery_image_id'"),
        ("[3]", "entry 0"),
        (
            '[{"query_image_id": 1, "query_bbox": [1, 2, 3], "query_cls": 1, "query_score": 1,'
            ' "gallery_image_id": [], "gallery_bbox": []}]',
            "no box",
        ),
        (
            '[{"query_image_id": 1, "query_bbox": [1, 2, 3, 4], "query_cls": 1, "query_score": 1,'
            ' "gallery_image_id": [5], "gallery_bbox": []}]',
            "1 gallery images but 0 boxes",
        ),
        (
            '[{"query_image_id": 1, "query_bbox": [1, 2, 3, 4], "query_cls": 1, "query_score": NaN,'
            ' "gallery_image_id": [], "gallery_bbox": []}]',
            "entry 0: nan is no score",
        ),
        (
            '[{"query_image_id": Infinity, "query_bbox": [1, 2, 3, 4], "query_cls": 1,'
            ' "query_score": 1, "gallery_image_id": [], "gallery_bbox": []}]',
            "entry 0: .*infinity",
        ),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"results.json.*{message}"):
        read_results(path)
    with pytest.raises(InputError, match="nowhere"):
        read_results(tmp_path / "nowhere.json")
