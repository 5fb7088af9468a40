"""The API's addresses: which work each stands for, in which queue, and how it may be refused."""

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as InPath
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import ClientDisconnect

from tools.server import words
from tools.server.guard import COOKIE, same, session_of
from tools.server.limits import Limits, Refusal
from tools.server.service import Service
from tools.server.turns import Turns

MINUTES_5 = {"Cache-Control": "private, max-age=300"}
PHOTO = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
REASONS = {
    400: "The body is not JSON",
    401: "The server wants its token",
    403: "From a page of another site, or under another name than the server's own",
    404: "No such garment or photo",
    408: "The request took too long to arrive",
    409: "This server takes no photos",
    410: "The upload has been forgotten",
    413: "Larger than the server takes",
    422: "Not what can be answered",
    503: "Busy, or the database cannot be read; Retry-After says when to come back",
}

Key = Annotated[str, InPath(examples=[words.KEY], description="Of a stored garment, URL-encoded")]
Size = Annotated[Literal["160", "320", "640", "1280"], Query(description="Longer side in pixels")]
View = Annotated[
    Literal["garment", "photo"], Query(description="What is around its box, or all of its photo")
]


class _AnyText(PathConvertor):
    """Starlette's ``path`` ends at a line break, which a photo's name may hold."""

    regex = "(?s:.*)"


register_url_convertor("text", _AnyText())


class Queues:
    """Where requests wait: photos one at a time, searches, and what is over in no time.

    The last queue is long: a page asks for dozens of thumbnails at once.
    """

    def __init__(self, limits: Limits) -> None:
        self.photos = Turns(1, limits.waiting_photos)
        self.searches = Turns(2, limits.waiting_searches)
        self.others = Turns(2, 8 * limits.waiting_searches)


def refusals(*statuses: int) -> dict[int, dict]:
    """What OpenAPI says of an operation's refusals; any request may meet the common ones."""
    common = (401, 403, 408, 413, 503)
    return {
        status: {"model": words.Problem, "description": REASONS[status]}
        for status in sorted({*common, *statuses})
    }


def add_queries(app: FastAPI, service: Service, queues: Queues) -> None:
    @app.post(
        "/api/detect", response_model=words.Detected, responses=refusals(409, 422),
        openapi_extra={"requestBody": {"required": True} | PHOTO},
    )  # fmt: skip
    async def detect(request: Request) -> dict:
        """Find the garments on a photo. The request's body is the photo's file, as it is."""
        with queues.photos.place():
            try:
                data = await request.body()
            except ClientDisconnect:
                raise Refusal(400, "The upload was broken off; send the photo again") from None
            return await queues.photos.run(service.detect, data)

    @app.post(
        "/api/search", response_model=words.Results, responses=refusals(400, 404, 410, 422)
    )  # fmt: skip
    async def search(wanted: words.SearchRequest) -> dict:
        """Rank the stored garments by their likeness to an uploaded or a stored one."""
        with queues.searches.place():
            return await queues.searches.run(service.search, wanted)


def add_items(app: FastAPI, service: Service, queues: Queues) -> None:
    @app.get("/api/items/{key:text}", response_model=words.StoredItem, responses=refusals(404, 422))
    async def item(key: Key) -> dict:
        """What is known of a stored garment."""
        with queues.others.place():
            return asdict(await queues.others.run(service.item, key))

    @app.get(
        "/api/photo/{key:text}", response_class=Response,
        responses=refusals(404, 422) | {200: {"content": {"image/jpeg": {}}}},
    )  # fmt: skip
    async def photo(key: Key, size: Size = "320", view: View = "garment") -> Response:
        """A stored garment's picture, as a small JPEG."""
        with queues.others.place():
            data = await queues.others.run(service.thumbnail, key, int(size), view == "photo")
        return Response(data, media_type="image/jpeg", headers=MINUTES_5)


def add_status(app: FastAPI, service: Service, queues: Queues) -> None:
    @app.get("/api/stats", response_model=words.Stats, responses=refusals())
    async def stats() -> dict:
        """What there is to search by."""
        with queues.others.place():
            return await queues.others.run(service.stats)

    @app.get("/api/health", response_model=words.Health, responses=refusals())
    async def health() -> dict:
        """Whether the server and its database answer. Needs no token."""
        with queues.others.place():
            return await queues.others.run(service.health)


def add_session(app: FastAPI, token: str | None) -> None:
    @app.post("/api/session", status_code=204, responses=refusals(400, 422))
    async def session(login: words.Login, request: Request, response: Response) -> None:
        """Swap the token for the page's cookie, since pictures in a page carry no headers."""
        if token is None:
            return
        if not same(login.token.encode(), token.encode()):
            raise Refusal(401, "This is not the server's token")
        secret, secure = session_of(token.encode()).decode(), request.url.scheme == "https"
        response.set_cookie(COOKIE, secret, httponly=True, samesite="strict", secure=secure)
