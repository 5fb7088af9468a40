"""The local database: every store's contract, then files, processes, kills and damage."""

import functools
import multiprocessing
import os
import random
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from retrieval import database
from retrieval.segments import Layout
from retrieval.store import Filter, Item, PhotoState, item_key, open_database, open_shard
from tests.retrieval.store_contract import (
    EQUAL,
    SCHEMA,
    StoreContract,
    by_hand,
    make_item,
    unit_rows,
)

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["torch", "retrieval.database"])
small_layout = functools.partial(Layout, segment_rows=24, block_rows=8)


@pytest.fixture
def location(tmp_path: Path) -> str:
    return str(tmp_path / "database")


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few dozen rows fill several segments."""
    monkeypatch.setattr(database, "Layout", small_layout)
    monkeypatch.setattr(database, "COPY_ROWS", 16)


class TestContract(StoreContract):
    pass


class TestContractInHalfPrecision(StoreContract):
    """Rankings of random vectors stand, numbers are less exact; what compares them stays out."""

    test_items_come_back_as_given = None
    test_adding_a_key_again_replaces_it = None
    test_a_photo_is_replaced_as_a_whole = None
    test_search_ranks_by_the_weighted_mean = None
    test_what_processes_put_beside_it_arrives = None

    @pytest.fixture
    def store(self, location: str):
        with open_database(location, schema=SCHEMA, create=True, half=True) as store:
            yield store

    def test_scores_differ_little(self, filled, items, rows) -> None:
        query = unit_rows(1, seed=1)
        (hits,) = filled.search(query, weights=EQUAL, k=37)
        exact = dict(by_hand(items, rows, query[0], EQUAL, 37))
        assert max(abs(hit.score - exact[hit.item.key]) for hit in hits) < 5e-4

    def test_too_large_a_number_is_refused(self, store) -> None:
        with pytest.raises(InputError, match="half precision"):
            store.add([make_item(0)], unit_rows(1) * 1e6)
        assert store.count() == 0


def filled(location: str, count: int = 37):
    """An open database of ``count`` items, a commit each five."""
    store = open_database(location, schema=SCHEMA, create=True)
    for start in range(0, count, 5):
        numbers = range(start, min(start + 5, count))
        store.add([make_item(n) for n in numbers], unit_rows(count)[numbers.start : numbers.stop])
    return store


def segment(location: str, number: int, generation: int = 1) -> Path:
    return Path(location) / "segments" / f"{generation:04d}-{number:05d}.f32"


# Opening.


def test_a_folder_with_other_things_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"holiday\.jpg"):
        open_database(tmp_path, schema=SCHEMA, create=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday.jpg"]
    with pytest.raises(InputError, match="no database"):
        open_database(tmp_path / "holiday.jpg", schema=SCHEMA)


def test_a_creation_that_was_killed_is_done_again(location: str) -> None:
    open_database(location, schema=SCHEMA, create=True).close()
    (Path(location) / "database.json").unlink()
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
        '{"format": "weft-database", "version": 1}',
        '{"format": "weft-database", "version": 1, "layout": {"dim": 8, "row": 1}, "schema": '
        '{"version": 1, "aspects": [["item", 5], ["color", 3]], "fingerprint": "test"}}',
    ],
)
def test_a_damaged_description_is_refused(location: str, text: str) -> None:
    filled(location).close()
    (Path(location) / "database.json").write_text(text)
    with pytest.raises(InputError, match=r"database\.json"):
        open_database(location)


def test_a_damaged_item_table_is_refused(location: str) -> None:
    filled(location).close()
    (Path(location) / "items.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(InputError, match=r"items\.sqlite.*damaged"):
        open_database(location)


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


def try_to_write(location: str) -> str:
    try:
        open_database(location).close()
    except InputError as error:
        return str(error)
    return "opened"


def count_items(location: str) -> int:
    with open_database(location, read_only=True) as store:
        return store.count()


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


def test_a_search_survives_what_the_writer_does_meanwhile(location: str, monkeypatch) -> None:
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


# Kills.

PHOTOS = 150


def photo_entry(number: int):
    """A photo's state, items (up to two) and rows, the same whenever it is built."""
    photo = f"{number:04d}.jpg"
    items = [Item(item_key(photo, i), photo, i, extra={"n": number}) for i in range(number % 3)]
    return PhotoState(photo, number, 1), items, unit_rows(3, seed=number)[: len(items)]


def build(location: str) -> None:
    """Put what is missing, in batches of three photos."""
    with open_database(location, schema=SCHEMA, create=True) as store:
        there = store.photos()
        missing = [n for n in range(PHOTOS) if photo_entry(n)[0].photo not in there]
        for start in range(0, len(missing), 3):
            store.put_photos(photo_entry(number) for number in missing[start : start + 3])
            say_started(location)


