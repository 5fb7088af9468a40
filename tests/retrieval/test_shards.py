"""Shards of a build: photos are absorbed completely or not at all, after kills and damage, too."""

import errno
import fcntl
import os
import random
import resource
import signal
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from engine.errors import InputError
from retrieval import shards
from retrieval.store import Item, PhotoState, open_database, open_shard
from tests.retrieval.builds import (
    PHOTOS,
    assert_whole,
    build_shard,
    kill_after,
    photo_entry,
    processes,
)
from tests.retrieval.store_contract import (
    SCHEMA,
)

pytestmark = pytest.mark.usefixtures("small_files")


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
            sink.put_photos([photo_entry(number)])
            assert store.absorb_shards() == 1
        journal = next(Path(location).glob("shards/*.jsonl"))
        with journal.open("ab") as file:
            file.write(b'{"half a line')
        assert store.absorb_shards() == 0
        assert assert_whole(store) == 5
    with open_database(location) as store:
        assert store.absorb_shards() == 0 and not journal.exists()


@pytest.mark.parametrize(("rows", "photos"), [(3, 99), (99, 3)])
def test_long_shard_is_read_in_batches(location: str, monkeypatch, rows: int, photos: int) -> None:
    """Of three photos here, with three garments."""
    monkeypatch.setattr(shards, "BATCH_ROWS", rows)
    monkeypatch.setattr(shards, "BATCH_PHOTOS", photos)
    with open_shard(location, schema=SCHEMA, rank=0) as sink:
        for number in range(7):
            sink.put_photos([photo_entry(number)])
    (shard,) = shards.shards(Path(location), SCHEMA)
    batches = list(shard.batches(0))
    sizes = [[state.size for state, _, _ in entries] for entries, _ in batches]
    assert sizes == [[0, 1, 2], [3, 4, 5], [6]]
    assert [len(entries) for entries, _ in shard.batches(batches[0][1])] == [3, 1]
    assert list(shard.batches(batches[2][1])) == []


def die_at_second_call(owner: object, name: str) -> None:
    calls, function = iter(range(2)), getattr(owner, name)

    def call(*arguments, **named):
        if next(calls) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)

    setattr(owner, name, call)


def die_while_making(location: str) -> None:
    die_at_second_call(os, "open")
    open_shard(location, schema=SCHEMA, rank=0)


def die_while_removing(location: str) -> None:
    build_shard(location, 0)
    with open_database(location) as store:
        die_at_second_call(Path, "unlink")
        store.absorb_shards()


@pytest.mark.parametrize("die", [die_while_making, die_while_removing])
def test_a_kill_between_the_two_files_leaves_none_for_ever(location: str, die, caplog) -> None:
    open_database(location, schema=SCHEMA, create=True).close()
    process = processes.Process(target=die, args=(location,))
    process.start()
    process.join(600)
    assert process.exitcode == -signal.SIGKILL
    assert len(list(Path(location).glob("shards/*"))) == 1
    with open_database(location) as store:
        assert store.absorb_shards() == 0
        assert assert_whole(store) == (75 if die is die_while_removing else 0)
    assert not list(Path(location).glob("shards/*")) and caplog.text == ""


def test_finished_shards_are_removed_on_network_drives(location: str, monkeypatch) -> None:
    """NFS grants an exclusive lock only on files opened for writing."""
    flock = fcntl.flock

    def nfs_flock(file: IO, operation: int) -> None:
        mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
        if operation & fcntl.LOCK_EX and mode == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", nfs_flock)
    with open_database(location, schema=SCHEMA, create=True) as store:
        build_shard(location, 0)
        assert store.absorb_shards() > 0
        assert list(Path(location).glob("shards/*")) == []


def test_lines_without_their_vectors_are_skipped(location: str, caplog) -> None:
    with open_database(location, schema=SCHEMA, create=True) as store:
        with open_shard(location, schema=SCHEMA, rank=0) as sink:
            for number in range(6):
                sink.put_photos([photo_entry(number)])
        vectors = next(Path(location).glob("shards/*.f32"))
        os.truncate(vectors, vectors.stat().st_size - 1)
        assert store.absorb_shards() == 5
        assert "0005.jpg" not in store.photos() and "damaged line" in caplog.text
        assert assert_whole(store) == 5


@pytest.mark.parametrize("damage", ["first line", "no vectors"])
def test_unreadable_shard_is_skipped_and_does_not_block_others(
    location: str, damage: str, caplog
) -> None:
    open_database(location, schema=SCHEMA, create=True).close()
    build_shard(location, 0)
    (journal,) = Path(location).glob("shards/*.jsonl")
    if damage == "first line":
        data = journal.read_bytes()
        journal.write_bytes(bytes(9) + data[9:])
    else:
        journal.with_suffix(".f32").unlink()
    with open_database(location) as store:
        assert store.absorb_shards() == 0
        assert store.count() == 0
    assert "read again" in caplog.text
    assert not list(Path(location).glob("shards/*"))


def test_shard_of_another_model_is_refused(location: str) -> None:
    other = type(SCHEMA)(1, SCHEMA.aspects, "another model")
    with open_shard(location, schema=other, rank=0) as sink:
        sink.put_photos([photo_entry(1)])
    with open_database(location, schema=SCHEMA, create=True) as store:
        with pytest.raises(InputError, match="fingerprint"):
            store.absorb_shards()
        with pytest.raises(InputError, match="fingerprint"):
            open_shard(location, schema=other, rank=0)


def test_shards_refuse_what_no_store_accepts(location: str) -> None:
    """In a shard it would stop every later build that absorbs it."""
    state, items, rows = photo_entry(2)
    stranger, half = PhotoState("stranger.jpg", 1, 1), Item("h", state.photo, category="\ud83d")
    bad = [(stranger, items, rows), (state, [half], rows[:1]), (state, items, rows * np.nan)]
    with open_database(location, schema=SCHEMA, create=True) as store:
        with open_shard(location, schema=SCHEMA, rank=0) as shard:
            for entry in bad:
                with pytest.raises(InputError):
                    shard.put_photos([entry])
            shard.put_photos([(state, items, rows)])
        assert store.absorb_shards() == 1
        assert store.keys() == [item.key for item in items] and store.verify() == []


def test_full_disk_does_not_corrupt_a_shard(location: str) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_database(location, schema=SCHEMA, create=True) as store:
        with open_shard(location, schema=SCHEMA, rank=0) as sink:
            sink.put_photos([photo_entry(5)])
            resource.setrlimit(resource.RLIMIT_FSIZE, (300, limit[1]))
            try:
                with pytest.raises(InputError, match="cannot write"):
                    sink.put_photos([photo_entry(8)])
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            sink.put_photos([photo_entry(11)])
        assert store.absorb_shards() == 2
        assert assert_whole(store) == 2
