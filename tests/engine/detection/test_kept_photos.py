"""Photos that are yielded with their detections: large enough for crops, but no larger."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.detection import predict
from engine.detection.predict import PredictSettings
from engine.pixels.photos import read_photo
from tests.engine.detection.test_predict import assert_same, run, write_photo

SETTINGS = PredictSettings(short_side=128, max_side=400, workers=0)


@pytest.fixture
def kept_small(monkeypatch) -> None:
    """Allows photos as small as the detector needs them."""
    monkeypatch.setattr(predict, "KEPT_SHORT_SIDE", 1)


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_kept_photos_are_large_enough_for_crops(tmp_path: Path, kind: str) -> None:
    path = write_photo(tmp_path / f"a.{kind}", 2000, 3000, (255, 51, 102))
    found, photo = run([("a", path)], keep_photo=True)["a"]
    assert photo.shape == (1500, 1000, 3)
    small = write_photo(tmp_path / "b.jpg", 300, 200, (9, 9, 9))
    _, tiny = run([("a", small)], keep_photo=True)["a"]
    assert tiny.shape == (200, 300, 3)
    assert_same(found, run([("a", path)])["a"][0])


@pytest.mark.usefixtures("kept_small")
def test_large_jpegs_are_kept_at_reduced_size(tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.jpg", 644, 515, (255, 51, 102))
    found, photo = run([("a", path)], SETTINGS, keep_photo=True)["a"]
    assert photo.shape == (129, 161, 3)
    np.testing.assert_array_equal(photo, read_photo(path, min_short_side=128))
    assert (found.width, found.height) == (644, 515)
    np.testing.assert_allclose(found.boxes[0], [322, 257.5, 644, 515], atol=3)
    assert run([("a", path)], SETTINGS)["a"][1] is None


@pytest.mark.usefixtures("kept_small")
def test_large_photos_of_other_formats_are_kept_at_reduced_size(tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.png", 644, 515, (255, 51, 102))
    found, photo = run([("a", path)], SETTINGS, keep_photo=True)["a"]
    assert photo.shape == (129, 161, 3)
    assert (photo == (255, 51, 102)).all()
    assert (found.width, found.height) == (644, 515)


@pytest.mark.usefixtures("kept_small")
def test_boxes_divided_by_the_factor_fit_the_reduced_photo(tmp_path: Path) -> None:
    """Also at the right and lower edge, if the size is not a multiple of the factor."""
    pixels = np.zeros((517, 645, 3), np.uint8)
    pixels[508:512], pixels[:, 640:644] = 255, 255
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    _, photo = run([("a", tmp_path / "a.png")], SETTINGS, keep_photo=True)["a"]
    assert photo.shape == (130, 162, 3)
    assert np.flatnonzero(photo[0, :, 0]).tolist() == [160]
    assert np.flatnonzero(photo[:, 0, 0]).tolist() == [127]


@pytest.mark.usefixtures("kept_small")
def test_long_photos_are_decoded_for_the_size_set_by_the_long_side(tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.jpg", 1600, 160, (255, 51, 102))
    settings = PredictSettings(short_side=100, max_side=200, workers=0)
    _, photo = run([("a", path)], settings, keep_photo=True)["a"]
    assert photo.shape == (20, 200, 3)
