"""Conversion to COCO: reading it back loses nothing, and DeepFashion2's ids are kept."""

import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from pycocotools.coco import COCO

from dataset_helpers import load_dataset
from engine.data.records import PhotoRecords
from tests.datasets import coco_document, df2_annotations, write_coco, write_df2
from tools import convert_dataset


def convert(*arguments: object) -> int:
    """Run the script in this process; returns its exit code."""
    argv = ["convert_dataset.py", *map(str, arguments)]
    with patch.object(sys, "argv", argv), pytest.raises(SystemExit) as ended:
        convert_dataset.main()
    return ended.value.code


def assert_same(a: PhotoRecords, b: PhotoRecords) -> None:
    for name, column in a.columns.items():
        np.testing.assert_array_equal(column, b.columns[name], err_msg=name)
    assert (a.categories, a.category_ids) == (b.categories, b.category_ids)


def test_coco_is_converted_without_loss(tmp_path: Path, capsys) -> None:
    document = coco_document()
    document["annotations"][2] |= {"bbox": [4.1, 3.3, 8.1, 5.7], "pair_id": 3, "style": 1}
    document["annotations"][2] |= {"keypoints": [4.25, 5, 2, 0, 0, 0], "scale": 2}
    document["images"][0]["source"] = "user"
    root = write_coco(tmp_path / "data", document)
    output = tmp_path / "out.json"
    assert convert("coco", root, "--output", output) == 0
    assert str(root / "images") in capsys.readouterr().err

    written = json.loads(output.read_text())
    for key in ("images",):
        assert written[key] == document[key]
    assert [(c["id"], c["name"]) for c in written["categories"]] == [(3, "top"), (8, "skirt")]
    by_id = {annotation["id"]: annotation for annotation in written["annotations"]}
    polygon = by_id[13]
    assert polygon["bbox"] == [4.1, 3.3, 8.1, 5.7] and polygon["area"] == 45
    assert polygon["segmentation"] == document["annotations"][2]["segmentation"]
    assert by_id[11] == document["annotations"][0]
    again = load_dataset("coco", root, annotations=output, images=root / "images")
    assert_same(load_dataset("coco", root), again)


def test_deepfashion2_is_converted_like_the_official_converter(tmp_path: Path) -> None:
    root = write_df2(tmp_path / "df2")
    output = tmp_path / "out.json"
    script = [sys.executable, convert_dataset.__file__, "deepfashion2", root, "--output", output]
    subprocess.run(script, cwd=tmp_path, check=True)  # as a user starts it, from anywhere
    written = json.loads(output.read_text())
    assert [image["id"] for image in written["images"]] == [1, 2, 10]
    assert written["images"][2] == {
        "id": 10,
        "file_name": "000010.jpg",
        "width": 43,
        "height": 50,
        "source": "shop",
    }
    annotations = written["annotations"]
    assert [a["id"] for a in annotations] == [1, 2, 3, 4]
    raw = df2_annotations()["000001"]["item1"]
    top = annotations[1]
    assert (top["image_id"], top["category_id"], top["iscrowd"]) == (1, 1, 0)
    assert top["bbox"] == [1, 2, 29, 38] and top["area"] == 29 * 38  # the box's, not the mask's
    assert top["segmentation"] == raw["segmentation"]
    assert top["keypoints"] == raw["landmarks"] + [0] * (3 * 294 - 75)
    assert top["num_keypoints"] == sum(v > 0 for v in raw["landmarks"][2::3])
    assert annotations[0]["keypoints"][3 * 168 : 3 * 182] != [0] * 42
    assert (annotations[0]["pair_id"], annotations[0]["style"]) == (7, 2)
    assert (top["scale"], top["occlusion"], top["zoom_in"], top["viewpoint"]) == (1, 2, 3, 2)
    assert written["categories"][1]["name"] == "long sleeve top"
    assert len(written["categories"][12]["keypoints"]) == 294

    truth = COCO(str(output))
    assert truth.annToMask(top).sum() > 0
    images = root / "train" / "image"
    again = load_dataset("coco", root, annotations=output, images=images)
    assert_same(load_dataset("deepfashion2", root), again)


