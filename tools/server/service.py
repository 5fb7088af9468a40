"""The API's work without HTTP: detect, search, look up, count."""

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
from tools.server.schemas import SearchRequest
from tools.server.vision import DescribedPhoto, Vision

EXAMPLES = 12
EXAMPLE_CANDIDATES = 8 * EXAMPLES  # garments, of which the largest become examples
COUNTS_STALE = 60  # seconds after which a changed database is counted again
Json = dict[str, Any]
Result = TypeVar("Result")


class Service:
    """A database, the models, and the vectors of uploaded garments. Methods run on any thread.

    Args:
        store: the database, open for reading.
        vision: the models; None if uploads are not accepted.
        pictures: of the stored photos.
        limits: of the server.
    """

    def __init__(
        self, store: Store, vision: Vision | None, pictures: Pictures, limits: Limits
    ) -> None:
        self.store, self.vision, self.pictures, self.limits = store, vision, pictures, limits
        self.handles = Handles(limits.handles, limits.handle_seconds)
        self._guard = threading.Lock()
        self._counts: Json | None = None
        self._counted: tuple[float, Hashable] = 0.0, None  # when, and which version

    def detect(self, data: bytes) -> Json:
        """Detect the garments in a photo (its file's content) and keep their vectors.

        Raises:
            Refusal: 409 without models, else as ``Vision.describe``.
        """
        if self.vision is None:
            raise Refusal(409, "This server accepts no photos: it was started without models")
        described = self.vision.describe(data)
        whole = not described.categories
        return {
            "width": described.found.width,
            "height": described.found.height,
            "expires_in": self.limits.handle_seconds,
            "whole_photo": whole,
            "garments": [self._garment(described, i, whole) for i in range(len(described.found))],
        }

    def _garment(self, described: DescribedPhoto, i: int, whole: bool) -> Json:
        found = described.found
        outline = to_polygons(found.masks[i]) if found.masks is not None else []
        return {
            "handle": self.handles.put(described.vectors[i]),
            "category": None if whole else described.categories[i],
            "score": None if whole else round(float(found.scores[i]), 4),
            "box": [round(float(value), 2) for value in found.boxes[i]],
            "outline": outline or box_polygon(found.boxes[i]),
        } | described.descriptions[i].to_plain()

    def search(self, wanted: SearchRequest) -> Json:
        """Rank the stored garments.

        Raises:
            Refusal: 404 for an unknown key, 410 for an expired handle, 422 for invalid weights.
        """
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
        """The query vector f32[D], and the keys to exclude from its results."""
        if wanted.handle is not None:
            vector = self.handles.get(wanted.handle)
            if vector is None:
                raise Refusal(410, "This upload has expired; send the photo again")
            return vector, ()
        self.item(wanted.key)
        return self._read(lambda: self.store.vectors([wanted.key]))[0], (wanted.key,)

    def item(self, key: str) -> Item:
        """A stored garment; Refusal 404 for an unknown key."""
        (item,) = self._read(lambda: self.store.get([key]))
        if item is None:
            raise Refusal(404, "No garment has this key")
        return item

    def thumbnail(self, key: str, size: int, whole: bool) -> bytes:
        """JPEG of a stored garment, or of the photo it is on."""
        return self.pictures.thumbnail(self.item(key), size, whole)

    def health(self) -> Json:
        """The number of items, if the database can be read."""
        return {"status": "ok", "items": self._read(self.store.count)}

    def stats(self) -> Json:
        """Counts of items and labels, and limits; counts are cached, since they take a while."""
        with self._guard:
            now, version = time.monotonic(), self._read(self.store.version)
            counted_at, counted = self._counted
            if self._counts is None or (now - counted_at > COUNTS_STALE and version != counted):
                self._counts, self._counted = self._read(self._count), (now, version)
            return self._counts

    def _count(self) -> Json:
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
        """Items from all over the database with large boxes, which make attractive examples."""
        places = np.linspace(0, len(keys) - 1, min(EXAMPLE_CANDIDATES, len(keys))).astype(int)
        found = [item for item in self.store.get([keys[place] for place in places]) if item]
        stretches = [part for part in np.array_split(np.arange(len(found)), EXAMPLES) if len(part)]
        return [max((found[i] for i in part), key=_area) for part in stretches]

    def _read(self, read: Callable[[], Result]) -> Result:
        """Call ``read``; its errors are the database's, since the request was checked before."""
        try:
            return read()
        except InputError as error:
            sentence = "The database cannot be read now; see the server's log"
            raise Refusal(503, sentence, retry_after=10) from error


def _area(item: Item) -> float:
    """The area of an item's box; infinite without one, since the item fills its photo."""
    if item.box is None:
        return np.inf
    x1, y1, x2, y2 = item.box
    return (x2 - x1) * (y2 - y1)


def _hit(hit: Hit) -> Json:
    aspects = {name: round(value, 4) for name, value in hit.aspects.items()}
    return {"item": asdict(hit.item), "score": round(hit.score, 4), "aspects": aspects}
