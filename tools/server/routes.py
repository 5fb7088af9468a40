"""The API's routes: the work of each, its queue, and the errors it may return."""

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as InPath
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import ClientDisconnect

from tools.server import schemas
from tools.server.guard import COOKIE, same, session_of
from tools.server.limits import Limits, Refusal
from tools.server.service import Service
from tools.server.work_queue import WorkQueue

MINUTES_5 = {"Cache-Control": "private, max-age=300"}
PHOTO = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
REASONS = {
    400: "The body is not JSON",
    401: "The server requires its token",
    403: "Sent by a page of another site, or to another host name than the server's own",
    404: "No such garment or photo",
    408: "The request took too long to arrive",
    409: "This server accepts no photos",
    410: "The upload has expired",
    413: "Larger than the server accepts",
    422: "Invalid request",
    503: "Busy, or the database cannot be read; Retry-After says when to try again",
}

Key = Annotated[str, InPath(examples=[schemas.KEY], description="Of a stored garment, URL-encoded")]
Size = Annotated[Literal["160", "320", "640", "1280"], Query(description="Longer side in pixels")]
View = Annotated[
    Literal["garment", "photo"], Query(description="The part around its box, or the whole photo")
]


class _AnyText(PathConvertor):
    """Like Starlette's ``path``, which ends at a line break, though a photo's name may hold one."""

    regex = "(?s:.*)"


register_url_convertor("text", _AnyText())


class Queues:
    """Queues for photos (one at a time), for searches, and for all quick requests.

    The last one is long, because a page requests dozens of thumbnails at once.
    """

    def __init__(self, limits: Limits) -> None:
        self.photos = WorkQueue(1, limits.waiting_photos)
        self.searches = WorkQueue(2, limits.waiting_searches)
        self.others = WorkQueue(2, 8 * limits.waiting_searches)


def refusals(*statuses: int) -> dict[int, dict]:
    """OpenAPI's description of an operation's errors, including those that any request may get."""
    common = (401, 403, 408, 413, 503)
    return {
        status: {"model": schemas.Problem, "description": REASONS[status]}
        for status in sorted({*common, *statuses})
    }


def add_queries(app: FastAPI, service: Service, queues: Queues) -> None:
    """Add the routes that detect and search."""

    @app.post(
        "/api/detect", response_model=schemas.Detected, responses=refusals(409, 422),
        openapi_extra={"requestBody": {"required": True} | PHOTO},
    )  # fmt: skip
    async def detect(request: Request) -> dict:
        """Detect the garments in a photo. The request's body is the content of the photo's file."""
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            raise Refusal(422, "Send the photo's file as the body, not as a form's field")
        with queues.photos.slot():
            try:
                data = await request.body()
            except ClientDisconnect:
                raise Refusal(400, "The upload was interrupted; send the photo again") from None
            return await queues.photos.run(service.detect, data)

    @app.post(
        "/api/search", response_model=schemas.Results, responses=refusals(400, 404, 410, 422)
    )  # fmt: skip
    async def search(wanted: schemas.SearchRequest) -> dict:
        """Rank the stored garments by similarity to an uploaded or a stored one."""
        with queues.searches.slot():
            return await queues.searches.run(service.search, wanted)


def add_items(app: FastAPI, service: Service, queues: Queues) -> None:
    """Add the routes of stored garments and their pictures."""

    @app.get(
        "/api/items/{key:text}", response_model=schemas.StoredItem, responses=refusals(404, 422)
    )
    async def item(key: Key) -> dict:
        """A stored garment with its labels."""
        with queues.others.slot():
            return asdict(await queues.others.run(service.item, key))

    @app.get(
        "/api/photo/{key:text}", response_class=Response,
        responses=refusals(404, 422) | {200: {"content": {"image/jpeg": {}}}},
    )  # fmt: skip
    async def photo(key: Key, size: Size = "320", view: View = "garment") -> Response:
        """A stored garment's picture, as a small JPEG."""
        with queues.others.slot():
            data = await queues.others.run(service.thumbnail, key, int(size), view == "photo")
        return Response(data, media_type="image/jpeg", headers=MINUTES_5)


def add_status(app: FastAPI, service: Service, queues: Queues) -> None:
    """Add the routes of statistics and health."""

    @app.get("/api/stats", response_model=schemas.Stats, responses=refusals())
    async def stats() -> dict:
        """Size, aspects, labels and limits of the database and the server."""
        with queues.others.slot():
            return await queues.others.run(service.stats)

    @app.get("/api/health", response_model=schemas.Health, responses=refusals())
    async def health() -> dict:
        """Whether the server and its database respond. Needs no token."""
        with queues.others.slot():
            return await queues.others.run(service.health)


def add_session(app: FastAPI, token: str | None) -> None:
    """Add the route that exchanges the token for a cookie."""

    @app.post("/api/session", status_code=204, responses=refusals(400, 422))
    async def session(login: schemas.Login, request: Request, response: Response) -> None:
        """Exchange the token for a cookie, which the page's image requests carry."""
        if token is None:
            return
        if not same(login.token.encode(), token.encode()):
            raise Refusal(401, "This is not the server's token")
        secret, secure = session_of(token.encode()).decode(), request.url.scheme == "https"
        response.set_cookie(COOKIE, secret, httponly=True, samesite="strict", secure=secure)
