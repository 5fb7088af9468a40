"""Databases for tests: small segments, builds that can be killed, and checks of the result."""

import functools
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np

from engine.errors import InputError
from retrieval.segments import Layout
from retrieval.store import Item, PhotoState, item_key, open_database, open_shard
from tests.retrieval.store_contract import SCHEMA, make_item, unit_rows

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["torch", "retrieval.database"])
# A few dozen rows fill several segments.
small_layout = functools.partial(Layout, segment_rows=24, block_rows=8)


def filled(location: str, count: int = 37):
    """An open database of ``count`` items, committed five at a time."""
    store = open_database(location, schema=SCHEMA, create=True)
    for start in range(0, count, 5):
        numbers = range(start, min(start + 5, count))
        store.add([make_item(n) for n in numbers], unit_rows(count)[numbers.start : numbers.stop])
    return store


def segment(location: str, number: int, generation: int = 1) -> Path:
    return Path(location) / "segments" / f"{generation:04d}-{number:05d}.f32"


def try_to_write(location: str) -> str:
    try:
        open_database(location).close()
    except InputError as error:
        return str(error)
    return "opened"


def count_items(location: str) -> int:
    with open_database(location, read_only=True) as store:
        return store.count()


PHOTOS = 150


def photo_entry(number: int):
    """A photo's state, items (up to two) and vectors, the same in every build."""
    photo = f"{number:04d}.jpg"
    items = [Item(item_key(photo, i), photo, i, extra={"n": number}) for i in range(number % 3)]
    return PhotoState(photo, number, 1), items, unit_rows(3, seed=number)[: len(items)]


def build(location: str) -> None:
    """Put the missing photos, in batches of three."""
    with open_database(location, schema=SCHEMA, create=True) as store:
        there = store.photos()
        missing = [n for n in range(PHOTOS) if photo_entry(n)[0].photo not in there]
        for start in range(0, len(missing), 3):
            store.put_photos(photo_entry(number) for number in missing[start : start + 3])
            say_started(location)
            time.sleep(0.01)  # so that a kill meets a build at work on any machine


def build_shard(location: str, rank: int) -> None:
    """Put one of two processes' share of the missing photos."""
    with open_database(location, read_only=True) as store:
        there = store.photos()
    with open_shard(location, schema=SCHEMA, rank=rank) as sink:
        for number in range(rank, PHOTOS, 2):
            if photo_entry(number)[0].photo not in there:
                sink.put_photos([photo_entry(number)])
                say_started(location)


def say_started(location: str) -> None:
    """Signal that the first photos are written."""
    Path(f"{location}.{os.getpid()}").touch()


def kill_after(seconds: float, function, *argument_lists) -> None:
    """Run the function in processes of their own, and kill them ``seconds`` after they started."""
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
    """Check that every stored photo has its own items and vectors; returns how many photos."""
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
