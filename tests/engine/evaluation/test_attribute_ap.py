"""AP IoU+F1: the published values of F1, hand-worked cases, and the rule spelled out in loops."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from sklearn.metrics import f1_score

from engine.data.records import Garment, Photo, PhotoRecords
from engine.detection.detections import Detections
from engine.evaluation.attribute_ap import attribute_f1, evaluate_with_attributes, find_matches
from engine.evaluation.coco_columns import GroundTruth
from engine.evaluation.coco_metrics import evaluate

WIDTH, HEIGHT = 131, 113
CATEGORIES = ["coat", "dress", "button", "never seen"]
ATTRIBUTES = 7
THRESHOLDS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
DESCRIBED = {0, 1}  # categories with attributes


def rows(*chosen: list[int], of: int = ATTRIBUTES) -> np.ndarray:
    """One bool row per argument, True at the given indices."""
    table = np.zeros((len(chosen), of), bool)
    for row, places in zip(table, chosen, strict=True):
        row[places] = True
    return table


def rle_of(box: np.ndarray) -> dict:
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    x1, y1, x2, y2 = np.round(box).astype(int)
    bitmap[max(y1, 0) : y2, max(x1, 0) : x2] = 1
    return coco_mask.encode(bitmap)


def garment(category: int, box, has: np.ndarray, crowd: bool = False) -> Garment:
    box = np.asarray(box, float)
    mask = rle_of(box)
    signs = np.where(has, 1, -1) if has.any() else np.zeros(ATTRIBUTES)
    area = float(coco_mask.area(mask))
    return Garment(category, box, area, mask, crowd=crowd, attributes=signs.astype(np.int8))


def records_of(photos: dict[int, list[Garment]]) -> PhotoRecords:
    return PhotoRecords.from_photos(
        [Photo(Path(f"/p/{i}.jpg"), i, WIDTH, HEIGHT, garments=g) for i, g in photos.items()],
        root=Path("/p"),
        format="test",
        categories=CATEGORIES,
        category_ids=[5, 2, 9, 4],
        attributes=[f"a{i}" for i in range(ATTRIBUTES)],
    )


def found_on(boxes, scores, labels, predicted) -> Detections:
    order = np.argsort(-np.asarray(scores), kind="stable")
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)[order]
    masks = [rle_of(box + np.array([2, 0, 2, 1])) for box in boxes]
    scores, labels = np.asarray(scores, np.float64)[order], np.asarray(labels, np.int64)[order]
    return Detections(WIDTH, HEIGHT, boxes, scores, labels, masks, attributes=predicted[order])


def random_case(seed: int, levels: int) -> tuple[PhotoRecords, dict[int, Detections]]:
    """Garments, some of them crowds, and detections near them, with tied scores."""
    rng = np.random.default_rng(seed)
    photos, predictions = {}, {}
    for image_id in rng.choice(10**9, 11, replace=False).tolist():
        corner = rng.integers(0, 70, (rng.integers(0, 6), 2))
        boxes = np.concatenate([corner, corner + rng.integers(10, 40, corner.shape)], axis=1)
        own = rng.integers(0, 3, len(boxes))
        has = rng.random((len(boxes), ATTRIBUTES)) < 0.4
        has[~np.isin(own, [*DESCRIBED])] = False
        crowds = rng.random(len(boxes)) < 0.15
        photos[image_id] = [garment(*g) for g in zip(own, boxes, has, crowds, strict=True)]
        near = boxes.repeat(3, axis=0) + rng.integers(-3, 4, (3 * len(boxes), 4))
        predicted = has.repeat(3, axis=0) ^ (rng.random((3 * len(boxes), ATTRIBUTES)) < 0.15)
        labels = np.where(rng.random(len(near)) < 0.8, own.repeat(3), rng.integers(0, 3, len(near)))
        scores = rng.integers(1, levels, len(near)) / levels
        predictions[image_id] = found_on(near, scores, labels + 1, predicted)
    return records_of(photos), predictions


def slow_matches(overlaps, f1, crowd, overlap_from: float, f1_from: float) -> list[int]:
    """The rule as plain loops for one pair of thresholds: the garment of each detection."""
    taken, matches = set(), []
    for d in range(len(overlaps)):
        best = (overlap_from, f1_from)
        match = -1
        for g in range(len(crowd)):
            if g in taken:
                continue
            if crowd[g] and match >= 0 and not crowd[match]:
                break
            if overlaps[d][g] >= best[0] and f1[d][g] >= best[1]:
                best, match = (overlaps[d][g], f1[d][g]), g
        if match >= 0:
            taken.add(match)
        matches.append(match)
    return matches


@cache  # asked again for every pair of thresholds
def slow_f1(has: tuple[bool, ...], said: tuple[bool, ...]) -> float:
    return f1_score(has, said, average="macro", zero_division=0)


def slow_curve(records, predictions, kind: str, category: int, overlap_from, f1_from):
    """Precision at 101 recalls, None without garments."""
    ranked, positives = [], 0
    for i in np.argsort(records.image_ids):
        photo, own = records[int(i)], predictions[int(records.image_ids[i])]
        garments = [g for g in photo.garments if g.category == category]
        garments.sort(key=lambda g: g.crowd)
        crowd = [g.crowd for g in garments]
        positives += crowd.count(False)
        which = [d for d in range(len(own)) if own.labels[d] == category + 1]
        overlaps = np.zeros((len(which), len(garments)))
        f1 = np.ones((len(which), len(garments)))
        for row, d in enumerate(which):
            for column, g in enumerate(garments):
                pair = [own.masks[d]], [g.segmentation]
                if kind == "box":
                    boxes = np.array([own.boxes[d], g.box])
                    boxes[:, 2:] -= boxes[:, :2]
                    pair = boxes[:1], boxes[1:]
                overlaps[row, column] = coco_mask.iou(*pair, [int(g.crowd)])[0, 0]
                has, said = (g.attributes == 1).tolist(), own.attributes[d].astype(bool).tolist()
                f1[row, column] = slow_f1(tuple(has), tuple(said))
        matches = slow_matches(overlaps, f1, crowd, overlap_from, f1_from)
        for d, match in zip(which, matches, strict=True):
            if match < 0 or not crowd[match]:
                ranked.append((own.scores[d], match >= 0))
    if positives == 0:
        return None
    ranked.sort(key=lambda pair: -pair[0])
    points, right = [], 0
    for position, (_, hit) in enumerate(ranked, start=1):
        right += hit
        points.append((right / positives, right / position))
    return [max((p for r, p in points if r >= at), default=0) for at in np.linspace(0, 1, 101)]


def test_f1_equals_the_benchmarks_published_values() -> None:
    of = 294
    predicted = rows([1], [], [5], [1, 2], of=of)
    two, none = rows([1, 2], of=of), rows([], of=of)
    assert attribute_f1(predicted, two)[:, 0] == pytest.approx(
        [0.8325, 0.4983, 0.4974, 1], abs=5e-5
    )
    assert attribute_f1(none, none)[0, 0] == 1
    assert attribute_f1(~none, ~none)[0, 0] == 1
    assert attribute_f1(~none, none)[0, 0] == 0


def test_f1_equals_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    predicted, has = rng.random((13, 5)) < 0.4, rng.random((11, 5)) < 0.4
    expected = [[f1_score(g, d, average="macro", zero_division=0) for g in has] for d in predicted]
    np.testing.assert_allclose(attribute_f1(predicted, has), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_matches_equal_the_slow_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crowd = np.array([False, False, False, True, True])[: rng.integers(1, 6)]
    overlaps, f1 = (rng.integers(8, 21, (7, len(crowd))) / 20 for _ in range(2))
    hit = find_matches(overlaps, f1, crowd)
    for t, overlap_from in enumerate(THRESHOLDS):
        for f, f1_from in enumerate(THRESHOLDS):
            slow = slow_matches(overlaps, f1, crowd, overlap_from - 1e-9, f1_from - 1e-9)
            assert hit[t, f].tolist() == slow


@pytest.mark.parametrize(("seed", "levels"), [(0, 1000), (1, 5)])
@pytest.mark.parametrize("kind", ["box", "mask"])
def test_every_metric_equals_the_slow_rule(seed: int, levels: int, kind: str) -> None:
    records, predictions = random_case(seed, levels)
    result = evaluate_with_attributes(GroundTruth(records), predictions, kind=kind)
    by_overlap = evaluate(GroundTruth(records), predictions, kind=kind).per_class["button"]
    curves = {
        (category, overlap_from, f1_from): slow_curve(
            records, predictions, kind, category, overlap_from, f1_from
        )
        for category in sorted(DESCRIBED)
        for overlap_from in (0.5, 0.75, 0.85)
        for f1_from in THRESHOLDS
    }
    for name, overlap_from in (("AP50", 0.5), ("AP75", 0.75)):
        values = [[curves[c, overlap_from, f] for f in THRESHOLDS] for c in sorted(DESCRIBED)]
        # The category without attributes counts once, the others once a threshold of F1.
        together = (np.sum(np.mean(values, axis=2)) + by_overlap[name]) / 21
        assert result["summary"][name] == pytest.approx(together, abs=1e-9)
        for category, own in zip(sorted(DESCRIBED), values, strict=True):
            row = result["per_class"][CATEGORIES[category]]
            assert row[name] == pytest.approx(np.mean(own), abs=1e-9)
        for suffix, f1_from in (("f50", 0.5), ("f75", 0.75)):
            own = [np.mean(curves[c, overlap_from, f1_from]) for c in sorted(DESCRIBED)]
            expected = (sum(own) + by_overlap[name]) / 3
            assert result["summary"][name + suffix] == pytest.approx(expected, abs=1e-9)
    assert set(result["per_class"]) == {"coat", "dress"}


def test_wrong_attributes_make_a_detection_wrong() -> None:
    """One coat with the right mask and two of four attributes right: F1 of 2/3 and 10/12 ..."""
    has, predicted = rows([0, 1, 2]), rows([0, 1, 3])
    records = records_of({7: [garment(0, (10, 10, 50, 60), has[0])]})
    found = {7: found_on([(10, 10, 50, 60)], [0.9], [1], predicted)}
    # Yes: 2 right of 3 said and 3 true, F1 2/3. No: 3 right of 4 and 4, F1 3/4. Mean 17/24 = .708,
    # which passes .50 ... .70: five of ten thresholds.
    summary = evaluate_with_attributes(GroundTruth(records), found, kind="box")["summary"]
    expected = {"AP": 0.5, "AP50": 0.5, "APf50": 1, "APf75": 0, "AP75f50": 1, "AP50f75": 0}
    assert {name: summary[name] for name in expected} == pytest.approx(expected)


def test_no_detections_and_no_garments() -> None:
    records = records_of({7: [garment(1, (10, 10, 50, 60), rows([2])[0])], 9: []})
    nothing = {i: found_on([], [], [], rows()) for i in (7, 9)}
    result = evaluate_with_attributes(GroundTruth(records), nothing, kind="mask")
    assert set(result["summary"].values()) == {0}
    crowd = records_of({7: [garment(1, (10, 10, 50, 60), rows([2])[0], crowd=True)], 9: []})
    result = evaluate_with_attributes(GroundTruth(crowd), nothing, kind="mask")
    assert set(result["summary"].values()) == {-1}
    assert result["per_class"]["dress"]["garments"] == 0
