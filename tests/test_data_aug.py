"""Training samples: determinism, every setting, and masks that stay on their garments."""

import dataclasses
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from data_aug import DetectorAugmentation, DetectorTransform
from engine.data.records import Garment, Photo, PhotoRecords
from engine.errors import InputError
from engine.pixels.crops import FILL
from engine.pixels.photos import PhotoError
from engine.training.samplers import Draw

SIZE = (90, 120)
# Each garment is a flat patch of its own color on a gray photo, so pixels tell whose they are.
COLORS = ((230, 30, 30), (30, 200, 40), (40, 60, 240))
STILL = {"short_sides": (96,), "max_side": 200, "flip": 0, "affine": 0,
         "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}  # fmt: skip
FIRST = Draw(epoch=0, index=0, copy=0, batch=0)
EVERYTHING = {"short_sides": (64, 80, 96), "max_side": 200, "affine": 1, "copy_paste": 1}


def rings(number: int) -> list[np.ndarray]:
    """The outlines of the three garments of photo ``number``."""
    shift = np.array([3.0 * number, 2.0 * number])
    return [
        np.array([[10, 8], [40, 8], [44, 40], [8, 44]]) + shift,
        np.array([[12, 60], [48, 58], [40, 105], [15, 100]]) + shift,
        np.array([[55, 30], [75, 34], [70, 80], [50, 70]]) + shift // 2,
    ]


def garment(ring: np.ndarray, category: int, as_rle: bool = False) -> Garment:
    box = np.concatenate([ring.min(axis=0), ring.max(axis=0)])
    segmentation = [ring]
    if as_rle:
        (segmentation,) = coco_mask.frPyObjects([ring.ravel().tolist()], SIZE[1], SIZE[0])
    area = float(np.prod(box[2:] - box[:2]))
    return Garment(category=category, box=box, area=area, segmentation=segmentation)


def pack(photos: list[Photo], root: Path) -> PhotoRecords:
    return PhotoRecords.from_photos(
        photos, root=root, format="test", categories=["a", "b", "c"], category_ids=[1, 2, 3]
    )


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> PhotoRecords:
    """Five photos of three garments; every second one is annotated as RLE."""
    root = tmp_path_factory.mktemp("photos")
    photos = []
    for number in range(5):
        picture = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
        for ring, color in zip(rings(number), COLORS, strict=True):
            cv2.fillPoly(picture, [ring.astype(np.int32)], color)
        path = root / f"{number}.png"
        assert cv2.imwrite(str(path), picture[..., ::-1])
        garments = [garment(ring, c, number % 2 == 1) for c, ring in enumerate(rings(number))]
        photos.append(Photo(path, 100 + number, *SIZE, garments=garments))
    return pack(photos, root)


def sample(records: PhotoRecords, draw: Draw = FIRST, seed: int = 0, **settings):
    transform = DetectorTransform(records, DetectorAugmentation(**settings), seed=seed)
    return transform(draw)


def same(a: tuple, b: tuple) -> bool:
    return (
        torch.equal(a[0], b[0])
        and a[1].keys() == b[1].keys()
        and all(torch.equal(a[1][key], b[1][key]) for key in a[1])
    )


def full_masks(image: torch.Tensor, target: dict) -> np.ndarray:
    """bool[N,H,W] from the crops of a target."""
    height, width = image.shape[1:]
    out = np.zeros((len(target["masks"]), height, width), bool)
    for canvas, crop, (x, y) in zip(out, target["masks"], target["mask_origin"], strict=True):
        inside = crop[: height - y, : width - x].numpy()
        canvas[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return out


def check_masks_sit_on_their_colors(image: torch.Tensor, target: dict) -> None:
    pixels = image.permute(1, 2, 0).numpy().astype(int)
    nearest = np.stack([np.abs(pixels - color).sum(axis=2) for color in (*COLORS, (128,) * 3)])
    owner = nearest.argmin(axis=0)
    masks = full_masks(image, target)
    assert masks.sum(axis=0).max(initial=0) <= 1
    for label, box, area, mask in zip(
        target["labels"], target["boxes"], target["area"], masks, strict=True
    ):
        ys, xs = np.nonzero(mask)
        assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert area == mask.sum()
        inner = cv2.erode(np.pad(mask, 1).astype(np.uint8), np.ones((5, 5), np.uint8))[1:-1, 1:-1]
        right = owner[inner > 0] == label.item() - 1
        assert right.size == 0 or right.mean() > 0.98
    # And no color of a garment that is kept lies outside every mask, borders aside.
    kept = target["labels"].unique().numpy() - 1
    strayed = (nearest[kept].min(axis=0, initial=255) < 40) & ~masks.any(axis=0)
    assert cv2.erode(strayed.astype(np.uint8), np.ones((3, 3), np.uint8)).sum() < 10


def test_a_plain_sample_is_the_resized_photo(records):
    image, target = sample(records, **STILL)
    assert image.shape == (3, 128, 96)
    assert image.dtype == torch.uint8
    assert target["labels"].tolist() == [1, 2, 3]
    assert target["image_id"].item() == 100
    assert target["iscrowd"].tolist() == [0, 0, 0]
    expected = records.garment_box[:3] * (96 / 90)
    assert np.abs(target["boxes"].numpy() - expected).max() <= 1
    check_masks_sit_on_their_colors(image, target)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(
    "settings",
    [
        {"flip": 1},
        {"affine": 1, "rotation": 60, "shear": 0, "scale": (1, 1), "translation": 0},
        {"affine": 1, "rotation": 0, "shear": 30, "scale": (0.5, 2), "translation": 0.3},
        {"lsj_size": 150},
        {"lsj_size": 100, "flip": 1, "affine": 1},
        {"flip": 0.5, "affine": 0.5, "copy_paste": 1},
    ],
)
def test_masks_and_boxes_follow_the_pixels(records, index, settings):
    for epoch in range(8):
        draw = Draw(epoch, index, 0, epoch)
        check_masks_sit_on_their_colors(*sample(records, draw, **(STILL | settings)))


def test_polygons_and_rles_of_one_shape_give_one_target(records):
    photo = records[1]
    photo.garments = [garment(ring, c) for c, ring in enumerate(rings(1))]
    settings = STILL | {"affine": 1}
    rle_image, rle_target = sample(records.subset([1]), **settings)
    image, target = sample(pack([photo], records.root), **settings)
    assert torch.equal(image, rle_image)
    a, b = full_masks(image, target), full_masks(image, rle_target)
    assert ((a & b).sum(axis=(1, 2)) / (a | b).sum(axis=(1, 2))).min() > 0.93


def test_a_sample_depends_on_seed_epoch_photo_and_copy_alone(records):
    draw = Draw(3, 2, 1, 7)
    base = sample(records, draw, **EVERYTHING)
    transform = DetectorTransform(records, DetectorAugmentation(**EVERYTHING), seed=0)
    for other in (Draw(0, 0, 0, 0), Draw(3, 2, 0, 7), draw):
        made = transform(other)
    assert same(made, base)
    for change in ({"epoch": 4}, {"index": 3}, {"copy": 0}):
        assert not same(sample(records, draw._replace(**change), **EVERYTHING), base)
    assert not same(sample(records, draw, seed=1, **EVERYTHING), base)


def _sums(records: PhotoRecords, draws: list[Draw]) -> list[int]:
    transform = DetectorTransform(records, DetectorAugmentation(**EVERYTHING), seed=5)
    samples = [transform(draw) for draw in draws]
    return [int(i.long().sum()) * 1000 + int(t["boxes"].sum() * 8) for i, t in samples]


def test_other_processes_make_the_same_samples(records):
    draws = [Draw(1, i % 5, i // 5, i // 2) for i in range(8)]
    here = _sums(records, draws)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 (global state must not matter)
    with get_context("fork").Pool(2) as pool:
        there = pool.starmap(_sums, [(records, draws[i::2]) for i in range(2)])
    assert [*there[0], *there[1]] == here[::2] + here[1::2]


def test_all_samples_of_a_batch_share_one_size(records):
    settings = STILL | {"short_sides": (40, 48, 56, 64)}
    batches = [
        {min(sample(records, Draw(1, i, 0, batch), **settings)[0].shape[1:]) for i in range(3)}
        for batch in range(12)
    ]
    assert all(len(sides) == 1 for sides in batches)
    assert set.union(*batches) == {40, 48, 56, 64}


# A value for each field under which the sample must differ from the one of ACTIVE.
def test_a_picture_scaled_up_is_centered_on_a_garment(records):
    settings = DetectorAugmentation(rotation=0, shear=0, translation=0, scale=(4, 4))
    transform, size = DetectorTransform(records, settings, seed=0), (64, 84)
    rng, corners = np.random.default_rng(0), np.array([[0, 0, 1], [64, 84, 1]])

    def parts(*boxes: tuple[float, ...]) -> np.ndarray:
        maps = [transform._draw_affine(rng, [*map(np.array, boxes)], size) for _ in range(300)]
        seen = np.array([corners @ np.linalg.inv(matrix).T for matrix in maps])[:, :, :2]
        assert np.allclose(seen[:, 1] - seen[:, 0], (16, 21))  # a quarter of each side
        assert (seen[:, 0] >= -1e-9).all() and (seen[:, 1] <= np.add(size, 1e-9)).all()
        return seen.mean(axis=1)

    centers = parts((10, 20, 30, 40))  # far enough from all edges
    assert (centers >= (10, 20)).all() and (centers <= (30, 40)).all()
    assert np.allclose([centers.min(axis=0), centers.max(axis=0)], [(10, 20), (30, 40)], atol=1)
    centers = parts((60, 80, 64, 84))
    assert np.allclose(centers, (56, 73.5))  # the corner
    centers = parts((10, 20, 12, 22), (40, 50, 42, 52))
    assert 100 < (centers[:, 0] < 20).sum() < 200
    centers = parts()  # no garments: anywhere
    assert np.allclose([centers.min(axis=0), centers.max(axis=0)], [(8, 10.5), (56, 73.5)], atol=1)


ACTIVE = {"short_sides": (64,), "max_side": 200, "flip": 0.0, "affine": 1.0, "rotation": 10.0,
          "shear": 5.0, "scale": (0.8, 1.2), "translation": 0.1, "copy_paste": 0.0}  # fmt: skip
CHANGED = {"short_sides": (80,), "max_side": 70, "lsj_size": 100, "flip": 1.0, "affine": 0.0,
           "rotation": 0.0, "shear": 0.0, "scale": (1.0, 1.0), "translation": 0.0,
           "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0,
           "copy_paste": 1.0, "repaint": 1.0}  # fmt: skip


def test_every_setting_changes_the_sample(records):
    fields = {field.name for field in dataclasses.fields(DetectorAugmentation)}
    assert set(CHANGED) | {"lsj_scale"} == fields
    base = sample(records, **ACTIVE)
    for name, value in CHANGED.items():
        assert not same(sample(records, **(ACTIVE | {name: value})), base), name
    jitter = ACTIVE | {"lsj_size": 100}
    assert not same(sample(records, **jitter), sample(records, **jitter, lsj_scale=(1, 1)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"short_sides": ()},
        {"short_sides": (640, 16)},
        {"short_sides": (640,), "max_side": 600},
        {"lsj_size": 20},
        {"lsj_scale": (2, 1)},
        {"scale": (0.5,)},
        {"scale": (0, 1)},
        {"flip": 1.1},
        {"affine": -0.1},
        {"copy_paste": 2},
        {"repaint": -0.1},
        {"rotation": 200},
        {"shear": 60},
        {"translation": 1.5},
        {"brightness": -1},
        {"contrast": float("nan")},
        {"saturation": 1.5},
        {"hue": 0.6},
    ],
)
def test_nonsense_settings_are_refused_by_name(wrong):
    name = "--" + next(iter(wrong)).replace("_", "-")
    with pytest.raises(InputError, match=name):
        DetectorAugmentation(**wrong)


def test_lsj_shows_photos_small_and_large_on_a_square(records):
    settings = STILL | {"lsj_size": 128, "lsj_scale": (0.3, 2.0)}
    shares = []
    for epoch in range(20):
        image, _ = sample(records, Draw(epoch, 0, 0, 0), **settings)
        assert image.shape == (3, 128, 128)
        empty = (image == torch.tensor(FILL)[:, None, None].to(torch.uint8)).all(dim=0)
        shares.append(1 - empty.float().mean().item())
    assert min(shares) < 0.3
    assert max(shares) == 1


def test_large_photos_are_decoded_small(tmp_path, monkeypatch):
    picture = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (1207, 803, 3), dtype=np.uint8), (0, 0), 9
    )
    path = tmp_path / "large.jpg"
    assert cv2.imwrite(str(path), picture)
    box = np.array([100.0, 200, 500, 900])
    photo = Photo(path, 1, 803, 1207, garments=[Garment(category=0, box=box, area=1.0)])
    records = pack([photo], tmp_path)
    decoded = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *a: decoded.append(decode(*a)) or decoded[-1])
    for side, shape in ((402, (604, 402, 3)), (401, (604, 402, 3)), (403, (1207, 803, 3))):
        sample(records, **(STILL | {"short_sides": (side,), "max_side": 1000}))
        assert decoded.pop().shape == shape
    image, target = sample(records, **(STILL | {"short_sides": (200,), "max_side": 400}))
    assert decoded.pop().shape == (302, 201, 3)
    assert image.shape == (3, 301, 200)
    assert "masks" not in target
    assert np.allclose(target["boxes"][0], box * np.tile([200 / 803, 301 / 1207], 2), atol=1e-4)


