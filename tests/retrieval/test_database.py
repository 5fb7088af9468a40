"""The local database: every store's contract, opening, processes side by side, search."""

import functools
import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from retrieval import database
from retrieval.segments import Layout
from retrieval.store import Filter, Item, open_database
from retrieval.view import View
from tests.retrieval.builds import (
    count_items,
    filled,
    processes,
    try_to_write,
)
from tests.retrieval.store_contract import (
    EQUAL,
    SCHEMA,
    StoreContract,
    make_item,
    unit_rows,
)

pytestmark = pytest.mark.usefixtures("small_files")


class TestContract(StoreContract):
    pass


def test_labels_are_listed_in_order_of_insertion(location: str) -> None:
    """In the order of a set, pages would show filters in another order every time."""
    names = [f"label {n}" for n in (7, 3, 9, 1, 8, 2, 6)]
    items = [Item(f"{i}#1", f"{i}", 1, attributes=dict.fromkeys(names, f"{i}")) for i in range(3)]
    with open_database(location, schema=SCHEMA, create=True) as store:
        store.add(items, unit_rows(3))
        found = store.labels()[1]
    assert list(found) == names
    assert all(list(values) == ["0", "1", "2"] for values in found.values())


def test_version_changes_exactly_when_items_change(location: str) -> None:
    with open_database(location, schema=SCHEMA, create=True) as writer:
        writer.add([make_item(0)], unit_rows(1))
        with open_database(location, read_only=True) as reader:
            first = reader.version()
            reader.count(), reader.labels()
            assert reader.version() == first
            writer.add([make_item(0)], unit_rows(1))
            assert reader.version() != first and reader.count() == 1


# Opening.


def test_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"holiday\.jpg"):
        open_database(tmp_path, schema=SCHEMA, create=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday.jpg"]
    with pytest.raises(InputError, match="no database"):
        open_database(tmp_path / "holiday.jpg", schema=SCHEMA)


def test_killed_creation_is_repeated(location: str) -> None:
    open_database(location, schema=SCHEMA, create=True).close()
    description = Path(location) / "database.json"
    description.rename(Path(location) / ".database.json.123.tmp")
    with pytest.raises(InputError, match="no database"):
        open_database(location, schema=SCHEMA)
    with filled(location) as store:
        assert store.count() == 37


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "weft-database", "version": 99}',
        '{"format": "weft-database"}',
        '{"format": "weft-database", "version": 0}',
        '{"format": "weft-database", "version": 1}',
    ],
)
def test_a_damaged_description_is_refused(location: str, text: str) -> None:
    filled(location).close()
    (Path(location) / "database.json").write_text(text)
    with pytest.raises(InputError, match=r"database\.json"):
        open_database(location)


@pytest.mark.parametrize(
    "change",
    [{"row": 1}, {"dim": 9}, {"dtype": "float16"}, {"block_rows": 0}, {"block_rows": "8"},
     {"block_rows": 48}, {"segment_rows": 20}],
    ids=str,
)  # fmt: skip
def test_a_damaged_layout_is_refused(location: str, change: dict) -> None:
    filled(location).close()
    path = Path(location) / "database.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps(description | {"layout": description["layout"] | change}))
    with pytest.raises(InputError, match=r"database\.json: damaged layout"):
        open_database(location)


def test_damaged_metadata_is_refused(location: str) -> None:
    filled(location).close()
    path = Path(location) / "database.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"about": []}))
    with pytest.raises(InputError, match=r"database\.json: damaged metadata"):
        open_database(location)


def test_a_damaged_item_table_is_refused(location: str) -> None:
    filled(location).close()
    (Path(location) / "items.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(InputError, match=r"items\.sqlite.*damaged"):
        open_database(location)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("SQLITE_FULL", "free space"), ("SQLITE_BUSY", "try again"), ("SQLITE_BUSY_RECOVERY", "try"),
     ("SQLITE_CORRUPT", "build the database again"), ("SQLITE_IOERR_READ", "readable")],
)  # fmt: skip
def test_errors_of_sqlite_come_with_advice(location: str, name: str, hint: str) -> None:
    error = sqlite3.OperationalError("it fails")
    error.sqlite_errorname = name
    with (
        filled(location) as store,
        pytest.raises(InputError, match=f"it fails; .*{hint}"),
        store._table.reading(),
    ):
        raise error


