"""The local database killed, damaged, out of space and write-protected."""

import os
import random
import resource
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from retrieval import database
from retrieval.store import open_database
from tests.retrieval.builds import (
    PHOTOS,
    assert_whole,
    build,
    count_items,
    filled,
    kill_after,
    processes,
    segment,
    try_to_write,
)
from tests.retrieval.store_contract import (
    EQUAL,
    SCHEMA,
    make_item,
    unit_rows,
)

pytestmark = pytest.mark.usefixtures("small_files")


def test_killed_build_continues_where_it_stopped(location: str) -> None:
    rng, counts = random.Random(0), [0]
    open_database(location, schema=SCHEMA, create=True).close()
    for _ in range(4):
        kill_after(rng.uniform(0, 0.03), build, (location,))
        with open_database(location, read_only=True) as store:
            counts.append(assert_whole(store))
    assert counts == sorted(counts) and 0 < counts[-1] < PHOTOS
    build(location)
    with open_database(location) as store:
        assert assert_whole(store) == PHOTOS


def test_uncommitted_rows_are_not_found(location: str) -> None:
    """The files of a killed or working writer hold more rows than are committed."""
    with filled(location) as store:
        file = segment(location, 1)
        file.write_bytes(file.read_bytes() + (9 * unit_rows(3)).tobytes())
        with open_database(location, read_only=True) as reader:
            (hits,) = reader.search(unit_rows(1), weights=EQUAL, k=50)
            assert len(hits) == reader.count() == 37 and reader.verify() == []
        store.add([make_item(37)], unit_rows(1, seed=7))
        assert store.verify() == [] and store.count() == 38


@pytest.mark.parametrize("stop_at", ["renumber", "remove_other_generations", "vacuum"])
def test_interrupted_compaction_loses_nothing(location: str, monkeypatch, stop_at) -> None:
    def stop(*_):
        raise KeyboardInterrupt

    with filled(location) as store:
        store.delete([make_item(n).key for n in range(0, 37, 2)])
        keys = store.keys()
        vectors = store.vectors(keys)
        where = database if hasattr(database, stop_at) else database.ItemTable
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(where, stop_at, stop)
            store.compact()
    with open_database(location) as store:
        assert store.keys() == keys and store.verify() == []
        np.testing.assert_array_equal(store.vectors(keys), vectors)
        generations = {path.name[:4] for path in Path(location, "segments").iterdir()}
        assert len(generations) == 1
        store.compact()
        assert store.keys() == keys and store.verify() == []
        rows = sum(path.stat().st_size for path in Path(location, "segments").iterdir()) // 32
        assert rows == len(keys)


# Damage.


def flip(path: Path, offset: int, value: bytes = b"\xff\xff\xff\xff") -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.7e19, 90], ids=str)
def test_damaged_block_is_reported_and_the_rest_stays_readable(
    location: str, value: float, caplog
) -> None:
    filled(location).close()
    flip(segment(location, 1), 32 * 2, np.float32(value).tobytes())  # row 26
    lost = [make_item(n).key for n in range(24, 32)]
    with open_database(location) as store:
        (problem,) = store.verify()
        assert segment(location, 1).name in problem and lost[0] in problem
        with pytest.raises(InputError, match=segment(location, 1).name):
            store.vectors(lost[:1])
        assert len(store.vectors([make_item(n).key for n in range(24)])) == 24
        # Whatever it is, it never reaches the answers.
        for sign in (1, -1):
            hits = store.search(sign * unit_rows(2), weights=EQUAL, k=29)
            assert all(np.isfinite(hit.score) and abs(hit.score) < 1.1 for hit in hits[0])
        with pytest.raises(InputError, match="damaged"):
            store.compact()
        assert store.verify(repair=True) == [problem]
        assert store.verify() == [] and store.count() == 29
        assert not set(lost) & set(store.keys())
        store.compact()
        assert store.count() == 29 and store.verify() == []


def test_sound_database_warns_of_nothing(location: str, caplog) -> None:
    with filled(location) as store:
        store.delete([make_item(3).key])
        store.search(9 * unit_rows(1), weights=EQUAL, k=5)
    assert caplog.text == ""


def test_repaired_photos_are_read_again_by_the_next_build(location: str) -> None:
    build(location)
    flip(segment(location, 0), 5)
    with open_database(location) as store:
        store.verify(repair=True)
        assert len(store.photos()) < PHOTOS
    build(location)
    with open_database(location) as store:
        assert assert_whole(store) == PHOTOS


