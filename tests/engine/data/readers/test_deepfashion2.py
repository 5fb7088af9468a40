"""DeepFashion2's folders: ids, identities, landmarks, and faulty files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data.readers import deepfashion2, parallel
from engine.data.readers.deepfashion2 import (
    LANDMARK_STARTS,
    LANDMARKS,
    slice_landmarks,
    spread_landmarks,
)
from engine.data.records import AttributeGroup, PhotoRecords
from engine.errors import InputError
from tests.datasets import df2_annotations, df2_item, write_df2, write_photo


def read(root: Path, annotations: dict | None = None) -> PhotoRecords:
    return deepfashion2.read(write_df2(root, annotations), "train")[0]


def counts(records: PhotoRecords) -> dict[str, int]:
    return {problem.kind: problem.count for problem in records.problems}


def test_all_fields_are_read(tmp_path: Path) -> None:
    records = read(tmp_path)
    assert not records.problems
    assert records.image_ids.tolist() == [1, 2, 10]
    assert records.sizes.tolist() == [[41, 50], [42, 50], [43, 50]]
    assert [photo.source for photo in records] == ["user", "shop", "shop"]
    assert records.category_ids == list(range(1, 14)) and records.categories[7] == "trousers"
    trousers, top = records[0].garments  # in the file's order
    assert (trousers.category, trousers.box.tolist()) == (7, [4, 3, 24, 33])
    assert (top.category, top.box.tolist(), top.area) == (0, [1, 2, 30, 40], 29 * 38)
    assert trousers.landmarks.shape == (14, 3) and top.landmarks.shape == (25, 3)
    assert trousers.landmarks[1].tolist() == [6, 6, 1]
    assert trousers.segmentation[0].tolist() == [[4, 3], [24, 3], [24, 33], [4, 33]]
    grades = (trousers.scale, trousers.occlusion, trousers.zoom_in, trousers.viewpoint)
    assert grades == (1, 2, 3, 2)


def test_identity_is_pair_and_style(tmp_path: Path) -> None:
    records = read(tmp_path)
    worn, unpaired, shop, other_pair = records.garment_identity.tolist()
    assert worn == shop >= 0  # same pair_id, same style
    assert unpaired == -1  # style 0
    assert other_pair not in (worn, -1)


def test_annotation_ids_count_every_listed_garment(tmp_path: Path) -> None:
    annotations = df2_annotations()
    annotations["000001"]["item2"]["bounding_box"] = [0, 0, 0, 0]
    annotations["000005"] = {"source": "shop", "pair_id": 1, "item1": df2_item(8, 14)}
    write_df2(tmp_path, annotations)
    (tmp_path / "train/image/000002.jpg").unlink()
    records, _ = deepfashion2.read(tmp_path, "train")
    # item2 of photo 1 (1) is bad, photo 2's item (3) has no photo, photo 5's is the fourth.
    assert records.image_ids.tolist() == [1, 5, 10]
    assert records.garment_annotation_id.tolist() == [2, 4, 5]
    assert counts(records) == {"degenerate box": 1, "missing photo": 1}


def test_several_processes_give_the_same_records_as_one(tmp_path: Path, monkeypatch) -> None:
    annotations = {}
    for i in range(1, 24):
        items = {f"item{j}": df2_item(8, 14, style=j) for j in range(1, i % 4 + 1)}
        annotations[f"{i:06d}"] = {"source": "user", "pair_id": i} | items
    annotations["000007"]["item1"]["category_id"] = 99
    alone = read(tmp_path, annotations)
    monkeypatch.setattr(parallel, "CHUNK", 5)
    monkeypatch.setattr(parallel, "WORTH_PROCESSES", 10)
    together, _ = deepfashion2.read(tmp_path, "train")
    for name, column in alone.columns.items():
        np.testing.assert_array_equal(column, together.columns[name])
    assert alone.problems == together.problems != []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("unknown category id", {"category_id": 0}),
        ("unknown category id", {"category_id": 14}),
        ("malformed annotation", {"category_id": "8"}),
        ("malformed annotation", {"bounding_box": [1, 2, 3]}),
        ("malformed annotation", {"bounding_box": {"x": 1}}),
        ("malformed annotation", {"style": "two"}),
        ("degenerate box", {"bounding_box": [9, 9, 9, 20]}),
        ("box outside the photo", {"bounding_box": [100, 100, 200, 200]}),
        ("box not finite", {"bounding_box": [1, 2, float("nan"), 4]}),
        ("malformed mask", {"segmentation": "none"}),
        ("malformed mask", {"segmentation": [[1, 2, "3", 4, 5, 6]]}),
    ],
)
def test_only_the_faulty_garment_is_left_out(tmp_path: Path, kind: str, change: dict) -> None:
    annotations = df2_annotations()
    annotations["000001"]["item2"] |= change
    records = read(tmp_path, annotations)
    assert counts(records) == {kind: 1}
    assert len(records) == 3 and len(records.garment_box) == 3
    assert "000001.json item2" in records.problems[0].line()


@pytest.mark.parametrize("landmarks", [[1, 2, 2], "none", [1, 2], [[1, 2, 2]] * 14, [1, 2, 9] * 14])
def test_a_garment_with_bad_landmarks_is_kept_without_them(tmp_path: Path, landmarks: Any) -> None:
    annotations = df2_annotations()
    annotations["000001"]["item2"]["landmarks"] = landmarks
    records = read(tmp_path, annotations)
    assert counts(records) == {"malformed landmarks": 1}
    assert len(records.garment_box) == 4 and records[0].garments[0].landmarks is None


@pytest.mark.parametrize("content", [[], "text", 7, None])
def test_a_malformed_annotation_file_is_left_out(tmp_path: Path, content: Any) -> None:
    records = read(tmp_path, df2_annotations() | {"000002": content})
    assert counts(records) == {"malformed annotation file": 1}
    assert records.image_ids.tolist() == [1, 10]


def test_unexpected_files_and_links_are_counted(tmp_path: Path) -> None:
    write_df2(tmp_path)
    (tmp_path / "train/annos/notes.json").write_text("{}")
    write_photo(tmp_path / "secret.jpg", 30, 30)
    (tmp_path / "train/annos/000020.json").write_text(json.dumps({"item1": df2_item(8, 14)}))
    (tmp_path / "train/image/000020.jpg").symlink_to(tmp_path / "secret.jpg")
    records, _ = deepfashion2.read(tmp_path, "train")
    assert records.image_ids.tolist() == [1, 2, 10]
    expected = {"malformed annotation file": 1, "file name leaves the image folder": 1}
    assert counts(records) == expected


def test_a_number_used_twice_or_too_large_is_reported(tmp_path: Path) -> None:
    more = {"1": {"item1": df2_item(8, 14)}, "9" * 19: {"item1": df2_item(8, 14)}}
    records = read(tmp_path, df2_annotations() | more)
    assert records.image_ids.tolist() == [1, 2, 10]
    assert records.file_name_of(0) == "000001.jpg"
    assert counts(records) == {"duplicate image id": 1, "malformed annotation file": 1}


def test_a_photo_without_garments_is_kept(tmp_path: Path) -> None:
    records = read(tmp_path, df2_annotations() | {"000003": {"source": "shop", "pair_id": 1}})
    assert records.image_ids.tolist() == [1, 2, 3, 10] and records[2].garments == []


def test_missing_folders_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="validation/annos: no such folder"):
        deepfashion2.read(tmp_path, "val")
    write_df2(tmp_path)
    (tmp_path / "train" / "image").rename(tmp_path / "moved")
    with pytest.raises(InputError, match="train/image: no such folder"):
        deepfashion2.read(tmp_path, "train")


def test_landmark_slices_cover_all_294_without_overlap() -> None:
    assert sum(LANDMARKS) == deepfashion2.ALL_LANDMARKS == 294
    assert list(LANDMARK_STARTS) == np.cumsum([0, *LANDMARKS])[:-1].tolist()
    for category, count in enumerate(LANDMARKS):
        own = np.arange(1, 3 * count + 1).reshape(count, 3)
        spread = np.reshape(spread_landmarks(own.ravel().tolist(), category), (294, 3))
        assert np.count_nonzero(spread.any(axis=1)) == count
        np.testing.assert_array_equal(slice_landmarks(spread, category), own)


def test_factors_of_a_rendered_wardrobe_are_attributes(tmp_path: Path) -> None:
    annotations = df2_annotations()
    blue = {"color": "blue", "texture": "plaid", "collar": "", "length": 41.5, "color_L": 30.1}
    annotations["000001"]["item2"]["factors"] = blue
    annotations["000001"]["item1"] |= {"factors": {"color": "red"}, "bounding_box": [0, 0, 0, 0]}
    annotations["000002"]["item1"]["factors"] = {"color": "black", "texture": 7}
    records = read(tmp_path, annotations)
    assert records.attributes == ["black", "blue", "plaid"]  # no red: its garment is left out
    assert records.attribute_groups == [
        AttributeGroup("color", 0, 2, exclusive=True),
        AttributeGroup("texture", 2, 3, exclusive=True),
    ]
    assert records.attribute_matrix.tolist() == [[-1, 1, 1], [1, -1, 0], [0, 0, 0]]
    assert read(tmp_path / "real").attribute_matrix.shape == (4, 0)