# Several processes.


def test_a_second_writer_is_refused_and_readers_are_not(location: str) -> None:
    with filled(location) as store:
        with pytest.raises(InputError, match="this process"):
            open_database(location)
        with processes.Pool(1) as other:
            assert f"process {os.getpid()} on" in other.apply(try_to_write, (location,))
            assert other.apply(count_items, (location,)) == 37
        store.add([make_item(90)], unit_rows(1))
    with open_database(location) as store:
        assert store.count() == 38


def test_an_open_reader_sees_every_commit(location: str) -> None:
    with filled(location) as writer, open_database(location, read_only=True) as reader:
        row = unit_rows(1, seed=7)
        reader.search(row, weights=EQUAL, k=1)
        writer.add([make_item(80)], row)
        assert reader.search(row, weights=EQUAL, k=1)[0][0].item.key == make_item(80).key
        writer.delete([make_item(80).key])
        assert reader.search(row, weights=EQUAL, k=1)[0][0].item.key != make_item(80).key
        writer.compact()
        assert reader.keys() == writer.keys() and reader.verify() == []
        before = writer.search(row, weights=EQUAL, k=9)
        assert reader.search(row, weights=EQUAL, k=9) == before


@pytest.mark.parametrize("again", [False, True])
def test_open_databases_report_that_they_were_removed(location: str, again: bool) -> None:
    filled(location, 10).close()
    reader, writer = open_database(location, read_only=True), open_database(location)
    writer.add([make_item(10)], unit_rows(1))  # so that it need not read before it writes
    shutil.rmtree(location)
    if again:
        filled(location + "2").close()
        shutil.copytree(location + "2", location)
    for use in (reader.count, lambda: writer.add([make_item(1)], unit_rows(1))):
        with pytest.raises(InputError, match="removed or replaced meanwhile; start again"):
            use()
    reader.close()
    writer.close()
    if again:
        with open_database(location, read_only=True) as other:
            assert other.verify() == [], "its rows were overwritten"


def test_search_survives_concurrent_writes(location: str, monkeypatch) -> None:
    with filled(location) as writer, open_database(location, read_only=True) as reader:
        row = unit_rows(1, seed=7)
        first = writer.search(row, weights=EQUAL, k=2)[0]
        changes = [lambda: writer.delete([first[0].item.key]), writer.compact]

        def while_scanning(*args, scan=database.DatabaseReader._cosines):
            if changes:
                changes.pop(0)()
            return scan(*args)

        monkeypatch.setattr(database.DatabaseReader, "_cosines", while_scanning)
        assert reader.search(row, weights=EQUAL, k=1)[0][0] == first[1]
        assert not changes


def test_verifying_survives_a_compaction(location: str, monkeypatch) -> None:
    with filled(location) as writer, open_database(location, read_only=True) as reader:
        writer.delete([make_item(0).key])
        compactions = [writer.compact]

        def while_verifying(*args, is_sound=View.is_sound):
            if compactions:
                compactions.pop()()
            return is_sound(*args)

        monkeypatch.setattr(View, "is_sound", while_verifying)
        assert reader.verify() == []
        assert not compactions and reader.version().generation == 2


# Searching.


def test_thousands_of_equal_scores_are_ranked_by_key(location: str, monkeypatch) -> None:
    """An aspect that is 0 everywhere: all tie at 0, for one query and for several."""
    monkeypatch.setattr("retrieval.scan.SPARE", 4)
    monkeypatch.setattr("retrieval.reader.MANY_TIES", 20)
    monkeypatch.setattr("retrieval.reader.MOST_CANDIDATES", 50)
    rows = unit_rows(101)
    rows[:, SCHEMA.slice("color")] = 0
    rows[50, SCHEMA.slice("color")] = unit_rows(1)[0, SCHEMA.slice("color")]
    names = [f"k{number:03d}" for number in np.random.default_rng(0).permutation(101)]
    with open_database(location, schema=SCHEMA, create=True) as store:
        store.add([Item(name, name) for name in names], rows)
        for query in (unit_rows(1), unit_rows(3)):
            for hits in store.search(query[:1].repeat(len(query), 0), weights={"color": 1}, k=6):
                others = sorted(set(names) - {names[50]})[:5]
                assert [hit.item.key for hit in hits] == [names[50], *others]


