"""Blurring, sharpening and grain."""

import numpy as np

from engine.pixels import sharpness
from engine.pixels.sharpness import vary_sharpness

EDGE = np.full((31, 37, 3), 100, np.uint8)
EDGE[:, 19:] = 140


def variants(picture: np.ndarray, count: int = 200) -> list[np.ndarray]:
    before = picture.copy()
    made = [vary_sharpness(np.random.default_rng(seed), picture) for seed in range(count)]
    assert (picture == before).all()
    assert all(new.dtype == np.uint8 and new.shape == picture.shape for new in made)
    return made


def steepest(picture: np.ndarray) -> int:
    """The largest step between neighbors in the mean row."""
    return np.abs(np.diff(picture.astype(float).mean(axis=(0, 2)))).max()


def test_an_edge_becomes_softer_or_steeper_equally_often(monkeypatch):
    monkeypatch.setattr(sharpness, "GRAIN", 0.0)
    steps = np.array([steepest(picture) for picture in variants(EDGE)])
    assert 70 < (steps < 40).sum() < 130
    assert (steps != 40).all() and steps.min() < 7 and steps.max() > 100
    assert all((picture[0] == picture).all() for picture in variants(EDGE))  # every row alike


def test_grain_is_gray_and_only_on_sharpened_pictures():
    plain = np.full((31, 37, 3), 100, np.uint8)
    made = variants(plain)
    grainy = [picture for picture in made if (picture != plain).any()]
    assert 70 < len(grainy) < 130
    assert all(abs(picture.mean() - 100) < 1.5 for picture in grainy)
    assert all((picture == picture[:, :, :1]).all() for picture in grainy)
    deviations = [picture[:, :, 0].std() for picture in grainy]
    assert min(deviations) < 2 and 10 < max(deviations) < 13


def test_values_are_clipped_not_wrapped():
    extreme = np.zeros((31, 37, 3), np.uint8)
    extreme[:, 19:] = 255
    for picture in variants(extreme, 20):
        assert (picture[:, :10] < 128).all() and (picture[:, -10:] > 127).all()
