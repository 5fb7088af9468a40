"""Crops of several datasets: the right garment and labels, and substitutes for broken photos."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.crop_dataset import CropDataset, collate_crops, number_identities
from engine.data.records import Garment, Photo, PhotoRecords
from engine.errors import InputError
from engine.pixels.photo_files import PhotoError
from engine.training.samplers import Draw

ROOT = Path("/photos")


def records_of(identities: list[list[int]], start: int) -> PhotoRecords:
    """One photo per list, one garment per number; garment i's box is ``start + i`` wide."""
    photos, number = [], start
    for i, of_photo in enumerate(identities):
        garments = []
        for identity in of_photo:
            box = np.array([0.0, 0.0, number, 1.0])
            garments.append(Garment(category=0, box=box, area=1.0, identity=identity))
            number += 1
        photos.append(Photo(ROOT / f"{start}-{i}.jpg", i, 9, 9, "", garments))
    about = {"format": "test", "categories": ["a"], "category_ids": [1]}
    return PhotoRecords.from_photos(photos, root=ROOT, **about)


def parts() -> list[tuple[PhotoRecords, dict[str, np.ndarray]]]:
    first, second = records_of([[7, 7], [], [-1]], 100), records_of([[7], [1 << 40]], 200)
    color = np.array([4, -1, 2]), np.array([-1, -1])
    style = np.zeros((3, 2), np.int8), np.array([[1, -1], [0, 1]], np.int8)
    return [
        (first, {"color": color[0], "style": style[0]}),
        (second, {"color": color[1], "style": style[1]}),
    ]


def dataset(broken: tuple[str, ...] = (), **settings) -> CropDataset:
    def transform(path: Path, garment: Garment, draw: Draw):
        if path.name in broken:
            raise PhotoError("unreadable", path, "broken")
        image = torch.full((3, 2, 2), int(garment.box[2]), dtype=torch.uint8)
        return image, {"mask": torch.full((2, 2), draw.copy, dtype=torch.uint8)}

    return CropDataset(parts(), transform, **settings)


def test_garments_of_all_datasets_share_one_index() -> None:
    crops = dataset()
    assert len(crops) == 5
    samples = [crops[Draw(0, index, 3, 0)] for index in range(5)]
    assert [int(image[0, 0, 0]) for image, _ in samples] == [100, 101, 102, 200, 201]
    targets = [target for _, target in samples]
    assert [int(t["source"]) for t in targets] == [0, 0, 0, 1, 1]
    assert [int(t["identity"]) for t in targets] == [0, 0, -1, 1, 2]
    assert [int(t["labels"]["color"]) for t in targets] == [4, -1, 2, -1, -1]
    assert [t["labels"]["style"].tolist() for t in targets][2:] == [[0, 0], [1, -1], [0, 1]]
    assert targets[0]["mask"].unique().tolist() == [3]
    assert [crops.locate(i) for i in range(5)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_collating_stacks_images_and_targets() -> None:
    crops = dataset()
    images, target = collate_crops([crops[Draw(0, index, 0, 0)] for index in (4, 0, 3)])
    assert images.shape == (3, 3, 2, 2) and images.dtype == torch.uint8
    assert target["mask"].shape == (3, 2, 2)
    assert target["source"].tolist() == [1, 0, 1] and target["source"].dtype == torch.int64
    assert target["identity"].dtype == torch.int64
    assert target["labels"]["color"].tolist() == [-1, 4, -1]
    assert target["labels"]["style"].tolist() == [[0, 1], [0, 0], [1, -1]]
    assert target["labels"]["style"].dtype == torch.int8


def test_unreadable_photos_are_replaced_by_the_next_readable_one(caplog) -> None:
    crops = dataset(broken=("100-0.jpg", "200-1.jpg"))
    for wanted, got in ((0, 102), (1, 102), (2, 102), (3, 200), (4, 102)):
        image, target = crops[Draw(0, wanted, 0, 0)]
        assert int(image[0, 0, 0]) == got
        assert int(target["source"]) == got // 200
    assert caplog.text.count("100-0.jpg") == 1
    with pytest.raises(PhotoError):
        dataset(broken=("100-0.jpg",), strict=True)[Draw(0, 0, 0, 0)]
    everything = tuple(path.name for records, _ in parts() for path in map(records.path, (0, 1)))
    with pytest.raises(InputError, match="no photo can be read"):
        dataset(broken=(*everything, "100-2.jpg"))[Draw(0, 3, 0, 0)]


def test_identities_of_different_datasets_get_different_numbers() -> None:
    first, second = (records for records, _ in parts())
    numbers = number_identities([first, second, first])
    assert numbers.tolist() == [0, 0, -1, 1, 2, 3, 3, -1]
    assert number_identities([]).tolist() == []
