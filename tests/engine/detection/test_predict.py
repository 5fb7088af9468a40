"""Inference over photos, with a cheap substitute detector whose output depends on the photo."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from engine.data.records import Garment, Photo, PhotoRecords
from engine.detection import predict
from engine.detection.detections import Detections
from engine.detection.predict import (
    PredictSettings,
    detect_photo,
    detect_photos,
    evaluate_detector,
    gather_predictions,
    predict_shard,
    with_progress,
)
from engine.evaluation.coco_columns import GroundTruth
from engine.pixels.photos import PhotoError
from engine.precision import PRECISIONS
from tests.ranks import run_ranks

CPU = torch.device("cpu")
SMALL = PredictSettings(short_side=64, max_side=96, workers=0)


class ColorDetector(nn.Module):
    """Three boxes per photo, at fractions of its sides; scores and labels follow its colors."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[tuple[int, ...]]] = []

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        assert torch.is_inference_mode_enabled()
        self.batches.append([tuple(image.shape) for image in images])
        return [self.look_at(image) for image in images]

    def look_at(self, image: Tensor) -> dict[str, Tensor]:
        assert image.dtype == torch.uint8
        height, width = image.shape[1:]
        color = image[:, height // 2, width // 2].float() / 255
        corner, far = color / 2, (color + 1.2) / 2
        boxes = torch.stack([corner * width, corner * height, far * width, far * height], dim=1)
        masks = color[:, None, None].expand(3, 28, 28).half()
        labels = (color * 2.99).long() + 1
        return {"boxes": boxes, "scores": color, "labels": labels, "roi_masks": masks}


class MirrorDetector(ColorDetector):
    """Records how it is called."""

    def forward(self, images: list[Tensor], *, mirror: bool = False) -> list[dict[str, Tensor]]:
        self.mirror = mirror
        return super().forward(images)


class FixedDetector(nn.Module):
    """The same output for every photo."""

    def __init__(self, **output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [self.output for _ in images]


def write_photo(path: Path, width: int, height: int, color: tuple[int, int, int]) -> Path:
    assert cv2.imwrite(str(path), np.full((height, width, 3), color[::-1], np.uint8))
    return path


def write_photos(folder: Path, count: int) -> list[tuple[int, Path]]:
    rng = np.random.default_rng(count)
    sizes = [(60, 80), (62, 79), (80, 60), (50, 50), (200, 31)]
    colors = rng.integers(0, 256, (count, 3)).tolist()
    return [
        (i, write_photo(folder / f"{i}.png", *sizes[i % 5], tuple(color)))
        for i, color in enumerate(colors)
    ]


def run(photos, settings=SMALL, model=None, **options) -> dict:
    results = {}
    for key, result, photo in detect_photos(
        model or ColorDetector(), photos, settings, CPU, **options
    ):
        assert key not in results
        results[key] = (result, photo)
    return results


def assert_same(one: Detections, other: Detections) -> None:
    assert (one.width, one.height, one.masks) == (other.width, other.height, other.masks)
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_half_of_a_close_up_is_looked_at_in_the_same_way(tmp_path: Path) -> None:
    paths = [write_photo(tmp_path / f"{i}.png", 61, 83, (250, 160, 50)) for i in range(3)]
    settings = replace(SMALL, mirror=True, batch_size=3)
    photos = list(enumerate(paths))
    model = MirrorDetector()
    plain = run(photos, settings, model)
    assert model.batches == [[(3, 87, 64)] * 3]
    found = run(photos, replace(settings, close_up=0.1), model)
    assert model.batches[1:] == [[(3, 87, 64)] * 3, [(3, 44, 32)] * 3] and model.mirror
    boxes = [results[0][0].boxes for results in (plain, found)]
    assert np.allclose(*boxes, atol=1) and not np.array_equal(*boxes)


@pytest.mark.parametrize("mirror", [True, False])
def test_the_model_is_called_with_mirror(tmp_path: Path, mirror: bool) -> None:
    model = MirrorDetector()
    path = write_photo(tmp_path / "a.png", 60, 80, (255, 51, 102))
    run([("a", path)], replace(SMALL, mirror=mirror), model)
    assert model.mirror is mirror


def test_boxes_come_back_in_pixels_of_the_original_photo(tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.png", 120, 240, (255, 51, 102))
    found = run([("a", path)])["a"][0]
    assert (found.width, found.height) == (120, 240)
    # Masks of 1, 0.4 and 0.2: the last two cover nothing, which is as unsure as a mask can be.
    roots = np.sqrt([1, 0.5, 0.5])
    np.testing.assert_allclose(found.scores, roots * [255, 102, 51] / 255, rtol=1e-6)
    np.testing.assert_array_equal(found.labels, [3, 2, 1])
    wanted = [[60, 120, 120, 240], [24, 48, 96, 192], [12, 24, 84, 168]]
    np.testing.assert_allclose(found.boxes, wanted, rtol=1e-5)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.labels.dtype == np.int64
    # Only the first mask is above one half: it fills its box.
    assert [rle["size"] for rle in found.masks] == [[240, 120]] * 3
    assert coco_mask.toBbox(found.masks[0]).tolist() == pytest.approx([60, 120, 60, 120], abs=1)
    assert [coco_mask.area(rle) for rle in found.masks[1:]] == [0, 0]


@pytest.mark.parametrize("factor", [1, 2])
def test_a_photo_in_memory_gives_the_same_as_its_file(tmp_path: Path, factor: int) -> None:
    path = write_photo(tmp_path / "a.png", 120, 240, (255, 51, 102))
    photo = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)[::factor, ::factor]
    found = detect_photo(ColorDetector(), photo, (120, 240), SMALL, CPU)
    assert_same(found, run([("a", path)])["a"][0])


def test_outputs_are_clipped_sorted_and_filtered(tmp_path: Path) -> None:
    model = FixedDetector(
        boxes=torch.tensor(
            [
                [-5.0, 2, 20, 70],
                [4, 4, 30, 30],
                [4, 4, 4, 30],
                [70, 4, 80, 30],
                [float("nan"), 4, 30, 30],
                [5, 4, 30, 30],
            ]
        ),
        scores=torch.tensor([0.6, 0.9, 0.9, 0.9, 0.9, 0.29]),
        labels=torch.arange(1, 7),
    )
    path = write_photo(tmp_path / "a.png", 64, 64, (0, 0, 0))
    settings = PredictSettings(short_side=64, workers=0, score_threshold=0.3)
    found = run([("a", path)], settings, model)["a"][0]
    # Left out: no width; wholly outside; not a number; below the threshold.
    np.testing.assert_array_equal(found.labels, [2, 1])
    np.testing.assert_array_equal(found.boxes, [[4, 4, 30, 30], [0, 2, 20, 64]])
    assert found.masks is None


def test_a_photo_without_detections(tmp_path: Path) -> None:
    model = FixedDetector(
        boxes=torch.zeros(0, 4),
        scores=torch.zeros(0),
        labels=torch.zeros(0, dtype=torch.long),
        roi_masks=torch.zeros(0, 28, 28).half(),
    )
    found = run([("a", write_photo(tmp_path / "a.png", 64, 64, (0, 0, 0)))], model=model)["a"][0]
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.masks == []


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("workers", [0, 3])
def test_results_do_not_depend_on_batches_or_threads(
    tmp_path: Path, batch_size: int, workers: int
) -> None:
    photos = write_photos(tmp_path, 23)
    alone = {key: run([(key, path)])[key][0] for key, path in photos}
    settings = PredictSettings(short_side=64, max_side=96, batch_size=batch_size, workers=workers)
    model = ColorDetector()
    together = run(photos, settings, model)
    assert together.keys() == alone.keys()
    for key, one in alone.items():
        assert_same(one, together[key][0])
    for batch in model.batches:
        assert len(batch) <= batch_size
        padded = {(-(-height // 32), -(-width // 32)) for _, height, width in batch}
        assert len(padded) == 1
    assert max(map(len, model.batches)) == batch_size


def test_one_bad_photo_does_not_stop_the_others(tmp_path: Path) -> None:
    photos = write_photos(tmp_path, 7)
    photos[3][1].write_bytes(b"")
    photos[5][1].unlink()
    for workers in (0, 2):
        settings = PredictSettings(short_side=64, batch_size=2, workers=workers)
        results = run(photos, settings, keep_photo=True)
        assert sorted(results) == list(range(7))
        errors = {k: r for k, (r, _) in results.items() if isinstance(r, PhotoError)}
        assert {key: error.kind for key, error in errors.items()} == {3: "empty", 5: "missing"}
        assert all((photo is None) == (key in errors) for key, (_, photo) in results.items())


@pytest.mark.parametrize("workers", [0, 3])
def test_memory_does_not_grow_with_the_number_of_photos(
    tmp_path: Path, monkeypatch, workers: int
) -> None:
    started, lock = 0, threading.Lock()

    def counting_read(path: Path, **options) -> np.ndarray:
        nonlocal started
        with lock:
            started += 1
        return np.zeros((60, 60 + 40 * (started % 9), 3), np.uint8)

    monkeypatch.setattr(predict, "read_photo", counting_read)
    monkeypatch.setattr(predict, "photo_size", lambda path: (60, 60))
    settings = PredictSettings(short_side=32, max_side=400, batch_size=3, workers=workers)
    photos = ((key, tmp_path) for key in range(300))
    most = 0
    for finished, _ in enumerate(detect_photos(ColorDetector(), photos, settings, CPU)):
        most = max(most, started - finished)
    assert started == 300
    # Loaded ahead, waiting for their batch, being finished; and the one in hand.
    assert most <= 2 * (workers + 3 + 1) + 4 * 3 + 1


def test_stopping_early_ends_the_threads(tmp_path: Path) -> None:
    before = threading.active_count()
    photos = write_photos(tmp_path, 40)
    results = detect_photos(ColorDetector(), photos, PredictSettings(short_side=64, workers=3), CPU)
    next(results)
    assert threading.active_count() > before
    results.close()
    assert threading.active_count() == before


def test_an_error_in_the_model_reaches_the_caller(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images: list[Tensor]) -> None:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run(write_photos(tmp_path, 9), PredictSettings(short_side=64, workers=2), Broken())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_applies_to_the_forward_pass(tmp_path: Path, precision: str) -> None:
    seen = []

    class Matmul(ColorDetector):
        def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
            seen.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
            return super().forward(images)

    settings = PredictSettings(short_side=64, workers=0, precision=precision)
    run(write_photos(tmp_path, 1), settings, Matmul())
    assert seen == [PRECISIONS[precision]]


def make_records(files: list[tuple[int, Path]]) -> PhotoRecords:
    """Photos whose annotations the ColorDetector finds approximately."""
    rng = np.random.default_rng(0)
    photos = []
    for key, path in files:
        found = run([(key, path)])[key][0]
        garments = []
        for label, box in zip(found.labels, found.boxes, strict=True):
            box = box + rng.normal(0, 2, 4)
            area = float((box[2] - box[0]) * (box[3] - box[1]))
            garments.append(Garment(int(label) - 1, box, area, _polygon(box)))
        photos.append(Photo(path, 1000 - key, found.width, found.height, garments=garments))
    names = {"categories": ["coat", "dress", "hat"], "category_ids": [1, 2, 3]}
    return PhotoRecords.from_photos(photos, root=files[0][1].parent, format="test", **names)


def _polygon(box: np.ndarray) -> list[np.ndarray]:
    x1, y1, x2, y2 = box
    return [np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])]


def judge_on_this_rank(files: list[tuple[int, Path]]) -> dict:
    return evaluate_detector(ColorDetector(), make_records(files), SMALL, CPU)


@pytest.mark.parametrize("count", [7, 31])
def test_one_two_and_three_processes_give_the_same_numbers(tmp_path: Path, count: int) -> None:
    files = write_photos(tmp_path, count)
    alone = judge_on_this_rank(files)
    assert 0.05 < alone["box"]["AP"] < 0.95
    assert alone["mask"]["AP"] != alone["box"]["AP"]
    assert alone["photos"] == count
    for world_size in (2, 3):
        assert run_ranks(world_size, judge_on_this_rank, files) == [alone] * world_size


def test_gathering_is_in_the_order_of_the_records(tmp_path: Path) -> None:
    records = make_records(write_photos(tmp_path, 5))
    shard = predict_shard(ColorDetector(), records, SMALL, CPU)
    gathered = gather_predictions(dict(reversed(shard.items())), records.image_ids)
    assert list(gathered) == [1000, 999, 998, 997, 996]


def gather_ids(*shares: list[int]) -> None:
    from engine import distributed

    shard = dict.fromkeys(shares[distributed.rank()])
    gather_predictions(shard, np.array([3, 5, 8]))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (([3, 5], [5, 8]), r"several ranks: \[5\]"),
        (([3], [8]), r"missing or unknown: \[5\]"),
        (([3, 5], [8, 9]), r"missing or unknown: \[9\]"),
    ],
)
def test_every_photo_must_be_predicted_exactly_once(shares: tuple, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        run_ranks(2, gather_ids, *shares)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda p: write_photo(p, 33, 34, (1, 2, 3))])
def test_photos_deleted_since_reading_count_as_without_detections(
    tmp_path: Path, caplog, monkeypatch, spoil: Callable
) -> None:
    monkeypatch.setattr(logging.getLogger("weft"), "propagate", True)
    records = make_records(write_photos(tmp_path, 7))
    whole = evaluate_detector(ColorDetector(), records, SMALL, CPU)
    spoil(records.path(2))
    metrics = evaluate_detector(ColorDetector(), records, SMALL, CPU, truth=GroundTruth(records))
    assert (whole["unreadable"], metrics["unreadable"], metrics["photos"]) == (0, 1, 7)
    assert metrics["box"]["AR100"] < whole["box"]["AR100"]
    assert [str(records.path(2)) in line.getMessage() for line in caplog.records] == [True]


def test_progress_is_logged_without_a_terminal(monkeypatch, caplog) -> None:
    """Except after the last photo, since a summary follows."""
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(predict, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(predict.sys.stderr, "isatty", lambda: False)
    monkeypatch.setattr(predict, "SECONDS_PER_LINE", 20)
    with caplog.at_level(logging.INFO, logger="weft"):
        assert list(with_progress("abcdef", 6)) == list("abcdef")
    assert caplog.messages == ["photo 2/6  eta 0:00:40", "photo 4/6  eta 0:00:20"]
