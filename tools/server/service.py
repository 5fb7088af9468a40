"""What the API does, apart from HTTP: detect, search, look up, count."""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np

from engine.errors import InputError
from retrieval.features import normalized_weights
from retrieval.search import equal_weights
from retrieval.store import Filter, Hit, Item, Store
from tools.server.handles import Handles
from tools.server.limits import Limits, Refusal
from tools.server.pictures import Pictures
from tools.server.polygons import box_polygon, to_polygons
from tools.server.vision import Sight, Vision
from tools.server.words import SearchRequest

EXAMPLES = 12
LOOKED_AT = 8 * EXAMPLES  # garments, of which the largest become examples
COUNTS_STALE = 60  # seconds after which a database that has changed is counted anew
Answer = dict[str, Any]
Result = TypeVar("Result")


class Service:
    """A database, what sees photos, and what is remembered of them. Methods run on any thread.

    Args:
        store: the database, open for reading.
        vision: None where uploads are not taken.
        pictures: of the stored photos.
        limits: of everything.
    """

    def __init__(
        self, store: Store, vision: Vision | None, pictures: Pictures, limits: Limits
    ) -> None:
        self.store, self.vision, self.pictures, self.limits = store, vision, pictures, limits
        self.handles = Handles(limits.handles, limits.handle_seconds)
        self._guard = threading.Lock()
        self._counts: Answer | None = None
        self._counted: tuple[float, Hashable] = 0.0, None  # when, and which version

    def detect(self, data: bytes) -> Answer:
        """Find the garments on a photo and remember their vectors."""
        if self.vision is None:
            raise Refusal(409, "This server takes no photos: it was started without models")
        sight = self.vision.look(data)
        whole = not sight.categories
        return {
            "width": sight.found.width,
            "height": sight.found.height,
            "expires_in": self.limits.handle_seconds,
            "whole_photo": whole,
            "garments": [self._garment(sight, i, whole) for i in range(len(sight.found))],
        }

    def _garment(self, sight: Sight, i: int, whole: bool) -> Answer:
        found = sight.found
        outline = to_polygons(found.masks[i]) if found.masks is not None else []
        return {
            "handle": self.handles.put(sight.vectors[i]),
            "category": None if whole else sight.categories[i],
            "score": None if whole else round(float(found.scores[i]), 4),
            "box": [round(float(value), 2) for value in found.boxes[i]],
            "outline": outline or box_polygon(found.boxes[i]),
        } | sight.descriptions[i].to_plain()

    def search(self, wanted: SearchRequest) -> Answer:
        """Rank the stored garments."""
        started = time.perf_counter()
        weights = self._weights(wanted.weights)
        vector, exclude = self._query(wanted)
        filter = Filter(
            categories=tuple(wanted.categories),
            attributes={name: tuple(v) for name, v in wanted.attributes.items() if v},
            exclude_keys=exclude,
        )
        (hits,) = self._read(
            lambda: self.store.search(vector[None], weights=weights, k=wanted.k, filter=filter)
        )
        seconds = time.perf_counter() - started
        return {"hits": [_hit(hit) for hit in hits], "milliseconds": round(1000 * seconds, 2)}

    def _weights(self, given: dict[str, float]) -> dict[str, float]:
        weights = given or equal_weights(self.store.schema)
        try:
            normalized_weights(weights, self.store.schema)
        except InputError as error:
            raise Refusal(422, str(error)) from None
        return weights

    def _query(self, wanted: SearchRequest) -> tuple[np.ndarray, tuple[str, ...]]:
        """The vector f32[D], and the keys that are no answer to it."""
        if wanted.handle is not None:
            vector = self.handles.get(wanted.handle)
            if vector is None:
                raise Refusal(410, "This upload has been forgotten; send the photo again")
            return vector, ()
        self.item(wanted.key)
        return self._read(lambda: self.store.vectors([wanted.key]))[0], (wanted.key,)

    def item(self, key: str) -> Item:
        """A stored garment."""
        (item,) = self._read(lambda: self.store.get([key]))
        if item is None:
            raise Refusal(404, "No garment has this key")
        return item

    def thumbnail(self, key: str, size: int, whole: bool) -> bytes:
        """JPEG of a stored garment, or of the photo it is on."""
        return self.pictures.thumbnail(self.item(key), size, whole)

    def health(self) -> Answer:
        return {"status": "ok", "items": self._read(self.store.count)}

    def stats(self) -> Answer:
        """What there is to search by; counting takes a while, so it is not done every time."""
        with self._guard:
            now, version = time.monotonic(), self._read(self.store.version)
            counted_at, counted = self._counted
            if self._counts is None or (now - counted_at > COUNTS_STALE and version != counted):
                self._counts, self._counted = self._read(self._count), (now, version)
            return self._counts

    def _count(self) -> Answer:
        categories, attributes = self.store.labels()
        keys = self.store.keys()
        uploads = {
            "possible": self.vision is not None,
            "most_bytes": self.limits.upload_bytes,
            "most_pixels": self.limits.upload_pixels,
            "kept_seconds": self.limits.handle_seconds,
        }
        return {
            "items": len(keys),
            "aspects": list(self.store.schema.names),
            "photos": self.pictures.root is not None,
            "categories": categories,
            "attributes": attributes,
            "examples": [item.key for item in self._examples(keys)],
            "uploads": uploads,
        }

    def _examples(self, keys: list[str]) -> list[Item]:
        """From all over the database, and large in their photos: shoes far away invite nobody."""
        places = np.linspace(0, len(keys) - 1, min(LOOKED_AT, len(keys))).astype(int)
        found = [item for item in self.store.get([keys[place] for place in places]) if item]
        stretches = [part for part in np.array_split(np.arange(len(found)), EXAMPLES) if len(part)]
        return [max((found[i] for i in part), key=_area) for part in stretches]

    def _read(self, read: Callable[[], Result]) -> Result:
        """Requests are checked before; what goes wrong then is the database's fault."""
        try:
            return read()
        except InputError as error:
            sentence = "The database cannot be read now; the server's log says why"
            raise Refusal(503, sentence, retry_after=10) from error


def _area(item: Item) -> float:
    """Of its box; an item without one fills its photo."""
    if item.box is None:
        return np.inf
    x1, y1, x2, y2 = item.box
    return (x2 - x1) * (y2 - y1)


def _hit(hit: Hit) -> Answer:
    aspects = {name: round(value, 4) for name, value in hit.aspects.items()}
    return {"item": asdict(hit.item), "score": round(hit.score, 4), "aspects": aspects}
