"""Connections that wait for nobody: uvicorn's, but for those that ask for nothing more."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20


class Impatient(H11Protocol):
    """Closes a connection whose next request has not begun in time.

    uvicorn waits for the first one for ever, and for another as long as anything comes, though each
    such connection takes the place of one that works.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._expect_another_than(None)

    def on_response_complete(self) -> None:
        answered = self.cycle  # a request that has come in the meantime begins in the next line
        super().on_response_complete()
        self._expect_another_than(answered)

    def _expect_another_than(self, last: object) -> None:
        self.loop.call_later(HEAD_SECONDS, self._close_if_silent, last)

    def _close_if_silent(self, last: object) -> None:
        if self.cycle is last:  # of a request and its answer
            self.transport.close()
