"""Addresses of Milvus servers, and servers that do not answer. None of these needs a server."""

import socket

import pytest

from engine.errors import InputError
from retrieval import milvus_link
from retrieval.milvus_link import Address
from retrieval.store import open_database


def test_addresses() -> None:
    plain = Address.parse("http://localhost:1234#clothes")
    assert plain == Address("http://localhost:1234", "clothes")
    full = Address.parse("https://ann:p%40ss@[::1]/shop#a_1")
    assert (full.server, full.collection) == ("https://[::1]:19530", "a_1")
    assert (full.database, full.user, full.password) == ("shop", "ann", "p@ss")
    assert str(full) == "https://[::1]:19530/shop#a_1" and "p@ss" not in repr(full)


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:19530",
        "http://#clothes",
        "http://localhost#",
        "http://localhost#two words",
        "http://localhost#9lives",
        'http://localhost#a"b',
        "http://localhost:port#clothes",
        "http://localhost:99999#clothes",
        "http://ann:secret@localhost:99999#clothes",
        "http://[::1#clothes",
    ],
)
def test_bad_addresses(location: str) -> None:
    with pytest.raises(InputError) as caught:
        open_database(location)
    assert "secret" not in str(caught.value)


def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InputError, match=f"127.0.0.1:{port}#a: no Milvus server") as caught:
        open_database(f"http://ann:secret@127.0.0.1:{port}#a")
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_somebody_else_answers_or_never(monkeypatch) -> None:
    monkeypatch.setattr(milvus_link, "CONNECT_SECONDS", 0.5)
    # Connections are accepted by the kernel, and nothing ever comes back.
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InputError, match="no Milvus server answers"):
            open_database(f"http://127.0.0.1:{port}#a")
