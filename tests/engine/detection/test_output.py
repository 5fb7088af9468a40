"""From the network's output to garments: scores, masks and boxes improve each other."""

import numpy as np
from pycocotools import mask as coco_mask

from engine.detection.detections import Detections
from engine.detection.output import read_output


def read(boxes: list, scores: list, masks: np.ndarray, threshold: float = 0.0) -> Detections:
    """Detections in a flat picture of 64 x 64 of a photo twice as large; labels are 1, 2 ..."""
    output = {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "scores": np.array(scores, np.float32),
        "labels": np.arange(1, len(scores) + 1),
        "probabilities": np.outer(scores, [1, 2, 3]).astype(np.float32),
        "roi_masks": masks.astype(np.float16),
    }
    return read_output(output, np.zeros((64, 64, 3), np.uint8), (128, 128), threshold)


def test_uncertain_masks_lower_the_score() -> None:
    masks = np.full((3, 28, 28), 0.25)
    masks[0, :7] = 0.64
    masks[1, :, :3] = 1.0
    masks[2, 5, 5] = 0.81
    found = read([[4, 4, 30, 30]] * 3, [0.9, 0.8, 0.3], masks, threshold=0.28)
    np.testing.assert_array_equal(found.labels, [2, 1], "the third falls below the threshold")
    np.testing.assert_allclose(found.scores, [0.8, 0.72], rtol=1e-3)
    np.testing.assert_allclose(found.probabilities[:, 1], [1.6, 1.8], rtol=1e-6)


def test_scores_equal_to_the_threshold_are_kept() -> None:
    found = read([[4, 4, 30, 30]] * 2, [0.5, 0.49], np.ones((2, 28, 28)), threshold=0.5)
    np.testing.assert_array_equal(found.labels, [1])


def test_boxes_are_averaged_with_those_of_their_masks() -> None:
    masks = np.zeros((2, 28, 28))
    masks[0, 7:14, 14:] = 1  # of the second, nothing
    found = read([[4, 4, 60, 60], [8, 8, 36, 36]], [0.9, 0.8], masks)
    bounds = coco_mask.toBbox(found.masks[0])
    np.testing.assert_allclose(bounds, [64, 36, 56, 28], atol=1)
    bounds[2:] += bounds[:2]
    np.testing.assert_array_equal(found.boxes[0], np.add(bounds, [8, 8, 120, 120]) / 2)
    np.testing.assert_array_equal(found.boxes[1], [16, 16, 72, 72])
    assert found.boxes.dtype == np.float32


def test_boxes_and_masks_are_scaled_to_the_photo() -> None:
    output = {
        "boxes": np.array([[4, 5, 60, 30]], np.float32),
        "scores": np.array([0.9]),
        "labels": np.array([1]),
    }
    found = read_output(output, np.zeros((32, 64, 3), np.uint8), (128, 64), 0.5)
    np.testing.assert_array_equal(found.boxes, [[8, 10, 120, 60]])


def test_no_detections() -> None:
    found = read([], [], np.zeros((0, 28, 28)))
    assert (len(found), found.masks, found.boxes.shape) == (0, [], (0, 4))