def build_shard(location: str, rank: int) -> None:
    """As one of two processes: put what the database does not have."""
    with open_database(location, read_only=True) as store:
        there = store.photos()
    with open_shard(location, schema=SCHEMA, rank=rank) as sink:
        for number in range(rank, PHOTOS, 2):
            if photo_entry(number)[0].photo not in there:
                sink.put_photo(*photo_entry(number))
                say_started(location)


def say_started(location: str) -> None:
    """Under way: the first photos are handed over."""
    Path(f"{location}.{os.getpid()}").touch()


def kill_after(seconds: float, function, *argument_lists) -> None:
    """Run the function in processes of their own, and kill them that long after they started."""
    running = [processes.Process(target=function, args=arguments) for arguments in argument_lists]
    for process in running:
        process.start()
    location = argument_lists[0][0]
    for process in running:
        while process.is_alive() and not Path(f"{location}.{process.pid}").exists():
            time.sleep(0.002)
    time.sleep(seconds)
    for process in running:
        process.kill()
        process.join()


def assert_whole(store) -> int:
    """Every photo that is there has its items, its rows and nothing else; returns how many."""
    assert store.verify() == []
    photos, keys = store.photos(), []
    for photo, state in photos.items():
        wanted, items, rows = photo_entry(state.size)
        assert (photo, state) == (wanted.photo, wanted)
        assert store.get(item.key for item in items) == items
        found = store.vectors([item.key for item in items])
        np.testing.assert_array_equal(found, rows)
        keys += [item.key for item in items]
    assert store.keys() == sorted(keys)
    return len(photos)


def test_a_killed_build_goes_on_where_it_stopped(location: str) -> None:
    rng, counts = random.Random(0), [0]
    open_database(location, schema=SCHEMA, create=True).close()
    for _ in range(4):
        kill_after(rng.uniform(0, 0.15), build, (location,))
        with open_database(location, read_only=True) as store:
            counts.append(assert_whole(store))
    assert counts == sorted(counts) and 0 < counts[-1] < PHOTOS
    build(location)
    with open_database(location) as store:
        assert assert_whole(store) == PHOTOS


def test_killed_shards_lose_nothing_they_finished(location: str) -> None:
    rng = random.Random(1)
    with open_database(location, schema=SCHEMA, create=True) as store:
        for _ in range(3):
            kill_after(rng.uniform(0, 0.01), build_shard, (location, 0), (location, 1))
            finished = sum(journal_lines(path) for path in Path(location).glob("shards/*.jsonl"))
            before = len(store.photos())
            assert store.absorb_shards() == finished
            assert assert_whole(store) == before + finished
            assert list(Path(location).glob("shards/*")) == []
        build_shard(location, 0), build_shard(location, 1)
        store.absorb_shards()
        assert assert_whole(store) == PHOTOS


def journal_lines(path: Path) -> int:
    return max(path.read_bytes().count(b"\n") - 1, 0)  # the first is the schema


def test_shards_are_absorbed_while_they_are_written(location: str, monkeypatch) -> None:
    with (
        open_database(location, schema=SCHEMA, create=True) as store,
        open_shard(location, schema=SCHEMA, rank=0) as sink,
    ):
        for number in range(5):
            sink.put_photo(*photo_entry(number))
            assert store.absorb_shards() == 1
        journal = next(Path(location).glob("shards/*.jsonl"))
        with journal.open("ab") as file:
            file.write(b'{"half a line')
        assert store.absorb_shards() == 0
        assert assert_whole(store) == 5
    with open_database(location) as store:
        assert store.absorb_shards() == 0 and not journal.exists()


def test_a_shard_whose_vectors_never_reached_the_disk(location: str, caplog) -> None:
    with open_database(location, schema=SCHEMA, create=True) as store:
        with open_shard(location, schema=SCHEMA, rank=0) as sink:
            for number in range(6):
                sink.put_photo(*photo_entry(number))
        vectors = next(Path(location).glob("shards/*.f32"))
        os.truncate(vectors, vectors.stat().st_size - 1)
        assert store.absorb_shards() == 5
        assert "0005.jpg" not in store.photos() and "damaged line" in caplog.text
        assert assert_whole(store) == 5


def test_a_shard_of_another_model_is_refused(location: str) -> None:
    other = type(SCHEMA)(1, SCHEMA.aspects, "another model")
    with open_shard(location, schema=other, rank=0) as sink:
        sink.put_photo(*photo_entry(1))
    with open_database(location, schema=SCHEMA, create=True) as store:
        with pytest.raises(InputError, match="fingerprint"):
            store.absorb_shards()
        with pytest.raises(InputError, match="fingerprint"):
            open_shard(location, schema=other, rank=0)