def test_pasted_garments_cover_others_and_never_lie_under_them(records):
    more = fewer = 0
    for epoch in range(30):
        draw = Draw(epoch, 0, 0, 0)
        plain = sample(records, draw, **STILL)[1]
        image, target = sample(records, draw, **(STILL | {"copy_paste": 1}))
        check_masks_sit_on_their_colors(image, target)
        more += len(target["labels"]) > 3
        kept = {tuple(box) for box in target["boxes"].tolist()}
        fewer += not {tuple(box) for box in plain["boxes"].tolist()} <= kept
    assert more > 15
    assert fewer > 3


def with_second(records: PhotoRecords, **changes) -> PhotoRecords:
    """The first photo as it is, the second one with changes."""
    return pack([records[0], dataclasses.replace(records[1], **changes)], records.root)


def test_repainting_changes_garments_and_nothing_else(records):
    plain, target = sample(records, **STILL)
    image, repainted = sample(records, **STILL, repaint=1)
    assert all(torch.equal(target[key], repainted[key]) for key in target)
    garments = torch.from_numpy(full_masks(plain, target))
    outside = ~garments.any(dim=0)
    assert torch.equal(image[:, outside], plain[:, outside])
    for mask in garments.bool():
        assert (image[:, mask].float().mean(1) - plain[:, mask].float().mean(1)).abs().max() > 20


