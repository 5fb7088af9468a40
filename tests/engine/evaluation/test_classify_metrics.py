"""Label metrics against hand-worked values and scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

from engine.evaluation.classify_metrics import (
    attribute_scores,
    confusion,
    f1_scores,
    grouped_recall,
    predicted,
    report,
    topk_hits,
)

NEVER = -np.inf


def test_topk_by_hand() -> None:
    scores = np.array([[0.1, 0.5, 0.4], [0.3, 0.3, 0.2], [0.9, 0.0, NEVER], [0.0, 0.0, 1.0]])
    targets = np.array([2, 1, 2, -1])  # second; tied and later; unsayable; unknown
    assert topk_hits(scores, targets, 1).tolist() == [False, False, False]
    assert topk_hits(scores, targets, 2).tolist() == [True, True, False]
    assert topk_hits(scores, targets, 3).tolist() == [True, True, False]
    assert predicted(scores).tolist() == [1, 0, 0, 2]
    assert predicted(np.full((1, 2), NEVER)).tolist() == [-1]


def test_confusion_by_hand() -> None:
    answers, targets = np.array([0, 1, 1, -1, 2, 0]), np.array([0, 0, 1, 1, -1, 2])
    expected = [[1, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]]
    assert confusion(answers, targets, 3).tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_f1_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.choice([0, 1, 2, 5], 41)  # 3 is only ever answered, 4 never occurs
    answers = np.where(rng.random(41) < 0.5, targets, rng.integers(0, 4, 41))
    found = f1_scores(confusion(answers, targets, 6))
    for average in ("macro", "weighted"):
        expected = sk.f1_score(targets, answers, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(expected)


def test_a_missing_prediction_is_a_miss() -> None:
    """F1 of 0: 2·1 / (2 + 1) = 2/3 (one of its two has no prediction); F1 of 1: 1."""
    matrix = confusion(np.array([0, -1, 1]), np.array([0, 0, 1]), 2)
    assert f1_scores(matrix)["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_the_report_lists_only_values_that_occur() -> None:
    text = report(np.array([0, -1, 1, 0]), np.array([0, 0, 1, -1]), ["coat", "dress", "hat"])
    assert "coat" in text
    assert "dress" in text
    assert "(no answer)" in text
    assert "hat" not in text
    assert text.split("coat")[1].split()[:4] == ["1.000", "0.500", "0.667", "2"]


def test_attributes_by_hand() -> None:
    scores = np.array([[2.0, -1, 3], [1, 1, -1], [-1, 2, 1], [5, -1, -1]])
    targets = np.array([[1, 1, 0], [-1, 1, 0], [1, -1, 0], [0, 0, 0]])
    found = attribute_scores(scores, targets)
    # First: said 2, right 1, positives 2. Second: said 2, right 1, positives 2. Third: all unknown.
    assert found["precision"].tolist() == [0.5, 0.5, 0]
    assert found["recall"].tolist() == [0.5, 0.5, 0]
    assert found["f1"].tolist() == [0.5, 0.5, 0]
    assert found["positives"].tolist() == [2, 2, 0]
    assert found["macro_f1"] == 0.5
    assert found["micro_f1"] == 0.5
    assert found["hamming"] == pytest.approx(4 / 6)


def test_attributes_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random((29, 7)) < 0.3, rng.normal(size=(29, 7))
    found = attribute_scores(scores, np.where(truth, 1, -1))
    expected = sk.precision_recall_fscore_support(truth, scores > 0, zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "positives"), expected, strict=True):
        np.testing.assert_allclose(found[name], values)
    assert found["micro_f1"] == pytest.approx(sk.f1_score(truth, scores > 0, average="micro"))
    assert found["hamming"] == pytest.approx(sk.hamming_loss(truth, scores > 0))


def test_all_three_recall_variants_by_hand() -> None:
    """Photo 1 has 3 positives, 2 of them among its two best; photo 2 has one, which is not;
    photo 3 has none."""
    scores = np.array([[4.0, 3, 2, 1], [4, 3, 2, 1], [1, 2, 3, 4]])
    targets = np.array([[1, 1, 1, -1], [-1, -1, 1, -1], [-1, -1, -1, -1]])
    found = grouped_recall(scores, targets, ks=(2,))
    assert found["recall@2_pooled"] == 2 / 4
    assert found["recall@2_per_image"] == pytest.approx((2 / 2 + 0 / 1) / 2)
    # Attributes: 1 of 1, 1 of 1, 0 of 2; the last has no positive.
    assert found["recall@2_per_attribute"] == pytest.approx((1 + 1 + 0) / 3)


def test_unknown_attributes_are_skipped_and_impossible_ones_never_found() -> None:
    scores = np.array([[9.0, 3, 2, NEVER]])
    found = grouped_recall(scores, np.array([[0, -1, 1, 1]]), ks=(2, 4))
    assert found["recall@2_pooled"] == 1 / 2  # second among the known
    assert found["recall@4_pooled"] == 1 / 2
    assert grouped_recall(scores, np.zeros((1, 4), np.int8)) == {}
