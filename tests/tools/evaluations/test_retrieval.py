"""``evaluate.py retrieval``: roles, weights, protocols, files and bad input."""

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from dataset_helpers import load_dataset
from retrieval.build import MADE_BY
from retrieval.deepfashion2 import QueryResult
from retrieval.deepfashion2_files import queries_and_gallery, read_results, write_results
from retrieval.features import FeatureSchema
from retrieval.pictures import ROOT
from retrieval.store import Item, open_database
from tests.datasets import df2_item, write_df2, write_df2_truth, write_photo
from tests.ranks import run_ranks
from tools import evaluate

SCHEMA = FeatureSchema(1, (("item", 2), ("color", 2)), "test")


def at(degrees: list[float]) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def run(*arguments: object) -> int:
    """Run the script in this process; returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        evaluate.main([str(argument) for argument in ("retrieval", *arguments)])
    logger = logging.getLogger("weft")  # as other tests expect to find it
    logger.handlers.clear()
    logger.propagate = True
    return ended.value.code


def metrics_of(folder: Path, *arguments: object) -> dict:
    assert run(*arguments, "--output-dir", folder / "out") == 0
    return json.loads((folder / "out" / "metrics.json").read_text())


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """32 products in a main and a back view; item vectors encode products, color vectors colors."""
    items, item, color = [], [], []
    for i in range(64):
        product, view = i // 2, ("main", "back")[i % 2]
        labels = {"color": ("red", "blue")[product % 2], "view": view}
        items.append(Item(f"{i}.jpg#0", f"{i}.jpg", 0, None, "coat", labels, f"P{product}"))
        item.append(10 * product + i % 2)
        color.append(90 * (product % 2) + product)
    with open_database(tmp_path / "db", schema=SCHEMA, create=True) as store:
        store.add(items, np.concatenate([at(item), at(color)], axis=1))
    return tmp_path / "db"


def test_metrics_of_aspects_weights_and_tuning(database: Path, tmp_path: Path, capsys) -> None:
    views = ("--query-views", "back", "--gallery-view", "main", "--weights", "item=1,color=0")
    found = metrics_of(tmp_path, "--database", database, *views, "--tune-weights")
    assert found["items"] == 64
    assert found["item"]["queries"] == 32
    assert found["item"]["R@1"] == found["weighted"]["R@1"] == 1
    assert found["color"]["P@10_color"] > found["item"]["P@10_color"]
    assert found["other_half"]["tuned"]["queries"] == 16
    assert found["other_half"]["tuned"]["R@1"] == 1
    assert sum(found["tuned_weights"].values()) == 1
    two = tmp_path / "two"
    flags = ("--database", database, *views, "--tune-weights", "--output-dir", two)
    assert run_ranks(2, run, *flags) == [0, 0]
    assert json.loads((two / "metrics.json").read_text()) == found
    printed = capsys.readouterr().out
    assert printed.startswith("64 items\n")  # no blank lines from hidden progress bars
    for word in ("weighted", "tuned on half", "P@10 color", "mAP"):
        assert word in printed


def test_predicted_labels_are_pointed_out(tmp_path: Path, capsys) -> None:
    items = [Item(f"{i}.jpg#0", f"{i}.jpg", 0, None, "coat", {"color": "red"}) for i in range(3)]
    about = {MADE_BY: {"garments": "whole photos"}}
    with open_database(tmp_path / "own", schema=SCHEMA, create=True, about=about) as store:
        store.add(items, np.concatenate([at([0, 5, 90]), at([0, 1, 2])], axis=1))
    assert metrics_of(tmp_path, "--database", tmp_path / "own")["labels_are_answers"]
    printed = capsys.readouterr().out
    assert "the model's own predictions" in printed and "no Recall@K" in printed


def test_products_that_occur_once_are_reported(tmp_path: Path, capsys) -> None:
    items = [Item(f"{i}.jpg#1", f"{i}.jpg", 1, identity=f"P{i}") for i in range(3)]
    with open_database(tmp_path / "once", schema=SCHEMA, create=True) as store:
        store.add(items, np.concatenate([at([0, 5, 90]), at([0, 1, 2])], axis=1))
    found = metrics_of(tmp_path, "--database", tmp_path / "once")
    assert found == {"items": 3, "item": {}, "color": {}}
    assert "no two photos share a product" in capsys.readouterr().out


def test_tables_select_queries_and_gallery(database: Path, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("photo\n0.jpg\n2.jpg\n")
    found = metrics_of(tmp_path, "--database", database, "--queries", tmp_path / "q.csv")
    assert found["item"]["queries"] == 2
    (tmp_path / "g.csv").write_text("key\n1.jpg#0\n8.jpg#0\n")
    both = ("--queries", tmp_path / "q.csv", "--gallery", tmp_path / "g.csv")
    assert metrics_of(tmp_path, "--database", database, *both)["item"]["queries"] == 1


def test_vectors_with_a_table(tmp_path: Path) -> None:
    np.savez(tmp_path / "vectors.npz", item=at([0, 1, 50, 60]))
    (tmp_path / "items.csv").write_text("photo,identity\na,1\nb,1\nc,2\nd,2\n")
    found = metrics_of(tmp_path, "--vectors", tmp_path / "vectors.npz")
    assert found["item"]["R@1"] == 1


def write_inshop(root: Path, second: int = 2) -> None:
    """Queries of product 1 and of the ``second``, gallery photos of products 1, 3 and 3."""
    rows = [("a", "1", "query"), ("b", str(second), "query"), ("c", "1", "gallery"),
            ("d", "3", "gallery"), ("e", "3", "gallery")]  # fmt: skip
    lists = [f"{len(rows)}", "image_name item_id evaluation_status"]
    for name, product, split in rows:
        file = f"img/MEN/Shorts/id_0000000{product}/{name}.jpg"
        write_photo(root / file, 40, 50)
        lists.append(f"{file} id_0000000{product} {split}")
    (root / "Eval").mkdir()
    (root / "Eval" / "list_eval_partition.txt").write_text("\n".join(lists) + "\n")


def test_inshop_by_hand(tmp_path: Path, capsys) -> None:
    write_inshop(tmp_path)
    folder = "MEN/Shorts"  # the database was built inside img/
    photos = [f"{folder}/id_0000000{n}/{name}.jpg" for n, name in ((1, "a"), (2, "b"), (1, "c"),
              (3, "d"), (3, "e"))]  # fmt: skip
    np.savez(tmp_path / "vectors.npz", item=at([0, 10, 5, 4, 90]))  # a's nearest: d 4°, c 5°
    (tmp_path / "items.csv").write_text("photo\n" + "\n".join(photos) + "\n")
    flags = ("--protocol", "inshop", "--dataset", f"inshop:{tmp_path}")
    found = metrics_of(tmp_path, "--vectors", tmp_path / "vectors.npz", *flags)["item"]
    assert found["queries"] == 2
    assert found["without_match"] == 1
    assert (found["R@1"], found["R@10"], found["mAP"]) == (0, 1 / 2, 1 / 4)
    assert found["variants"]["precision@10"] == pytest.approx(1 / 3 / 2)
    assert found["photos_without_item"] == {"query": 0, "gallery": 0}
    assert "variant: found share" in capsys.readouterr().out


def test_largest_item_represents_its_photo_and_photos_without_one_are_misses(
    tmp_path: Path,
) -> None:
    """The second query and the last gallery photo, both of product 3, have no item."""
    write_inshop(tmp_path, second=3)
    rows = [
        ("1/a", "0,0,10,10", 5),
        ("1/a", "0,0,30,40", 0),  # the largest: nearest to it is d at 4°, then c at 5°
        ("1/a", "0,0,40,30", 90),  # as large, but later
        ("1/c", "0,0,40,40", 1),
        ("1/c", ",,,", 5),  # the whole photo
        ("3/d", ",,,", 4),
    ]
    lines = ["photo,garment,x1,y1,x2,y2"]
    for n, (photo, box, _) in enumerate(rows):
        lines.append(f"MEN/Shorts/id_0000000{photo}.jpg,{n},{box}")
    (tmp_path / "items.csv").write_text("\n".join(lines) + "\n")
    np.savez(tmp_path / "vectors.npz", item=at([degrees for *_, degrees in rows]))
    flags = ("--protocol", "inshop", "--dataset", f"inshop:{tmp_path}")
    found = metrics_of(tmp_path, "--vectors", tmp_path / "vectors.npz", *flags)["item"]
    assert found["photos_without_item"] == {"query": 1, "gallery": 1}
    assert (found["queries"], found["without_match"]) == (2, 1)
    assert (found["R@1"], found["R@10"], found["mAP"]) == (0, 1 / 2, 1 / 4)


@pytest.fixture
def df2(tmp_path: Path) -> Path:
    """User photo 1 shows product (7, 2); shop photo 2 shows it, too, shop photo 3 another."""
    product = df2_item(8, 14, style=2)
    return write_df2(
        tmp_path / "df2",
        {
            "000001": {"source": "user", "pair_id": 7, "item1": product},
            "000002": {"source": "shop", "pair_id": 7, "item1": product},
            "000003": {"source": "shop", "pair_id": 9, "item1": product},
        },
        split="validation",
    )


def test_deepfashion2_by_hand(df2: Path, tmp_path: Path, capsys) -> None:
    """Two detections of the query: the better scored one has IoU 1/2 and a wrong first result."""
    records = load_dataset("deepfashion2", df2, split="val")
    name = records.categories[7]
    rows = [
        ("000001.jpg", 0, (4, 3, 24, 33), name, '{"score": 0.6}'),
        ("000001.jpg", 1, (4, 3, 24, 17), name, '{"score": 0.9}'),
        ("000002.jpg", 0, (4, 3, 24, 30), name, ""),
        ("000003.jpg", 0, (4, 3, 24, 33), name, ""),
    ]
    with (tmp_path / "items.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["photo", "garment", "x1", "y1", "x2", "y2", "category", "extra"])
        table.writerows([photo, n, *box, kind, extra] for photo, n, box, kind, extra in rows)
    np.savez(tmp_path / "vectors.npz", item=at([0, 30, 2, 29]))
    flags = ("--protocol", "deepfashion2", "--dataset", f"deepfashion2:{df2}")
    found = metrics_of(tmp_path, "--vectors", tmp_path / "vectors.npz", *flags)
    assert found["official"]["item"]["top1"] == 0  # 30° finds 29° first
    assert found["official"]["item"]["top5"] == 1
    assert found["official"]["item"]["lost"]["top1"]["wrong_neighbor"] == 1
    assert found["IoU 0.5"]["item"]["top1"] == 1  # only the detection at 0° is left
    assert "wrong neighbor" in capsys.readouterr().out

    results = tmp_path / "out" / "results_item.json"
    assert [answer.score for answer in read_results(results)] == [0.6, 0.9]
    again = metrics_of(tmp_path, "--results", results, *flags)
    assert again["official"]["results"] == found["official"]["item"]
    write_df2_truth(tmp_path, *queries_and_gallery(records))
    truth = ("--queries", tmp_path / "val_query.json", "--gallery", tmp_path / "val_gallery.json")
    official = metrics_of(tmp_path, "--results", results, "--protocol", "deepfashion2", *truth)
    assert official == again


def stored_df2(folder: Path, photos: Path, category: str) -> Path:
    """A database of an item on each photo of ``df2``, built from ``photos``."""
    items = [
        Item(f"{name}.jpg#1", f"{name}.jpg", 1, (4, 3, 24, 33), category)
        for name in ("000001", "000002", "000003")
    ]
    vectors = np.concatenate([at([0, 2, 29]), at([0, 0, 0])], axis=1)
    about = {ROOT: str(photos)}
    with open_database(folder, schema=SCHEMA, create=True, about=about) as store:
        store.add(items, vectors)
    return folder


def test_deepfashion2_evaluates_the_given_split(df2: Path, tmp_path: Path, capsys) -> None:
    """All splits use the same file names, so photos must be matched by path."""
    product = df2_item(8, 14, style=2)
    both = {"pair_id": 7, "item1": product}
    write_df2(df2, {"000001": both | {"source": "user"}, "000002": both | {"source": "shop"}})
    (kind,) = {load_dataset("deepfashion2", df2, split="val").category_name(7)}
    place = df2 / "validation" / "image"
    flags = ("--protocol", "deepfashion2", "--database", stored_df2(tmp_path / "db", place, kind))
    found = metrics_of(tmp_path, *flags, "--dataset", f"deepfashion2:{df2}:split=validation")
    assert found["official"]["item"]["top1"] == 1
    assert run(*flags, "--dataset", f"deepfashion2:{df2}:split=train") == 2
    assert "no item is on a photo of" in capsys.readouterr().err


def test_deepfashion2_refuses_items_of_other_categories(df2: Path, tmp_path: Path, capsys) -> None:
    database = stored_df2(tmp_path / "db", df2 / "validation" / "image", "cloak")
    flags = ("--protocol", "deepfashion2", "--database", database)
    assert run(*flags, "--dataset", f"deepfashion2:{df2}") == 2
    assert "the database's items are cloak" in capsys.readouterr().err


def test_deepfashion2_with_annotated_boxes_as_detections(df2: Path, tmp_path: Path) -> None:
    queries, gallery = queries_and_gallery(load_dataset("deepfashion2", df2, split="val"))
    (query,) = queries
    found = tuple((g.image_id, g.box) for g in gallery[::-1])  # the right one second
    images, boxes = zip(*found, strict=True)
    write_results(
        tmp_path / "r.json",
        [QueryResult(query.image_id, query.box, query.category, 1, images, boxes)],
    )
    flags = ("--protocol", "deepfashion2", "--dataset", f"deepfashion2:{df2}")
    metrics = metrics_of(tmp_path, "--results", tmp_path / "r.json", *flags)
    assert (metrics["official"]["results"]["top1"], metrics["official"]["results"]["top5"]) == (
        0,
        1,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --database or --vectors"),
        (["--database", "DB", "--vectors", "v.npz"], "either --database or --vectors"),
        (["--database", "nowhere"], "nowhere"),
        (["--vectors", "nowhere.npz"], "nowhere"),
        (["--database", "DB", "--weights", "item"], "weights 'item'"),
        (["--database", "DB", "--weights", "smell=1"], "smell"),
        (["--database", "DB", "--labels", "size"], "--labels size"),
        (["--database", "DB", "--query-views", "back"], "give both"),
        (["--database", "DB", "--query-views", "top", "--gallery-view", "main"], "top"),
        (["--database", "DB", "--queries", "nowhere.csv"], "nowhere.csv"),
        (["--database", "DB", "--tune-weights", "R@7"], "--tune-weights R@7"),
        (["--database", "DB", "--items", "i.csv"], "--items: only goes with --vectors"),
        (["--protocol", "deepfashion2", "--results", "r.json", "--database", "DB"], "instead of"),
        (["--protocol", "deepfashion2", "--results", "r.json", "--queries", "q.json"], "together"),
        (["--database", "DB", "--results", "r.json"], "only with --protocol deepfashion2"),
        (["--database", "DB", "--protocol", "inshop"], "give its --dataset"),
        (["--database", "DB", "--min-iou", "0"], "--min-iou 0"),
        (["--database", "DB", "--dataset", "csv:DB"], "--dataset: only goes with --protocol"),
        (["--protocol", "inshop", "--labels", "color"], "--labels: does not go with --protocol"),
        (["--protocol", "inshop", "--queries", "q.csv"], "--queries: does not go with --protocol"),
        (["--protocol", "inshop", "--dataset", "csv:DB"], "must be inshop:PATH"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    database: Path, capsys, arguments: list[str], message: str
) -> None:
    assert run(*(argument.replace("DB", str(database)) for argument in arguments)) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert message in errors[0]
