"""Uploads to a running server: queued before they are read, and interrupted ones."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from retrieval.store import Store, open_database
from tests.tools.server.world import make_database, make_service, photo_bytes, running
from tools.server.limits import Limits


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_database(make_database(tmp_path), read_only=True) as store:
        yield store


def upload(url: str) -> int:
    """The status of an upload to a running server."""
    try:
        with urlopen(f"{url}/api/detect", photo_bytes(60, 80), timeout=30) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def uploads_until(url: str, status: int) -> bool:
    """Upload again and again until the status is returned; False after ten seconds."""
    until = time.monotonic() + 10
    while upload(url) != status:
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def half_upload(url: str) -> socket.socket:
    """A connection on which the beginning of a photo was sent."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.sendall(b"POST /api/detect HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nGIF")
    return connection


def test_photos_queue_before_they_are_read(store: Store) -> None:
    """Otherwise the photos in memory would be as many as the clients."""
    service = make_service(store, None, Limits(waiting_photos=1))
    with running(service) as url, half_upload(url), half_upload(url):
        assert uploads_until(url, 503)


def test_interrupted_upload_frees_its_place_without_a_traceback(store: Store, caplog) -> None:
    service = make_service(store, None, Limits(waiting_photos=0))
    with running(service) as url:
        with half_upload(url):
            assert uploads_until(url, 503)
        assert uploads_until(url, 200)
    assert caplog.text == ""
