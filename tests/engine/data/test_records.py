"""Packed records against the objects they were packed from."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from engine.data.packing import COLUMNS, concatenate, fill_columns, pack
from engine.data.records import AttributeGroup, Garment, Photo, PhotoRecords

ROOT = Path("/photos")
GRADES = ("scale", "occlusion", "zoom_in", "viewpoint")


def random_garment(rng: np.random.Generator, number: int, width: int, height: int) -> Garment:
    polygons = [
        rng.random((k, 2)) * (width, height) for k in rng.integers(3, 9, rng.integers(1, 4))
    ]
    rle = {"size": [height, width], "counts": bytes(rng.integers(48, 96, 5, dtype=np.uint8))}
    return Garment(
        category=int(rng.integers(3)),
        box=rng.random(4) * 100,
        area=float(rng.random()),
        segmentation=[None, polygons, rle][number % 3],
        crowd=bool(rng.integers(2)),
        annotation_id=number,
        identity=int(rng.integers(-1, 9)),
        style=int(rng.integers(5)),
        pair_id=int(rng.integers(-1, 99999)),
        landmarks=None if number % 2 else rng.random((number % 7 + 1, 3)).astype(np.float32),
        **{grade: int(rng.integers(4)) for grade in GRADES},
        attributes=rng.integers(-1, 2, 4).astype(np.int8),
    )


def random_photos(count: int = 23) -> list[Photo]:
    rng = np.random.default_rng(1)
    photos, numbered = [], 0
    for i in range(count):
        width, height = (int(side) for side in rng.integers(20, 90, 2))
        here = int(rng.integers(0, 4)) if i else 0  # the first photo has no garment
        garments = [random_garment(rng, numbered + j, width, height) for j in range(here)]
        numbered += here
        name = ROOT / "sub folder" / f"früh {i}.jpg"
        photos.append(Photo(name, 1000 + i, width, height, ["", "shop", "user"][i % 3], garments))
    return photos


def records_of(photos: list[Photo]) -> PhotoRecords:
    about = {"format": "test", "categories": ["a", "b", "c"], "category_ids": [5, 7, 9]}
    return PhotoRecords.from_photos(photos, root=ROOT, **about, attributes=["w", "x", "y", "z"])


def assert_same(a, b) -> None:
    assert type(a) is type(b)
    if isinstance(a, (Photo, Garment)):
        for field in fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


def test_every_field_survives_packing() -> None:
    photos = random_photos()
    records = records_of(photos)
    assert len(records) == 23
    for i, photo in enumerate(photos):
        assert_same(records[i], photo)
        assert records.path(i) == photo.path
    assert_same(records[-1], photos[-1])
    with pytest.raises(IndexError):
        records[23]
    assert [p.image_id for p in records] == [p.image_id for p in photos]


def test_columns_agree_with_the_objects() -> None:
    photos = random_photos()
    records = records_of(photos)
    garments = [garment for photo in photos for garment in photo.garments]
    assert records.sizes.tolist() == [[p.width, p.height] for p in photos]
    assert records.garment_category.tolist() == [g.category for g in garments]
    np.testing.assert_array_equal(records.garment_box, [g.box for g in garments])
    owners = [i for i, photo in enumerate(photos) for _ in photo.garments]
    assert records.garment_photo.tolist() == owners
    assert [records.photo_of(g) for g in range(len(owners))] == owners
    expected = [g.segmentation is not None for g in garments]
    assert records.garment_has_mask.tolist() == expected
    assert not records.has_masks
    for name, (dtype, shape) in COLUMNS.items():
        assert records.columns[name].dtype == dtype
        assert records.columns[name].shape[1:] == shape


def test_packing_in_parts_gives_the_same_columns() -> None:
    photos = random_photos()
    whole = pack(photos, ROOT)
    parts = concatenate([pack(part, ROOT) for part in (photos[:7], photos[7:7], photos[7:])])
    assert whole.keys() == parts.keys() == COLUMNS.keys()
    for name in whole:
        assert whole[name].dtype == parts[name].dtype
        np.testing.assert_array_equal(whole[name], parts[name])


def test_subset_keeps_order_and_repeats() -> None:
    photos = random_photos()
    records = records_of(photos)
    for indices in ([4, 2, 2, 22], [0], [], np.arange(23)[::-1], [-1]):
        chosen = records.subset(indices)
        assert len(chosen) == len(indices)
        assert chosen.categories == records.categories and chosen.category_ids == [5, 7, 9]
        for i, index in enumerate(indices):
            assert_same(chosen[i], photos[index])
    with pytest.raises(IndexError):
        records.subset([23])


def test_keep_garments_drops_the_others_only() -> None:
    photos = random_photos()
    records = records_of(photos)
    kept = records.keep_garments(records.garment_has_mask)
    for i, photo in enumerate(photos):
        photo.garments = [g for g in photo.garments if g.segmentation is not None]
        assert_same(kept[i], photo)
    assert kept.has_masks
    assert len(records.keep_garments(np.zeros(len(records.garment_box), bool))) == 23


def test_a_garment_by_row_comes_with_its_photo() -> None:
    photos = random_photos()
    records = records_of(photos)
    owned = [(i, garment) for i, photo in enumerate(photos) for garment in photo.garments]
    for g, (photo, garment) in enumerate(owned):
        found, unpacked = records.garment(g)
        assert found == photo
        assert_same(unpacked, garment)
    with pytest.raises(IndexError):
        records.garment(len(owned))


def test_attribute_matrix_and_replaced_columns() -> None:
    photos = random_photos()
    records = records_of(photos)
    values = [garment.attributes for photo in photos for garment in photo.garments]
    np.testing.assert_array_equal(records.attribute_matrix, values)
    group = AttributeGroup("all", 0, 4, exclusive=False)
    other = records.with_columns({"garment_category": np.zeros(len(values))}, categories=["d"])
    other = other.with_columns({}, attribute_groups=[group], identities=["x"])
    assert other.garment_category.tolist() == [0] * len(values) and other.categories == ["d"]
    assert other.category_ids == [5, 7, 9] and other.attributes == ["w", "x", "y", "z"]
    part = other.subset([3, 1])
    assert part.attribute_groups == [group] and part.identities == ["x"]
    assert records.attribute_groups == records.identities == []


def test_fill_columns_adds_all_missing_columns() -> None:
    filled = fill_columns(
        2, 3, {"garment_offsets": np.array([0, 1, 3]), "garment_box": np.ones((3, 4))}
    )
    assert filled.keys() == COLUMNS.keys()
    for name, (dtype, shape) in COLUMNS.items():
        assert filled[name].dtype == dtype and filled[name].shape[1:] == shape
    assert filled["garment_category"].tolist() == [-1, -1, -1]
    assert filled["file_name_offsets"].tolist() == [0, 0, 0]
    assert filled["rle_offsets"].tolist() == [0, 0, 0, 0]
    assert filled["garment_box"].tolist() == [[1] * 4] * 3


def test_datasets_without_photos_or_garments() -> None:
    empty = records_of([])
    assert len(empty) == 0 and not empty.has_masks and len(empty.subset([])) == 0
    lonely = records_of(random_photos(1))
    assert lonely[0].garments == [] and lonely.garment_box.shape == (0, 4)
    assert not lonely.has_masks


def test_changing_a_returned_garment_does_not_change_the_records() -> None:
    records = records_of(random_photos())
    index = int(np.flatnonzero(np.diff(records.garment_offsets))[0])
    garment = records[index].garments[0]
    garment.box[:] = -1
    assert (records[index].garments[0].box >= 0).all()
    with pytest.raises(ValueError, match="read-only"):
        records.garment_box[0] = 0
    with pytest.raises(AttributeError, match="no attribute 'garment_color'"):
        _ = records.garment_color


def test_renumbering_to_the_categories_of_another_dataset() -> None:
    records = records_of(random_photos())
    about = {"categories": ["d", "c", "a", "b"], "category_ids": [1, 2, 3, 4]}
    other = records.with_columns({}, **about)
    moved = records.in_categories_of(other)
    assert (moved.categories, moved.category_ids) == (other.categories, other.category_ids)
    names = [records.category_name(c) for c in records.garment_category.tolist()]
    assert [moved.category_name(c) for c in moved.garment_category.tolist()] == names
    assert len({*names}) == 3
    unnamed = records.with_columns(
        {"garment_category": np.full_like(records.garment_category, -1)}, categories=[]
    )
    assert (unnamed.in_categories_of(other).garment_category == -1).all()
