"""infer.py --database: similar items in garments.json and on the page."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoint import load_checkpoint
from engine.description.describer import Describer, DescriberSettings
from engine.outputs.photo_run import claim_folder
from engine.outputs.results import write_jpeg
from engine.pixels.photos import read_photo
from retrieval import similar as similar_items
from retrieval.embedders import GarmentEmbedder
from retrieval.features import FeatureSchema
from retrieval.similar import SimilarItems
from retrieval.store import Hit, Item, PhotoState, open_database
from tests.fake_detector import CATEGORIES, make_photos, one_garment, write_weights
from tests.test_infer import fails, run, write_multitask_weights


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "w.pt")


def test_similar_items_of_a_database_are_listed(tmp_path: Path, weights: Path) -> None:
    photos, stock = make_photos(tmp_path / "photos", 3), make_photos(tmp_path / "stock", 4)
    embedder = GarmentEmbedder(None, "descriptors")
    location = tmp_path / "db"
    with open_database(
        location, schema=embedder.schema, create=True, about={"root": str(stock)}
    ) as store:
        for name in ("0.png", "1.png", "3.png", "../photos/0.png"):
            photo = read_photo(stock / name)
            _, _, vectors = embedder.describe(photo, one_garment(photo))
            box = tuple(one_garment(photo).boxes[0].tolist())
            kind = CATEGORIES[0].upper() if name == "3.png" else "cloak"
            item = Item(f"{name}#1", name, 1, box, kind)
            store.put_photos([(PhotoState(name, 1, 1), [item], vectors)])
    command = [photos, "--output-dir", tmp_path / "out", "--weights", weights,
               "--multitask-weights", "none", "--database", location, "--similar", "2",
               "--aspect-weights", "color=1"]  # fmt: skip
    assert len(run(*command).seen) == 3
    document = json.loads((tmp_path / "out/garments.json").read_text())
    similar = document["photos"][1]["garments"][0]["similar"]
    assert similar[0]["key"] == "1.png#1"
    assert similar[0]["score"] == pytest.approx(1, abs=1e-4)
    assert set(similar[0]["aspects"]) == {"item", "color", "texture", "shape"}
    assert read_photo(tmp_path / "out" / similar[0]["picture"]).shape[:2] == (21, 30)
    first = document["photos"][0]["garments"][0]["similar"]
    outside = [item for item in first if item["key"].startswith("..")]
    assert outside and "picture" not in outside[0], "a picture from outside the root"
    assert similar[0]["picture"] in (tmp_path / "out/index.html").read_text()
    assert run(*command).seen == []
    (tmp_path / "out" / similar[0]["picture"]).unlink()
    assert "1.png" in run(*command).seen, "an item's picture is missing"
    assert (tmp_path / "out" / similar[0]["picture"]).exists()
    assert len(run(*command, "--same-category").seen) == 3
    document = json.loads((tmp_path / "out/garments.json").read_text())
    for garment in (garment for photo in document["photos"] for garment in photo["garments"]):
        keys = [item["key"] for item in garment["similar"]]
        assert keys == (["3.png#1"] if garment["category"] == CATEGORIES[0] else [])
    assert len(run(*command).seen) == 3
    with open_database(location) as store:
        store.delete_photos(["0.png"])
    assert len(run(*command).seen) == 3, "another database, other neighbors"
    with open_database(location) as store:
        (item,), vectors = store.get(["1.png#1"]), store.vectors(["1.png#1"])
        store.put_photos([(PhotoState("1.png", 1, 1), [replace(item, category="cape")], vectors)])
    assert len(run(*command).seen) == 3, "the same photo, other labels"


def with_a_hit(tmp_path: Path) -> tuple[SimilarItems, list[Hit]]:
    """The only photo of a database as a hit."""
    embedder, stock = GarmentEmbedder(None, "descriptors"), make_photos(tmp_path / "stock", 1)
    about = {"root": str(stock)}
    open_database(tmp_path / "db", schema=embedder.schema, create=True, about=about).close()
    store = open_database(tmp_path / "db", read_only=True)
    similar = SimilarItems(store, None, k=1, weights={"color": 1}, categories=None)
    return similar, [Hit(Item("0.png#1", "0.png", 1), 1.0, {})]


def test_photos_are_searched_again_if_the_search_changes(tmp_path: Path) -> None:
    similar, _ = with_a_hit(tmp_path)
    settings = {"k": 1, "weights": {"color": 1}, "categories": None}
    for changed in ({}, {"k": 2}, {"weights": {"color": 1, "shape": 1}}):
        other = SimilarItems(similar.store, None, **(settings | changed))
        assert (other.basis() == similar.basis()) == (not changed)


def test_garments_of_the_photo_itself_are_not_similar_items(tmp_path: Path) -> None:
    embedder, stock = GarmentEmbedder(None, "descriptors"), make_photos(tmp_path / "stock", 2)
    about = {"root": str(stock)}
    with open_database(tmp_path / "db", schema=embedder.schema, create=True, about=about) as store:
        for name in ("0.png", "1.png"):
            photo = read_photo(stock / name)
            _, _, vectors = embedder.describe(photo, one_garment(photo))
            store.put_photos([(PhotoState(name, 1, 1), [Item(f"{name}#1", name, 1)], vectors)])
        similar = SimilarItems(store, None, k=2, weights={"color": 1}, categories=None)
        (hits,) = similar.find(stock / "1.png", photo, one_garment(photo), None)
    assert [hit.item.key for hit in hits] == ["0.png#1"]


def test_a_replaced_photo_gets_another_picture_and_a_lost_one_none(tmp_path: Path) -> None:
    similar, hits = with_a_hit(tmp_path)
    ((first,), (again,)) = similar.entries(hits, tmp_path), similar.entries(hits, tmp_path)
    os.utime(tmp_path / "stock/0.png", ns=(1, 1))
    (replaced,) = similar.entries(hits, tmp_path)
    assert first == again and replaced["picture"] != first["picture"]
    (unseen,) = similar.entries(hits, None)
    (tmp_path / "stock/0.png").unlink()
    (lost,) = similar.entries(hits, tmp_path)
    similar.store.about.clear()
    (rootless,) = similar.entries(hits, tmp_path)
    assert "picture" not in unseen and unseen == lost == rootless


@pytest.mark.parametrize("what", ["vectors", "labels"])
def test_a_photo_described_by_nan_does_not_stop_the_others(
    tmp_path: Path, weights: Path, monkeypatch, capsys, what: str
) -> None:
    model = write_multitask_weights(tmp_path / "m.pt", "item")
    device = torch.device("cpu")
    describer = Describer(load_checkpoint(model, "multitask"), device, DescriberSettings())
    schema = GarmentEmbedder(describer, "multitask").schema
    with open_database(tmp_path / "db", schema=schema, create=True) as store:
        store.add([Item("x#1", "x", 1)], np.full((1, schema.dim), schema.dim**-0.5, np.float32))
    describe = Describer.describe

    def overflow(self, photo: np.ndarray, *others) -> tuple:
        found, (description,) = describe(self, photo, *others)
        if len(photo) == 41:  # 1.png
            nan = {"vectors": {name: row * np.nan for name, row in description.vectors.items()},
                   "labels": {"category": [("a", float("nan"))]}}  # fmt: skip
            description = replace(description, **{what: nan[what]})
        return found, [description]

    monkeypatch.setattr(Describer, "describe", overflow)
    photos, output = make_photos(tmp_path / "photos", 3), tmp_path / "out"
    run(photos, "--output-dir", output, "--weights", weights, "--multitask-weights", model,
        "--database", tmp_path / "db")  # fmt: skip
    text = (output / "garments.json").read_text()
    document = json.loads(text, parse_constant=pytest.fail)  # NaN is no JSON
    assert [photo["photo"] for photo in document["photos"]] == ["0.png", "sub/2.png"]
    assert all(photo["garments"][0]["similar"] for photo in document["photos"])
    assert [entry["photo"] for entry in document["unreadable"]] == ["1.png"]
    assert "unreadable: 1.png: the multitask model's answers are not f" in capsys.readouterr().out


def test_two_threads_write_an_items_picture_at_once(tmp_path: Path, monkeypatch) -> None:
    similar, hits = with_a_hit(tmp_path)
    both = threading.Barrier(2, timeout=300)

    def write_together(path: Path, picture: np.ndarray) -> None:
        write_jpeg(path, picture)
        both.wait()

    monkeypatch.setattr(similar_items, "write_jpeg", write_together)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: similar.entries(hits, tmp_path), range(2))
    assert one == other
    assert [path.name for path in (tmp_path / "similar").iterdir()] == [
        Path(one[0]["picture"]).name
    ]


def test_a_picture_cut_off_by_a_kill_is_removed_by_the_next_run(
    tmp_path: Path, monkeypatch
) -> None:
    similar, hits = with_a_hit(tmp_path)

    def write_in_vain(path: Path, picture: np.ndarray) -> None:
        write_jpeg(path, picture)
        raise KeyboardInterrupt

    monkeypatch.setattr(similar_items, "write_jpeg", write_in_vain)
    with pytest.raises(KeyboardInterrupt):
        similar.entries(hits, tmp_path)
    assert len([*(tmp_path / "similar").iterdir()]) == 1
    claim_folder(tmp_path, [])[1].close()
    assert [*(tmp_path / "similar").iterdir()] == []


def test_a_database_of_another_model_is_refused(tmp_path: Path, weights: Path, capsys) -> None:
    open_database(
        tmp_path / "db", schema=FeatureSchema(1, (("item", 3),), "x"), create=True
    ).close()
    photos = make_photos(tmp_path / "photos", 1)
    command = [photos, "--output-dir", tmp_path / "out", "--weights", weights, "--database"]
    message = fails(capsys, *command, tmp_path / "db", "--multitask-weights", "none")
    assert "--multitask-weights" in message


def test_a_missing_database_and_bad_weights_are_reported_before_models_load(
    tmp_path: Path, capsys
) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    (tmp_path / "junk.pt").write_bytes(b"junk")
    command = [photos, "--output-dir", tmp_path / "out", "--weights", tmp_path / "junk.pt"]
    assert "no database" in fails(capsys, *command, "--database", tmp_path / "gone")
    schema = GarmentEmbedder(None, "descriptors").schema
    open_database(tmp_path / "db", schema=schema, create=True).close()
    command += ["--database", tmp_path / "db", "--aspect-weights"]
    assert "colour" in fails(capsys, *command, "colour=1")
    assert "ASPECT=NUMBER" in fails(capsys, *command, "color")


@pytest.mark.parametrize(
    "flags", [["--similar", "5"], ["--same-category"], ["--aspect-weights", "color=1"]]
)
def test_a_flag_that_would_change_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, flags: list[str]
) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    message = fails(capsys, photos, "--output-dir", tmp_path / "out", *flags)
    assert f"{flags[0]}: needs a database" in message
