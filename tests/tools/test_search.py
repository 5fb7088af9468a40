"""search.py from the command line: table, JSON, contact sheet, and bad input."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engine.detection import finder
from engine.detection.detections import Detections
from engine.errors import InputError
from engine.pixels.photos import read_photo
from retrieval.embedders import GarmentEmbedder
from retrieval.search import Query
from retrieval.store import Hit, Item
from tools import build_database, search
from tools.searching import contact_sheet
from tools.searching.contact_sheet import write_sheet
from tools.searching.results import print_results, summary

NO_MODEL = ("--multitask-weights", "none", "--device", "cpu", "-j", "1")
COLORS = {"red": (200, 30, 40), "blue": (30, 60, 200), "green": (20, 150, 60)}


def write_photo(path: Path, color: tuple[int, int, int], wide: bool) -> Path:
    photo = np.full((90, 90, 3), 250, np.uint8)
    photo[30:60, 10:80] = photo[20:75, 30:60] = color
    if wide:
        photo[30:60] = color
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    return path


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    """Six labeled products: three colors in two shapes."""
    folder = tmp_path_factory.mktemp("search")
    table = ["file_name,category,color"]
    for name, color in COLORS.items():
        for wide in (False, True):
            file_name = f"{'wide' if wide else 'slim'}/{name}.png"
            write_photo(folder / "photos" / file_name, color, wide)
            table.append(f"{file_name},{'top' if wide else 'bag'},{name}")
    (folder / "photos/labels.csv").write_text("\n".join(table) + "\n")
    with pytest.raises(SystemExit) as ended:
        build_database.main(
            ["--dataset", f"csv:{folder / 'photos'}", "--database", str(folder / "db"), *NO_MODEL]
        )
    assert ended.value.code == 0
    return folder / "db"


def detect(model, photos, settings, device, *, keep_photo) -> Iterator:
    """Detects two garments on every photo: all of it, and its upper left quarter."""
    for key, path in photos:
        photo = read_photo(path)
        boxes = np.float32([[0, 0, 90, 90], [0, 0, 45, 45]])
        yield key, Detections(90, 90, boxes, np.float32([0.9, 0.6]), np.array([1, 2]), None), photo


def run(*arguments: object, code: int = 0) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finder, "build_from_checkpoint", lambda checkpoint: torch.nn.Identity())
        patch.setattr(finder, "detect_photos", detect)
        with pytest.raises(SystemExit) as ended:
            search.main([*map(str, arguments), *NO_MODEL])
    assert ended.value.code == code


def search_json(capsys, *arguments: object) -> dict:
    capsys.readouterr()
    run(*arguments, "--json")
    return json.loads(capsys.readouterr().out)


def keys_of(plain: dict, query: int = 0) -> list[str]:
    return [hit["key"] for hit in plain["queries"][query]["hits"]]


def test_whole_photo_finds_itself_first(database: Path, capsys) -> None:
    photo = database.parent / "photos/wide/red.png"
    plain = search_json(capsys, photo, "--database", database, "--whole-photo", "--top-k", 3)
    hits = plain["queries"][0]["hits"]
    assert hits[0]["key"] == "wide/red.png#1" and hits[0]["score"] == pytest.approx(1, abs=1e-4)
    assert set(hits[0]["aspects"]) == {"item", "color", "texture", "shape"}
    assert hits[0]["attributes"] == {"color": "red"} and len(hits) == 3
    other = search_json(
        capsys, photo, "--database", database, "--whole-photo", "--exclude-same-photo"
    )
    assert "wide/red.png#1" not in keys_of(other) and len(keys_of(other)) == 5


def test_photos_and_keys_are_searched_in_the_order_given(database: Path, capsys) -> None:
    photo = database.parent / "photos/wide/red.png"
    mixed = ("slim/red.png#1", photo, "wide/blue.png#1", "slim/red.png#1")
    plain = search_json(capsys, *mixed, "--database", database, "--whole-photo")
    assert [query["key"] or query["photo"] for query in plain["queries"]] == [*map(str, mixed)]
    own = [keys_of(plain, number)[0] for number in range(4)]
    assert own[1] == "wide/red.png#1" and own[0] == own[3]


def test_moved_photos_own_items_can_be_excluded(database: Path, tmp_path: Path, capsys) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(database.parent / "photos", moved)
    flags = ("--database", database, "--whole-photo", "--exclude-same-photo", "--root", moved)
    plain = search_json(capsys, moved / "wide/red.png", *flags)
    assert len(keys_of(plain)) == 5 and "wide/red.png#1" not in keys_of(plain)


def test_weights_change_the_ranking(database: Path, capsys) -> None:
    by_color = search_json(capsys, "slim/red.png#1", "--database", database, "--weights", "color=1")
    assert keys_of(by_color)[0] == "wide/red.png#1"
    by_shape = search_json(capsys, "slim/red.png#1", "--database", database, "--weights", "shape=1")
    assert keys_of(by_shape)[0] in {"slim/blue.png#1", "slim/green.png#1"}
    assert by_shape["weights"] == {"shape": 1}
    assert "slim/red.png#1" not in keys_of(by_shape)


def test_filters_exclude_items(database: Path, capsys) -> None:
    flags = ("slim/red.png#1", "--database", database)
    assert set(keys_of(search_json(capsys, *flags, "--category", "top"))) == {
        f"wide/{color}.png#1" for color in COLORS
    }
    some = search_json(capsys, *flags, "--attribute", "color=blue", "--attribute", "color=green",
                  "--folder", "slim")  # fmt: skip
    assert set(keys_of(some)) == {"slim/blue.png#1", "slim/green.png#1"}
    assert keys_of(
        search_json(capsys, *flags, "--category", "TOP", "--attribute", "Color=Blue")
    ) == ["wide/blue.png#1"]
    for unknown, words in {
        ("--category", "hat"): "category hat: no item has it; there are",
        ("--attribute", "color=pink"): "attribute color pink: no item has it; there are blue",
        ("--attribute", "size=pink"): "attribute size: no item has it; there are color",
        ("--folder", "nowhere"): "folder nowhere: holds no item",
    }.items():
        run(*flags, *unknown, code=2)
        assert words in capsys.readouterr().err
    same = search_json(capsys, "wide/red.png#1", "--database", database, "--same-category")
    assert set(keys_of(same)) == {"wide/blue.png#1", "wide/green.png#1"}
    run(*flags, "--folder", "slim", "--category", "top")
    assert "no item passes" in capsys.readouterr().out


def test_unknown_label_is_reported_before_loading_models(
    database: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "junk.pt").write_bytes(b"junk")
    photo = database.parent / "photos/wide/red.png"
    flags = ("--database", database, "--detector-weights", tmp_path / "junk.pt")
    run(photo, *flags, "--category", "hat", code=2)
    assert "category hat" in capsys.readouterr().err
    run(photo, *flags, "--weights", "size=1", code=2)
    assert "no aspect 'size'" in capsys.readouterr().err


def test_every_garment_of_a_photo_is_a_query(database: Path, tmp_path: Path, capsys) -> None:
    weights = tmp_path / "w.pt"
    labels = {"categories": ["top", "bag"], "category_ids": [1, 2], "attributes": []}
    torch.save({"format": 1, "kind": "detector", "model": {}, "config": {}} | labels, weights)
    photo = write_photo(tmp_path / "q.png", COLORS["blue"], wide=True)
    flags = (photo, "--database", database, "--detector-weights", weights)
    plain = search_json(capsys, *flags)
    assert [(q["garment"], q["category"]) for q in plain["queries"]] == [(1, "top"), (2, "bag")]
    assert plain["queries"][1]["box"] == [0, 0, 45, 45]
    assert keys_of(plain)[0] == "wide/blue.png#1"
    second = search_json(capsys, *flags, "--garment", 2)
    assert [q["garment"] for q in second["queries"]] == [2]
    run(*flags, "--garment", 3, code=2)
    assert "--garment 3, but it has 2" in capsys.readouterr().err
    labels["categories"] = ["TOP", "Hat"]
    torch.save({"format": 1, "kind": "detector", "model": {}, "config": {}} | labels, weights)
    own = search_json(capsys, *flags, "--same-category")
    assert set(keys_of(own)) == {f"wide/{color}.png#1" for color in COLORS}, "capitals aside"
    assert keys_of(own, 1) == []
    labels["categories"] = ["cape", "boot"]
    torch.save({"format": 1, "kind": "detector", "model": {}, "config": {}} | labels, weights)
    run(*flags, "--same-category", code=2)
    words = "none is cape or boot; leave out --same-category"
    assert words in " ".join(capsys.readouterr().err.split())


def test_table_shows_every_aspect(database: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    run("slim/red.png#1", "--database", database, "--weights", "color=1,shape=0.5", "--top-k", 2)
    printed = capsys.readouterr().out
    for word in ("score", "item", "color", "texture", "shape", "wide/red.png#1", "top, red"):
        assert word in printed
    assert len(re.findall(r"0\.\d{3}|1\.000", printed)) >= 8


@pytest.mark.parametrize("length", [10, 40, 200])
def test_table_cuts_neither_keys_nor_numbers(length: int, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    key = "k" * length + ".jpg#1"
    scores = {"item": 0.111, "color": -0.222, "texture": 0.333, "shape": 0.444}
    hit = Hit(Item(key, key[:-2], 1, None, "short sleeve top", {"color": "navy"}), 0.555, scores)
    print_results([(Query("q", np.zeros(3, np.float32)), [hit])], {"color": 1})
    printed = capsys.readouterr().out
    for word in (key, "0.555", "0.111", "-0.222", "0.333", "0.444", "score", "texture", "sleeve"):
        assert word in printed


def test_contact_sheet_shows_crops_and_placeholders(database: Path, tmp_path: Path, capsys) -> None:
    sheet, copy = tmp_path / "found.png", tmp_path / "photos"
    shutil.copytree(database.parent / "photos", copy)
    (copy / "wide/red.png").unlink()
    flags = ("slim/red.png#1", "--database", database, "--weights", "color=1", "--top-k", 2)
    run(*flags, "--contact-sheet", sheet)
    there = cv2.imread(str(sheet))
    run(*flags, "--contact-sheet", sheet, "--root", copy)
    gone = cv2.imread(str(sheet))
    assert there.shape == gone.shape
    red = np.array(COLORS["red"][::-1])

    def reddish(picture: np.ndarray) -> int:
        return int((abs(picture.astype(int) - red).max(axis=2) < 8).sum())

    assert reddish(there) > 1.5 * reddish(gone) > 0
    other = tmp_path / "found.jpg"
    run(*flags, "--contact-sheet", other)
    assert other.read_bytes()[:2] == b"\xff\xd8"


def test_forged_key_shows_no_photo_outside_the_root(tmp_path: Path) -> None:
    write_photo(tmp_path / "secret.png", COLORS["red"], wide=True)
    (tmp_path / "root").mkdir()
    item = Item("../secret.png#1", "../secret.png", 1)
    hit = Hit(item, 1.0, {"item": 1.0})
    query = Query("\udcff\n" + "long " * 30, np.zeros(3, np.float32))
    write_sheet(tmp_path / "s.png", [(query, [hit])], str(tmp_path / "root"))
    sheet = cv2.imread(str(tmp_path / "s.png")).astype(int)
    assert not (abs(sheet - np.array(COLORS["red"][::-1])).max(axis=2) < 30).any()
    write_sheet(tmp_path / "s.png", [], None)


def test_a_sheet_too_wide_for_its_format_is_one_sentence(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.setattr(contact_sheet, "_cell", lambda *_: None)
    path, query, hit = tmp_path / "s.JPEG", Query("q", np.zeros(3)), Hit(Item("a#1", "a"), 1.0, {})
    with pytest.raises(InputError, match=r"too wide for a \.jpg; lower --top-k or name it \.png$"):
        write_sheet(path, [(query, [hit] * 327)], None)
    assert not path.exists()
    write_sheet(path, [(query, [hit] * 326)], None)
    assert cv2.imread(str(path)).shape[1] == 327 * 200 + 10
    with pytest.raises(InputError, match=r"too wide for a \.png; lower --top-k$"):
        write_sheet(tmp_path / "s.png", [(query, [hit] * 4999)], None)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        (Query("a b.jpg#2", np.zeros(3), number=2, category="short sleeve top"),
         ["a b.jpg#2", "short sleeve top"]),
        (Query("my top", np.zeros(3), category="top"), ["my top", "top"]),
        (Query("a b.jpg", np.zeros(3)), ["a b.jpg", ""]),
        (Query("a b.jpg#1", np.zeros(3), item=Item("a b.jpg#1", "a b.jpg"), category="hat"),
         ["a b.jpg#1", "hat"]),
    ],
)  # fmt: skip
def test_a_query_is_captioned_with_its_name_and_category(
    tmp_path, monkeypatch, capsys, query, lines
):
    told = []
    monkeypatch.setattr(contact_sheet, "_cell", lambda *cell: told.append(cell[-1]))
    write_sheet(tmp_path / "s.png", [(query, [])], None)
    assert told == [["query", *lines]]
    print_results([(query, [])], {})
    assert capsys.readouterr().out.startswith(" ".join(lines).strip() + ":")


def test_bad_input_is_one_sentence(database: Path, tmp_path: Path, capsys) -> None:
    def fails(*arguments: object) -> str:
        run(*arguments, code=2)
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        return lines[0]

    at = ("--database", database)
    assert "neither a photo nor an item" in fails("nothing.jpg", *at)
    assert "no aspect 'size'" in fails("slim/red.png#1", *at, "--weights", "size=1")
    assert "all weights are 0" in fails("slim/red.png#1", *at, "--weights", "color=0")
    for text in ("red", "=red"):
        assert "NAME=VALUE" in fails("slim/red.png#1", *at, "--attribute", text)
    assert "no database" in fails("x", "--database", tmp_path)
    both = ("--category", "top", "--same-category")
    assert "--same-category: not with --category" in fails("slim/red.png#1", *at, *both)
    for flag in (("--same-category",), ("--garment", "2")):
        assert f"{flag[0]}: not with --whole-photo" in fails("x.jpg", *at, *flag, "--whole-photo")
    photo = shutil.copy(database.parent / "photos/slim/red.png", tmp_path)
    before = Path(photo).read_bytes()
    sheet = ("--whole-photo", "--contact-sheet", photo)
    assert "--contact-sheet" in fails(photo, *at, *sheet) and Path(photo).read_bytes() == before
    (tmp_path / "text.jpg").write_text("no photo")
    assert "text.jpg: not a photo" in fails(tmp_path / "text.jpg", *at, "--whole-photo")


def test_query_vectors_equal_those_of_the_database(database: Path) -> None:
    from retrieval.search import QueryReader
    from retrieval.store import open_database

    reader = QueryReader(GarmentEmbedder(None, "descriptors"), None)
    query = reader.whole(database.parent / "photos/slim/green.png")
    with open_database(database, read_only=True) as store:
        stored = store.vectors(["slim/green.png#1"])[0]
    np.testing.assert_allclose(query.vector, stored, atol=1e-6)


def test_binary_attributes_are_shown_by_name() -> None:
    item = Item("a#1", "a", 1, None, "dress", {"floral": "yes", "color": "red", "lace": "yes"})
    assert summary(Hit(item, 1, {})) == "dress, floral, red, lace"
