"""The FastAPI application: the API, the page, and refusals as ``{"detail": sentence}``."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from tools.server.docs import to_html
from tools.server.guard import Guard
from tools.server.routes import Queues, add_items, add_queries, add_session, add_status
from tools.server.service import Service

PAGE = Path(__file__).parents[1] / "page"
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
NO_OBJECT = ("json_invalid", "model_attributes_type")  # pydantic's types of errors
SEND_OBJECT = "Send a JSON object as the body, and the header Content-Type: application/json"
ABOUT = """Send a photo to detect its garments; search the stored garments by one of them, or by a
stored one, with a weight for each aspect. Every error is `{"detail": "one sentence"}`."""

logger = logging.getLogger("weft")


def create_app(
    service: Service, *, token: str | None = None, hosts: frozenset[str] | None = None
) -> FastAPI:
    """The application.

    Args:
        service: what it serves.
        token: required from clients of the API; None for none.
        hosts: host names that requests may use; None for any.
    """
    queues = Queues(service.limits)
    # No Swagger UI or ReDoc: they load their code from other hosts; tools.server.docs does not.
    app = FastAPI(title="Weft", version="1", description=ABOUT, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, limits=service.limits, hosts=hosts, token=token)
    add_queries(app, service, queues)
    add_items(app, service, queues)
    add_status(app, service, queues)
    add_session(app, token)
    _add_refusals(app)
    _add_page(app)
    return app


def _add_page(app: FastAPI) -> None:
    # A route for each file, read now: no request can name another file.
    for path in PAGE.iterdir():
        if path.suffix in KINDS:
            url = "/" if path.name == "index.html" else f"/{path.name}"
            answer = _static(path.read_bytes(), KINDS[path.suffix])
            app.add_route(url, answer, include_in_schema=False)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(to_html(app.openapi()))


def _static(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return answer


def _add_refusals(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code >= 500 and error.__cause__ is not None:
            logger.warning("%s", error.__cause__)
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        sentence = f"{where}: {first['msg']}" if where else first["msg"]
        if first["type"] in NO_OBJECT or (first["type"] == "missing" and not where):
            sentence = SEND_OBJECT
        return JSONResponse({"detail": sentence}, 422)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "The server failed; see its log"}, 500)
