"""build_database.py on annotated datasets: labels, splits, pairs, and running no network.

Descriptors stand in for the network.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dataset_helpers import parse_spec
from engine import model_flags
from engine.description.describer import CropSettings
from engine.errors import InputError
from retrieval.garment_sources import AnnotatedGarments
from retrieval.store import open_database
from tests.builds import contents, run, write_table
from tests.datasets import coco_document, write_coco, write_df2
from tests.fake_detector import make_photos


def test_annotated_dataset_keeps_its_labels(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "set", 5)
    names = ["0.png", "1.png", "sub/2.png", "3.png"]
    rows = [
        {"file_name": name, "item_id": f"p{i // 2}", "category": "hat", "color": "red" if i else "",
         "x1": 5 if i == 1 else "", "y1": 6 if i == 1 else "", "x2": 50 if i == 1 else "",
         "y2": 30 if i == 1 else ""}
        for i, name in enumerate(names)
    ]  # fmt: skip
    command = ("--dataset", f"csv:{write_table(photos, rows)}", "--database", tmp_path / "db")
    run(*command)
    stored = contents(tmp_path / "db")
    assert sorted(stored) == ["0.png#1", "1.png#1", "3.png#1", "sub/2.png#1"]
    item = stored["1.png#1"][0]
    assert (item.category, item.identity, item.box) == ("hat", "p0", (5, 6, 50, 30))
    assert item.attributes == {"color": "red"}
    assert stored["0.png#1"][0].attributes == {}
    assert stored["3.png#1"][0].box == (0, 0, 60, 43)
    vectors = {key: vector for key, (_, vector) in stored.items()}
    rows[2]["color"] = "blue"
    write_table(photos, rows[:3])
    run(*command)
    stored = contents(tmp_path / "db")
    assert sorted(stored) == ["0.png#1", "1.png#1", "sub/2.png#1"]
    assert stored["sub/2.png#1"][0].attributes == {"color": "blue"}
    assert stored["sub/2.png#1"][1] == pytest.approx(vectors["sub/2.png#1"], abs=1e-5)


@pytest.mark.parametrize("kept", [(11,), ()])
def test_garments_that_the_annotation_lost_leave_the_database(
    tmp_path: Path, kept: tuple[int, ...]
) -> None:
    document = coco_document()
    command = ("--dataset", f"coco:{write_coco(tmp_path / 'set', document)}",
               "--features", "descriptors", "--database", tmp_path / "db")  # fmt: skip
    run(*command)
    assert sorted(contents(tmp_path / "db")) == ["1.jpg#1", "1.jpg#2", "3.jpg#1"]
    others = [entry for entry in document["annotations"] if entry["image_id"] != 1]
    own = [entry for entry in document["annotations"] if entry["id"] in kept]
    # The photos stay as they are: a changed one would be read again anyway.
    path = tmp_path / "set" / "train.json"
    path.write_text(json.dumps(document | {"annotations": others + own}))
    run(*command)
    expected = ["1.jpg#1"] * len(kept) + ["3.jpg#1"]
    assert sorted(contents(tmp_path / "db")) == expected


def test_descriptors_of_an_annotated_dataset_run_no_network(tmp_path: Path, monkeypatch) -> None:
    photos = make_photos(tmp_path / "set", 2)
    table = write_table(photos, [{"file_name": "0.png", "category": "hat"}])
    monkeypatch.setattr(model_flags, "build_describer", lambda *_: pytest.fail("loads a model"))
    run("--dataset", f"csv:{table}", "--features", "descriptors", "--database", tmp_path / "db")
    assert [*contents(tmp_path / "db")] == ["0.png#1"]


def test_splits_can_be_given_with_one_flag_or_two(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "set", 5)
    names = {"train": "0.png", "val": "1.png"}
    rows = [{"file_name": name, "split": split} for split, name in names.items()]
    train, val = (f"csv:{write_table(photos, rows)}:split={split}" for split in names)
    for number, more in enumerate(([val], ["--dataset", val])):
        run("--dataset", train, *more, "--database", tmp_path / f"db{number}")
        assert sorted(contents(tmp_path / f"db{number}")) == ["0.png#1", "1.png#1"]


def test_splits_with_photos_beside_the_dataset_have_keys_below_one_folder(tmp_path: Path) -> None:
    make_photos(tmp_path / "set" / "images", 1), make_photos(tmp_path / "other", 2)
    rows = [{"file_name": "0.png", "split": "train"}, {"file_name": "1.png", "split": "val"}]
    table = write_table(tmp_path / "set", rows)
    val = f"csv:{table}:split=val:images=../other"
    run("--dataset", f"csv:{table}", val, "--database", tmp_path / "db")
    assert sorted(contents(tmp_path / "db")) == ["other/1.png#1", "set/images/0.png#1"]
    with open_database(tmp_path / "db", read_only=True) as store:
        assert store.about["root"] == str(tmp_path)


def test_same_pair_number_in_two_splits_means_two_products(tmp_path: Path) -> None:
    """DeepFashion2 numbers pairs from 1 in each split; user and shop photos share the number."""
    for split in ("train", "validation"):
        write_df2(tmp_path / "df2", split=split)
    splits = [f"deepfashion2:{tmp_path / 'df2'}:split={split}" for split in ("train", "val")]
    made = ("--features", "descriptors", "--database")
    run("--dataset", *splits, *made, tmp_path / "both")
    run("--dataset", splits[0], *made, tmp_path / "one")
    products = {key: item.identity for key, (item, _) in contents(tmp_path / "both").items()}
    known = {key: product for key, product in products.items() if product}
    pairs = ("000001.jpg#1", "000002.jpg#1")
    pair = [product for key, product in known.items() if key.endswith(pairs)]
    assert len(known) == 6 and len(set(known.values())) == 4
    assert pair[0] == pair[1] != pair[2] == pair[3]
    alone = {item.identity for item, _ in contents(tmp_path / "one").values()} - {None}
    assert len(alone) == 2 and {f"train {product}" for product in alone} < set(known.values())


def test_photo_in_two_splits_is_warned_about(tmp_path: Path, capsys) -> None:
    photos = make_photos(tmp_path / "set", 1)
    boxes = {"x1": 5, "y1": 6, "x2": 50, "y2": 30}
    rows = [{"file_name": "0.png", "split": split, "category": split} | boxes for split in "ab"]
    table = write_table(photos, rows)
    run("--dataset", f"csv:{table}:split=a", f"csv:{table}:split=b", "--database", tmp_path / "db")
    assert "photo listed more than once ×1" in capsys.readouterr().err
    assert [item.category for item, _ in contents(tmp_path / "db").values()] == ["b"]


def test_photo_that_changed_since_the_dataset_was_read_is_not_described(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "set", 2)
    table = write_table(photos, [{"file_name": "0.png"}, {"file_name": "1.png"}])
    source = AnnotatedGarments([parse_spec(f"csv:{table}")], CropSettings(32, 0.1), 1)
    cv2.imwrite(str(photos / "0.png"), np.zeros((19, 23, 3), np.uint8))
    (_, error, _), (_, found, _) = source.find(photos, ["0.png", "1.png"])
    assert str(error) == f"{photos}/0.png: annotated as 60×40, is 23×19"
    assert found.boxes.tolist() == [[0, 0, 60, 41]]


def test_unchanged_annotated_photos_are_not_read_again(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("retrieval.garment_sources.READ_AT_ONCE", 1)
    photos = make_photos(tmp_path / "set", 2)
    boxed = {"file_name": "0.png", "x1": 5, "y1": 6, "x2": 50, "y2": 30, "color": "red"}
    rows = [boxed, dict.fromkeys(boxed, "") | {"file_name": "1.png"}]
    command = ("--dataset", f"csv:{write_table(photos, rows)}", "--database", tmp_path / "db")
    run(*command)
    assert "2 photos, 2 of them now" in capsys.readouterr().out
    run(*command)
    assert "2 photos, 0 of them now" in capsys.readouterr().out


def test_keys_are_relative_to_the_databases_root(tmp_path: Path, capsys) -> None:
    """Not to the dataset's, which is another one for other splits or with --root."""
    for split in ("train", "validation"):
        write_df2(tmp_path / "df2", split=split)
    train, val = (f"deepfashion2:{tmp_path / 'df2'}:split={split}" for split in ("train", "val"))
    made = ("--features", "descriptors", "--database")
    run("--dataset", train, val, *made, tmp_path / "db")
    both = contents(tmp_path / "db")
    run("--dataset", val, *made, tmp_path / "db")
    left = contents(tmp_path / "db")
    assert left.keys() == {key for key in both if key.startswith("validation/")} < both.keys()
    capsys.readouterr()
    run("--dataset", val, *made, tmp_path / "db")
    assert " 0 of them now" in capsys.readouterr().out
    run("--dataset", train, *made, tmp_path / "db2", "--root", tmp_path)
    assert contents(tmp_path / "db2").keys() == {
        f"df2/{key}" for key in both if key.startswith("train/")
    }
    source = AnnotatedGarments([parse_spec(train)], CropSettings(32, 0.1), 1)
    ((_, found, _),) = source.find(tmp_path, ["df2/train/image/000001.jpg"])
    assert len(found) == 2, "a process that has not opened the database knows the keys, too"
    with pytest.raises(InputError, match=f"not below {tmp_path}/x, .* give --root FOLDER"):
        source.name_from(tmp_path / "x")
