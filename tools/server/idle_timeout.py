"""Closes connections whose client is silent or does not read; uvicorn would keep them open."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE_SECONDS = 20


class IdleTimeoutProtocol(H11Protocol):
    """Closes a connection whose next request has not begun, or response not been read, in time.

    uvicorn waits forever for the first request, for later ones as long as any bytes arrive, and for
    the client to read a response. Such connections would use up the limit of concurrent
    connections, and the last kind would keep the server from ending.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._expect_request_after(None)

    def on_response_complete(self) -> None:
        completed = self.cycle  # saved first: the next line starts a request that already arrived
        super().on_response_complete()
        self._expect_request_after(completed)

    def pause_writing(self) -> None:
        """Called by asyncio when much is left to send, until ``resume_writing``."""
        super().pause_writing()
        self._stalled = self.loop.call_later(IDLE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        self._stalled.cancel()
        super().resume_writing()

    def _expect_request_after(self, last: object) -> None:
        self.loop.call_later(IDLE_SECONDS, self._close_if_idle, last)

    def _close_if_idle(self, last: object) -> None:
        if self.cycle is last:  # no new request has begun
            self.transport.abort()  # unlike close(), does not wait for the client to read the rest
