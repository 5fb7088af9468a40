"""Samples of the multitask model: determinism, every setting, aligned masks and boxes."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data_aug import MultitaskAugmentation, MultitaskTransform
from engine.data.labels import ASPECTS
from engine.data.records import Garment
from engine.errors import InputError
from engine.pixels import view_transform
from engine.pixels.crops import FILL, cut_crop
from engine.pixels.photos import PhotoError
from engine.training.samplers import Draw

RED = (210, 30, 40)
BOX = np.array([40.0, 20, 90, 110])
FIRST = Draw(epoch=0, index=0, copy=0, batch=0)
STILL = {"crop_size": 64, "crop_scale": (1.0, 1.0), "flip": 0, "rotation": 0, "brightness": 0,
         "contrast": 0, "saturation": 0, "hue": 0, "erasing": 0}  # fmt: skip


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """A red garment, exactly its box, on a gray photo of 150 × 130 pixels with uneven edges."""
    picture = np.full((130, 150, 3), 90, np.uint8)
    picture[::2] += 40
    picture[20:110, 40:90] = RED
    return save(tmp_path_factory.mktemp("photos") / "photo.png", picture)


def save(path: Path, picture: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), picture[..., ::-1])
    return path


def garment(box: np.ndarray = BOX, *, with_mask: bool = True) -> Garment:
    x1, y1, x2, y2 = box
    ring = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    return Garment(0, np.array(box), 0.0, segmentation=[ring] if with_mask else None)


def transform(*, train: bool = True, aspects=(), seed: int = 0, **settings) -> MultitaskTransform:
    settings = MultitaskAugmentation(**({"crop_size": 64} | settings))
    return MultitaskTransform(settings, seed=seed, train=train, aspects=aspects)


def same(a: tuple, b: tuple) -> bool:
    """Whether two samples are equal, NaN boxes included."""
    tensors = [(a[0], b[0]), *((a[1][key], b[1][key]) for key in a[1] | b[1])]
    return all(torch.allclose(x, y, rtol=0, atol=0, equal_nan=True) for x, y in tensors)


def is_red(image: torch.Tensor) -> np.ndarray:
    return (np.abs(image.numpy() - np.array(RED)[:, None, None].astype(int)) < 60).all(axis=0)


def test_a_sample_depends_on_its_draw_only(photo: Path) -> None:
    make = transform(aspects=ASPECTS)
    sample = make(photo, garment(), FIRST)
    make(photo, garment(), Draw(3, 1, 4, 1))
    assert same(sample, make(photo, garment(), FIRST))
    assert same(sample, make(photo, garment(), FIRST._replace(batch=9)))
    for change in ({"epoch": 1}, {"index": 1}, {"copy": 1}):
        assert not same(sample, make(photo, garment(), FIRST._replace(**change)))
    assert not same(sample, transform(aspects=ASPECTS, seed=1)(photo, garment(), FIRST))


def test_targets_have_their_keys_shapes_and_types(photo: Path) -> None:
    image, target = transform(aspects=ASPECTS, whole_photo=True)(photo, garment(), FIRST)
    assert image.shape == target["view"].shape == (3, 64, 64)
    assert target["mask"].shape == target["view_mask"].shape == (64, 64)
    bytes_ = (image, target["view"], target["mask"], target["view_mask"])
    assert all(tensor.dtype == torch.uint8 for tensor in bytes_)
    assert target["view_aspect"].dtype == torch.int64 and target["view_aspect"].shape == ()
    assert target["box"].dtype == torch.float32 and target["box"].shape == (4,)
    assert transform()(photo, garment(), FIRST)[1].keys() == {"mask"}
    evaluated = transform(train=False, aspects=ASPECTS)(photo, garment(), FIRST)
    assert evaluated[1].keys() == {"mask"}


def test_without_training_the_plain_crop_is_made(photo: Path) -> None:
    image, target = transform(train=False, margin=0.2)(photo, garment(), FIRST)
    pixels = cv2.imread(str(photo), cv2.IMREAD_COLOR_RGB)
    segmentation = garment().segmentation
    crop, mask = cut_crop(pixels, BOX, 64, margin=0.2, segmentation=segmentation)
    np.testing.assert_array_equal(image.permute(1, 2, 0), crop)
    np.testing.assert_array_equal(target["mask"], mask)


def test_views_show_the_requested_aspects(photo: Path) -> None:
    make = transform(aspects=("color", "shape"))
    drawn = [
        int(make(photo, garment(), FIRST._replace(index=i))[1]["view_aspect"]) for i in range(60)
    ]
    counts = np.bincount(drawn, minlength=4)
    assert counts[ASPECTS.index("item")] == counts[ASPECTS.index("texture")] == 0
    assert min(counts[ASPECTS.index("color")], counts[ASPECTS.index("shape")]) > 15


@pytest.mark.parametrize("index", range(8))
def test_the_mask_moves_with_the_garment(photo: Path, index: int) -> None:
    make = transform(rotation=20, crop_scale=(0.3, 1.0))
    image, target = make(photo, garment(), FIRST._replace(index=index))
    assert ((target["mask"].numpy() > 127) != is_red(image)).mean() < 0.04


@pytest.mark.parametrize(
    "change",
    [{"crop_scale": (0.5, 0.9)}, {"flip": 1}, {"rotation": 10}, {"brightness": 0.3},
     {"contrast": 0.3}, {"saturation": 0.3}, {"hue": 0.1}, {"erasing": 1}, {"margin": 0.3}],
)  # fmt: skip
def test_every_setting_changes_the_sample(photo: Path, change: dict) -> None:
    box = np.array([40.0, 20, 100, 110])  # not symmetric, for the flip
    still = transform(**STILL)(photo, garment(box), FIRST)
    plain = transform(train=False)(photo, garment(box), FIRST)
    assert same(still, plain)
    assert not same(still, transform(**(STILL | change))(photo, garment(box), FIRST))


def test_erased_pixels_leave_the_mask(photo: Path) -> None:
    image, target = transform(**(STILL | {"erasing": 1}))(photo, garment(), FIRST)
    still, before = transform(**STILL)(photo, garment(), FIRST)
    erased = (image != still).any(dim=0)
    assert 0.005 < erased.float().mean() < 0.17
    assert (image[:, erased] == torch.tensor(FILL)[:, None]).all()
    assert (target["mask"][erased] == 0).all()
    assert torch.equal(target["mask"][~erased], before["mask"][~erased])


@pytest.mark.parametrize("index", range(6))
def test_the_box_moves_with_the_garment(photo: Path, index: int) -> None:
    make = transform(whole_photo=True, rotation=0, crop_scale=(0.4, 1.0), erasing=0)
    image, target = make(photo, garment(with_mask=False), FIRST._replace(index=index))
    rows, columns = np.nonzero(is_red(image))
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    np.testing.assert_allclose(target["box"].numpy() * 64, seen, atol=1.5)


def test_the_box_of_the_whole_photo_is_unknown(photo: Path) -> None:
    whole = garment(np.array([0.0, 0, 150, 130]), with_mask=False)
    _, target = transform(whole_photo=True)(photo, whole, FIRST)
    assert target["box"].isnan().all()


def test_the_whole_photo_fills_the_longer_side(photo: Path) -> None:
    whole = garment(np.array([0.0, 0, 150, 130]), with_mask=False)
    _, target = transform(train=False)(photo, whole, FIRST)
    seen = target["mask"].numpy() > 127
    assert seen.any(axis=0).all()
    assert seen.any(axis=1).mean() == pytest.approx(130 / 150, abs=0.03)
    image, _ = transform(train=False, whole_photo=True)(photo, garment(), FIRST)
    assert torch.equal(image, transform(train=False)(photo, whole, FIRST)[0])


def test_views_get_the_scale_of_the_image(photo: Path, monkeypatch) -> None:
    scales = []

    def record(rng, cutout, size):
        scales.append(cutout.scale)
        return np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)

    monkeypatch.setitem(view_transform.VIEWS, "texture", record)
    for share in (1.0, 0.25):
        make = transform(aspects=("texture",), crop_scale=(share, share), margin=0)
        make(photo, garment(), FIRST)
    np.testing.assert_allclose(scales, [64 / 90, 2 * 64 / 90])


def test_a_studio_background_is_excluded_from_the_mask(tmp_path: Path) -> None:
    picture = np.full((120, 120, 3), 255, np.uint8)
    picture[30:90, 40:80] = RED
    path = save(tmp_path / "studio.png", picture)
    whole = garment(np.array([0.0, 0, 120, 120]), with_mask=False)
    _, target = transform(train=False)(path, whole, FIRST)
    assert (target["mask"] > 127).float().mean() == pytest.approx(1 / 6, abs=0.03)
    _, target = transform(train=False, background=False)(path, whole, FIRST)
    assert (target["mask"] == 255).all()


def test_large_photos_are_decoded_at_reduced_size(tmp_path: Path) -> None:
    seeds = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    picture = cv2.resize(seeds, (1100, 900), interpolation=cv2.INTER_CUBIC)
    box = np.array([100.0, 50, 1001, 850])
    image, target = transform(train=False)(save(tmp_path / "a.jpg", picture), garment(box), FIRST)
    full, wanted = transform(train=False)(save(tmp_path / "a.png", picture), garment(box), FIRST)
    assert (image.int() - full.int()).abs().float().mean() < 3
    assert (target["mask"].int() - wanted["mask"].int()).abs().float().mean() < 4
    make = transform(train=False, whole_photo=True)
    _, target = make(tmp_path / "a.jpg", garment(box), FIRST)
    expected = (box + np.array([0, 100, 0, 100])) / 1100  # in the middle of the square
    np.testing.assert_allclose(target["box"], expected, atol=2e-3)


def test_unreadable_photos_are_reported(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    for name in ("broken.jpg", "missing.jpg"):
        with pytest.raises(PhotoError):
            transform()(tmp_path / name, garment(), FIRST)


@pytest.mark.parametrize("aspect", ASPECTS)
def test_views_work_for_boxes_anywhere(photo: Path, aspect: str) -> None:
    for box in ([-9, -9, 3, 3], [149, 129, 150, 130], [10, 10, 10, 10], [400, 9, 420, 50]):
        make = transform(aspects=(aspect,))
        make(photo, garment(np.array(box, float)), FIRST)
        make(photo, garment(np.array(box, float), with_mask=False), FIRST)


@pytest.mark.parametrize(
    ("change", "flag"),
    [({"crop_size": 16}, "--crop-size"), ({"crop_scale": (0.9, 0.5)}, "--crop-scale"),
     ({"margin": -1}, "--margin"), ({"hue": 0.6}, "--hue"), ({"rotation": 181}, "--rotation")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(change: dict, flag: str) -> None:
    with pytest.raises(InputError, match=flag):
        MultitaskAugmentation(**change)


def test_settings_are_all_documented() -> None:
    assert all(f.metadata["help"] for f in dataclasses.fields(MultitaskAugmentation))
