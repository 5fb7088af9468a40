"""check_dataset.py: exit codes, every kind of problem, the report and the pictures."""

import json
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pytest

from engine.data.records import Garment, Photo
from tests.datasets import SIZES, coco_document, df2_annotations, write_coco, write_df2
from tools import check_dataset
from tools.checkup.inspection import check_garments


def check(*arguments: object) -> int:
    """Run the script in this process; returns its exit code."""
    argv = ["check_dataset.py", "-j0", *map(str, arguments)]
    with patch.object(sys, "argv", argv), pytest.raises(SystemExit) as ended:
        check_dataset.main()
    return ended.value.code


def write_scene(path: Path, seed: int) -> None:
    """A photo of random boxes, unlike any other."""
    width, height = SIZES[seed % 10]
    rng = np.random.default_rng(seed)
    photo = np.full((height * 4, width * 4, 3), 128, np.uint8)
    for _ in range(40):
        x, y, w, h = (int(v) for v in rng.integers(5, 200, 4))
        color = [int(v) for v in rng.integers(0, 256, 3)]
        cv2.rectangle(photo, (x, y), (x + w // 3, y + h // 3), color, -1)
    photo = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    assert cv2.imwrite(str(path), photo)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two clean splits, train (photos 1, 2, 3) and val (photos 11, 12, 13)."""
    root = write_coco(tmp_path / "data")
    document = coco_document()
    for image in document["images"]:
        image["file_name"] = f"1{image['file_name']}"
    (root / "val.json").write_text(json.dumps(document))
    for number in (1, 2, 3, 11, 12, 13):
        write_scene(root / "images" / f"{number}.jpg", number)
    return root


def kinds(report: Path, split: str) -> dict[str, int]:
    problems = json.loads(report.read_text())["splits"][split]["problems"]
    return {problem["kind"]: problem["count"] for problem in problems}


def test_clean_dataset_exits_with_0(dataset: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert check("coco", dataset, "--split", "train", "val", "--output-dir", out) == 0
    printed = capsys.readouterr().out
    assert "clean: no faults found" in printed and "skirt" in printed
    report = json.loads((out / "report.json").read_text())
    train = report["splits"]["train"]
    assert (train["photos"], train["garments"], train["crowds"]) == (3, 4, 1)
    assert train["categories"] == {"top": 2, "skirt": 2}
    assert train["photos by short side"]["0–127"] == 3
    assert list(train["garments by area"].values()) == [3, 1, 0]
    assert train["photos by number of garments"]["2"] == 2
    assert report["duplicates"]["count"] == 0 and train["problems"] == []
    for split in ("train", "val"):
        sheet = cv2.imread(str(out / f"samples_{split}.jpg"))
        assert sheet.shape[0] > 500 and sheet.std() > 20
    assert not (out / "duplicates.jpg").exists()


def test_duplicates_between_and_within_splits_are_found(
    dataset: Path, tmp_path: Path, capsys
) -> None:
    images, out = dataset / "images", tmp_path / "out"
    photo = cv2.imread(str(images / "1.jpg"))
    cv2.imwrite(str(images / "11.jpg"), photo[:, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    shutil.copy(images / "3.jpg", images / "13.jpg")
    document = coco_document()
    document["images"][1] |= {"file_name": "1.jpg", "width": 60, "height": 45}
    (dataset / "train.json").write_text(json.dumps(document))
    assert check("coco", dataset, "--split", "train", "val", "--output-dir", out) == 1
    assert kinds(out / "report.json", "train") == {"photo that is in its split twice": 1}
    assert kinds(out / "report.json", "val") == {"photo that is in another split too": 2}
    pairs = json.loads((out / "report.json").read_text())["duplicates"]["pairs"]
    assert sorted(pair["how"] for pair in pairs) == ["mirrored", "same file", "same file"]
    assert cv2.imread(str(out / "duplicates.jpg")) is not None
    assert "faults: 3 (of 2 kinds)" in capsys.readouterr().out


def test_faults_of_readers_photos_and_annotations_are_reported(
    dataset: Path, tmp_path: Path, capsys
) -> None:
    document = coco_document()
    document["annotations"][0]["bbox"] = [40, 30, 8, 6]  # far from its mask
    document["annotations"].append(document["annotations"][3] | {"id": 20})  # twice
    document["annotations"].append(document["annotations"][3] | {"id": 21, "category_id": 99})
    document["annotations"][2]["segmentation"] = [[-9, -9, -5, -9, -5, -5]]
    (dataset / "train.json").write_text(json.dumps(document))
    gray = cv2.imread(str(dataset / "images" / "3.jpg"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(dataset / "images" / "3.jpg"), gray)
    ok, png = cv2.imencode(".png", cv2.imread(str(dataset / "images" / "2.jpg")))
    broken = bytearray(png.tobytes())
    broken[len(broken) // 2] ^= 255  # damage that only decoding shows
    (dataset / "images" / "2.jpg").write_bytes(broken)
    report = tmp_path / "report.json"
    assert ok and check("coco", dataset, "--json", report) == 1
    assert kinds(report, "train") == {
        "unknown category id": 1,
        "photo grayscale": 1,
        "mask and box disagree": 1,
        "mask without a pixel": 1,
        "unreadable photo": 1,
        "garment annotated twice": 1,
    }
    printed = capsys.readouterr().out
    assert "faults: 5 (of 5 kinds)" in printed and "14 and 20" in printed
    notes = [p for p in json.loads(report.read_text())["splits"]["train"]["problems"] if p["note"]]
    assert [note["kind"] for note in notes] == ["photo grayscale"]


def test_deepfashion2_with_worker_processes(tmp_path: Path) -> None:
    annotations = df2_annotations()
    annotations["000002"]["item1"]["bounding_box"] = [0, 0, 0, 0]
    root = write_df2(tmp_path / "df2", annotations)
    report = tmp_path / "report.json"
    assert check("deepfashion2", root, "--json", report, "-j", "2", "--samples", "0") == 1
    assert kinds(report, "train")["degenerate box"] == 1
    assert json.loads(report.read_text())["splits"]["train"]["identities"] == 2


def test_several_datasets_are_compared_with_each_other(
    dataset: Path, tmp_path: Path, capsys
) -> None:
    table = tmp_path / "table"
    (table / "images").mkdir(parents=True)
    shutil.copy(dataset / "images" / "11.jpg", table / "images" / "a.jpg")  # judged by coco's val
    shutil.copy(dataset / "images" / "2.jpg", table / "images" / "b.jpg")  # learned twice
    write_scene(table / "images" / "c.jpg", 21)
    lines = ["file_name,color,fit,split", "a.jpg,red,loose,train", "b.jpg,,loose,train"]
    (table / "labels.csv").write_text("\n".join([*lines, "c.jpg,blue,,val"]))
    report = tmp_path / "report.json"
    mix = (f"coco:{dataset}:name=street", f"csv:{table}")
    assert check(*mix, "--json", report) == 1
    splits = json.loads(report.read_text())["splits"]
    assert list(splits) == ["street-train", "street-val", "table-train", "table-val"]
    assert kinds(report, "table-train") == {
        "photo that is in another split too": 1,
        "photo that is in its split twice": 1,
    }
    assert splits["street-train"]["garments"] == 3  # no crowds
    train = splits["table-train"]
    assert train["categories"] == {"unknown": 2}
    assert train["attributes"]["color"] == {
        "blue": {"yes": 0, "no": 1, "unknown": 1},
        "red": {"yes": 1, "no": 0, "unknown": 1},
    }
    assert train["attributes"]["fit"] == {"loose": {"yes": 2, "no": 0, "unknown": 0}}
    printed = capsys.readouterr().out
    assert "color" in printed and "loose" in printed
    assert check(f"csv:{table}", "--split", "val", "--json", report) == 0
    assert list(json.loads(report.read_text())["splits"]) == ["table-val"]


def test_datasets_of_one_name_are_refused_and_pictures_kept_apart(
    dataset: Path, tmp_path: Path, capsys
) -> None:
    other = tmp_path / "elsewhere" / dataset.name
    shutil.copytree(dataset, other)
    both = (f"coco:{dataset}", f"coco:{other}")
    assert check(*both) == 2
    assert "give each its own with name=" in capsys.readouterr().err
    out = tmp_path / "out"
    check(f"{both[0]}:name=set v2", f"{both[1]}:name=set.v2", "--output-dir", out)
    assert len(list(out.glob("samples_*.jpg"))) == 4


def test_no_split_takes_the_place_of_one_of_the_same_name(dataset: Path, capsys) -> None:
    shutil.copy(dataset / "val.json", dataset / "b-train.json")
    one = f"coco:{dataset}:name=a:split=b-train:val=none"
    assert check(one, f"coco:{dataset}:name=a-b:val=none") == 2
    assert "two splits named a-b-train: give" in capsys.readouterr().err
    assert check(one, f"coco:{dataset}:name=c:val=none") == 0


def test_annotation_files_given_by_name(dataset: Path, tmp_path: Path) -> None:
    files = [dataset / "train.json", dataset / "val.json"]
    out = tmp_path / "out"
    assert check("coco", dataset, "--annotations", *files, "--output-dir", out) == 0
    assert list(json.loads((out / "report.json").read_text())["splits"]) == [*map(str, files)]
    assert (out / "samples_val.jpg").exists()
    assert check("coco", dataset, "--annotations", *files, "--split", "val") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("coco", "nowhere"), "no such folder"),
        (("coco",), "give one folder after the format"),
        (("images", "."), "write FORMAT:PATH"),
        (("coco:.", "--images", "images"), "write FORMAT:PATH:annotations="),
        (("coco", ".", "--split", "test"), "no annotation file"),
        (("deepfashion2", ".", "--annotations", "a.json"), "--annotations is for coco"),
        (("coco", ".", "--samples", "-1"), "must not be negative"),
        (("coco", ".", "--output-dir", "train.json"), "cannot make the folder"),
        (("coco", ".", "--json", "train.json/report.json"), "cannot make the folder"),
    ],
)
def test_unusable_input_exits_with_2(
    dataset: Path, monkeypatch, capsys, arguments: tuple, message: str
) -> None:
    monkeypatch.chdir(dataset)
    assert check(*arguments) == 2
    assert message in capsys.readouterr().err


def test_names_with_markup_are_printed_as_they_are(dataset: Path, capsys) -> None:
    document = coco_document()
    document["categories"][0]["name"] = "[red]top[/blue]"
    (dataset / "train.json").write_text(json.dumps(document))
    assert check("coco", dataset) == 0
    assert "[red]top[/blue]" in capsys.readouterr().out


def test_garments_of_other_categories_or_places_are_no_duplicates() -> None:
    box = np.array([10.0, 10, 50, 50])
    garments = [
        Garment(category=0, box=box, area=1, annotation_id=1),
        Garment(category=1, box=box, area=1, annotation_id=2),
        Garment(category=0, box=box + 4, area=1, annotation_id=3),
        Garment(category=0, box=box + 0.2, area=1, annotation_id=4),
    ]
    photo = Photo(Path("a.jpg"), 1, 60, 60, garments=garments)
    assert check_garments(photo, ["x", "y"].__getitem__) == [
        ("garment annotated twice", "a.jpg: x 1 and 4")
    ]
