"""Small garments: which part of a photo is enlarged and by how much, and what comes of it."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from engine.detection import predict
from engine.detection.predict import PredictSettings, detect_photo, detect_photos
from engine.detection.zoom import small_garments
from engine.pixels.photos import PhotoError, read_photo

CPU = torch.device("cpu")
SETTINGS = PredictSettings(short_side=64, max_side=96, workers=0, zoom=0.4)
SQUARES = {(60, 34, 72, 46): 0, (90, 50, 96, 62): 1}  # of the photo, x1, y1, x2, y2: color channel


def output(*rows: tuple[list[float], float]) -> dict[str, np.ndarray]:
    """A detector's output of (box, score) rows."""
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return {"boxes": boxes, "scores": np.array([row[1] for row in rows], np.float32)}


def test_the_part_holds_all_possible_garments_and_a_margin() -> None:
    found = output(
        ([40, 50, 44, 59], 0.5),  # 6 px, the largest likely one: margin 9, factor 1.5 * 16 / 6
        ([60, 40, 62, 42], 0.3),
        ([0, 0, 50, 50], 0.29),  # neither likely nor possible
    )
    part, factor = small_garments(found, (101, 103), 64, 0.25)
    np.testing.assert_allclose(part, [31, 31, 71, 68])
    assert factor == pytest.approx(4)
    part, factor = small_garments(found, (65, 67), 64, 0.2)
    np.testing.assert_allclose(part, [31, 31, 67, 65], err_msg="clipped to the picture")
    assert factor == pytest.approx(1.5 * 0.2 * 64 / 6)


def test_the_enlarged_part_has_at_most_four_times_the_pixels_of_the_picture() -> None:
    found = output(([0, 0, 9, 9], 0.9), ([90, 92, 99, 101], 0.6))
    part, factor = small_garments(found, (101, 99), 101, 0.35)
    np.testing.assert_allclose(part, [0, 0, 99, 101])
    assert factor == pytest.approx(2)


def test_no_garment_is_enlarged_more_than_four_times() -> None:
    _, factor = small_garments(output(([50, 50, 52, 52], 0.9)), (101, 99), 101, 0.35)
    assert factor == 4


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [([50, 50, 52, 52], 0.49)],  # nothing likely
        [([50, 50, 52, 52], 0.9), ([10, 10, 26, 26], 0.5)],  # 16 px: not below a quarter of 64
        [([50, 50, 50, 60], 0.9)],  # no area
        [([50, 50, math.nan, 60], 0.9)],  # of a model that diverged
    ],
)
def test_other_photos_stay_as_they_are(rows: list) -> None:
    assert small_garments(output(*rows), (101, 99), 64, 0.25) is None
    assert small_garments(output(([50, 50, 52, 52], 0.9)), (101, 99), 64, 0) is None


class SquareDetector(nn.Module):
    """Finds the bright squares, one category for each color, where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        self.shapes += [tuple(image.shape) for image in images]
        return [self.look_at(image) for image in images]

    def look_at(self, image: Tensor) -> dict[str, Tensor]:
        boxes, labels = [], []
        for channel in range(2):
            # Half covered pixels count half: exact to a fraction of a pixel.
            plane = image[channel].double() / 255
            if plane.sum() < 1:
                continue
            ends = []
            for axis in (0, 1):
                cover = plane.sum(dim=axis) / plane.sum(dim=axis).max()
                center = (cover * (torch.arange(len(cover)) + 0.5)).sum() / cover.sum()
                ends += [(center - cover.sum() / 2, center + cover.sum() / 2)]
            boxes.append([ends[0][0], ends[1][0], ends[0][1], ends[1][1]])
            labels.append(channel + 1)
        count = len(labels)
        return {
            "boxes": torch.tensor(boxes).view(-1, 4).float(),
            "scores": torch.full((count,), 0.9),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "roi_masks": torch.ones(count, 28, 28).half(),
        }


def draw_squares(factor: int) -> np.ndarray:
    """A black photo of 128 x 96, times ``factor``, with the squares."""
    photo = np.zeros((96 * factor, 128 * factor, 3), np.uint8)
    for box, channel in SQUARES.items():
        x1, y1, x2, y2 = np.multiply(box, factor)
        photo[y1:y2, x1:x2, channel] = 255
    return photo


def write_squares(path: Path, factor: int) -> Path:
    assert cv2.imwrite(str(path), draw_squares(factor)[:, :, ::-1])
    return path


@pytest.mark.parametrize(("kind", "factor"), [("png", 1), ("png", 10), ("jpg", 10)])
def test_boxes_and_masks_are_in_pixels_of_the_photo(
    tmp_path: Path, monkeypatch, kind: str, factor: int
) -> None:
    monkeypatch.setattr(predict, "KEPT_SHORT_SIDE", 1)
    path = write_squares(tmp_path / f"a.{kind}", factor)
    model = SquareDetector()
    ((_, found, photo),) = detect_photos(model, [(0, path)], SETTINGS, CPU, keep_photo=True)
    # In the picture the squares are 24 x 18.7 px apart, the largest has 8 px. So the part with a
    # margin of 12 px has 48 x 42.7 px, of which 3.26 makes four times the picture's pixels.
    first, second = model.shapes
    assert first == (3, 64, 85)
    assert second[1:] == pytest.approx((139, 156), abs=1)
    scaled = np.multiply(list(SQUARES), factor)
    np.testing.assert_allclose(found.boxes, scaled, atol=0.4 * factor)
    for rle, (x1, y1, x2, y2) in zip(found.masks, scaled, strict=True):
        wanted = [x1, y1, x2 - x1, y2 - y1]
        np.testing.assert_allclose(coco_mask.toBbox(rle), wanted, atol=max(0.2 * factor, 1))
        assert rle["size"] == [96 * factor, 128 * factor]
    assert found.labels.tolist() == [1, 2]
    # A crop needs a finer photo, too: 3.26 * 64 px at least, where there are as many.
    assert photo.shape[:2] == ((240, 320) if factor == 10 else (96, 128))


def test_a_photo_in_memory_gives_the_same_as_its_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(predict, "KEPT_SHORT_SIDE", 64)
    path = write_squares(tmp_path / "a.jpg", 10)
    ((_, found, kept),) = detect_photos(
        SquareDetector(), [(0, path)], SETTINGS, CPU, keep_photo=True
    )
    sides = []

    def read(short_side: int) -> np.ndarray:
        sides.append(short_side)
        return read_photo(path, min_short_side=short_side)

    again, finer = detect_photo(SquareDetector(), read(64), (1280, 960), read, SETTINGS, CPU)
    assert sides == [64, 209]
    np.testing.assert_array_equal(again.boxes, found.boxes)
    assert again.masks == found.masks
    np.testing.assert_array_equal(finer, kept)


def test_a_photo_that_vanishes_before_it_is_enlarged(tmp_path: Path) -> None:
    path = write_squares(tmp_path / "a.png", 10)

    class Remover(SquareDetector):
        def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
            path.unlink()
            return super().forward(images)

    ((_, found, photo),) = detect_photos(Remover(), [(0, path)], SETTINGS, CPU)
    assert isinstance(found, PhotoError) and str(path) in str(found)
    assert photo is None

    def read(_: int) -> np.ndarray:
        raise PhotoError("unreadable", path, "broken")

    with pytest.raises(PhotoError, match="broken"):
        detect_photo(SquareDetector(), draw_squares(1), (1280, 960), read, SETTINGS, CPU)