def test_rows_added_during_a_scan_do_not_break_ties(location: str, monkeypatch) -> None:
    """A row that is added during a scan comes first by key, but was not scanned."""
    monkeypatch.setattr("retrieval.reader.MANY_TIES", 20)
    rows = unit_rows(31)
    rows[:, SCHEMA.slice("color")] = 0
    with open_database(location, schema=SCHEMA, create=True) as writer:
        writer.add([Item(f"k{number:03d}", "photo") for number in range(30)], rows[:30])

        def while_scanning(*args, scan=database.DatabaseReader._cosines):
            writer.add([Item("a", "photo")], rows[30:])
            return scan(*args)

        with open_database(location, read_only=True) as reader:
            monkeypatch.setattr(database.DatabaseReader, "_cosines", while_scanning)
            (hits,) = reader.search(unit_rows(1), weights={"color": 1}, k=3)
    assert [hit.item.key for hit in hits] == ["k000", "k001", "k002"]


def test_ranking_in_portions_equals_ranking_at_once(location: str, monkeypatch) -> None:
    queries = unit_rows(5, seed=1)
    with filled(location) as store:
        whole = store.search(queries, weights=EQUAL, k=20)
        monkeypatch.setattr("retrieval.reader.SCORED_ROWS", 7)
        monkeypatch.setattr("retrieval.reader.MOST_CANDIDATES", 40)
        assert store.search(queries, weights=EQUAL, k=20) == whole


def test_a_filter_given_as_text_is_refused(location: str) -> None:
    with filled(location) as store:
        for filter in (Filter(categories="dress"), Filter(attributes={"color": "red"})):
            with pytest.raises(InputError, match="tuple"):
                store.count(filter)


def test_cached_filter_masks_are_bounded_and_right(location: str, monkeypatch) -> None:
    monkeypatch.setattr("retrieval.filters.MOST_MASKS", 2)
    with filled(location) as store:
        for _ in range(2):
            for kind, count in (("dress", 10), ("skirt", 9), ("shorts", 9)):
                assert store.count(Filter(categories=(kind,))) == count
                assert store.count(Filter(categories=(kind,), folder=".")) == count
        with store._reading() as view:
            assert list(view.masks) == [("category", "skirt"), ("category", "shorts")]


def test_threads_share_a_database(location: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with filled(location) as store, ThreadPoolExecutor(4) as threads:
        alone = [store.search(unit_rows(1, seed), weights=EQUAL, k=5) for seed in range(12)]
        together = threads.map(
            lambda seed: store.search(unit_rows(1, seed), weights=EQUAL, k=5), range(12)
        )
        assert list(together) == alone


@pytest.mark.parametrize("block", [3, 20])
def test_compaction_keeps_all_rows_for_any_block_size(
    location: str, monkeypatch, block: int
) -> None:
    """A compaction reads 16 rows at a time, which need not be whole blocks of the layout."""
    layout = functools.partial(Layout, segment_rows=3 * block, block_rows=block)
    monkeypatch.setattr(database, "Layout", layout)
    with filled(location) as store:
        gone = make_item(4).key
        store.delete([gone])
        store.compact()
        kept = [make_item(number).key for number in range(37) if number != 4]
        assert store.verify() == []
        assert np.array_equal(store.vectors(kept), np.delete(unit_rows(37), 4, axis=0))


def test_adding_after_a_compaction_starts_blocks_anew(location: str) -> None:
    """Of 37 rows, 16 are left, which fill two blocks; a third had a checksum before."""
    with filled(location) as store:
        store.delete([make_item(number).key for number in range(16, 37)])
        store.compact()
        store.add([make_item(50)], unit_rows(1))
        assert store.verify() == [] and store.count() == 17


def test_names_that_are_not_unicode_are_handled(location: str) -> None:
    """Surrogates, by which Python represents file names that are not UTF-8."""
    name = "caf\udce9.jpg"
    with filled(location) as store:
        assert store.get([name]) == [None] and store.delete([name]) == 0
        assert store.count(Filter(exclude_photos=(name,), exclude_keys=(name,))) == 37
        assert store.count(Filter(categories=(name,))) == 0
        for act in (
            lambda: store.add([Item(name, name)], unit_rows(1)),
            lambda: store.count(Filter(folder=name)),
            lambda: store.count(Filter(attributes={name: ("a",)})),
        ):
            with pytest.raises(InputError, match="Unicode"):
                act()
