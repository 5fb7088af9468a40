"""Searching: weights, filters, a query's own photo, pictures that stay below the root."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.detection.detections import Detections
from engine.detection.finder import GarmentFinder
from engine.errors import InputError
from engine.pixels.photos import read_photo
from retrieval.embedders import GarmentEmbedder
from retrieval.features import parse_weights
from retrieval.pictures import item_picture, photo_name, photo_path
from retrieval.search import (
    Query,
    QueryReader,
    as_stored,
    equal_weights,
    find_similar,
    matching_categories,
    stored_queries,
    weights_from_flag,
)
from retrieval.store import Filter, Item, Store, open_database
from tests.retrieval.store_contract import EQUAL, SCHEMA, by_hand, make_item, unit_rows

COUNT = 23


@pytest.fixture
def rows() -> np.ndarray:
    return unit_rows(COUNT)


@pytest.fixture
def store(tmp_path: Path, rows: np.ndarray) -> Store:
    about = {"root": str(tmp_path / "photos")}
    with open_database(tmp_path / "db", schema=SCHEMA, create=True, about=about) as store:
        store.add([make_item(number) for number in range(COUNT)], rows)
        yield store


def keys_of(hits: list) -> list[str]:
    return [hit.item.key for hit in hits]


def test_stored_item_finds_the_others_as_by_hand(store: Store, rows: np.ndarray) -> None:
    items = [make_item(number) for number in range(COUNT)]
    asking = [items[4].key, items[11].key]
    queries = stored_queries(store, asking)
    assert [query.number for query in queries] == [0, 1]
    found = find_similar(store, queries, k=5)
    for key, hits in zip(asking, found, strict=True):
        own = [item.key for item in items].index(key)
        expected = [k for k, _ in by_hand(items, rows, rows[own], EQUAL, 6) if k != key][:5]
        assert keys_of(hits) == expected
    with pytest.raises(InputError, match="nowhere"):
        stored_queries(store, ["nowhere"])


def test_stored_items_share_a_pass(store: Store, monkeypatch) -> None:
    asked, search = [], store.search

    def counting(queries: np.ndarray, **settings) -> list:
        asked.append(len(queries))
        return search(queries, **settings)

    monkeypatch.setattr(store, "search", counting)
    keys = store.keys()
    found = find_similar(store, stored_queries(store, keys), k=4)
    assert asked == [COUNT]
    for key, vector, hits in zip(keys, store.vectors(keys), found, strict=True):
        others = Filter(exclude_keys=(key,))
        (expected,) = search(vector[None], weights=EQUAL, k=4, filter=others)
        assert keys_of(hits) == keys_of(expected) and len(hits) == 4


def test_filter_labels_are_spelled_as_in_the_store(store: Store) -> None:
    assert as_stored(store, Filter(attributes={"COLOR": ("RED",)})) == Filter(
        attributes={"color": ("red",)}
    )
    of_both = Filter(attributes={"Color": ("red",), "COLOR": ("Blue",)})
    assert as_stored(store, of_both).attributes == {"color": ("red", "blue")}
    odd = make_item(COUNT)
    odd.attributes = {"Color": "Red"}
    store.add([odd], unit_rows(COUNT + 1)[-1:])
    assert as_stored(store, Filter(attributes={"Color": ("red",)})).attributes == {
        "Color": ("Red",)
    }, "an item has one of the two names only"
    assert len(as_stored(store, Filter(attributes={"COLOR": ("red",)})).attributes) == 1


def test_filter_with_an_empty_folder_is_refused(store: Store) -> None:
    assert as_stored(store, Filter(folder="a")) == Filter(folder="a")
    assert as_stored(store, Filter()) == Filter()
    with pytest.raises(InputError, match="folder nowhere: holds no item"):
        as_stored(store, Filter(folder="nowhere"))


def test_error_lists_only_some_of_many_labels(store: Store, monkeypatch) -> None:
    for most, named in ((1, "dress"), (2, "dress, shorts"), (9, "dress, shorts, skirt")):
        monkeypatch.setattr("retrieval.search.MOST_NAMED", most)
        with pytest.raises(InputError, match=f"category cap: no item has it; there are {named}$"):
            as_stored(store, Filter(categories=("cap",)))
    with pytest.raises(InputError, match=r"attribute color pink: .*; there are blue, green, red$"):
        as_stored(store, Filter(attributes={"color": ("pink",)}))


def test_a_store_without_labels_is_told_so(tmp_path: Path) -> None:
    with open_database(tmp_path / "db", schema=SCHEMA, create=True) as store:
        store.add([Item("a#1", "a")], unit_rows(1))
        with pytest.raises(InputError, match=r"category cap: no item has it; there are none$"):
            as_stored(store, Filter(categories=("cap",)))
        with pytest.raises(InputError, match="its items are of no category, none is cap or hat;"):
            matching_categories(store, ["cap", "hat"])


def test_weights_and_filters_reach_the_store(store: Store, rows: np.ndarray) -> None:
    items = [make_item(number) for number in range(COUNT)]
    query = Query("q", rows[3], Path("/elsewhere/x.jpg"))
    red = [i for i in range(COUNT) if items[i].attributes["color"] == "red"]
    expected = by_hand([items[i] for i in red], rows[red], rows[3], {"item": 1, "color": 3}, 4)
    ((first, *_),) = [
        find_similar(store, [query], k=4, weights={"item": 1, "color": 3},
                     filter=Filter(attributes={"color": ("red",)}))
    ]  # fmt: skip
    assert keys_of(first) == [key for key, _ in expected]


def test_querys_own_photo_can_be_excluded(store: Store, tmp_path: Path) -> None:
    item = make_item(6)
    path = tmp_path / "photos" / item.photo
    query = Query(item.key, store.vectors([item.key])[0], path)
    assert keys_of(find_similar(store, [query], k=1)[0]) == [item.key], "for all its name"
    found = find_similar(store, [query], k=COUNT, exclude_same_photo=True)[0]
    assert item.photo not in {hit.item.photo for hit in found}
    assert len(found) == COUNT - 2
    stored = find_similar(
        store, stored_queries(store, [item.key]), k=COUNT, exclude_same_photo=True
    )
    assert item.photo not in {hit.item.photo for hit in stored[0]}
    assert photo_name(store, tmp_path / "other.jpg") is None
    # No text, so no store has it: Milvus would refuse a filter with it.
    assert photo_name(store, tmp_path / "photos" / os.fsdecode(b"caf\xe9.jpg")) is None


def test_a_linked_photo_has_the_name_that_a_build_gives_it(store: Store, tmp_path: Path) -> None:
    inside, outside = tmp_path / "photos" / "a.jpg", tmp_path / "elsewhere.jpg"
    inside.parent.mkdir()
    inside.touch()
    outside.symlink_to(inside)
    assert photo_name(store, outside) == "a.jpg"
    (tmp_path / "target.jpg").touch()
    link = tmp_path / "photos" / "link.jpg"
    link.symlink_to(tmp_path / "target.jpg")
    assert photo_name(store, link) == "link.jpg"
    assert photo_name(store, tmp_path / "photos" / ".." / "photos" / "link.jpg") == "link.jpg"
    (tmp_path / "photos" / "twin.jpg").symlink_to(inside)
    assert photo_name(store, tmp_path / "photos" / "twin.jpg") == "twin.jpg"
    del store.about["root"]
    assert photo_name(store, link) is None


def test_missing_photo_or_category_of_a_query_changes_no_filter(
    store: Store, tmp_path: Path, monkeypatch
):
    """A photo outside the store excludes nothing; a garment without category restricts nothing."""
    filters, search = [], store.search

    def recording(queries: np.ndarray, *, filter: Filter, **settings) -> list:
        filters.append(filter)
        return search(queries, filter=filter, **settings)

    monkeypatch.setattr(store, "search", recording)
    own = Filter(exclude_photos=("x.jpg",))
    inside, elsewhere = tmp_path / "photos" / "y.jpg", tmp_path / "z.jpg"
    queries = [
        Query("q", unit_rows(1)[0], path, category=category)
        for path, category in ((elsewhere, None), (inside, None), (elsewhere, "Skirt"))
    ]
    category_spellings = {"Skirt": ("skirt",)}
    find_similar(
        store,
        queries,
        k=2,
        filter=own,
        exclude_same_photo=True,
        category_spellings=category_spellings,
    )
    both = Filter(exclude_photos=("x.jpg", "y.jpg"))
    assert filters == [own, both, Filter(categories=("skirt",), exclude_photos=("x.jpg",))]


def test_results_are_in_the_order_of_the_queries(store: Store, rows: np.ndarray) -> None:
    queries = [Query("q", row, Path("x.jpg")) for row in rows[[5, 2, 9]]]
    mixed = [queries[0], *stored_queries(store, [make_item(1).key]), *queries[1:]]
    together = find_similar(store, mixed, k=3)
    alone = [find_similar(store, [query], k=3)[0] for query in mixed]
    assert [keys_of(hits) for hits in together] == [keys_of(hits) for hits in alone]
    assert find_similar(store, [], k=3) == []


def test_weights_are_parsed() -> None:
    assert parse_weights("color=1, item=0.5") == {"color": 1, "item": 0.5}
    assert equal_weights(SCHEMA) == {"item": 1, "color": 1}
    for text in ("color", "color=x", ""):
        with pytest.raises(InputError, match="ASPECT=NUMBER"):
            parse_weights(text)


def test_weights_of_a_flag_suit_the_store() -> None:
    assert weights_from_flag(None, SCHEMA) == {"item": 1, "color": 1}
    assert weights_from_flag("color=2", SCHEMA) == {"color": 2}
    for text, words in (("", "ASPECT=NUMBER"), ("size=1", "no aspect 'size'"), ("item=0", "are 0")):
        with pytest.raises(InputError, match=words):
            weights_from_flag(text, SCHEMA)


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a/../../x", "", "a\0b"])
def test_photo_names_cannot_leave_the_root(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        photo_path(tmp_path, name)
    item = make_item(0)
    item.photo = name
    assert item_picture(tmp_path, item, 10) is None


def write_photo(path: Path, size: tuple[int, int] = (120, 90)) -> np.ndarray:
    photo = np.zeros((size[1], size[0], 3), np.uint8)
    photo[20:50, 10:70] = (200, 30, 40)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    return photo


def test_picture_of_an_item_is_its_box(tmp_path: Path) -> None:
    item = make_item(0)
    write_photo(tmp_path / item.photo.replace(".jpg", ".png"))
    item.photo, item.box = item.photo.replace(".jpg", ".png"), (10, 20, 70, 50)
    picture = item_picture(tmp_path, item, 1000)
    assert picture.shape == (30, 60, 3) and (picture == (200, 30, 40)).all()
    assert item_picture(tmp_path, item, 30).shape == (15, 30, 3)
    item.box = None
    assert item_picture(tmp_path, item, 1000).shape == (90, 120, 3)
    for box in ((1e9, -5, float("nan"), 2), (30, 30, 30, 30)):
        item.box = box
        assert item_picture(tmp_path, item, 10) is not None
    (tmp_path / item.photo).unlink()
    assert item_picture(tmp_path, item, 10) is None
    assert item_picture(None, item, 10) is None


def test_photo_is_decoded_only_as_large_as_the_picture_needs(tmp_path: Path, monkeypatch) -> None:
    """Half the size of an 800 x 1600 JPEG suffices for a 200-pixel picture of a 400-pixel box."""
    decoded = []

    def read(path: Path, **settings) -> np.ndarray:
        decoded.append(read_photo(path, **settings))
        return decoded[-1]

    monkeypatch.setattr("retrieval.pictures.read_photo", read)
    item = make_item(0)
    (tmp_path / item.photo).parent.mkdir()
    cv2.imwrite(str(tmp_path / item.photo), np.full((1600, 800, 3), 90, np.uint8))
    for box in ((0, 1000, 400, 1400), (400, 0, 800, 400), (400, 1200, 800, 1600)):
        item.box = box
        assert item_picture(tmp_path, item, 200).shape == (200, 200, 3)
        assert decoded[-1].shape == (800, 400, 3)
    item.box = (0, 1000, 400, 1e6)  # what is outside of the photo makes the rest no less sharp
    assert item_picture(tmp_path, item, 200).shape == (200, 133, 3)


def test_whole_photo_query_equals_the_stored_whole_photo(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png")
    reader = QueryReader(GarmentEmbedder(None, "descriptors"), None)
    query = reader.whole(tmp_path / "a.png")
    assert (query.title, query.box, query.crop.shape) == ("a.png", None, (90, 120, 3))
    assert np.linalg.norm(query.vector) == pytest.approx(2, abs=1e-4)  # four unit vectors
    with pytest.raises(InputError, match="no such photo"):
        reader.whole(tmp_path / "b.png")


class BagAndTop(GarmentFinder):
    """Finds a bag in the lower part of every photo and a top in its corner."""

    def __init__(self) -> None:
        self.categories = ["top", "bag"]

    def find(self, photos, *, keep_photo=True):
        for key, path in photos:
            photo = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            boxes = np.float32([[20, 40, 140, 100], [0, 0, 40, 40]])  # decoded at half size
            scores = np.float32([0.9, 0.8])
            yield key, Detections(240, 180, boxes, scores, np.array([2, 1]), None), photo


def test_garments_of_a_photo_become_queries(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png")
    reader = QueryReader(GarmentEmbedder(None, "descriptors"), BagAndTop())
    first, second = reader.garments(tmp_path / "a.png")
    assert (first.category, first.number, second.category, second.number) == ("bag", 1, "top", 2)
    assert first.crop.shape == (30, 60, 3) and first.box == (20, 40, 140, 100)
    assert (first.crop == (200, 30, 40)).all()
    assert (first.title, second.title) == ("a.png#1", "a.png#2")
    assert first.photo == tmp_path / "a.png" and not np.array_equal(first.vector, second.vector)


def test_detections_that_the_model_takes_for_false_are_no_queries(tmp_path: Path) -> None:
    class Picky(GarmentEmbedder):
        def describe(self, photo, found, categories):
            return super().describe(photo, found.only([1]), categories)

    write_photo(tmp_path / "a.png")
    (only,) = QueryReader(Picky(None, "descriptors"), BagAndTop()).garments(tmp_path / "a.png")
    assert (only.category, only.number, only.box) == ("top", 1, (0, 0, 40, 40))