def test_compacts_only_when_most_rows_are_dead(location: str, monkeypatch) -> None:
    monkeypatch.setattr(database, "MIN_ROWS_TO_COMPACT", 10)
    with open_database(location, schema=SCHEMA, create=True) as store:
        store.add([make_item(n) for n in range(17)], unit_rows(17))
        sizes = []
        for _ in range(2):
            store.add([make_item(n) for n in range(17)], unit_rows(17))
            store.compact_if_worthwhile()
            sizes.append(store._table.state().rows)
        assert sizes == [34, 17]
        assert store.count() == 17 and store.verify() == []


@pytest.mark.parametrize("cut", [0, 33, None], ids=["empty", "cut", "missing"])
def test_cut_or_missing_segment_is_reported(location: str, cut: int | None, caplog) -> None:
    filled(location).close()
    if cut is None:
        segment(location, 0).unlink()
    else:
        os.truncate(segment(location, 0), cut)
    kept = 1 if cut == 33 else 0
    with open_database(location, read_only=True) as store:
        hits = store.search(unit_rows(1), weights=EQUAL, k=99)[0]
        assert len(hits) == 13 + kept == store.count() == len(store.keys())
        assert "missing" in caplog.text
        assert len(store.verify()) == 3
        assert store.get([make_item(3).key]) == [make_item(3)]
        with pytest.raises(InputError, match="damaged"):
            store.vectors([make_item(3).key])
        assert store.vectors([make_item(30).key]).shape == (1, 8)


def test_writing_continues_after_a_damaged_last_block(location: str) -> None:
    filled(location).close()
    flip(segment(location, 1), 32 * 10)  # row 34, in the last block
    with open_database(location) as store:
        assert len(store.verify()) == 1
        store.add([make_item(n) for n in range(50, 60)], unit_rows(10))
        assert len(store.verify(repair=True)) == 1
        assert store.verify() == [] and store.count() == 37 - 5 + 10


# Nowhere to write.


def test_full_disk_gives_one_clear_error(location: str) -> None:
    filled(location).close()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_database(location) as store:
        size = (Path(location) / "items.sqlite").stat().st_size
        for allowed in (0, 30 * 32, size + 4096):
            resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, limit[1]))
            try:
                with pytest.raises(InputError, match=location):
                    for start in range(100, 2000, 50):
                        items = [make_item(number) for number in range(start, start + 50)]
                        store.add(items, unit_rows(50))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            assert store.verify() == []
            assert store.count() % 50 == 37
        store.add([make_item(99)], unit_rows(1))
        assert store.get([make_item(99).key]) == [make_item(99)] and store.verify() == []


def test_read_only_folder_can_be_searched(location: str) -> None:
    filled(location).close()
    folder = Path(location)
    for path in (folder, folder / "segments", folder / "items.sqlite", folder / "lock"):
        path.chmod(path.stat().st_mode & ~0o222)
    with processes.Pool(1) as other:
        other.apply(give_up_privileges)
        assert other.apply(count_items, (location,)) == 37
        assert "make it writable" in other.apply(try_to_write, (location,))
        assert "cannot make" in other.apply(try_to_create, (location + "/new",))
    for path in (folder, folder / "segments"):
        path.chmod(0o755)


def give_up_privileges() -> None:
    """Drop root's privilege to write everywhere, but keep the ownership of its files."""
    if os.geteuid() != 0:
        return
    import ctypes

    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError("cannot drop capabilities")


def try_to_create(location: str) -> str:
    try:
        open_database(location, schema=SCHEMA, create=True).close()
    except InputError as error:
        return str(error)
    return "made"


def test_copied_folder_is_the_same_database(location: str, tmp_path: Path) -> None:
    with filled(location) as store:
        hits = store.search(unit_rows(1), weights=EQUAL, k=5)
    shutil.copytree(location, tmp_path / "copy")
    with open_database(tmp_path / "copy", read_only=True) as copy:
        assert copy.search(unit_rows(1), weights=EQUAL, k=5) == hits


def test_table_without_some_items_is_an_error_not_an_endless_search(location: str) -> None:
    with open_database(location, schema=SCHEMA, create=True) as store:
        store.add([make_item(i) for i in range(5)], unit_rows(5))
    with sqlite3.connect(Path(location) / "items.sqlite") as connection:
        connection.execute("DELETE FROM items WHERE row = 2")
    with open_database(location, read_only=True) as store:
        with pytest.raises(InputError, match=r"items\.sqlite: lists no item"):
            store.search(unit_rows(1), weights=EQUAL, k=5)
        assert "4 rows are listed, 5 were written" in store.verify()[0]
