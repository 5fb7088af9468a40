"""outline_photos.py from the command line on, with a stand-in for the detector."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from dataset_helpers import load_spec, parse_spec
from engine import model_flags
from engine.data.labels import IS_GARMENT, encode_labels, merge_labels
from engine.detection import finder
from engine.detection.detections import Detections
from engine.pixels.photos import PhotoError, read_photo
from tools import outline_photos

SIDE = 97


@pytest.fixture
def detector(monkeypatch):
    """Finds a shirt in each photo's middle; tells which photos it saw."""
    seen = []

    def detect(model, photos, settings, device, *, keep_photo):
        for key, path in photos:
            seen.append(path.name)
            try:
                photo = read_photo(path)
            except PhotoError as error:
                yield key, error, None
                continue
            bitmap = np.zeros(photo.shape[:2], np.uint8, order="F")
            bitmap[30:70, 30:70] = 1
            yield key, Detections(
                *photo.shape[1::-1], np.array([[30, 30, 70, 70]], np.float32),
                np.float32([0.9]), np.array([1]), [coco_mask.encode(bitmap)],
            ), photo  # fmt: skip

    monkeypatch.setattr(finder, "detect_photos", detect)
    monkeypatch.setattr(finder, "build_from_checkpoint", lambda checkpoint: torch.nn.Identity())
    loaded = {"categories": ["top", "bag"], "category_ids": [1, 2], "config": {}}
    monkeypatch.setattr(model_flags, "load_checkpoint", lambda path, kind: loaded)
    return seen


@pytest.fixture
def shop(tmp_path) -> Path:
    """Five photos: three shirts, a bag, and a file that is none."""
    folder = tmp_path / "shop"
    (folder / "images").mkdir(parents=True)
    rows = []
    for number, word in enumerate(["Tee", "Tee", "Bag", "Shirt", "Tee"]):
        picture = np.full((SIDE, SIDE, 3), 255, np.uint8)
        picture[28:72, 28:72] = 40 * number
        cv2.imwrite(str(folder / "images" / f"{number}.png"), picture)
        rows.append({"file_name": f"{number}.png", "category": word, "split": "train"})
    (folder / "images" / "4.png").write_bytes(b"no picture")
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def run(shop: Path, output: Path, *flags: str) -> dict:
    command = [f"csv:{shop}", "--words", "Tee=top", "Shirt=top", "--output-dir", str(output)]
    with pytest.raises(SystemExit) as ended:
        outline_photos.main([*command, *flags])
    if ended.value.code:
        raise ended.value
    return json.loads((output / "train.json").read_text())


def test_photos_of_the_given_categories_are_pseudo_labeled(shop, tmp_path, detector):
    document = run(shop, tmp_path / "out")
    assert sorted(i["file_name"] for i in document["images"]) == ["0.png", "1.png", "3.png"]
    assert [c["name"] for c in document["categories"]] == ["top", "bag"]
    for image, garment in zip(document["images"], document["annotations"], strict=True):
        assert garment["image_id"] == image["id"] and garment["category_id"] == 1
        assert coco_mask.area(garment["segmentation"]) == garment["area"]
        assert np.allclose(garment["bbox"], [28, 28, 44, 44], atol=2)


def test_photos_of_several_garments_are_left_out(shop, tmp_path, detector):
    (shop / "labels.csv").write_text(
        "file_name,category,split,x1,y1,x2,y2\n"
        "0.png,Tee,train,5,5,50,50\n0.png,Bag,train,60,60,90,90\n1.png,Tee,train,,,,\n"
    )
    document = run(shop, tmp_path / "out")
    assert [image["file_name"] for image in document["images"]] == ["1.png"]


def test_a_second_run_does_only_what_is_new(shop, tmp_path, detector):
    first = run(shop, tmp_path / "out")
    detector.clear()
    assert run(shop, tmp_path / "out") == first
    assert detector == []
    assert len(run(shop, tmp_path / "out", "--most", "1")["images"]) <= 1
    detector.clear()
    assert run(shop, tmp_path / "out") == first
    assert detector == [], "photos that a run left out stay in the journal"
    views = ["--short-side", "64"], ["--mirror"], ["--close-up", "0.5"], ["--zoom", "0.3"]
    for told in (["--absent", "bag"], *views):
        detector.clear()
        run(shop, tmp_path / "out", *told)
        assert detector, "told something else, it has to look again"


