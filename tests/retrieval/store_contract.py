"""Tests that every kind of store must pass.

A test module imports ``StoreContract``, subclasses it, and gives a fixture ``location``: where a
store can be made that isn't there yet.
"""

import numpy as np
import pytest

from engine.errors import InputError
from retrieval.features import FeatureSchema
from retrieval.store import Filter, Item, PhotoState, Store, item_key, open_database, open_shard

SCHEMA = FeatureSchema(1, (("item", 5), ("color", 3)), "test")
EQUAL = {"item": 1, "color": 1}
COLORS = ("red", "green", "blue")
CATEGORIES = ("dress", "skirt", "shorts", None)


def unit_rows(count: int, seed: int = 0) -> np.ndarray:
    """f32[count, 8]: each aspect's part of unit length."""
    rows = np.random.default_rng(seed).normal(size=(count, SCHEMA.dim))
    for name in SCHEMA.names:
        part = SCHEMA.slice(name)
        rows[:, part] /= np.linalg.norm(rows[:, part], axis=1, keepdims=True)
    return rows.astype(np.float32)


def make_item(number: int) -> Item:
    """An item: two per photo, with labels that repeat with different periods."""
    photo = f"{'ab'[number // 2 % 2]}/photo {number // 2:03d}.jpg"
    color = COLORS[number % 3]
    return Item(
        key=item_key(photo, number % 2),
        photo=photo,
        garment=number % 2,
        box=(1.5, 2, 30 + number, 40),
        category=CATEGORIES[number % 4],
        attributes={"color": color, 'it\'s "odd"': "yes"} if number % 5 else {"color": color},
        identity=f"id {number // 4}" if number % 3 else None,
        extra={"number": number, "deep": [1, {"ü": None}]},
    )


def by_hand(
    items: list[Item], rows: np.ndarray, query: np.ndarray, weights: dict[str, float], k: int
) -> list[tuple[str, float]]:
    """Keys and scores of the k best, one cosine at a time."""
    scored = []
    for item, row in zip(items, rows, strict=True):
        cosines = {name: float(query[s] @ row[s]) for name in SCHEMA.names for s in _slices(name)}
        score = sum(w * cosines[name] for name, w in weights.items()) / sum(weights.values())
        scored.append((item.key, score))
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]


def _slices(name: str) -> list[slice]:
    return [SCHEMA.slice(name)]


def state_of(photo: str, **changes) -> PhotoState:
    return PhotoState(**{"photo": photo, "size": 10, "mtime_ns": 2**60, "error": None} | changes)


