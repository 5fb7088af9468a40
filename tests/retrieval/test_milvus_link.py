"""Addresses of Milvus servers, and servers that do not respond. No test needs a server."""

import socket

import grpc
import pytest
from pymilvus.exceptions import MilvusException

from engine.errors import InputError
from retrieval import milvus_link
from retrieval.milvus_link import Address, reason
from retrieval.store import open_database
from tests.retrieval.milvus_server import NoServer, milvus_server


def test_addresses_are_parsed() -> None:
    plain = Address.parse("http://localhost:1234#clothes")
    assert plain == Address("http://localhost:1234", "clothes")
    full = Address.parse("https://a%6En:p%40ss@[::1]/shop#a_1")
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
def test_bad_addresses_are_refused(location: str) -> None:
    with pytest.raises(InputError) as caught:
        open_database(location)
    assert "secret" not in str(caught.value)


def test_missing_server_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InputError, match=f"127.0.0.1:{port}#a: no Milvus server") as caught:
        open_database(f"http://ann:secret@127.0.0.1:{port}#a")
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_server_that_never_responds_is_an_error(monkeypatch) -> None:
    monkeypatch.setattr(milvus_link, "CONNECT_SECONDS", 0.5)
    # Connections are accepted by the kernel, and nothing ever comes back.
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InputError, match="no Milvus server responds"):
            open_database(f"http://127.0.0.1:{port}#a")


class _Status(grpc.RpcError, grpc.Call):
    """An error as gRPC raises it, with only what ``reason`` uses."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self.code, self.details = lambda: code, lambda: details


_Status.__abstractmethods__ = frozenset()


def test_reasons_are_one_line() -> None:
    assert reason(MilvusException(message="first\nsecond")) == "first"
    assert reason(MilvusException(message="x" * 999)) == "x" * 200
    assert reason(_Status(grpc.StatusCode.DEADLINE_EXCEEDED, "?")) == "no answer in time"
    assert reason(_Status(grpc.StatusCode.UNAVAILABLE, "gone\nlines")) == "gone"
    assert reason(_Status(grpc.StatusCode.UNAVAILABLE, "")) == "UNAVAILABLE"


def test_without_the_package_there_is_no_server(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NoServer, match="not installed"), milvus_server():
        pass