def test_an_unreadable_photo_is_counted_and_gets_another_chance(shop, tmp_path, detector, capsys):
    read = read_photo

    def refuse_one(path):
        if path.name == "1.png":
            raise PhotoError("unreadable", path, "Permission denied")
        return read(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "read_photo", refuse_one)
        assert len(run(shop, tmp_path / "out")["images"]) == 2
    assert " 1 unreadable" in capsys.readouterr().err
    detector.clear()
    assert len(run(shop, tmp_path / "out")["images"]) == 3
    assert detector == ["1.png"]


def test_a_replaced_photo_is_outlined_again(shop, tmp_path, detector):
    first = run(shop, tmp_path / "out")
    picture = cv2.imread(str(shop / "images" / "1.png"))
    cv2.imwrite(str(shop / "images" / "1.png"), np.pad(picture, ((0, 9), (0, 0), (0, 0)), "edge"))
    detector.clear()
    document = run(shop, tmp_path / "out")
    assert detector == ["1.png"]
    heights = {image["file_name"]: image["height"] for image in document["images"]}
    assert heights == {"0.png": SIDE, "1.png": SIDE + 9, "3.png": SIDE}
    assert len(document["annotations"]) == len(first["annotations"])


@pytest.mark.parametrize(
    ("option", "says"),
    [("category=none", "3 garments have no category"), ("mask=no", "3 garments have no mask")],
)
def test_added_datasets_need_a_category_and_a_mask_for_every_garment(
    shop, tmp_path, detector, capsys, option, says
):
    run(shop, tmp_path / "street")
    with pytest.raises(SystemExit) as ended:
        run(shop, tmp_path / "out", "--add", f"coco:{tmp_path / 'street'}:images={shop}/images:"
            f"val=none:{option}")  # fmt: skip
    assert ended.value.code == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_added_datasets_are_repeated_add_times(shop, tmp_path, detector):
    first = run(shop, tmp_path / "street")
    (tmp_path / "street" / "val.json").write_bytes((tmp_path / "street/train.json").read_bytes())
    street = f"coco:{tmp_path / 'street'}:images={shop / 'images'}"
    document = run(shop, tmp_path / "out", "--add", street, "--add-times", "2")
    assert json.loads((tmp_path / "out" / "val.json").read_text()) == first
    assert len(document["images"]) == 3 * len(first["images"])
    assert [i["id"] for i in document["images"]] == list(range(1, 10))
    copied = [{k: v for k, v in g.items() if "id" not in k} for g in document["annotations"][:3]]
    assert copied == [{k: v for k, v in g.items() if "id" not in k} for g in first["annotations"]]
    run(shop, tmp_path / "out", "--add", f"{street}:val=none")
    assert not (tmp_path / "out" / "val.json").exists(), "of an earlier run, without --add's photos"


