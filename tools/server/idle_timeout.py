"""Closes idle connections, which uvicorn would keep open."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20


class IdleTimeoutProtocol(H11Protocol):
    """Closes a connection whose next request has not begun within HEAD_SECONDS.

    uvicorn waits forever for the first request, and for later ones as long as any bytes arrive.
    Such connections would use up the limit of concurrent connections.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._expect_request_after(None)

    def on_response_complete(self) -> None:
        completed = self.cycle  # saved first: the next line starts a request that already arrived
        super().on_response_complete()
        self._expect_request_after(completed)

    def _expect_request_after(self, last: object) -> None:
        self.loop.call_later(HEAD_SECONDS, self._close_if_idle, last)

    def _close_if_idle(self, last: object) -> None:
        if self.cycle is last:  # no new request has begun
            self.transport.close()
