"""How much a client may ask of the server, and the one form that refusals take."""

from dataclasses import dataclass

from starlette.exceptions import HTTPException

MEBI = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds on memory and time.

    Attributes:
        upload_bytes: of a photo's file.
        upload_pixels: of a photo, known from its header before anything is decoded.
        json_bytes: of any other request.
        body_seconds: in which a request's body must have arrived.
        waiting_photos, waiting_searches: requests that may wait for their turn.
        handles: garments of uploaded photos to remember.
        handle_seconds: for which they are remembered.
        thumbnail_bytes: of thumbnails kept in memory.
    """

    upload_bytes: int = 20 * MEBI
    upload_pixels: int = 50_000_000
    json_bytes: int = 64 << 10
    body_seconds: float = 30
    waiting_photos: int = 8
    waiting_searches: int = 64
    handles: int = 2000
    handle_seconds: float = 1800
    thumbnail_bytes: int = 64 * MEBI


class Refusal(HTTPException):
    """An answer other than the wanted one: ``{"detail": sentence}`` with an HTTP status."""

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        headers = None if retry_after is None else {"Retry-After": str(retry_after)}
        super().__init__(status, sentence, headers)