def test_boxes_without_masks_and_photos_without_garments(tmp_path: Path) -> None:
    document = coco_document()
    for annotation in document["annotations"]:
        del annotation["segmentation"]
    root = write_coco(tmp_path / "data", document)
    assert convert("coco", root, "--output", tmp_path / "out.json") == 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert len(written["images"]) == 3
    assert all("segmentation" not in annotation for annotation in written["annotations"])

    document["annotations"] = []
    (root / "none.json").write_text(json.dumps(document))
    assert convert("coco", root, "--split", "none", "--output", tmp_path / "out.json") == 0
    assert json.loads((tmp_path / "out.json").read_text())["annotations"] == []


def test_attributes_and_identities_keep_their_names(tmp_path: Path, capsys) -> None:
    root = write_coco(tmp_path / "data")
    lines = ["file_name,category,identity,color,fit", "1.jpg,dress,A,red,", "2.jpg,,,,"]
    (root / "labels.csv").write_text("\n".join(lines))
    output = tmp_path / "out.json"
    assert convert("csv", root, "--output", output) == 0
    written = json.loads(output.read_text())
    named = [(category["id"], category["name"]) for category in written["categories"]]
    assert named == [(0, "unknown"), (1, "dress")]
    first, second = written["annotations"]
    assert (first["category_id"], first["bbox"]) == (1, [0, 0, 60, 45])
    assert (first["attributes"], first["identity"]) == ({"color": "red"}, "A")
    assert second["category_id"] == 0
    assert "attributes" not in second and "identity" not in second
    again = load_dataset("coco", root, annotations=output)
    assert (again.attributes, again.attribute_matrix.tolist()) == (["red"], [[1], [0]])
    assert (again.identities, again.garment_identity.tolist()) == (["A"], [0, -1])
    capsys.readouterr()
    assert convert("csv", root, "--output", root / "labels.csv") == 2
    assert "is the file to be read" in capsys.readouterr().err


def test_negative_attributes_survive_conversion(tmp_path: Path) -> None:
    document = coco_document()
    document["attributes"] = [
        {"id": 0, "name": "dotted", "supercategory": "pattern"},
        {"id": 1, "name": "maxi", "supercategory": "length"},
    ]
    for annotation, ids in zip(document["annotations"], ([0, 1], [1], [], [0]), strict=True):
        annotation["attribute_ids"] = ids
    root = write_coco(tmp_path, document)
    assert convert("coco", root, "--output", root / "named.json") == 0
    given = load_dataset("coco", root)
    assert sorted(given.attribute_matrix.tolist()) == [[-1, 1], [0, 0], [1, -1], [1, 1]]
    again = load_dataset("coco", root, annotations="named.json")
    assert set(again.attributes) == {"dotted", "maxi"}
    order = [again.attributes.index(name) for name in given.attributes]
    assert again.attribute_matrix[:, order].tolist() == given.attribute_matrix.tolist()


@pytest.mark.parametrize("output", ["train.json", "./images/../train.json"])
def test_source_is_never_overwritten(tmp_path: Path, capsys, output: str) -> None:
    root = write_coco(tmp_path)
    before = (root / "train.json").read_bytes()
    assert convert("coco", root, "--output", root / output) == 2
    assert "is the file to be read" in capsys.readouterr().err
    assert (root / "train.json").read_bytes() == before


def test_errors_are_one_line(tmp_path: Path, capsys) -> None:
    root = write_coco(tmp_path)
    for arguments in (
        ("coco", tmp_path / "nothing", "--output", tmp_path / "a.json"),
        ("coco", root, "--output", tmp_path / "no" / "folder" / "a.json"),
        ("deepfashion2", root, "--output", tmp_path / "a.json"),
    ):
        assert convert(*arguments) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "a.json").exists()
