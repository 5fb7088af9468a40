"""The store on a Milvus server: every store's contract, the local database's ranking, kills.

A server is started for these tests (``milvus_server``); where it cannot be, they are skipped and
say why. MILVUS_URI=http://host:19530 runs them on a server or cluster of your own instead, in
collections of a random name that are dropped at the end.
"""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from engine.errors import InputError
from retrieval.milvus import MilvusStore
from retrieval.milvus_link import Link
from retrieval.store import Filter, Item, PhotoState, open_database
from tests.retrieval.milvus_server import NoServer, milvus_server
from tests.retrieval.store_contract import (
    EQUAL,
    SCHEMA,
    StoreContract,
    make_item,
    state_of,
    unit_rows,
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if uri := os.environ.get("MILVUS_URI"):
        yield uri
        return
    try:
        with milvus_server() as uri:
            yield uri
    except NoServer as error:
        pytest.skip(f"no Milvus server: {error}")


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[MilvusClient]:
    """A client of the tests' own; closing it drops the collections that tests created."""
    client = MilvusClient(server, timeout=10)
    yield client
    for name in client.list_collections():
        if name.startswith(PREFIX):
            client.drop_collection(name)
    client.close()


PREFIX = f"weft_test_{secrets.token_hex(4)}"


@pytest.fixture
def location(server: str, client: MilvusClient) -> str:
    """One database, emptied for each test, because creating its collections takes seconds."""
    for name, key in ((PREFIX, "key"), (f"{PREFIX}_photos", "photo")):
        if client.has_collection(name):
            client.delete(name, filter=f'{key} != ""')
    return f"{server}#{PREFIX}"


@pytest.fixture
def store(location: str) -> Iterator[MilvusStore]:
    with open_database(location, schema=SCHEMA, create=True) as store:
        yield store


class TestContract(StoreContract):
    def test_about_from_creation_is_kept(self, server: str, client: MilvusClient) -> None:
        super().test_about_from_creation_is_kept(f"{server}#{PREFIX}_new")


def test_ranks_like_the_local_database(store: MilvusStore, tmp_path: Path) -> None:
    rows = unit_rows(2503, seed=3)
    rows[500:560] = rows[500]  # more equal scores than are fetched at first
    rows[700:760, SCHEMA.slice("color")] = rows[700, SCHEMA.slice("color")]
    items = [make_item(int(i)) for i in np.random.default_rng(0).permutation(2503)]
    queries = np.concatenate([unit_rows(7, seed=5), rows[[500, 700]]])
    with open_database(tmp_path / "local", schema=SCHEMA, create=True) as local:
        for target in (local, store):
            target.add(items, rows)
        for weights in (EQUAL, {"color": 1}, {"item": 1, "color": 0.01}):
            for filter in (None, Filter(categories=("dress", "skirt"), folder="a")):
                for k in (10, 45):
                    asked = {"weights": weights, "k": k, "filter": filter}
                    assert store.search(queries, **asked) == local.search(queries, **asked)


def test_more_hits_than_milvus_returns_at_once(store: MilvusStore) -> None:
    store._page = 20
    rows = unit_rows(97, seed=1)
    rows[30:80] = rows[30]
    items = [Item(f"k{i:02d}", f"p{i}") for i in range(97)]
    store.add(items, rows)
    (twins,) = store.search(rows[[30]], weights=EQUAL, k=7)
    assert [hit.item.key for hit in twins] == [f"k{i}" for i in range(30, 37)]
    (hits,) = store.search(rows[[30]], weights=EQUAL, k=90)
    scores = rows.astype(float) @ rows[30].astype(float) / 2
    order = sorted(range(97), key=lambda i: (-round(scores[i], 9), i))
    assert [hit.item.key for hit in hits] == [f"k{i:02d}" for i in order[:90]]


def test_later_searches_do_not_wait_for_the_servers_clock(store: MilvusStore, monkeypatch) -> None:
    store.add([make_item(0)], unit_rows(1))
    asked = []
    call = Link.call

    def listen(link: Link, method: str, *args, **kwargs):
        asked.append(kwargs.get("consistency_level"))
        return call(link, method, *args, **kwargs)

    monkeypatch.setattr(Link, "call", listen)
    store.search(unit_rows(1), weights=EQUAL, k=1)
    store._changed -= 60
    store.search(unit_rows(1), weights=EQUAL, k=1)
    store.count()
    assert asked == ["Strong", "Bounded", "Strong"]


class Killed(Exception):
    pass


@pytest.mark.parametrize("survived", range(4))
def test_kill_while_a_photo_is_replaced_is_completed_by_the_next_build(
    location: str, store: MilvusStore, monkeypatch, survived: int
) -> None:
    pair, photo = [make_item(0), make_item(1)], make_item(0).photo
    store.put_photos([(state_of(photo), pair, unit_rows(2))])
    store.put_photos([(state_of("other.jpg"), [], unit_rows(0))])
    entry = (state_of(photo, size=11), pair[1:], unit_rows(1, seed=3))
    writes, call = [], Link.call

    def die(link: Link, method: str, *args, **kwargs):
        if len(writes) == survived:
            raise Killed
        writes.append(method)
        return call(link, method, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Link, "call", die)
        store.put_photos([entry])
    with open_database(location, schema=SCHEMA) as again:
        states = again.photos()
        assert states.pop("other.jpg") == state_of("other.jpg")
        if survived == 0:
            assert states == {photo: state_of(photo)} and again.verify() == []
        else:
            # Neither the old nor the new file: the next build comes back to it.
            assert (states[photo].size, states[photo].mtime_ns) == (-1, -1)
            assert photo in again.verify()[0]
        again.put_photos([entry])
        assert again.photos()[photo] == entry[0] and again.keys() == [pair[1].key]
        np.testing.assert_array_equal(again.vectors([pair[1].key]), unit_rows(1, seed=3))
        assert again.verify() == []


def test_kill_while_a_photo_is_deleted_is_completed_by_the_next_build(
    store: MilvusStore, monkeypatch
) -> None:
    photo = make_item(0).photo
    store.put_photos([(state_of(photo), [make_item(0)], unit_rows(1))])
    write = MilvusStore._write

    def die(self: MilvusStore, method: str, *args, **kwargs) -> None:
        if method == "delete":
            raise Killed
        write(self, method, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(MilvusStore, "_write", die)
        store.delete_photos([photo])
    # Still known, so that a build that no longer finds the file deletes it once more.
    assert store.photos()[photo].size == -1 and store.count() == 1
    assert store.delete_photos([photo]) == 1
    assert store.photos() == {} and store.count() == 0


def test_two_writers_and_a_reader_share_a_collection(location: str, store: MilvusStore) -> None:
    with (
        open_database(location, schema=SCHEMA) as second,
        open_database(location, read_only=True) as reader,
    ):
        store.put_photos([(state_of("a"), [Item("a#0", "a")], unit_rows(1))])
        second.put_photos([(state_of("b"), [Item("b#0", "b")], unit_rows(1, seed=1))])
        for each in (store, second, reader):
            assert each.keys() == ["a#0", "b#0"] and set(each.photos()) == {"a", "b"}


def test_labels_too_long_for_milvus_are_refused(store: MilvusStore) -> None:
    item = Item("k", "p", extra={"text": "x" * 70_000})
    with pytest.raises(InputError, match="k: its labels and extra take 70"):
        store.add([item], unit_rows(1))
    with pytest.raises(InputError, match="k: its labels and extra take 70"):
        store.put_photos([(state_of("p"), [item], unit_rows(1))])
    assert store.count() == 0 and store.photos() == {}


def test_verify_finds_damage(store: MilvusStore, client: MilvusClient) -> None:
    store.add([make_item(0), make_item(1), make_item(2)], unit_rows(3))
    fields = ["key", "photo", "category", "tags", "record", "vector"]
    first, second, _ = client.query(
        PREFIX, filter='key != ""', output_fields=fields, consistency_level="Strong"
    )
    client.upsert(PREFIX, [{**first, "record": "[1"}, {**second, "category": "?"}])
    damaged, wrong = store.verify()
    assert first["key"] in damaged and "damaged" in damaged
    assert second["key"] in wrong and "category" in wrong
    with pytest.raises(InputError, match="damaged"):
        store.get([first["key"]])


def test_collections_of_other_programs_are_left_alone(
    server: str, client: MilvusClient, store: MilvusStore
) -> None:
    schema = MilvusClient.create_schema(auto_id=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
    client.create_collection(f"{PREFIX}_foreign", schema=schema)
    with pytest.raises(InputError, match="another program"):
        open_database(f"{server}#{PREFIX}_foreign", schema=SCHEMA, create=True)
    with pytest.raises(InputError, match="description"):
        open_database(f"{server}#{PREFIX}_photos", schema=SCHEMA, create=True)


def test_creation_continues_where_it_was_killed(server: str, client: MilvusClient) -> None:
    name = f"{PREFIX}_cut"
    with open_database(f"{server}#{name}", schema=SCHEMA, create=True) as store:
        store.add([make_item(0)], unit_rows(1))
    # As after a kill between making the collections, their indexes, and loading them.
    client.release_collection(name)
    client.drop_index(name, "vector")
    with open_database(f"{server}#{name}") as store:
        assert store.search(unit_rows(1), weights=EQUAL, k=2)[0][0].item == make_item(0)
    client.drop_collection(name)
    with open_database(f"{server}#{name}", schema=SCHEMA, create=True) as store:
        assert store.keys() == []


def test_use_after_closing_is_an_error(store: MilvusStore) -> None:
    store.close()
    store.close()
    with pytest.raises(InputError, match="closed"):
        store.count()


def test_long_errors_of_unreadable_photos_are_cut(store: MilvusStore) -> None:
    state = PhotoState("ü'\"\\.jpg", 2**53 + 1, 2**62 + 1, "cut off\n" + "x" * 5000)
    store.put_photos([(state, [], unit_rows(0))])
    (found,) = store.photos().values()
    assert (found.photo, found.size, found.mtime_ns) == (state.photo, state.size, state.mtime_ns)
    assert found.error.startswith("cut off\nxxx") and len(found.error) < 1100
