"""The COCO reader: every field lands where it belongs, every fault is counted, nothing crashes."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine.data.readers import coco
from engine.data.readers.problems import CONSEQUENCES
from engine.data.records import PhotoRecords
from engine.errors import InputError
from tests.datasets import coco_document, rectangle_rle, write_coco, write_photo


def read(root: Path, document: Any) -> PhotoRecords:
    write_coco(root, document)
    return coco.read(root / "train.json", [root / "images"])[0]


def counts(records: PhotoRecords) -> dict[str, int]:
    return {problem.kind: problem.count for problem in records.problems}


def test_all_fields_are_read(tmp_path: Path) -> None:
    document = coco_document()
    document["annotations"][2] |= {"style": 2, "pair_id": 9, "scale": 3, "viewpoint": 1}
    document["annotations"][2]["keypoints"] = [1, 2, 2, 3.5, 4, 1, 0, 0, 0]
    document["images"][0]["source"] = "shop"
    records = read(tmp_path, document)
    assert records.image_ids.tolist() == [1, 2, 3]
    assert records.sizes.tolist() == [[60, 45], [37, 53], [64, 64]]
    assert records.garment_offsets.tolist() == [0, 2, 2, 4]
    assert records.garment_annotation_id.tolist() == [11, 13, 12, 14]
    assert records.garment_category.tolist() == [0, 1, 1, 0]
    assert records.garment_area.tolist() == [48, 45, 4096, 48]
    assert records.garment_crowd.tolist() == [False, False, True, False]

    photo = records[0]
    assert (photo.path, photo.source) == (tmp_path / "images" / "1.jpg", "shop")
    rle, polygon = photo.garments
    assert rle.box.tolist() == [4, 3, 12, 9]
    bitmap = np.zeros((45, 60), np.uint8)
    bitmap[3:9, 4:12] = 1
    np.testing.assert_array_equal(coco_mask.decode(rle.segmentation), bitmap)
    assert polygon.box.tolist() == [4.5, 3, 12, 9]
    assert polygon.segmentation[0].tolist() == [[4.5, 3], [12, 3], [12, 9], [4.5, 9]]
    assert polygon.landmarks.tolist() == [[1, 2, 2], [3.5, 4, 1], [0, 0, 0]]
    assert (polygon.style, polygon.pair_id, polygon.scale, polygon.viewpoint) == (2, 9, 3, 1)
    assert polygon.identity >= 0 and rle.identity == -1 and polygon.occlusion == 0
    assert coco_mask.area(records[2].garments[0].segmentation) == 64 * 64


def test_of_deepfashion2s_294_keypoints_only_the_categorys_are_kept(tmp_path: Path) -> None:
    document = coco_document()
    document["categories"] = [{"id": i, "name": f"c{i}"} for i in range(1, 14)]
    document["annotations"] = document["annotations"][:1]
    keypoints = np.zeros((294, 3), int)
    keypoints[168:182] = np.arange(14)[:, None] % 3  # trousers
    document["annotations"][0] |= {"category_id": 8, "keypoints": keypoints.ravel().tolist()}
    (garment,) = read(tmp_path, document)[0].garments
    np.testing.assert_array_equal(garment.landmarks, keypoints[168:182])


def test_missing_values_have_defaults(tmp_path: Path) -> None:
    document = coco_document()
    for image in document["images"]:
        del image["width"], image["height"]
    for annotation in document["annotations"]:
        del annotation["id"], annotation["area"], annotation["iscrowd"]
    records = read(tmp_path, document)
    assert not records.problems
    assert records.sizes.tolist() == [[60, 45], [37, 53], [64, 64]]
    assert records.garment_annotation_id.tolist() == [1, 3, 2, 4]
    assert records.garment_area.tolist() == [48, 45, 4096, 48]


def test_a_garment_without_a_box_gets_that_of_its_mask(tmp_path: Path) -> None:
    document = coco_document()
    expected = read(tmp_path, document).garment_box
    for annotation in document["annotations"]:
        annotation["bbox"] = None
    del document["annotations"][0]["bbox"]
    records = read(tmp_path, document)
    assert not records.problems
    np.testing.assert_allclose(records.garment_box, expected, atol=0.5)  # whole pixels


@pytest.mark.parametrize("empty", [[], None, {}, "absent"])
def test_datasets_with_boxes_only_are_read(tmp_path: Path, empty: Any) -> None:
    document = coco_document()
    for annotation in document["annotations"]:
        annotation["segmentation"] = empty
        if empty == "absent":
            del annotation["segmentation"]
    records = read(tmp_path, document)
    assert len(records.garment_box) == 4 and not records.has_masks and not records.problems


def test_the_few_garments_without_a_mask_are_left_out(tmp_path: Path) -> None:
    document = coco_document()
    del document["annotations"][0]["segmentation"]
    records = read(tmp_path, document)
    assert records.has_masks and records.garment_annotation_id.tolist() == [13, 12, 14]
    assert counts(records) == {"garment without a mask in a set with masks": 1}


def change(number: int, **values: Any):
    def apply(document: dict) -> None:
        document["annotations"][number] |= values

    return apply


def change_photo(number: int, **values: Any):
    def apply(document: dict) -> None:
        document["images"][number] |= values

    return apply


OTHER_SIZE = rectangle_rle(45, 60, (4, 3, 12, 9))

FAULTS = [
    ("degenerate box", change(0, bbox=[4, 3, 0, 6])),
    ("degenerate box", change(0, bbox=[4, 3, 8, -6])),
    ("box outside the photo", change(0, bbox=[60, 3, 8, 6])),
    ("box not finite", change(0, bbox=[float("nan"), 3, 8, 6])),
    ("box not finite", change(0, bbox=[1, 3, 10**400, 6])),
    ("malformed annotation", change(0, bbox=[4, 3, 8])),
    ("malformed annotation", change(0, bbox=["4", "3", "8", "6"])),
    ("malformed annotation", change(0, bbox=None, segmentation=None)),
    ("malformed annotation", change(0, area="big")),
    ("malformed annotation", change(0, area=-1)),
    ("malformed annotation", change(0, id="eleven")),
    ("malformed annotation", change(0, image_id=None)),
    ("malformed annotation", lambda document: document["annotations"].__setitem__(0, [1, 2])),
    ("unknown category id", change(0, category_id=4)),
    ("duplicate annotation", change(2, **coco_document()["annotations"][0])),
    ("annotation of an unlisted photo", change(0, image_id=99)),
    ("malformed mask", change(2, segmentation=[[1, 2, 3, 4, 5]])),
    ("malformed mask", change(2, segmentation=[["a"] * 6])),
    ("malformed mask", change(2, segmentation="abc")),
    ("malformed mask", change(0, segmentation={"size": [45, 60], "counts": "zzzz"})),
    ("mask size differs from the photo", change(0, segmentation=OTHER_SIZE)),
    ("empty mask", change(0, segmentation={"size": [45, 60], "counts": [45 * 60]})),
]


@pytest.mark.parametrize("scale", [1, 1.0])
@pytest.mark.parametrize("largest", [14, 2**63 - 1, 2**80])
def test_new_annotation_ids_are_unique_and_fit_64_bits(
    tmp_path: Path, scale: float, largest
) -> None:
    document = coco_document()
    for annotation, number in zip(document["annotations"], (11, 12, 11, largest), strict=True):
        annotation["id"] = scale * number if number < 2**53 else number
    ids = read(tmp_path, document).garment_annotation_id.tolist()
    assert len(set(ids)) == len(ids) == (3 if largest == 2**80 else 4)


def test_garments_are_kept_if_annotation_ids_restart_on_each_photo(tmp_path: Path) -> None:
    document = coco_document()
    before = read(tmp_path, document).garment_annotation_id.tolist()
    change(2, id=11)(document)
    records = read(tmp_path, document)
    assert counts(records) == {"duplicate annotation id": 1}
    assert len(records.garment_box) == len(before) == len({*records.garment_annotation_id.tolist()})


@pytest.mark.parametrize(("kind", "apply"), FAULTS)
def test_only_the_faulty_garment_is_left_out(tmp_path: Path, kind: str, apply) -> None:
    document = coco_document()
    apply(document)
    records = read(tmp_path, document)
    assert counts(records) == {kind: 1}
    assert len(records) == 3 and len(records.garment_box) == 3


@pytest.mark.parametrize(
    ("kind", "apply"),
    [
        ("photo size differs from its annotation", change_photo(0, width=45, height=60)),
        ("malformed photo entry", change_photo(0, id="1")),
        ("malformed photo entry", change_photo(0, file_name=None)),
        ("malformed photo entry", change_photo(0, width="60")),
        ("malformed photo entry", lambda document: document["images"].__setitem__(0, "1.jpg")),
        ("file name leaves the image folder", change_photo(0, file_name="../images/1.jpg")),
        ("missing photo", change_photo(0, file_name="none.jpg")),
        ("malformed photo entry", change_photo(0, file_name="")),
        ("malformed photo entry", change_photo(0, file_name="\udc80")),
        ("malformed photo entry", change_photo(0, file_name="a\0b")),
        ("unreadable photo", change_photo(0, file_name="x" * 300)),
    ],
)
def test_a_faulty_photo_is_left_out_with_its_garments(tmp_path: Path, kind: str, apply) -> None:
    document = coco_document()
    apply(document)
    records = read(tmp_path, document)
    found = counts(records)
    assert records.image_ids.tolist() == [2, 3]
    # Without a valid id, the photo has no garments; its two count as those of an unlisted photo.
    assert found.pop("annotation of an unlisted photo", 2) == 2
    assert found == {kind: 1}


def test_duplicate_image_id_keeps_the_first(tmp_path: Path) -> None:
    document = coco_document()
    document["images"][1]["id"] = 1
    records = read(tmp_path, document)
    assert counts(records) == {"duplicate image id": 1}
    assert [records.file_name_of(i) for i in range(2)] == ["1.jpg", "3.jpg"]


def test_short_polygons_are_left_out_and_the_garment_stays(tmp_path: Path) -> None:
    document = coco_document()
    document["annotations"][2]["segmentation"] += [[1, 1, 2, 2], [3, 3]]
    records = read(tmp_path, document)
    assert counts(records) == {"polygon of fewer than 3 points": 2}
    assert len(records.garment_box) == 4 and len(records[0].garments[1].segmentation) == 1


def test_exports_of_annotation_tools_are_read(tmp_path: Path) -> None:
    document = coco_document()
    expected = read(tmp_path, document)
    document["images"][0]["file_name"] = "day\\1.jpg"  # from a Windows machine
    for image in document["images"]:
        image |= {"width": None, "height": None}
    for annotation in document["annotations"]:
        annotation |= {"area": None, "style": "casual", "pair_id": {}}
    document["annotations"][2]["segmentation"] = document["annotations"][2]["segmentation"][0]
    write_photo(tmp_path / "images" / "day" / "1.jpg", 60, 45)
    records = read(tmp_path, document)
    assert not records.problems and records.file_name_of(0) == "day/1.jpg"
    assert records.sizes.tolist() == expected.sizes.tolist()
    assert records.garment_area.tolist() == [48, 45, 4096, 48]
    assert (records.garment_style == 0).all() and (records.garment_pair_id == -1).all()
    np.testing.assert_array_equal(records.points, expected.points)


def test_absolute_file_names_inside_the_folder_are_accepted(tmp_path: Path) -> None:
    document = coco_document()
    for image in document["images"]:
        image["file_name"] = f"{tmp_path}/images/{image['file_name']}"
    write_coco(tmp_path, document)
    (tmp_path / "other").mkdir()
    folders = [tmp_path / "other", tmp_path / "images"]
    records, _ = coco.read(tmp_path / "train.json", folders)
    assert [records.file_name_of(i) for i in range(3)] == ["1.jpg", "2.jpg", "3.jpg"]
    with pytest.raises(InputError, match=r"such as .*images/1\.jpg', are not in .*other; name"):
        coco.read(tmp_path / "train.json", folders[:1])


def test_a_backslash_that_is_part_of_a_file_name_stays(tmp_path: Path) -> None:
    document = coco_document()
    document["images"][0]["file_name"] = "day\\1.jpg"
    for name in ("day\\1.jpg", "day/1.jpg"):
        write_photo(tmp_path / "images" / name, 60, 45)
    assert read(tmp_path, document).file_name_of(0) == "day\\1.jpg"


def test_a_garment_with_bad_landmarks_is_kept_without_them(tmp_path: Path) -> None:
    document = coco_document()
    document["annotations"][0]["keypoints"] = [1, 2, 7]
    records = read(tmp_path, document)
    assert counts(records) == {"malformed landmarks": 1} and len(records.garment_box) == 4


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "holds a list"),
        ("text", "holds a str"),
        ({}, "no list 'images'"),
        (coco_document() | {"images": {}}, "no list 'images'"),
        (coco_document() | {"annotations": None}, "no list 'annotations'"),
        (coco_document() | {"categories": "top"}, "no list 'categories'"),
        (coco_document() | {"categories": []}, "lists no categories"),
        (coco_document() | {"categories": ["top"]}, "category 'top' needs"),
        (coco_document() | {"categories": [{"id": "1", "name": "a"}]}, "needs a whole number 'id'"),
        (coco_document() | {"categories": [{"id": 1, "name": 5}]}, "is not text"),
        (coco_document() | {"categories": [{"id": 1, "name": "a"}] * 2}, "id 1 is listed twice"),
    ],
)
def test_files_of_another_structure_are_refused(
    tmp_path: Path, document: Any, message: str
) -> None:
    with pytest.raises(InputError, match=r"train\.json.*" + message):
        read(tmp_path, document)


def test_categories_of_the_same_name_stay_separate(tmp_path: Path) -> None:
    document = coco_document()
    document["categories"][1]["name"] = "top"
    assert read(tmp_path, document).categories == ["top", "top (8)"]


JUNK = [
    *(None, True, 0, 1, -1, 3.5, 1e308, 10**400, 2**63, float("nan"), float("inf")),
    *("", "1", "../x.jpg", "/etc/passwd", "\ud800", "\0", "x" * 300),
    *([], {}, [[]], [None], [1, 2, 3, 4], ["1"] * 6, [[1, 2], [3]], [[[[[]]]]], {"a": 1}),
    *({"size": [45, 60], "counts": c} for c in ("", "0", "o" * 40, [2700], [1, 2], None)),
]


def places(node: Any, path: tuple = ()) -> list[tuple]:
    children = node.items() if isinstance(node, dict) else enumerate(node)
    nested = [(key, value) for key, value in children if isinstance(value, (dict, list))]
    here = [(*path, key) for key in (node if isinstance(node, dict) else range(len(node)))]
    return here + [place for key, value in nested for place in places(value, (*path, key))]


def mutate(document: Any, rng: random.Random) -> None:
    *way, last = rng.choice(places(document))
    node = document
    for key in way:
        node = node[key]
    action = rng.random()
    if action < 0.2:
        del node[last]
    elif action < 0.3 and isinstance(node, list):
        node.insert(last, copy.deepcopy(node[last]))
    else:
        node[last] = copy.deepcopy(rng.choice(JUNK))


def test_mutated_files_are_read_or_refused_but_never_crash(tmp_path: Path) -> None:
    write_coco(tmp_path)
    file = tmp_path / "mutated.json"
    rng = random.Random(7)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(500):
        document = coco_document()
        for _ in range(rng.choice([1, 1, 2, 3])):
            mutate(document, rng)
        text = bytearray(json.dumps(document).encode())
        if rng.random() < 0.2:
            text = text[: rng.randrange(len(text))]
        elif rng.random() < 0.2:
            text[rng.randrange(len(text))] = rng.randrange(256)
        file.write_bytes(text)
        try:
            records, _ = coco.read(file, [tmp_path / "images"])
        except InputError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        use(records)
    assert min(outcomes.values()) > 100


def use(records: PhotoRecords) -> None:
    """Access all the data, as training does."""
    for photo in records:
        assert photo.path.is_relative_to(records.root)
        for garment in photo.garments:
            assert np.isfinite(garment.box).all() and (garment.box[2:] > garment.box[:2]).all()
            mask = garment.segmentation
            if isinstance(mask, dict):
                assert coco_mask.decode(mask).shape == (photo.height, photo.width)
            elif mask is not None:
                flat = [polygon.ravel().tolist() for polygon in mask]
                coco_mask.decode(coco_mask.frPyObjects(flat, photo.height, photo.width))
    for problem in records.problems:
        assert problem.kind in CONSEQUENCES and "\n" not in problem.line()
