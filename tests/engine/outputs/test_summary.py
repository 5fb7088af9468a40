"""The final files, read back."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine.description.describer import Description
from engine.detection.detections import Detections
from engine.outputs.results import garments_record, unreadable_record
from engine.outputs.summary import Summary, assemble, print_summary
from engine.pixels.photos import PhotoError

CATEGORIES, IDS = ["top", 'long, "odd" hat'], [3, 7]


def some_records(pictures: bool) -> list[dict]:
    bitmap = np.asfortranarray(np.ones((40, 50), np.uint8))
    boxes = np.array([[10, 20, 30, 40], [0, 0, 50, 40]], np.float32)
    scores, labels = np.float32([0.9, 0.6]), np.array([2, 1])
    found = Detections(50, 40, boxes, scores, labels, [coco_mask.encode(bitmap)] * 2)
    none = Detections(50, 40, boxes[:0], scores[:0], labels[:0], [])
    records = [
        garments_record("a, b\n.jpg", found, CATEGORIES, pictures=pictures),
        garments_record("caf\udce9.jpg", found, CATEGORIES, pictures=pictures),
        garments_record("none.jpg", none, CATEGORIES, pictures=pictures),
        unreadable_record("zero.jpg", PhotoError("empty", "/p/zero.jpg", "the file is empty")),
    ]
    return [record | {"stamp": [1, 2, "x"]} for record in records]


def run(output: Path, records: list[dict], pictures: bool = True):
    header = {"root": "/p", "pictures": pictures}
    return assemble(output, records, header=header, categories=CATEGORIES, category_ids=IDS)


@pytest.mark.parametrize("pictures", [True, False])
def test_the_final_files_agree_with_the_records(tmp_path: Path, pictures: bool) -> None:
    records = some_records(pictures)
    summary = run(tmp_path, records, pictures)
    document = json.loads((tmp_path / "garments.json").read_text())
    plain = [{k: v for k, v in record.items() if k != "stamp"} for record in records]
    assert document["photos"] == plain[:3]
    assert document["unreadable"] == plain[3:]
    assert document["root"] == "/p"
    assert document["summary"] == {
        "photos": 4,
        "unreadable": 1,
        "without_garments": 1,
        "garments": 4,
        "dropped": 0,
        "per_category": {CATEGORIES[1]: 2, "top": 2},
    }
    assert (summary.photos, summary.garments, summary.photos_without) == (4, 4, 1)
    assert summary.photos_with["top"] == 2
    assert (tmp_path / "index.html").exists() == pictures


def test_table_has_a_row_per_garment(tmp_path: Path) -> None:
    run(tmp_path, some_records(True))
    text = (tmp_path / "garments.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    assert [row["photo"] for row in rows] == ["a, b\n.jpg"] * 2 + [r"caf\udce9.jpg"] * 2
    first = {k: v for k, v in rows[0].items() if k not in ("photo", "crop")}
    assert first == {"number": "1", "category": CATEGORIES[1], "score": "0.9", "x1": "10.0",
                     "y1": "20.0", "x2": "30.0", "y2": "40.0", "area_share": "1.0"}  # fmt: skip
    assert rows[1]["crop"] == "crops/a, b\n.jpg/2_top.jpg"


def test_descriptions_are_written_as_columns_and_vectors_to_a_file(tmp_path: Path) -> None:
    boxes = np.array([[10, 20, 30, 40], [0, 0, 50, 40]], np.float32)
    found = Detections(50, 40, boxes, np.float32([0.9, 0.6]), np.array([2, 1]), None)
    vectors = {"item": np.array([0.6, -0.8, 0]), "color": np.array([1.0, 0])}
    descriptions = [
        Description(
            {
                "category": [("Polo", 0.75), ("Shirt", 0.25)],
                "parts": [("zip", 0.9), ("hood", 0.6), ("bow", 0.1)],
            },
            [("navy", "#000080", 0.621), ("white", "#ffffff", 0.3)],
            vectors,
        ),
        Description({"category": [("Hat", 1.0)], "parts": [("zip", 0.4)]}, [], vectors),
    ]
    record = garments_record(
        "a.jpg", found, CATEGORIES, descriptions=descriptions, vectors=True, pictures=False
    )
    unreadable = some_records(False)[3]  # which has no vectors
    assemble(
        tmp_path, [record, unreadable], header={"root": "/p", "pictures": False},
        categories=CATEGORIES,
        category_ids=IDS, groups={"category": True, "parts": False}, features=True,
    )  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "garments.csv").open()))
    assert [list(row.values())[-4:] for row in rows] == [
        ["navy 62%; white 30%", "Polo", "0.75", "zip; hood"], ["", "Hat", "1.0", ""],
    ]  # fmt: skip
    assert list(rows[0])[-4:] == ["measured_colors", "described_category",
                                  "described_category_probability", "parts"]  # fmt: skip
    with np.load(tmp_path / "features.npz", allow_pickle=False) as file:
        assert file["photo"].tolist() == ["a.jpg", "a.jpg"]
        assert file["number"].tolist() == [1, 2]
        np.testing.assert_allclose(file["item"], [[0.6, -0.8, 0]] * 2, atol=1e-3)
        assert file["color"].shape == (2, 2)
    assert "vectors" not in (tmp_path / "garments.json").read_text()


def test_groups_named_like_other_columns_get_their_own_columns(tmp_path: Path) -> None:
    boxes = np.array([[10, 20, 30, 40]], np.float32)
    found = Detections(50, 40, boxes, np.float32([0.9]), np.array([1]), None)
    labels = {"score": [("A", 0.75)], "measured_colors": [("loud", 0.5)]}
    description = Description(labels, [("navy", "#000080", 1.0)], {})
    record = garments_record(
        "a.jpg", found, CATEGORIES, descriptions=[description], vectors=False, pictures=False
    )
    unreadable = some_records(False)[3]  # which has no vectors
    assemble(
        tmp_path, [record, unreadable], header={"root": "/p", "pictures": False},
        categories=CATEGORIES,
        category_ids=IDS, groups=dict.fromkeys(labels, True),
    )  # fmt: skip
    [row] = csv.DictReader((tmp_path / "garments.csv").open())
    assert (row["score"], row["described_score"]) == ("0.9", "A")
    assert (row["measured_colors"], row["described_measured_colors"]) == ("navy 100%", "loud")


def test_optional_files_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    run(tmp_path, some_records(True))
    (tmp_path / "features.npz").write_bytes(b"of an earlier run")
    run(tmp_path, some_records(False), pictures=False)
    assert {path.name for path in tmp_path.iterdir()} == {
        "garments.json", "garments.csv", "coco_results.json",
    }  # fmt: skip


def test_coco_results_use_the_datasets_ids(tmp_path: Path) -> None:
    run(tmp_path, some_records(True))
    results = json.loads((tmp_path / "coco_results.json").read_text())
    photos = json.loads((tmp_path / "garments.json").read_text())["photos"]
    assert [result["image_id"] for result in results] == [
        photo["image_id"] for photo in photos for _ in photo["garments"]
    ]
    assert [result["category_id"] for result in results] == [7, 3, 7, 3]
    assert [result["bbox"] for result in results[:2]] == [[10, 20, 20, 20], [0, 0, 50, 40]]
    assert coco_mask.area(results[0]["segmentation"]) == 2000


def test_photos_are_counted_once_per_category() -> None:
    summary = Summary()
    garments = [{"category": "top"}, {"category": "top"}]
    summary.count({"photo": "a.jpg", "garments": garments, "dropped": 0})
    assert (summary.per_category["top"], summary.photos_with["top"]) == (2, 1)


def test_dropped_detections_are_summed(tmp_path: Path, capsys) -> None:
    records = [dict(record) for record in some_records(True)]
    readable = [record for record in records if "kind" not in record]
    readable[0]["dropped"], readable[1]["dropped"] = 2, 5
    summary = run(tmp_path, records)
    assert json.loads((tmp_path / "garments.json").read_text())["summary"]["dropped"] == 7
    print_summary(summary, 0, 0, tmp_path, others=0)
    assert "\n7 detections dropped as false by the multitask model\n" in capsys.readouterr().out


def test_the_summary_is_printed(tmp_path: Path, capsys) -> None:
    summary = run(tmp_path, some_records(True))
    summary.unreadable *= 12
    summary.photos_with["top"] = 1
    print_summary(summary, 1, 2.5, tmp_path, others=1)
    printed = capsys.readouterr().out
    rows = [re.findall(r"\w+", line) for line in printed.splitlines()[:6]]
    assert ["category", "garments", "photos"] in rows
    assert ["top", "2", "1"] in rows and ["long", "odd", "hat", "2", "2"] in rows
    assert printed.count("unreadable: zero.jpg: the file is empty\n") == 10
    assert "... and 2 more, in garments.json\n" in printed
    assert (
        "4 photos, 1 of them now in 2.5 s: 4 garments, 1 photo without, 12 unreadable\n" in printed
    )
    assert "\n1 photo of earlier runs, not named now, left out" in printed
    assert f"look at {tmp_path}/index.html\n" in printed
    print_summary(run(tmp_path, some_records(False)[:1], False), 0, 0, tmp_path, others=0)
    printed = capsys.readouterr().out
    assert "more, in" not in printed and "earlier runs" not in printed
    assert "dropped" not in printed
    print_summary(Summary(), 0, 0, tmp_path, others=0)
    assert "category" not in capsys.readouterr().out
    assert f"look at {tmp_path}/garments.json\n" in printed


def test_names_like_markup_are_printed_as_they_are(tmp_path: Path, capsys) -> None:
    error = PhotoError("empty", "/p/[/red].jpg", "the file is empty")
    summary = Summary(unreadable=[unreadable_record("[/red].jpg", error)])
    summary.count({"photo": "a.jpg", "garments": [{"category": "[/bold]"}], "dropped": 0})
    print_summary(summary, 1, 0, tmp_path / "[/out]", others=0)
    printed = capsys.readouterr().out
    assert "unreadable: [/red].jpg: the file is empty" in printed
    assert "[/bold]" in printed and f"look at {tmp_path}/[/out]/" in printed


def test_a_run_without_garments(tmp_path: Path) -> None:
    run(tmp_path, some_records(True)[2:3])
    assert json.loads((tmp_path / "coco_results.json").read_text()) == []
    assert (tmp_path / "garments.csv").read_text().count("\n") == 1


def test_a_failure_leaves_the_old_files(tmp_path: Path) -> None:
    run(tmp_path, some_records(True)[:1])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def failing():
        yield from some_records(True)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        run(tmp_path, failing())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
