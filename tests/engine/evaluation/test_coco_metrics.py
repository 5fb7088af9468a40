"""Every number against pycocotools, which gets its input from an independent conversion."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from engine.data.records import Garment, Photo, PhotoRecords
from engine.detection.detections import Detections
from engine.evaluation.coco_columns import SUBSETS, GroundTruth
from engine.evaluation.coco_metrics import (
    evaluate,
    evaluate_all,
    evaluate_subsets,
)

WIDTH, HEIGHT = 131, 113
CATEGORIES = ["coat", "dress", "hat", "never seen"]
NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def rle_of(box: np.ndarray) -> dict:
    """The mask of all pixels whose corner is in the box; made of blocks, so that IoUs tie."""
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    x1, y1, x2, y2 = np.round(box).astype(int)
    bitmap[max(y1, 0) : y2, max(x1, 0) : x2] = 1
    return coco_mask.encode(bitmap)


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.integers(0, 80, (count, 2))
    return np.concatenate([corner, corner + rng.integers(3, 50, (count, 2))], axis=1).astype(float)


def make_records(photos: dict[int, list[Garment]]) -> PhotoRecords:
    return PhotoRecords.from_photos(
        [
            Photo(Path(f"/p/{i}.jpg"), i, WIDTH, HEIGHT, garments=garments)
            for i, garments in photos.items()
        ],
        root=Path("/p"),
        format="test",
        categories=CATEGORIES,
        category_ids=[5, 2, 9, 4],
    )


def garment(category: int, box: np.ndarray, *, crowd: bool = False, mask=None, **grades) -> Garment:
    box = np.asarray(box, float)
    mask = rle_of(box) if mask is None else mask
    area = float(coco_mask.area(mask))
    return Garment(category, box, area, mask, crowd=crowd, **grades)


def random_case(seed: int, *, crowds: float = 0.0, levels: int = 1000) -> tuple:
    """Records and predictions with ties (few score ``levels``) and unsorted image ids."""
    rng = np.random.default_rng(seed)
    photos, predictions = {}, {}
    for image_id in rng.choice(10**9, 23, replace=False).tolist():
        boxes = random_boxes(rng, rng.integers(0, 6))
        garments = [
            garment(
                int(rng.integers(0, 3)),
                box,
                crowd=bool(rng.random() < crowds),
                **{factor: int(rng.integers(0, 4)) for factor in SUBSETS},
            )
            for box in boxes
        ]
        photos[image_id] = garments
        near = boxes.repeat(3, axis=0) + rng.integers(-4, 5, (3 * len(boxes), 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        found = np.concatenate([near, random_boxes(rng, rng.integers(0, 8))])
        labels = rng.integers(1, 4, len(found))
        own = np.array([g.category + 1 for g in garments], int).repeat(3)
        labels[: len(own)] = np.where(rng.random(len(own)) < 0.7, own, labels[: len(own)])
        scores = rng.integers(1, levels, len(found)) / levels
        predictions[image_id] = detections(found, scores, labels)
    return make_records(photos), predictions


def detections(boxes, scores, labels) -> Detections:
    """Masks are shifted against their boxes, so that confusing the two changes the metrics."""
    scores = np.asarray(scores, np.float32)
    order = np.argsort(-scores, kind="stable")
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)[order]
    masks = [rle_of(box) for box in boxes + np.array([2, 0, 2, 1])]
    return Detections(WIDTH, HEIGHT, boxes, scores[order], np.asarray(labels)[order], masks)


def reference(
    records: PhotoRecords, predictions: dict, kind: str, *, outside=None, agnostic: bool = False
) -> COCOeval:
    """pycocotools on the dataset's own ids; garments with ``outside(garment)`` are ignored."""
    truth, annotations, ignored = COCO(), [], set()
    for photo in records:
        for g in photo.garments:
            x1, y1, x2, y2 = g.box.tolist()
            category_id = 1 if agnostic else records.category_ids[g.category]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": photo.image_id, "area": g.area,
                 "category_id": category_id, "bbox": [x1, y1, x2 - x1, y2 - y1],
                 "iscrowd": int(g.crowd), "segmentation": g.segmentation}
            )  # fmt: skip
            if outside is not None and outside(g):
                ignored.add(len(annotations))
    ids = [1] if agnostic else records.category_ids
    truth.dataset = {
        "info": {},
        "images": [{"id": i, "width": WIDTH, "height": HEIGHT} for i in records.image_ids.tolist()],
        "categories": [{"id": i} for i in ids],
        "annotations": annotations,
    }
    results = []
    for image_id, found in predictions.items():
        for box, score, label, mask in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels, found.masks, strict=True
        ):
            x1, y1, x2, y2 = box
            shape = {"bbox": [x1, y1, x2 - x1, y2 - y1]}
            category_id = 1 if agnostic else records.category_ids[label - 1]
            results.append({"image_id": image_id, "category_id": category_id, "score": score})
            results[-1] |= shape if kind == "box" else {"segmentation": mask}

    class Reference(COCOeval):
        def _prepare(self) -> None:
            super()._prepare()
            for rows in self._gts.values():
                for row in rows:
                    row["ignore"] = row["ignore"] or row["id"] in ignored

    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = truth.loadRes(results) if results else COCO()
        if not results:
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluator = Reference(truth, found, {"box": "bbox", "mask": "segm"}[kind])
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def assert_equal(records, predictions, *, agnostic=False, kinds=("box", "mask")) -> None:
    truth = GroundTruth(records)
    for kind in kinds:
        metrics = evaluate(truth, predictions, kind=kind, class_agnostic=agnostic)
        wanted = reference(records, predictions, kind, agnostic=agnostic)
        assert list(metrics.summary) == NAMES
        np.testing.assert_allclose(list(metrics.summary.values()), wanted.stats, rtol=0, atol=1e-9)
        for k, name in enumerate(["garment"] if agnostic else CATEGORIES):
            order = 0 if agnostic else sorted(records.category_ids).index(records.category_ids[k])
            precision = wanted.eval["precision"][:, :, order, 0, -1]
            values = metrics.per_class[name]
            wanted_ap = precision.mean() if precision.max() > -1 else -1
            assert values["AP"] == pytest.approx(wanted_ap, abs=1e-9)
            assert values["AP50"] == pytest.approx(precision[0].mean(), abs=1e-9)
            assert values["AP75"] == pytest.approx(precision[5].mean(), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_random_photos_equal_pycocotools(seed: int) -> None:
    assert_equal(*random_case(seed))


def test_random_photos_have_medium_ap() -> None:
    records, predictions = random_case(0)
    summary = evaluate(GroundTruth(records), predictions, kind="mask").summary
    assert 0.05 < summary["AP"] < 0.95
    assert len({round(value, 6) for value in summary.values()}) >= 10


def test_crowds_equal_pycocotools() -> None:
    records, predictions = random_case(3, crowds=0.4)
    assert records.garment_crowd.any()
    assert_equal(records, predictions)
    metrics = evaluate(GroundTruth(records), predictions, kind="box")
    counted = sum(row["garments"] for row in metrics.per_class.values())
    assert counted == (~records.garment_crowd).sum()


def test_tied_scores_are_ordered_by_image_id() -> None:
    for seed in range(4, 8):
        assert_equal(*random_case(seed, levels=3))


def test_the_order_of_photos_does_not_matter() -> None:
    records, predictions = random_case(8, levels=3)
    shuffled = records.subset(np.random.default_rng(0).permutation(len(records)))
    turned = dict(reversed(predictions.items()))
    one = evaluate(GroundTruth(records), predictions, kind="mask")
    assert one == evaluate(GroundTruth(shuffled), turned, kind="mask")


def test_class_agnostic_evaluation_merges_categories() -> None:
    records, predictions = random_case(9, crowds=0.1)
    assert_equal(records, predictions, agnostic=True)
    truth = GroundTruth(records)
    merged = evaluate(truth, predictions, kind="box", class_agnostic=True)
    assert list(merged.per_class) == ["garment"]
    assert merged.summary["AP"] != evaluate(truth, predictions, kind="box").summary["AP"]


def test_areas_at_the_borders_of_small_medium_and_large() -> None:
    sizes = [(31, 33), (32, 32), (32, 33), (95, 97), (96, 96), (96, 97)]
    aside = np.array([32, 14, 32, 14])
    boxes = [(2, 2, 2 + width, 2 + height) for width, height in sizes]
    photos = {i: [garment(0, box), garment(1, box)] for i, box in enumerate(boxes)}
    predictions = {
        i: detections([box, box, box + aside, box + aside], [0.6, 0.5, 0.9, 0.1], [1, 2, 1, 2])
        for i, box in enumerate(boxes)
    }
    assert_equal(make_records(photos), predictions)


def test_detections_past_the_limit_are_ignored() -> None:
    rng = np.random.default_rng(10)
    box = np.array([10.0, 10, 60, 70])
    boxes = np.concatenate([random_boxes(rng, 130), box[None]])
    scores = np.linspace(0.9, 0.1, 131)  # the right one comes last, after the limit of 100
    predictions = {4: detections(boxes, scores, np.ones(131, int))}
    assert_equal(make_records({4: [garment(0, box)]}), predictions)


@pytest.mark.parametrize(
    "photos",
    [
        {3: [], 1: []},
        {3: [garment(0, [5, 5, 50, 60])], 1: [], 2: [garment(2, [1, 2, 30, 40])]},
        {7: [garment(1, [5, 5, 50, 60], crowd=True)]},
    ],
    ids=["no garments", "photos without garments", "only a crowd"],
)
@pytest.mark.parametrize("found", ["nothing", "no entry", "something"])
def test_missing_annotations_or_predictions(photos: dict, found: str) -> None:
    records = make_records(photos)
    boxes = [[5, 5, 50, 60]] if found == "something" else []
    one = detections(boxes, [0.5] * len(boxes), np.ones(len(boxes), int))
    predictions = {} if found == "no entry" else dict.fromkeys(photos, one)
    assert_equal(records, predictions, kinds=("box", "mask") if records.has_masks else ("box",))


def test_a_dataset_without_garments_has_nothing_to_measure() -> None:
    metrics = evaluate_all(GroundTruth(make_records({3: []})), {3: detections([], [], [])})
    assert set(metrics["box"].values()) == {-1.0}
    assert "mask" not in metrics


def test_ap_by_hand() -> None:
    """Two coats; the best detection is wrong, so precision is 1/2 at recall 1/2 and 0 beyond."""
    records = make_records({1: [garment(0, [0, 0, 50, 50]), garment(0, [60, 60, 110, 110])]})
    found = detections([[0, 60, 50, 110], [0, 0, 50, 50]], [0.9, 0.8], [1, 1])
    metrics = evaluate(GroundTruth(records), {1: found}, kind="box")
    # 51 of the 101 recall levels (0 to .50) are reached, each at precision 1/2.
    assert metrics.summary["AP"] == pytest.approx(51 * 0.5 / 101)
    assert metrics.summary["AR1"] == 0
    assert metrics.summary["AR10"] == pytest.approx(0.5)
    assert metrics.per_class["coat"]["garments"] == 2
    assert metrics.per_class["dress"] == {"AP": -1, "AP50": -1, "AP75": -1, "garments": 0}


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_subsets_ignore_garments_outside(kind: str) -> None:
    records, predictions = random_case(12, crowds=0.1)
    tables = evaluate_subsets(GroundTruth(records), predictions, kind=kind)
    assert {factor: tuple(table) for factor, table in tables.items()} == SUBSETS
    for factor in ("scale", "viewpoint"):
        for value, row in enumerate(tables[factor].values(), start=1):
            wanted = reference(
                records,
                predictions,
                kind,
                outside=lambda g, factor=factor, value=value: getattr(g, factor) != value,
            )
            np.testing.assert_allclose(
                [row["AP"], row["AP50"], row["AP75"]], wanted.stats[:3], rtol=0, atol=1e-9
            )
            inside = getattr(records, f"garment_{factor}") == value
            assert row["garments"] == (inside & ~records.garment_crowd).sum()


def test_subsets_by_hand() -> None:
    """A detection without a garment is false in every subset, a correct one counts in its own."""
    records = make_records(
        {1: [garment(0, [0, 0, 50, 50], occlusion=1), garment(0, [60, 60, 110, 110], occlusion=3)]}
    )
    boxes = [[0, 60, 50, 110], [0, 0, 50, 50], [60, 60, 110, 110]]
    tables = evaluate_subsets(
        GroundTruth(records), {1: detections(boxes, [0.9, 0.8, 0.7], [1, 1, 1])}, kind="box"
    )
    assert list(tables) == ["occlusion"]
    assert tables["occlusion"]["slight"]["AP"] == pytest.approx(0.5)
    assert tables["occlusion"]["medium"] == {"AP": -1, "AP50": -1, "AP75": -1, "garments": 0}
    assert tables["occlusion"]["heavy"]["AP"] == pytest.approx(0.5)


def test_polygons_are_rasterized_as_pycocotools_does() -> None:
    polygon = np.array([[5.3, 4.1], [60.2, 8.7], [33.9, 70.4]])
    rle = coco_mask.frPyObjects([polygon.ravel().tolist()], HEIGHT, WIDTH)[0]
    box = [5.3, 4.1, 60.2, 70.4]
    with_rle = make_records({1: [garment(0, box, mask=rle)]})
    drawn = Garment(0, np.array(box), float(coco_mask.area(rle)), [polygon])
    records = make_records({1: [drawn]})
    found = {1: detections([[7, 4, 58, 66]], [0.9], [1])}
    one, other = (evaluate(GroundTruth(r), found, kind="mask") for r in (records, with_rle))
    assert one == other
    assert one.summary["AR1"] > 0


def test_unreadable_photos_are_counted() -> None:
    records = make_records({1: [garment(0, [0, 0, 50, 50])], 2: [garment(0, [0, 0, 50, 50])]})
    found = detections([[0, 0, 50, 50]], [0.9], [1])
    metrics = evaluate_all(GroundTruth(records), {1: found, 2: None})
    assert (metrics["photos"], metrics["unreadable"]) == (2, 1)
    assert metrics["box"]["AR1"] == 0.5
    assert list(metrics["per_class"]) == ["box", "mask"]
    assert "subsets" not in metrics


def test_a_box_only_model_gets_no_mask_metrics() -> None:
    records = make_records({1: [garment(0, [0, 0, 50, 50], scale=1)]})
    found = detections([[0, 0, 50, 50]], [0.9], [1])
    found.masks = None
    metrics = evaluate_all(GroundTruth(records), {1: found}, subsets=True)
    assert "mask" not in metrics
    assert list(metrics["subsets"]) == ["box"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": WIDTH + 1}, "another photo size: image ids \\[1\\]"),
        ({"labels": np.array([5])}, "labels must be between 1 and 4"),
        ({"labels": np.array([0])}, "labels must be between 1 and 4"),
        ({"masks": []}, "a mask for every detection"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    records = make_records({1: [garment(0, [0, 0, 50, 50])]})
    found = detections([[0, 0, 50, 50]], [0.9], [1])
    for name, value in change.items():
        setattr(found, name, value)
    with pytest.raises(ValueError, match=message):
        evaluate(GroundTruth(records), {1: found}, kind="mask")


def test_predictions_for_an_unknown_photo_are_refused() -> None:
    truth = GroundTruth(make_records({1: [garment(0, [0, 0, 50, 50])]}))
    for unknown in (0, 2):
        with pytest.raises(ValueError, match=f"unknown image ids \\[{unknown}\\]"):
            evaluate(truth, {unknown: detections([], [], [])}, kind="box")
