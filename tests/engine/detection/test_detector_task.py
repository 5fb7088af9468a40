"""The detector's part of a training: the order of photos."""

from pathlib import Path

import numpy as np
import pytest

from engine.data.records import Garment, Photo, PhotoRecords
from engine.detection.detector_config import DetectorConfig
from engine.detection.detector_task import global_batches

ROOT = Path("/photos")


def records_with(rare: Garment) -> PhotoRecords:
    """Four photos of a shirt each; the last one also has ``rare``."""
    box = np.array([0, 0, 9, 9.0])
    photos = [Photo(ROOT / f"{i}.jpg", i, 90, 90, "", [Garment(0, box, 81)]) for i in range(4)]
    photos[3].garments.append(rare)
    about = {"format": "test", "categories": ["shirt", "hat"], "category_ids": [1, 2]}
    return PhotoRecords.from_photos(photos, root=ROOT, **about)


@pytest.mark.parametrize(("crowd", "factors"), [(False, [1, 1, 1, 2]), (True, [1, 1, 1, 1])])
def test_photos_of_rare_garments_except_crowds_are_repeated(
    crowd: bool, factors: list[float]
) -> None:
    config = DetectorConfig(data_path="unused", output_dir="unused", repeat_threshold=1.0)
    records = records_with(Garment(1, np.array([0, 0, 9, 9.0]), 81, crowd=crowd))
    batches = global_batches(records, config, one_shape=False)
    np.testing.assert_allclose(batches.factors, factors)  # sqrt(1 / share of the photos)
