"""Inference over photos, with a cheap substitute detector whose output depends on the photo."""

import logging
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from engine.detection import predict
from engine.detection.detections import Detections
from engine.detection.predict import (
    PredictSettings,
    detect_photo,
    detect_photos,
    with_progress,
)
from engine.pixels.photos import PhotoError
from engine.precision import PRECISIONS
from tests.color_detector import ColorDetector, write_photo, write_photos

CPU = torch.device("cpu")
SMALL = PredictSettings(short_side=64, max_side=96, workers=0)


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
    found, kept = detect_photo(ColorDetector(), photo, (120, 240), None, SMALL, CPU)
    assert_same(found, run([("a", path)])["a"][0])
    assert kept is photo


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


def test_progress_is_logged_without_a_terminal(monkeypatch, caplog) -> None:
    """Except after the last photo, since a summary follows."""
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(predict, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(predict.sys.stderr, "isatty", lambda: False)
    monkeypatch.setattr(predict, "SECONDS_PER_LINE", 20)
    with caplog.at_level(logging.INFO, logger="weft"):
        assert list(with_progress("abcdef", 6)) == list("abcdef")
    assert caplog.messages == ["photo 2/6  eta 0:00:40", "photo 4/6  eta 0:00:20"]
