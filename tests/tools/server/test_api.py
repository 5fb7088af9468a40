"""The API: its responses and errors."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from engine.errors import InputError
from retrieval.store import Item, Store, open_database
from tests.tools.server.world import (
    CATEGORIES,
    COUNT,
    SCHEMA,
    ask,
    make_database,
    make_item,
    make_service,
    photo_bytes,
    unit_rows,
)
from tools.server import service as module
from tools.server.app import create_app
from tools.server.limits import Limits
from tools.server.schemas import SearchRequest
from tools.server.service import Service

LIMITS = Limits(upload_bytes=200_000, upload_pixels=500_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("world")).parent


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with open_database(folder / "db", read_only=True) as store:
        yield store


@pytest.fixture
def service(folder: Path, store: Store) -> Service:
    return make_service(store, folder / "photos", LIMITS)


@pytest.fixture
def app(service: Service) -> FastAPI:
    return create_app(service)


def search(app: FastAPI, **wanted) -> dict:
    response = ask(app, "POST", "/api/search", body=wanted)
    assert response.status == 200, response.body
    return response.json


def refused(app: FastAPI, status: int, **wanted) -> str:
    response = ask(app, "POST", "/api/search", body=wanted)
    assert response.status == status, response.body
    assert set(response.json) == {"detail"}
    return response.json["detail"]


# Search.


@pytest.mark.parametrize("weights", [{}, {"color": 1}, {"item": 0.3, "shape": 2, "color": 0}])
def test_search_ranks_by_hand_and_leaves_the_query_out(app: FastAPI, weights: dict) -> None:
    rows = unit_rows(COUNT).astype(np.float64)
    full = weights or dict.fromkeys(SCHEMA.names, 1)
    parts = {a: rows[:, SCHEMA.slice(a)] @ rows[5, SCHEMA.slice(a)] for a in SCHEMA.names}
    scores = sum(w * parts[a] for a, w in full.items()) / sum(full.values())
    order = [i for i in np.argsort(-scores) if i != 5][:7]
    hits = search(app, key=make_item(5).key, weights=weights, k=7)["hits"]
    assert [hit["item"]["key"] for hit in hits] == [make_item(i).key for i in order]
    for hit, i in zip(hits, order, strict=True):
        assert hit["score"] == pytest.approx(scores[i], abs=1e-3)
        assert hit["aspects"] == pytest.approx({a: parts[a][i] for a in SCHEMA.names}, abs=1e-3)


def test_search_tells_its_time_in_milliseconds(service: Service, monkeypatch) -> None:
    clock = SimpleNamespace(perf_counter=iter((1.0, 1.25)).__next__)
    monkeypatch.setattr(module, "time", clock)
    wanted = SearchRequest(handle=service.handles.put(unit_rows(1)[0]))
    assert service.search(wanted)["milliseconds"] == 250


def test_search_applies_filters(app: FastAPI) -> None:
    wanted = {"categories": ["dress", "skirt"], "attributes": {"color": ["red"], "fit": []}}
    hits = search(app, key=make_item(0).key, k=200, **wanted)["hits"]
    found = {hit["item"]["key"] for hit in hits}
    items = [make_item(i) for i in range(1, COUNT)]
    assert found == {
        i.key for i in items
        if i.category in wanted["categories"] and i.attributes["color"] == "red"
    }  # fmt: skip
    assert search(app, key=make_item(0).key, categories=["no such"])["hits"] == []


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, "either a handle or a key"),
        ({"key": "a", "handle": "b"}, "either a handle or a key"),
        ({"key": "a", "k": 0}, "k: "),
        ({"key": "a", "k": 201}, "k: "),
        ({"key": "a", "k": 2.5}, "k: "),
        ({"key": 7}, "key: "),
        ({"key": "a", "weight": {"item": 1}}, "weight: "),
        ({"key": "a", "weights": {"smell": 1}}, "smell"),
        ({"key": "a", "weights": {"item": -1}}, "weights.item: "),
        ({"key": "a", "weights": {"item": 1e9}}, "weights.item: "),
        ({"key": "a", "weights": {"item": float("nan")}}, "weights.item: "),
        ({"key": "a", "weights": {"item": 0}}, "all weights are 0"),
        ({"key": "a", "categories": "dress"}, "categories: "),
        ({"key": "a", "attributes": {"color": "red"}}, "attributes.color: "),
        ({"key": "\ud800"}, "key: "),
    ],
)
def test_invalid_searches_are_refused_by_name(app: FastAPI, wanted: dict, said: str) -> None:
    assert said in refused(app, 422, **wanted)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 422), (b"{", 422), (b"[]", 422), (b"[" * 60_000, 400), (b"\xff\xfe", 422),
     (b"null", 422), (b"x" * 70_000, 413)],
)  # fmt: skip
def test_bodies_that_are_not_a_search_are_refused(app: FastAPI, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    response = ask(app, "POST", "/api/search", body=body, headers=headers)
    assert (response.status, set(response.json)) == (status, {"detail"})
    assert status != 422 or response.json["detail"].startswith("Send a JSON object")


def test_json_under_another_content_type_is_told_the_right_one(app: FastAPI) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}  # curl's, if none is given
    response = ask(app, "POST", "/api/search", body=b'{"key": "a"}', headers=headers)
    assert response.status == 422
    assert response.json["detail"].endswith("the header Content-Type: application/json")


def test_unknown_keys_and_handles_are_refused(app: FastAPI) -> None:
    assert refused(app, 404, key="no such") == "No garment has this key"
    assert "expired" in refused(app, 410, handle="no such")


# Photos.


def test_uploaded_photo_is_described_and_searched_with(app: FastAPI) -> None:
    response = ask(app, "POST", "/api/detect", body=photo_bytes(60, 80))
    assert response.status == 200, response.body
    seen = response.json
    assert (seen["width"], seen["height"], seen["whole_photo"]) == (60, 80, False)
    assert [garment["category"] for garment in seen["garments"]] == ["shirt", "trousers"]
    assert [garment["score"] for garment in seen["garments"]] == [0.9, 0.6]
    assert seen["expires_in"] == LIMITS.handle_seconds
    lower = seen["garments"][1]
    assert lower["box"] == [0, 40, 60, 80]
    ring = np.array(lower["outline"][0])
    assert np.abs([ring.min(axis=0), ring.max(axis=0)] - np.array([[0, 40], [60, 80]])).max() < 1
    assert lower["labels"]["fit"][0] == {"value": "slim", "probability": 0.8}
    assert lower["colors"] == [{"name": "navy", "hex": "#1d2a4d", "share": 0.7}]
    (best,) = search(app, handle=lower["handle"], k=1)["hits"]
    assert best["item"]["key"] == make_item(8).key
    assert best["score"] == pytest.approx(1, abs=1e-3)


def test_photo_without_garments_becomes_one_query(app: FastAPI) -> None:
    seen = ask(app, "POST", "/api/detect", body=photo_bytes(30, 50)).json
    (garment,) = seen["garments"]
    assert seen["whole_photo"] and garment["category"] is None and garment["score"] is None
    assert garment["outline"] == [[[0, 0], [30, 0], [30, 50], [0, 50]]]
    assert search(app, handle=garment["handle"], k=1)["hits"]


def test_handles_expire(folder: Path, store: Store) -> None:
    limits = replace(LIMITS, handles=3)
    app = create_app(make_service(store, None, limits))
    first, second = (ask(app, "POST", "/api/detect", body=photo_bytes(60, 80)) for _ in range(2))
    handles = [g["handle"] for response in (first, second) for g in response.json["garments"]]
    refused(app, 410, handle=handles[0])
    assert search(app, handle=handles[3])


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 422), (b"GIF", 422), (photo_bytes(1000, 600), 413), (bytes(200_001), 413)],
)
def test_other_uploads_are_refused(app: FastAPI, body: bytes, status: int) -> None:
    response = ask(app, "POST", "/api/detect", body=body)
    assert (response.status, set(response.json)) == (status, {"detail"})


def test_forms_are_told_what_to_send_instead(app: FastAPI) -> None:
    form = b"--x\r\ncontent-disposition: form-data; name=photo\r\n\r\n" + photo_bytes(60, 80)
    headers = {"content-type": "Multipart/Form-Data; boundary=x"}
    response = ask(app, "POST", "/api/detect", headers=headers, body=form + b"\r\n--x--")
    assert response.status == 422 and "not as a form's field" in response.json["detail"]


def test_server_without_models_refuses_photos(store: Store) -> None:
    app = create_app(make_service(store, None, LIMITS, with_vision=False))
    assert ask(app, "POST", "/api/detect", body=photo_bytes(60, 80)).status == 409
    assert ask(app, "GET", "/api/stats").json["uploads"]["possible"] is False


# Look-ups.


def test_items_are_returned_by_key(app: FastAPI) -> None:
    item = make_item(7)
    response = ask(app, "GET", f"/api/items/{quote(item.key, safe='')}")
    assert response.json | {"extra": {}} == {
        "key": item.key, "photo": item.photo, "garment": 1, "box": list(item.box),
        "category": item.category, "attributes": item.attributes, "identity": None, "extra": {},
    }  # fmt: skip
    assert ask(app, "GET", "/api/items/none").status == 404


def test_key_may_hold_a_line_break(tmp_path: Path) -> None:
    with open_database(make_database(tmp_path)) as store:
        item = make_item(0)
        (tmp_path / "photos" / item.photo).rename(tmp_path / "photos" / "a\nb.png")
        store.add([Item("a\nb.png#1", "a\nb.png", 1)], unit_rows(1))
        app = create_app(make_service(store, tmp_path / "photos", LIMITS))
        for what in ("items", "photo"):
            assert ask(app, "GET", f"/api/{what}/a%0Ab.png%231").status == 200


def test_thumbnails_show_garment_or_photo(app: FastAPI, service: Service, monkeypatch) -> None:
    key = quote(make_item(7).key, safe="")
    for view, shape in {"garment": (112, 80), "photo": (120, 80)}.items():
        response = ask(app, "GET", f"/api/photo/{key}?size=160&view={view}")
        assert response.headers["content-type"] == "image/jpeg"
        assert response.headers["cache-control"] == "private, max-age=300"
        picture = np.asarray(Image.open(io.BytesIO(response.body)))
        assert np.abs(np.array(picture.shape[:2]) - shape).max() <= 2
    assert ask(app, "GET", f"/api/photo/{key}?size=161").status == 422
    monkeypatch.setattr(service, "thumbnail", lambda *asked: repr(asked).encode())
    response = ask(app, "GET", f"/api/photo/{key}?size=640&view=photo")
    assert response.body.decode() == repr((make_item(7).key, 640, True))


@pytest.mark.parametrize(
    "path",
    ["..%2f..%2fdb%2fdatabase.json", "../../etc/passwd", "%2fetc%2fpasswd", "%00", "%ff%fe",
     "photo.png", "set%200/", "a" * 5000],
)  # fmt: skip
@pytest.mark.parametrize("what", ["items", "photo"])
def test_only_stored_keys_give_pictures(app: FastAPI, what: str, path: str) -> None:
    assert ask(app, "GET", f"/api/{what}/{path}").status == 404


def test_stats_and_health(app: FastAPI) -> None:
    stats = ask(app, "GET", "/api/stats").json
    assert stats["items"] == COUNT == ask(app, "GET", "/api/health").json["items"]
    assert stats["categories"] == dict.fromkeys(CATEGORIES, COUNT // 4)
    assert stats["attributes"]["fit"] == {"slim": COUNT * 4 // 5, "wide": COUNT // 5}
    assert stats["aspects"] == list(SCHEMA.names) and stats["photos"]
    assert stats["uploads"] == {
        "possible": True,
        "most_bytes": 200_000,
        "most_pixels": 500_000,
        "kept_seconds": 1800,
    }
    assert len(set(stats["examples"])) == 12
    assert all(ask(app, "GET", f"/api/items/{quote(k)}").status == 200 for k in stats["examples"])


def test_examples_are_the_largest_of_each_part_of_the_database(tmp_path: Path) -> None:
    items = [Item(f"{n:02d}#1", f"{n:02d}", 1, (0.0, 0.0, 1.0 + n, 1.0)) for n in range(24)]
    with open_database(tmp_path / "db", schema=SCHEMA, create=True) as store:
        store.add(items, unit_rows(24))
        examples = make_service(store, None, LIMITS).stats()["examples"]
    assert examples == [item.key for item in items[1::2]]


def test_examples_come_from_all_over_a_large_database(tmp_path: Path, monkeypatch) -> None:
    """Of 24 items, numbers 0, 7, 15 and 23 are candidates: a half each. No box is a whole photo."""
    monkeypatch.setattr(module, "EXAMPLES", 2)
    monkeypatch.setattr(module, "EXAMPLE_CANDIDATES", 4)
    boxes = {0: (90.0, 90.0, 110.0, 110.0), 7: (500.0, 99.0, 502.0, 199.0), 15: None}
    box = (0.0, 0.0, 500.0, 500.0)
    items = [Item(f"{n:02d}#1", f"{n:02d}", 1, boxes.get(n, box)) for n in range(24)]
    with open_database(tmp_path / "db", schema=SCHEMA, create=True) as store:
        store.add(items, unit_rows(24))
        examples = make_service(store, None, LIMITS).stats()["examples"]
    assert examples == [items[0].key, items[15].key]


def test_small_database_has_few_examples(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "COUNTS_STALE", -1)
    with open_database(tmp_path / "db", schema=SCHEMA, create=True) as store:
        service = make_service(store, None, LIMITS)
        assert service.stats()["examples"] == []
        items = [make_item(0), make_item(1)]
        store.add(items, unit_rows(2))
        assert service.stats()["examples"] == [item.key for item in items]
        keys = [*store.keys(), "just deleted"]
        monkeypatch.setattr(store, "keys", lambda: keys)
        assert make_service(store, None, LIMITS).stats()["examples"] == keys[:2]


def test_counts_follow_the_database_after_a_while(tmp_path: Path, monkeypatch) -> None:
    location = make_database(tmp_path)
    with open_database(location, read_only=True) as reader, open_database(location) as writer:
        service = make_service(reader, None, LIMITS)
        assert service.stats()["items"] == COUNT
        writer.delete([make_item(0).key])
        assert service.stats()["items"] == COUNT
        monkeypatch.setattr(module, "COUNTS_STALE", -1)
        assert service.stats()["items"] == COUNT - 1


def test_counts_follow_a_database_that_changes_and_keeps_its_size(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(module, "COUNTS_STALE", -1)
    location = make_database(tmp_path)
    with open_database(location, read_only=True) as reader, open_database(location) as writer:
        service = make_service(reader, None, LIMITS)
        before = service.stats()
        assert service.stats() is before, "counting takes a while"
        writer.add([replace(make_item(0), category="cape")], unit_rows(1))
        after = service.stats()
        assert after["items"] == COUNT and after["categories"]["cape"] == 1


def test_broken_database_is_a_503(app, service: Service, monkeypatch, caplog) -> None:
    def fail(*_):
        raise InputError("/secret/path/items.sqlite: damaged")

    monkeypatch.setattr(service.store, "get", fail)
    response = ask(app, "POST", "/api/search", body={"key": "a"})
    assert response.status == 503 and response.headers["retry-after"]
    assert b"secret" not in response.body
    assert "/secret/path/items.sqlite: damaged" in caplog.text


@pytest.mark.parametrize(
    ("method", "path"),
    [("search", "/api/search"), ("vectors", "/api/search"), ("count", "/api/health"),
     ("version", "/api/stats"), ("labels", "/api/stats"), ("get", "/api/photo/a")],
)  # fmt: skip
def test_whatever_reads_a_broken_database_is_a_503(
    app: FastAPI, service: Service, monkeypatch, method: str, path: str
) -> None:
    def fail(*_, **settings):
        raise InputError("damaged")

    monkeypatch.setattr(service.store, method, fail)
    how = ("POST", {"key": make_item(0).key}) if path == "/api/search" else ("GET", None)
    assert ask(app, how[0], path, body=how[1]).status == 503


def test_internal_errors_reveal_nothing(app: FastAPI, service: Service, monkeypatch) -> None:
    monkeypatch.setattr(service.store, "get", lambda _: 1 / 0)
    response = ask(app, "POST", "/api/search", body={"key": "a"})
    assert (response.status, response.json) == (500, {"detail": "The server failed; see its log"})