@pytest.mark.parametrize("stop_at", ["renumber", "remove_other_generations", "vacuum"])
def test_an_interrupted_compaction_costs_nothing(location: str, monkeypatch, stop_at) -> None:
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


@pytest.mark.parametrize("value", [b"\xff\xff\xff\xff", b"\x00\x00\x80\x7f", b"\x00\x00\x00\x60"])
def test_a_damaged_block_is_named_and_the_rest_stays_readable(
    location: str, value: bytes, caplog
) -> None:
    filled(location).close()
    flip(segment(location, 1), 32 * 2, value)  # row 26: NaN, infinity, 3.7e19
    lost = [make_item(n).key for n in range(24, 32)]
    with open_database(location) as store:
        (problem,) = store.verify()
        assert segment(location, 1).name in problem and lost[0] in problem
        with pytest.raises(InputError, match=segment(location, 1).name):
            store.vectors(lost[:1])
        assert len(store.vectors([make_item(n).key for n in range(24)])) == 24
        # Whether NaN, infinity or a huge number: it never reaches the answers.
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


def test_repaired_photos_are_new_to_the_next_build(location: str) -> None:
    build(location)
    flip(segment(location, 0), 5)
    with open_database(location) as store:
        store.verify(repair=True)
        assert len(store.photos()) < PHOTOS
    build(location)
    with open_database(location) as store:
        assert assert_whole(store) == PHOTOS


@pytest.mark.parametrize("cut", [0, 33, None], ids=["empty", "cut", "missing"])
def test_a_cut_or_missing_segment(location: str, cut: int | None, caplog) -> None:
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


def test_writing_goes_on_behind_a_damaged_end(location: str) -> None:
    filled(location).close()
    flip(segment(location, 1), 32 * 10)  # row 34, in the last block
    with open_database(location) as store:
        assert len(store.verify()) == 1
        store.add([make_item(n) for n in range(50, 60)], unit_rows(10))
        assert len(store.verify(repair=True)) == 1
        assert store.verify() == [] and store.count() == 37 - 5 + 10


# Nowhere to write.


def test_a_full_disk_is_one_clear_error(location: str) -> None:
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


def test_a_full_disk_under_a_shard(location: str) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_database(location, schema=SCHEMA, create=True) as store:
        with open_shard(location, schema=SCHEMA, rank=0) as sink:
            sink.put_photo(*photo_entry(5))
            resource.setrlimit(resource.RLIMIT_FSIZE, (300, limit[1]))
            try:
                with pytest.raises(InputError, match="cannot write"):
                    sink.put_photo(*photo_entry(8))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            sink.put_photo(*photo_entry(11))
        assert store.absorb_shards() == 2
        assert assert_whole(store) == 2


def test_a_folder_that_cannot_be_written_is_read(location: str) -> None:
    filled(location).close()
    folder = Path(location)
    for path in (folder, folder / "segments", folder / "items.sqlite", folder / "lock"):
        path.chmod(path.stat().st_mode & ~0o222)
    with processes.Pool(1) as other:
        other.apply(give_up_privileges)
        assert other.apply(count_items, (location,)) == 37
        assert "reading only" in other.apply(try_to_write, (location,))
        assert "cannot make" in other.apply(try_to_create, (location + "/new",))
    for path in (folder, folder / "segments"):
        path.chmod(0o755)


def give_up_privileges() -> None:
    """Root may write everywhere: drop what lets it, and keep its files."""
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


def test_a_copied_folder_is_the_same_database(location: str, tmp_path: Path) -> None:
    with filled(location) as store:
        hits = store.search(unit_rows(1), weights=EQUAL, k=5)
    shutil.copytree(location, tmp_path / "copy")
    with open_database(tmp_path / "copy", read_only=True) as copy:
        assert copy.search(unit_rows(1), weights=EQUAL, k=5) == hits


# Searching.


def test_thousands_of_equal_scores(location: str, monkeypatch) -> None:
    """An aspect that nobody has: all tie at 0, in one query and in several."""
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


def test_a_filter_given_as_text_is_refused(location: str) -> None:
    with filled(location) as store:
        for filter in (Filter(categories="dress"), Filter(attributes={"color": "red"})):
            with pytest.raises(InputError, match="tuple"):
                store.count(filter)


def test_threads_share_a_database(location: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with filled(location) as store, ThreadPoolExecutor(4) as threads:
        alone = [store.search(unit_rows(1, seed), weights=EQUAL, k=5) for seed in range(12)]
        together = threads.map(
            lambda seed: store.search(unit_rows(1, seed), weights=EQUAL, k=5), range(12)
        )
        assert list(together) == alone
