"""A small database with photos, a fake detector, and a server around them."""

import asyncio
import contextlib
import io
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import uvicorn
from PIL import Image
from starlette.datastructures import Headers
from starlette.types import ASGIApp

from engine.description.describer import Description
from engine.detection.detections import Detections
from engine.pixels.masks import to_rle
from retrieval.features import FeatureSchema
from retrieval.store import Item, PhotoState, Store, item_key, open_database
from tests.datasets import rectangle_rle
from tools.server.app import create_app
from tools.server.limits import Limits
from tools.server.pictures import Pictures
from tools.server.service import Service
from tools.server.uploads import open_upload
from tools.server.vision import DescribedPhoto

SCHEMA = FeatureSchema(1, tuple((a, 6) for a in ("item", "color", "texture", "shape")), "test")
CATEGORIES = ("dress", "skirt", "trousers", "shirt")
COLORS = {"red": (200, 40, 50), "navy": (30, 40, 90), "sand": (210, 190, 150)}
COUNT = 40


def unit_rows(count: int, seed: int = 0) -> np.ndarray:
    """f32[count, 24], each aspect's part of unit length."""
    rows = np.random.default_rng(seed).normal(size=(count, len(SCHEMA.aspects), 6))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    return rows.reshape(count, SCHEMA.dim).astype(np.float32)


def make_item(number: int) -> Item:
    photo = f"set {number % 2}/photo #{number:02d}.png"
    color = list(COLORS)[number % 3]
    attributes = {"color": color, "fit": "slim" if number % 5 else "wide"}
    box = (20.0, 10.0, 60.0, 110.0) if number % 2 else None
    return Item(item_key(photo, 1), photo, 1, box, CATEGORIES[number % 4], attributes)


def make_database(folder: Path) -> Path:
    """A database whose photos lie beside it; its vectors are ``unit_rows(COUNT)``."""
    items = [make_item(number) for number in range(COUNT)]
    about = {"root": str(folder / "photos")}
    with open_database(folder / "db", schema=SCHEMA, create=True, about=about) as store:
        rows = unit_rows(COUNT)
        store.put_photos(
            (PhotoState(i.photo, 1, 1), [i], row[None]) for i, row in zip(items, rows, strict=True)
        )
    for item in items:
        path = folder / "photos" / item.photo
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo_bytes(80, 120, COLORS[item.attributes["color"]]))
    return folder / "db"


def photo_bytes(
    width: int, height: int, color: tuple[int, int, int] = (90, 120, 60), kind: str = "PNG"
) -> bytes:
    """A photo of a figure in one color."""
    pixels = np.full((height, width, 3), 235, np.uint8)
    pixels[height // 6 : -height // 6, width // 4 : -width // 4] = color
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


class FakeVision:
    """Detects two garments on every photo that is wide enough, the whole photo on others.

    Their vectors are those of the stored items 3 and 8. ``seconds``: duration of a detection.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits, self.seconds = limits, 0.0

    def describe(self, data: bytes) -> DescribedPhoto:
        upload = open_upload(data, self.limits, lambda width, height: 50)
        time.sleep(self.seconds)
        width, height = upload.width, upload.height
        boxes = np.array([[0, 0, width, height]], np.float32)
        names, masks = [], None
        if width >= 40:
            boxes = np.array([[0, 0, width, height // 2], [0, height // 2, width, height]])
            names = ["shirt", "trousers"]
            rles = [rectangle_rle(width, height, tuple(box)) for box in boxes.tolist()]
            masks = [to_rle(rle, height, width) for rle in rles]
        count = len(boxes)
        scores, numbers = np.linspace(0.9, 0.6, count), np.arange(1, count + 1)
        found = Detections(width, height, boxes.astype(np.float32), scores, numbers, masks)
        described = Description(
            {"fit": [("slim", 0.8), ("wide", 0.2)]}, [("navy", "#1d2a4d", 0.7)], {}
        )
        return DescribedPhoto(found, names, [described] * count, unit_rows(COUNT)[[3, 8][:count]])


def make_service(
    store: Store, photos: Path | None, limits: Limits, with_vision: bool = True
) -> Service:
    pictures = Pictures(photos, limits.thumbnail_bytes)
    return Service(store, FakeVision(limits) if with_vision else None, pictures, limits)


@dataclass
class AppResponse:
    """The response of an ASGI application."""

    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    app: ASGIApp,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | str | dict | list | None = None,
) -> AppResponse:
    """One request to an ASGI application, without a socket. A dict or list goes as JSON."""
    sent = {"host": "localhost:8000"} | {k.lower(): v for k, v in (headers or {}).items()}
    if isinstance(body, dict | list):
        body = json.dumps(body)
        sent.setdefault("content-type", "application/json")
    body = body.encode() if isinstance(body, str) else body or b""
    sent["content-length"] = str(len(body))
    path, _, query = path.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in sent.items()],
        "server": ("localhost", 8000), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    messages: list[dict] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": body}

    async def send(message: dict) -> None:
        messages.append(message)

    with contextlib.suppress(ZeroDivisionError):  # raised on purpose by some tests
        asyncio.run(app(scope, receive, send))
    start, *parts = messages
    raw = [(name.lower(), value) for name, value in start["headers"]]
    return AppResponse(
        start["status"], Headers(raw=raw), b"".join(m.get("body", b"") for m in parts)
    )


@contextmanager
def running(service: Service, **options) -> Iterator[str]:
    """A real server on a free port of this machine; yields its URL."""
    app = create_app(service, **options)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