class StoreContract:
    """Tests of an empty and of a filled store."""

    @pytest.fixture
    def store(self, location: str):
        with open_database(location, schema=SCHEMA, create=True) as store:
            yield store

    @pytest.fixture
    def items(self) -> list[Item]:
        return [make_item(number) for number in range(37)]

    @pytest.fixture
    def rows(self) -> np.ndarray:
        return unit_rows(37)

    @pytest.fixture
    def filled(self, store: Store, items: list[Item], rows: np.ndarray) -> Store:
        store.add(items, rows)
        return store

    def test_empty_store_finds_nothing(self, store: Store) -> None:
        assert store.count() == 0 and store.keys() == [] and store.photos() == {}
        assert store.get(["a"]) == [None]
        assert store.search(unit_rows(2), weights=EQUAL, k=3) == [[], []]
        assert store.delete(["a"]) == 0 and store.delete_photos(["a"]) == 0
        assert store.verify() == []
        store.add([], np.zeros((0, SCHEMA.dim), np.float32))
        assert store.count() == 0

    def test_items_are_read_back_unchanged(self, filled: Store, items, rows) -> None:
        assert filled.count() == 37
        assert filled.keys() == sorted(item.key for item in items)
        wanted = [items[3], items[0], items[36]]
        assert filled.get([*(item.key for item in wanted), "nobody"]) == [*wanted, None]
        found = filled.vectors([item.key for item in wanted])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, rows[[3, 0, 36]], atol=1e-6)
        with pytest.raises(InputError, match="nobody"):
            filled.vectors([items[0].key, "nobody"])

    def test_reopened_store_holds_the_same_items(self, location: str, items, rows) -> None:
        with open_database(location, schema=SCHEMA, create=True) as store:
            store.add(items, rows)
            store.put_photos([(state_of("empty.jpg", error="cut off"), [], np.zeros((0, 8)))])
        for again in ({}, {"schema": SCHEMA}, {"schema": SCHEMA, "create": True}):
            with open_database(location, **again) as store:
                assert store.schema == SCHEMA
                assert store.get([items[5].key]) == [items[5]] and store.count() == 37
                assert store.photos() == {"empty.jpg": state_of("empty.jpg", error="cut off")}

    def test_other_schemas_and_missing_stores_are_refused(self, location: str, store) -> None:
        store.close()
        other = FeatureSchema(1, SCHEMA.aspects, "another model")
        with pytest.raises(InputError, match="fingerprint"):
            open_database(location, schema=other)
        with pytest.raises(InputError):
            open_database(f"{location}_not_there")
        with pytest.raises(InputError):
            open_database(f"{location}_not_there", schema=SCHEMA)

    def test_read_only_refuses_to_write(self, location: str, filled: Store, items, rows) -> None:
        filled.close()
        with open_database(location, read_only=True) as reader:
            for write in (
                lambda: reader.add(items[:1], rows[:1]),
                lambda: reader.put_photos([(state_of("p"), [], rows[:0])]),
                lambda: reader.delete([items[0].key]),
                lambda: reader.delete_photos([items[0].photo]),
                reader.compact,
            ):
                with pytest.raises(InputError, match="reading only"):
                    write()
            assert reader.count() == 37

    def test_labels_are_counted(self, filled: Store, items, monkeypatch) -> None:
        monkeypatch.setattr("retrieval.store.READ_AT_ONCE", 7)
        filled.delete([items[0].key])
        left = items[1:]
        kinds = {item.category for item in left} - {None}
        filled.add([Item("nameless", "b", category="")], unit_rows(1))
        categories, attributes = filled.labels()
        assert categories == {kind: sum(i.category == kind for i in left) for kind in kinds}
        assert attributes["color"] == {
            color: sum(i.attributes["color"] == color for i in left) for color in COLORS
        }
        assert attributes['it\'s "odd"'] == {"yes": sum(len(i.attributes) == 2 for i in left)}

    def test_adding_a_key_again_replaces_it(self, filled: Store, items, rows) -> None:
        changed = make_item(7)
        changed.category, changed.attributes, changed.box = "coat", {"color": "gold"}, None
        filled.add([changed, make_item(100)], unit_rows(2, seed=9))
        assert filled.count() == 38
        assert filled.get([changed.key]) == [changed]
        np.testing.assert_allclose(filled.vectors([changed.key]), unit_rows(2, 9)[:1], atol=1e-6)
        assert filled.count(Filter(categories=("coat",))) == 1
        assert filled.count(Filter(attributes={"color": ("gold",)})) == 1
        greens = sum(item.attributes["color"] == "green" for item in items)
        # Number 7 was green; number 100 is.
        assert filled.count(Filter(attributes={"color": ("green",)})) == greens - 1 + 1

    def test_delete_removes_items_and_ignores_unknown_keys(self, filled: Store, items) -> None:
        assert filled.delete([items[4].key, items[9].key, "nobody"]) == 2
        assert filled.get([items[4].key]) == [None] and filled.count() == 35
        left = [item for item in items if item.photo == items[10].photo]
        assert filled.delete_photos([items[10].photo, "nothing"]) == len(left) == 2
        assert filled.count() == 33
        hits = filled.search(unit_rows(1), weights=EQUAL, k=99)[0]
        assert sorted(hit.item.key for hit in hits) == filled.keys()

    def test_putting_a_photo_replaces_all_of_its_items(self, store: Store) -> None:
        first = [make_item(0), make_item(1)]
        store.put_photos([(state_of(first[0].photo), first, unit_rows(2))])
        store.put_photos([(state_of("other.jpg"), [], np.zeros((0, SCHEMA.dim), np.float32))])
        assert store.keys() == [item.key for item in first]
        newer = state_of(first[0].photo, size=11)
        store.put_photos([(newer, first[1:], unit_rows(1, seed=3))])
        assert store.keys() == [first[1].key]
        assert store.photos() == {newer.photo: newer, "other.jpg": state_of("other.jpg")}
        np.testing.assert_allclose(store.vectors(store.keys()), unit_rows(1, 3), atol=1e-6)
        assert store.delete_photos([newer.photo, "other.jpg"]) == 1
        assert store.photos() == {} and store.count() == 0

    def test_last_of_two_entries_of_a_photo_wins(self, store: Store) -> None:
        items = [make_item(0), make_item(1)]
        photo = items[0].photo
        old = (state_of(photo, size=1), items, unit_rows(2))
        new = (state_of(photo, size=2), items[:1], unit_rows(1, seed=5))
        store.put_photos([old, (state_of("x", error="no photo"), [], unit_rows(0)), new])
        assert store.keys() == [items[0].key]
        assert store.photos()[photo].size == 2 and store.photos()["x"].error == "no photo"

    def test_batches_with_bad_rows_are_refused_entirely(self, filled: Store, items, rows) -> None:
        not_finite = rows[:2].copy()
        not_finite[1, 3] = np.nan
        nameless = make_item(50)
        nameless.key = ""
        half = "\ud83d"  # a lone surrogate, which JSON can hold only as an escape
        for labels in (
            {"category": half},
            {"identity": half},
            {"attributes": {"color": half}},
            {"attributes": {half: "yes"}},
            {"extra": {"source": half}},
            {"extra": {"source": {1}}},
        ):
            with pytest.raises(InputError, match=r"another.jpg#1: .*Unicode"):
                filled.add([Item("another.jpg#1", "another.jpg", 1, **labels)], rows[:1])
        for bad_items, bad_rows in (
            ([make_item(50), make_item(51)], not_finite),
            ([make_item(50), make_item(50)], rows[:2]),
            ([make_item(50)], rows[:1, :7]),
            ([make_item(50), make_item(51)], rows[:1]),
            ([nameless], rows[:1]),
        ):
            with pytest.raises(InputError):
                filled.add(bad_items, bad_rows)
        with pytest.raises(InputError):
            filled.put_photos([(state_of("another.jpg"), [make_item(50)], rows[:1])])
        assert filled.count() == 37 and filled.photos() == {}

    @pytest.mark.parametrize(
        "weights",
        [EQUAL, {"color": 2}, {"item": 0.25, "color": 1}, {"item": 3, "color": 0}],
        ids=str,
    )
    def test_search_ranks_by_the_weighted_mean(self, filled: Store, items, rows, weights) -> None:
        queries = unit_rows(3, seed=1)
        found = filled.search(queries, weights=weights, k=11)
        assert len(found) == 3
        for query, hits in zip(queries, found, strict=True):
            wanted = by_hand(items, rows, query, weights, 11)
            assert [hit.item.key for hit in hits] == [key for key, _ in wanted]
            np.testing.assert_allclose(
                [hit.score for hit in hits], [score for _, score in wanted], atol=2e-6
            )
            best = hits[0]
            assert best.item == next(item for item in items if item.key == best.item.key)
            row = rows[[item.key for item in items].index(best.item.key)]
            for name in SCHEMA.names:
                part = SCHEMA.slice(name)
                assert best.aspects[name] == pytest.approx(float(query[part] @ row[part]), abs=2e-6)

    def test_large_k_returns_all_items(self, filled: Store) -> None:
        (hits,) = filled.search(unit_rows(1, seed=1), weights=EQUAL, k=500)
        assert len(hits) == 37
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    def test_equal_vectors_are_ranked_by_key(self, store: Store) -> None:
        row = unit_rows(1, seed=2)
        numbers = np.random.default_rng(0).permutation(29)
        twins = [Item(key=f"k{number:02d}", photo=f"p{number}") for number in numbers]
        store.add(twins[:10], np.repeat(row, 10, axis=0))
        store.add([Item("a far one", "p"), *twins[10:]], np.concatenate([-row, *[row] * 19]))
        for k in (1, 7, 28, 29):
            (hits,) = store.search(row, weights=EQUAL, k=k)
            assert [hit.item.key for hit in hits] == [f"k{number:02d}" for number in range(k)]
        assert store.search(row, weights=EQUAL, k=30)[0][-1].item.key == "a far one"

    @pytest.mark.parametrize(
        "filter, passes",
        [
            (Filter(), lambda item: True),
            (Filter(categories=("dress",)), lambda item: item.category == "dress"),
            (
                Filter(categories=("dress", "shorts")),
                lambda item: item.category in ("dress", "shorts"),
            ),
            (Filter(categories=("hat",)), lambda item: False),
            (
                Filter(attributes={"color": ("red", "blue")}),
                lambda item: item.attributes["color"] != "green",
            ),
            (
                Filter(attributes={"color": ("red",), 'it\'s "odd"': ("yes",)}),
                lambda item: item.attributes["color"] == "red" and len(item.attributes) == 2,
            ),
            (Filter(attributes={"size": ("L",)}), lambda item: False),
            (Filter(folder="a"), lambda item: item.photo.startswith("a/")),
            (Filter(folder="b/"), lambda item: item.photo.startswith("b/")),
            (Filter(folder="a/photo"), lambda item: False),
            (
                Filter(exclude_photos=("a/photo 000.jpg", "b/photo 003.jpg")),
                lambda item: item.photo not in ("a/photo 000.jpg", "b/photo 003.jpg"),
            ),
            (
                Filter(exclude_keys=("a/photo 000.jpg#0",)),
                lambda item: item.key != "a/photo 000.jpg#0",
            ),
            (
                Filter(categories=("skirt",), folder="b", exclude_keys=("nobody",)),
                lambda item: item.category == "skirt" and item.photo.startswith("b/"),
            ),
        ],
        ids=lambda value: str(value) if isinstance(value, Filter) else "",
    )
    def test_filters_apply_before_ranking(self, filled: Store, items, rows, filter, passes) -> None:
        kept = [i for i, item in enumerate(items) if passes(item)]
        keys = sorted(items[i].key for i in kept)
        assert filled.keys(filter) == keys and filled.count(filter) == len(keys)
        queries = unit_rows(2, seed=4)
        found = filled.search(queries, weights=EQUAL, k=4, filter=filter)
        for query, hits in zip(queries, found, strict=True):
            wanted = by_hand([items[i] for i in kept], rows[kept], query, EQUAL, 4)
            assert [hit.item.key for hit in hits] == [key for key, _ in wanted]

    def test_labels_with_quotes_percents_and_other_alphabets(self, store: Store) -> None:
        texts = ["it's", 'say "x"', "50% off", "a_b", "back\\slash", "衬衫", "a]b[", "tab\there"]
        names = [f"{text}/p.jpg" for text in texts]
        items = [
            Item(name, name, category=text, attributes={text: text})
            for name, text in zip(names, texts, strict=True)
        ]
        store.add(items, unit_rows(len(items)))
        for item, text in zip(items, texts, strict=True):
            assert store.get([item.key]) == [item]
            for filter in (
                Filter(categories=(text,)),
                Filter(attributes={text: (text,)}),
                Filter(folder=text),
            ):
                assert store.keys(filter) == [item.key]
            others = store.keys(Filter(exclude_photos=(item.photo,)))
            assert sorted([*others, item.key]) == store.keys()
        assert store.delete(names[:3]) == 3 and store.count() == 5

    def test_a_folder_is_not_a_prefix(self, store: Store) -> None:
        names = ["a", "a-/x", "a/x", "a/y/z", "a0", "a0/x", "ab/x"]
        store.add([Item(name, name) for name in names], unit_rows(len(names)))
        assert store.keys(Filter(folder="a")) == ["a/x", "a/y/z"]

    def test_bad_queries_are_refused(self, filled: Store, rows) -> None:
        for queries, weights, k in (
            (rows[:1], {"taste": 1}, 5),
            (rows[:1], {"color": 0}, 5),
            (rows[:1], {"color": -1}, 5),
            (rows[:1], EQUAL, 0),
            (rows[:1, :5], EQUAL, 5),
            (rows[0], EQUAL, 5),
            (rows[:1] * np.nan, EQUAL, 5),
        ):
            with pytest.raises(InputError):
                filled.search(queries, weights=weights, k=k)

    def test_no_queries_give_no_results(self, filled: Store, rows) -> None:
        assert filled.search(rows[:0], weights=EQUAL, k=5) == []

    def test_compacting_preserves_contents(self, filled: Store, items, rows) -> None:
        filled.delete([item.key for item in items[::3]])
        filled.add([items[1]], rows[2:3])
        query = unit_rows(1, seed=8)
        keys, before = filled.keys(), filled.search(query, weights=EQUAL, k=9)
        vectors = filled.vectors(keys)
        filled.compact()
        assert filled.keys() == keys and filled.search(query, weights=EQUAL, k=9) == before
        np.testing.assert_array_equal(filled.vectors(keys), vectors)
        assert filled.verify() == []
        filled.add(items[:1], rows[:1])
        filled.compact()  # a second time in one session
        assert filled.count() == len(keys) + 1 and filled.verify() == []
        greens = Filter(attributes={"color": ("green",)})
        assert filled.keys(greens) == [
            item.key for item in filled.get(filled.keys()) if item.attributes["color"] == "green"
        ]

    def test_photos_put_by_other_processes_are_found(self, location: str, store: Store) -> None:
        for rank in (0, 1):
            with open_shard(location, schema=SCHEMA, rank=rank) as sink:
                for number in (4 * rank, 4 * rank + 2):
                    pair = [make_item(number), make_item(number + 1)]
                    sink.put_photos([(state_of(pair[0].photo), pair, unit_rows(2, seed=number))])
                sink.put_photos([(state_of(f"bad {rank}", error="no photo"), [], unit_rows(0))])
        store.absorb_shards()
        assert store.count() == 8 and len(store.photos()) == 6
        assert store.get([make_item(5).key]) == [make_item(5)]
        np.testing.assert_allclose(
            store.vectors([make_item(6).key]), unit_rows(2, seed=6)[:1], atol=1e-6
        )
        assert store.absorb_shards() == 0
        assert store.count() == 8 and store.verify() == []

    def test_about_from_creation_is_kept(self, location: str) -> None:
        about = {"root": "/ü", "made_by": {"k": [1, None]}}
        with open_database(location, schema=SCHEMA, create=True, about=about) as store:
            assert store.about == about
        with open_database(location, schema=SCHEMA, create=True, about={"root": "x"}) as store:
            assert store.about == about