def test_finds_are_labeled_as_garments_or_false(shop, tmp_path, detector, monkeypatch):
    """On photo 1 two more are found, a bag beside the shirt and the shirt again."""
    run(shop, tmp_path / "street")
    look = finder.detect_photos

    def with_more(*arguments, **keywords):
        for key, found, photo in look(*arguments, **keywords):
            if key.endswith("1.png"):
                beside, again = (np.zeros(photo.shape[:2], np.uint8, order="F") for _ in range(2))
                beside[5:20, 6:19] = again[30:70, 31:70] = 1
                found = Detections(
                    SIDE, SIDE, np.float32([[30, 30, 70, 70], [6, 5, 19, 20], [31, 30, 70, 70]]),
                    np.float32([0.9, 0.8, 0.7]), np.array([1, 2, 2]),
                    [*found.masks, coco_mask.encode(beside), coco_mask.encode(again)],
                )  # fmt: skip
            yield key, found, photo

    monkeypatch.setattr(finder, "detect_photos", with_more)
    street = f"coco:{tmp_path / 'street'}:images={shop / 'images'}:val=none"
    run(shop, tmp_path / "out", "--alone", "--add", street, "--add-times", "2")
    spec = f"coco:{tmp_path / 'out'}:annotations=finds.json:images={shop / 'images'}"
    records = load_spec(parse_spec(f"{spec}:category=none"), "train")
    (group,) = records.attribute_groups
    assert (group.name, group.exclusive) == (IS_GARMENT, True)
    answers = encode_labels(merge_labels([records], ["finds"]), records)[IS_GARMENT]
    named = [records.attributes[group.start + answer] for answer in answers]
    photos = [str(records.path(i))[-5:] for i in records.garment_photo]
    assert sorted(zip(photos, named, strict=True)) == [
        ("0.png", "yes"), ("0.png", "yes"),
        ("1.png", "no"), ("1.png", "yes"), ("1.png", "yes"),
        ("3.png", "yes"), ("3.png", "yes"),
    ]  # fmt: skip
    run(shop, tmp_path / "out", "--add", street)
    assert "no" not in (tmp_path / "out" / "finds.json").read_text().split('"')


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--words", "Tee"], "write WORD=CATEGORY"),
        (["--words", "Tee=gown"], "name one of top, bag"),
        (["--words", "Cape=top"], "no photo has any of them; the photos have Bag, Shirt, Tee"),
        (["--absent", "gown"], "--absent gown: name one of top, bag"),
    ],
)
def test_wrong_words_are_errors(shop, tmp_path, detector, capsys, flags, says):
    with pytest.raises(SystemExit) as ended:
        run(shop, tmp_path / "out", *flags)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_a_detector_of_boxes_is_an_error(shop, tmp_path, detector, monkeypatch, capsys):
    found = Detections(SIDE, SIDE, np.float32([[9, 9, 70, 70]]), np.ones(1), np.array([1]), None)
    monkeypatch.setattr(
        finder, "detect_photos", lambda _, photos, *__, **___: ((k, found, None) for k, _ in photos)
    )
    with pytest.raises(SystemExit) as ended:
        run(shop, tmp_path / "out")
    assert ended.value.code == 2
    assert "this detector finds no masks" in " ".join(capsys.readouterr().err.split())


def test_annotations_of_an_added_dataset_are_not_overwritten(shop, tmp_path, detector, capsys):
    run(shop, tmp_path / "street")
    own = tmp_path / "own" / "train.json"
    own.parent.mkdir()
    own.write_bytes((tmp_path / "street" / "train.json").read_bytes())
    before = own.read_bytes()
    with pytest.raises(SystemExit) as ended:
        run(shop, own.parent, "--add", f"coco:{own.parent}:images={shop}/images:val=none")
    assert ended.value.code == 2
    assert "holds train.json, which no run wrote" in " ".join(capsys.readouterr().err.split())
    assert own.read_bytes() == before


def test_an_output_that_is_a_file_is_an_error(shop, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(outline_photos, "open_finder", None)  # told before a model is loaded
    (tmp_path / "out").touch()
    with pytest.raises(SystemExit) as ended:
        run(shop, tmp_path / "out")
    assert ended.value.code == 2
    assert "choose another --output-dir" in capsys.readouterr().err


def test_file_names_are_relative_to_the_common_folder(shop, tmp_path, detector, monkeypatch):
    run(shop, tmp_path / "street")
    (tmp_path / "street" / "val.json").write_bytes((tmp_path / "street/train.json").read_bytes())
    shutil.copytree(shop, tmp_path / "other")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    added = ("--add", f"coco:{tmp_path / 'street'}:images={shop / 'images'}")
    names = [i["file_name"] for i in run(Path("../other"), Path("out"), *added)["images"]]
    assert sorted(names) == [f"{f}/images/{n}.png" for f in ("other", "shop") for n in (0, 1, 3)]


def test_a_single_photo_is_named_relative_to_its_folder(shop, tmp_path, detector):
    (shop / "labels.csv").write_text("file_name,category,split\n0.png,Tee,train\n")
    assert [image["file_name"] for image in run(shop, tmp_path / "out")["images"]] == ["0.png"]
