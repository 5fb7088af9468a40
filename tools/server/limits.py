"""Limits of what clients may send, and the exception for refused requests."""

from dataclasses import dataclass

from starlette.exceptions import HTTPException

MEBI = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds on memory and time.

    Attributes:
        upload_bytes: of a photo's file.
        upload_pixels: of a photo, checked in its header before decoding.
        json_bytes: of any other request.
        body_seconds: within which a request's body must have arrived.
        waiting_photos, waiting_searches: requests that may wait in a queue.
        handles: garments of uploaded photos whose vectors are kept.
        handle_seconds: for which they are kept.
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
    """A refused request: answered with an HTTP status and ``{"detail": sentence}``."""

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        headers = None if retry_after is None else {"Retry-After": str(retry_after)}
        super().__init__(status, sentence, headers)
