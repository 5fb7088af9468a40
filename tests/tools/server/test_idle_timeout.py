"""Which connections count as idle; tests/tools/test_serve.py closes real ones."""

from types import SimpleNamespace

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from tools.server.idle_timeout import IDLE_SECONDS, IdleTimeoutProtocol


@pytest.fixture
def connection() -> IdleTimeoutProtocol:
    """A connection without a network; ``later`` and ``closed`` tell what it did."""
    protocol = object.__new__(IdleTimeoutProtocol)
    protocol.later, protocol.closed, protocol.cycle = [], [], None
    protocol.loop = SimpleNamespace(call_later=lambda *call: protocol.later.append(call))
    protocol.transport = SimpleNamespace(abort=lambda: protocol.closed.append(True))
    return protocol


def test_only_connections_without_a_new_request_are_closed(connection) -> None:
    connection.cycle = "second request"
    for last in (None, "first request"):
        connection._close_if_idle(last)
    assert connection.closed == []
    connection._close_if_idle("second request")
    assert connection.closed == [True]


def test_request_that_arrived_early_keeps_the_connection_open(connection, monkeypatch) -> None:
    """uvicorn starts it when it completes the response before."""
    monkeypatch.setattr(
        H11Protocol, "on_response_complete", lambda self: setattr(self, "cycle", "second request")
    )
    connection.cycle = "first request"
    connection.on_response_complete()
    ((seconds, close, last),) = connection.later
    assert seconds == IDLE_SECONDS
    close(last)
    assert connection.closed == []


def test_client_that_reads_on_keeps_the_connection_open(connection, monkeypatch) -> None:
    passed, cancelled = [], []
    for name in ("pause_writing", "resume_writing"):
        monkeypatch.setattr(H11Protocol, name, lambda self, name=name: passed.append(name))
    timer = SimpleNamespace(cancel=lambda: cancelled.append(True))
    connection.loop.call_later = lambda *call: connection.later.append(call) or timer
    connection.pause_writing()
    ((seconds, close),) = connection.later
    assert seconds == IDLE_SECONDS and cancelled == []
    connection.resume_writing()
    assert cancelled == [True] and passed == ["pause_writing", "resume_writing"]
    close()
    assert connection.closed == [True], "unless the timer was cancelled"
