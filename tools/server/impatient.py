"""Connections that wait for nobody: uvicorn's, but for those that never ask for anything."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20


class Impatient(H11Protocol):
    """Closes a connection whose first request has not begun in time.

    uvicorn waits for it for ever, though each such connection takes the place of one that works.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.loop.call_later(HEAD_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None:  # of a request and its answer
            self.transport.close()
