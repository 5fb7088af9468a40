"""Attributes and identities in COCO files, as Fashionpedia, CVAT and this project write them."""

from pathlib import Path
from typing import Any

import pytest

from engine.data.labels import encode_labels, merge_labels
from engine.data.readers import coco
from engine.data.readers.selection import keep_attribute_groups
from engine.data.records import AttributeGroup, PhotoRecords
from tests.datasets import coco_document, write_coco

FASHIONPEDIA = [
    {"id": 7, "name": "short (length)", "supercategory": "length", "level": 1},
    {"id": 3, "name": "classic (t-shirt)", "supercategory": "nickname", "level": 1},
    {"id": 9, "name": "maxi (length)", "supercategory": "length", "level": 1},
]


def read(root: Path, *labels: dict, **document: Any) -> PhotoRecords:
    """Records of the document's four annotations, each updated with the labels given for it."""
    whole = coco_document() | document
    for annotation, own in zip(whole["annotations"], labels, strict=False):
        annotation |= own
    write_coco(root, whole)
    return coco.read(root / "train.json", [root / "images"])[0]


def rows(records: PhotoRecords) -> dict[int, list[int]]:
    """Annotation id -> its row of the attribute matrix."""
    ids = records.garment_annotation_id.tolist()
    return dict(zip(ids, records.attribute_matrix.tolist(), strict=True))


def problems(records: PhotoRecords) -> dict[str, int]:
    return {problem.kind: problem.count for problem in records.problems}


def test_fashionpedias_attributes_are_grouped_by_supercategory(tmp_path: Path) -> None:
    records = read(
        tmp_path, {"attribute_ids": [7, 3]}, {"attribute_ids": []}, {"attribute_ids": [9, 4]},
        attributes=FASHIONPEDIA,
    )  # fmt: skip
    assert records.attributes == ["short (length)", "maxi (length)", "classic (t-shirt)"]
    assert records.attribute_ids == [7, 9, 3]
    assert records.attribute_groups == [
        AttributeGroup("length", 0, 2, exclusive=False),
        AttributeGroup("nickname", 2, 3, exclusive=False),
    ]
    assert rows(records) == {11: [1, -1, 1], 12: [0, 0, 0], 13: [-1, 1, -1], 14: [0, 0, 0]}
    assert problems(records) == {"unknown attribute id": 1}

    chosen = keep_attribute_groups(records, ["Nickname", "length"])
    assert chosen.attribute_ids == [3, 7, 9]
    assert rows(chosen)[13] == [-1, -1, 1]


def test_group_names_ignore_case(tmp_path: Path) -> None:
    twice = [{"id": 4, "name": "cropped", "supercategory": "Length"}, *FASHIONPEDIA]
    records = read(tmp_path / "listed", {"attribute_ids": [4, 7]}, attributes=twice)
    assert [group.name for group in records.attribute_groups] == ["length", "nickname"]
    assert set(records.attributes[:3]) == {"cropped", "short (length)", "maxi (length)"}
    assert rows(records)[11] == [1, 1, -1, -1]
    assert len(merge_labels([records], ["set"]).group("length").values) == 3
    both = {"attributes": {"Type": "a", "type": "b"}}
    records = read(tmp_path / "named", both, {"attributes": {"type": "a"}})
    assert records.attribute_groups == [AttributeGroup("type", 0, 2, exclusive=False)]
    assert rows(records)[11] == [1, 1] and rows(records)[12] == [1, -1]


def test_attributes_by_name_are_read(tmp_path: Path) -> None:
    records = read(
        tmp_path,
        {"attributes": {"Color ": "red", "parts": ["frill", " lace"], "occluded": False}},
        {"attributes": {"color": " blue", "parts": [], "rotation": 3.5, "": "x"}},
        {"attributes": {"color": "", "parts": ["lace"]}},
        {"attributes": ["red"]},
    )
    assert records.attributes == ["blue", "red", "frill", "lace"]
    assert records.attribute_groups == [
        AttributeGroup("color", 0, 2, exclusive=True),
        AttributeGroup("parts", 2, 4, exclusive=False),
    ]
    assert rows(records) == {
        11: [-1, 1, 1, 1], 12: [1, -1, -1, -1], 13: [0, 0, -1, 1], 14: [0, 0, 0, 0]
    }  # fmt: skip
    assert problems(records) == {}


def test_a_group_with_a_list_among_its_values_is_multi_label(tmp_path: Path) -> None:
    records = read(tmp_path, {"attributes": {"color": "red"}}, {"attributes": {"color": ["blue"]}})
    assert [group.exclusive for group in records.attribute_groups] == [False]
    assert rows(records)[11] == [-1, 1] and rows(records)[12] == [1, -1]


def test_undefined_and_empty_values_are_unknown(tmp_path: Path) -> None:
    undefined = {"color": "__undefined__", "only": "__undefined__", "never": []}
    records = read(
        tmp_path, {"attributes": {"color": "red"}}, {"attributes": {"color": []}},
        {"attributes": undefined},
    )  # fmt: skip
    assert records.attribute_groups == [AttributeGroup("color", 0, 1, exclusive=True)]
    assert rows(records) == {11: [1], 12: [0], 13: [0], 14: [0]}


@pytest.mark.parametrize("count", [20, 21])
def test_free_text_is_not_an_attribute(tmp_path: Path, count: int) -> None:
    document = coco_document()
    model = document["annotations"][0]
    annotations = [
        model | {"id": i, "attributes": {"remark": f"no {i}", "color": "red"}} for i in range(count)
    ]
    records = read(tmp_path, annotations=annotations)
    assert [group.name for group in records.attribute_groups] == ["remark", "color"][count > 20 :]
    assert problems(records) == ({"column of free text": 1} if count > 20 else {})
    assert rows(records)[3][-1] == 1


def test_a_malformed_attribute_list_is_ignored(tmp_path: Path) -> None:
    for strange in ("words", [1], [{"id": "1", "name": "x"}], [{"id": 1}], {"a": 1}, [[]]):
        records = read(tmp_path, {"attribute_ids": [1]}, attributes=strange)
        assert records.attributes == [] and problems(records) == {}


def test_identities_by_name_are_numbered(tmp_path: Path) -> None:
    pair = {"pair_id": 4, "style": 1}
    records = read(tmp_path, {"identity": "b"}, {"identity": "a"} | pair, {"identity": 3}, pair)
    named = dict(zip(records.garment_annotation_id.tolist(), records.garment_identity.tolist(),
                     strict=True))  # fmt: skip
    assert records.identities == ["a", "b"]
    assert named == {11: 1, 12: 0, 13: -1, 14: -1}


def test_one_splits_values_are_encoded_in_the_others_label_space(tmp_path: Path) -> None:
    train = read(
        tmp_path / "a", {"attributes": {"color": "red"}}, {"attributes": {"color": "blue"}}
    )
    val = read(
        tmp_path / "b", {"attributes": {"color": "Blue"}}, {"attributes": {"color": "green"}}
    )
    space = merge_labels([train], ["x"])
    encoded = encode_labels(space, val)["color"]
    given = dict(zip(val.garment_annotation_id.tolist(), encoded.tolist(), strict=True))
    assert given == {11: 0, 12: -2, 13: -1, 14: -1}
