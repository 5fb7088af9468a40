"""Cutting out by color: a rough outline becomes the known one; implausible ones are refused."""

import cv2
import numpy as np
import pytest

from engine.pixels.grabcut import cut_out_by_color

HEIGHT, WIDTH = 211, 173


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def tee() -> np.ndarray:
    """bool[H,W]: the outline of a shirt with sleeves."""
    points = np.array([[50, 40], [120, 40], [150, 80], [130, 95], [115, 80], [115, 170], [55, 170],
                       [55, 80], [40, 95], [20, 80]], np.int32)  # fmt: skip
    return cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [points], 1) > 0


def photo_of(mask: np.ndarray, garment=(40, 60, 150), floor=(190, 170, 140)) -> np.ndarray:
    rng = np.random.default_rng(0)
    photo = np.where(mask[..., None], garment, floor) + rng.normal(0, 9, (*mask.shape, 3))
    return photo.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("scale", [1, 3])
def test_a_rough_outline_becomes_the_garment(scale):
    truth = tee()
    rough = np.zeros_like(truth)
    rough[60:150, 60:112] = True  # without sleeves, collar and hem
    photo = cv2.resize(photo_of(truth), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    grown = [np.kron(m, np.ones((scale, scale), bool)) for m in (rough, truth)]
    found = cut_out_by_color(photo, grown[0])
    assert found.shape == photo.shape[:2]
    assert iou(grown[0], grown[1]) < 0.6 < 0.95 < iou(found, grown[1])
    assert np.array_equal(found, cut_out_by_color(photo, grown[0]))  # the same every time


def test_small_holes_are_part_of_the_garment():
    truth = tee()
    photo = photo_of(truth)
    photo[100:108, 80:88] = 255  # a print
    rough = np.zeros_like(truth)
    rough[60:150, 60:112] = True
    found = cut_out_by_color(photo, rough)
    assert found[100:108, 80:88].all()
    assert cv2.connectedComponents(found.astype(np.uint8))[0] == 2


def test_a_result_that_includes_the_background_is_refused():
    truth = tee()
    same = photo_of(truth, garment=(190, 170, 140))  # the floor has the garment's color
    rough = np.zeros_like(truth)
    rough[90:120, 70:100] = True
    assert cut_out_by_color(same, rough) is None


@pytest.mark.parametrize("value", [False, True])
def test_empty_and_full_outlines_are_refused(value):
    photo = photo_of(tee())
    assert cut_out_by_color(photo, np.full((HEIGHT, WIDTH), value)) is None