def test_unreadable_and_wrongly_sized_photos_raise_photo_errors(records):
    second = Draw(0, 1, 0, 0)
    with pytest.raises(PhotoError, match="no such photo"):
        sample(with_second(records, path=records.root / "gone.png"), second, **STILL)
    with pytest.raises(PhotoError, match="size"):
        sample(with_second(records, width=120, height=90), second, **STILL)


def test_an_unreadable_photo_to_paste_from_is_skipped(records):
    half = with_second(records, path=records.root / "gone.png")
    for epoch in range(6):
        sample(half, Draw(epoch, 0, 0, 0), **(STILL | {"copy_paste": 1}))


@pytest.mark.parametrize("setting", ["copy_paste", "repaint"])
def test_mask_settings_are_refused_without_masks(records, setting):
    photo = records[0]
    photo.garments[0].segmentation = None
    settings = DetectorAugmentation(**{setting: 0.5})
    with pytest.raises(InputError, match=setting.replace("_", "-") + ".*mask"):
        DetectorTransform(pack([photo], records.root), settings, seed=0)


def test_a_photo_without_garments_gives_empty_targets(records):
    bare = with_second(records, garments=[])
    _, target = sample(bare, Draw(0, 1, 0, 0), **(EVERYTHING | {"copy_paste": 0}))
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, 0, 0)
