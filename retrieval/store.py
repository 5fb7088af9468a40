"""The interface of a feature store, and its types: items, photos, filters, hits.

A store holds one row per garment: its item (key, photo, box, labels) and its vector, the
concatenation of all aspects in the schema's order. ``open_database`` opens a folder
(``retrieval.database``) or a Milvus collection (``retrieval.milvus``); callers do not depend on
which of the two it is.
"""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from engine.errors import InputError
from retrieval.features import FeatureSchema

MILVUS_PREFIXES = ("http://", "https://", "tcp://")
READ_AT_ONCE = 4096  # items


@dataclass(slots=True)
class Item:
    """A stored garment. ``box`` is xyxy in pixels of the photo, None for a whole photo; unknown
    labels are left out."""

    key: str
    photo: str  # relative to the root the photos were read from, with forward slashes
    garment: int = 0
    box: tuple[float, ...] | None = None
    category: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    identity: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)  # anything JSON can hold


@dataclass(slots=True)
class PhotoState:
    """Size in bytes and modification time of a photo file when it was read; ``error`` if it was
    unreadable."""

    photo: str
    size: int
    mtime_ns: int
    error: str | None = None


@dataclass(frozen=True)
class Filter:
    """Which items a search may return: those that meet every given field.

    ``attributes`` maps an attribute to its allowed values. ``folder`` allows photos below it, at
    any depth. Applied before ranking, so k hits are returned if k items pass.
    """

    categories: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    folder: str | None = None
    exclude_photos: tuple[str, ...] = ()
    exclude_keys: tuple[str, ...] = ()


@dataclass(slots=True)
class Hit:
    """A found item; its score is the weighted mean of its cosines to the query, ``aspects``."""

    item: Item
    score: float
    aspects: dict[str, float]


PhotoEntry = tuple[PhotoState, Sequence[Item], np.ndarray]


def item_key(photo: str, garment: int) -> str:
    """The key of a photo's garment: ``folder/photo.jpg#1``."""
    return f"{photo}#{garment}"


class PhotoSink(ABC):
    """Takes finished photos: a store, or one process's share of a build (``open_shard``)."""

    @abstractmethod
    def put_photos(self, batch: Iterable[PhotoEntry]) -> None:
        """Replace everything stored of each photo by its new state, items and vectors f32[n, D].

        Atomic per photo, even if a process is killed. Of several entries about one photo the last
        one counts. A commit costs more than its rows: prefer large batches.

        Raises:
            InputError: for entries that do not fit the schema, or a store that cannot be written.
        """

    @abstractmethod
    def close(self) -> None:
        """Free files, locks and connections. Closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Store(PhotoSink):
    """A feature store. Every method raises InputError if the store cannot be read or written.

    Attributes:
        schema: of the features.
        about: metadata set by the builder: the photos' folder, how garments were detected.
        name: its folder or address, without a password.
    """

    schema: FeatureSchema
    name: str
    about: dict[str, Any]

    def set_about(self, about: Mapping[str, Any]) -> None:
        """Replace ``about`` permanently. A Milvus collection keeps its original one."""

    @abstractmethod
    def add(self, items: Sequence[Item], vectors: np.ndarray) -> None:
        """Insert items with vectors f32[n, D], replacing those of the same keys, all or nothing."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> int:
        """Remove items; returns how many existed. Unknown keys are ignored."""

    @abstractmethod
    def delete_photos(self, photos: Iterable[str]) -> int:
        """Remove photos and their items; returns how many items they had."""

    @abstractmethod
    def get(self, keys: Iterable[str]) -> list[Item | None]:
        """The items in the order of ``keys``, None for an unknown key."""

    @abstractmethod
    def vectors(self, keys: Sequence[str]) -> np.ndarray:
        """f32[len(keys), D] in the order of ``keys``. InputError names the first unknown key."""

    def version(self) -> Hashable:
        """A value that changes when items change, to detect updates by comparison.

        For a Milvus collection it is only the number of items.
        """
        return self.count()

    @abstractmethod
    def count(self, filter: Filter | None = None) -> int:
        """How many items pass the filter."""

    @abstractmethod
    def keys(self, filter: Filter | None = None) -> list[str]:
        """The keys of the items that pass the filter, ascending."""

    def labels(self) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
        """How many items have each category, and each value of each attribute."""
        categories: Counter[str] = Counter()
        attributes: dict[str, Counter[str]] = {}
        keys = self.keys()
        for start in range(0, len(keys), READ_AT_ONCE):
            for item in filter(None, self.get(keys[start : start + READ_AT_ONCE])):
                categories.update([item.category] if item.category else [])
                for name, value in item.attributes.items():
                    attributes.setdefault(name, Counter())[value] += 1
        return dict(categories), {name: dict(values) for name, values in attributes.items()}

    @abstractmethod
    def photos(self) -> dict[str, PhotoState]:
        """State of every stored photo, including unreadable ones and those without items."""

    @abstractmethod
    def search(
        self,
        queries: np.ndarray,
        *,
        weights: Mapping[str, float],
        k: int,
        filter: Filter | None = None,
    ) -> list[list[Hit]]:
        """The k best items for each of the queries f32[Q, D], best first, ties by key ascending.

        The score is sum_a w_a cos_a / sum_a w_a over the aspects. Fewer than k hits come back
        only where fewer items pass the filter. InputError for weights or k out of range.
        """

    @abstractmethod
    def verify(self, *, repair: bool = False) -> list[str]:
        """Check the stored data for consistency; returns a sentence for each problem found.

        Args:
            repair: also remove damaged items and their photos' states, so that the next build reads
                those photos again.
        """

    @abstractmethod
    def compact(self) -> None:
        """Free the space of replaced and deleted rows."""

    def compact_if_worthwhile(self) -> None:
        """Compact the store if it would free enough space."""

    def absorb_shards(self) -> int:
        """Commit the photos that ``open_shard`` writers have finished; returns how many.

        Safe at any time, also while they are writing and after they were killed.
        """
        return 0


def open_database(
    location: str | Path,
    *,
    schema: FeatureSchema | None = None,
    create: bool = False,
    read_only: bool = False,
    about: Mapping[str, Any] | None = None,
) -> Store:
    """Open a folder, or a Milvus collection given as ``http://host:19530#collection``.

    Args:
        location: the folder or address.
        schema: of the caller's features; refused if it differs from the stored one.
        create: create the store if there is none (needs a schema).
        read_only: take no writer's lock; writing methods raise InputError.
        about: metadata of a new store, ready for JSON.

    Raises:
        InputError: no database there, another schema, or another process writing to the folder.
    """
    # Imported here: both modules import this one, and importing pymilvus takes a while.
    if str(location).startswith(MILVUS_PREFIXES):
        from retrieval.milvus import MilvusStore

        return MilvusStore(
            str(location), schema=schema, create=create, read_only=read_only, about=about
        )
    from retrieval.database import LocalDatabase

    return LocalDatabase(
        Path(location),
        schema=schema,
        create=create,
        read_only=read_only,
        about=about,
    )


def require_writable(location: str | Path) -> None:
    """Check early, before models are loaded, that a database can be created or written there.

    Raises:
        InputError: it cannot be.
    """
    if str(location).startswith(MILVUS_PREFIXES):
        from retrieval.milvus_link import Address, Link

        Link(Address.parse(str(location))).close()
        return
    from retrieval.folder import is_database, require_free

    if is_database(Path(location)):
        open_database(location).close()
    else:
        require_free(Path(location))


def open_shard(location: str | Path, *, schema: FeatureSchema, rank: int) -> PhotoSink:
    """Where process ``rank`` of a build puts its photos, while rank 0 has the store open.

    For a folder it is a shard of its own, which ``Store.absorb_shards`` commits; Milvus accepts
    rows from many processes directly.
    """
    if str(location).startswith(MILVUS_PREFIXES):
        return open_database(location, schema=schema)
    from retrieval.shards import ShardWriter

    return ShardWriter(Path(location), schema=schema, rank=rank)


def check_rows(items: Sequence[Item], vectors: np.ndarray, schema: FeatureSchema) -> np.ndarray:
    """Check that items and vectors can be stored; returns the vectors as contiguous f32[n, D].

    Raises:
        InputError: wrong shape, values that are not finite, a repeated or invalid key, or labels
            or ``extra`` that cannot be written as JSON in UTF-8.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    if len(items) == 0 and vectors.size == 0:
        return vectors.reshape(0, schema.dim)
    if vectors.shape != (len(items), schema.dim):
        raise InputError(
            f"{len(items)} items of {schema.dim} dimensions came with vectors of shape "
            f"{vectors.shape}: give one row per item"
        )
    for item, row_is_finite in zip(items, np.isfinite(vectors).all(axis=1), strict=True):
        check_key(item.key)
        if not row_is_finite:
            raise InputError(f"{item.key}: its vector holds NaN or infinity; leave the item out")
        _check_texts(item)
    check_distinct(items)
    return vectors


def _check_texts(item: Item) -> None:
    attributes = {str(name): str(value) for name, value in item.attributes.items()}
    about = [item.photo, item.category, item.identity, attributes, item.extra]
    try:
        # Not escaped to ASCII, so that encoding finds lone surrogates, which UTF-8 cannot hold.
        json.dumps(about, ensure_ascii=False).encode()
    except (TypeError, ValueError):
        raise InputError(
            f"{item.key}: labels must be valid Unicode and extra valid JSON; correct them"
        ) from None


def check_distinct(items: Sequence[Item]) -> None:
    """InputError if a key occurs twice, since it is unclear which of the items to store."""
    seen = set()
    for item in items:
        if item.key in seen:
            raise InputError(f"{item.key}: occurs twice in one batch; give each key once")
        seen.add(item.key)


def merge_entries(
    batch: Iterable[PhotoEntry], schema: FeatureSchema
) -> tuple[list[PhotoState], list[Item], np.ndarray]:
    """Check a batch and keep each photo's last entry: (states, items, vectors f32[n, D])."""
    latest = {}
    for state, items, vectors in batch:
        check_photo(state, items)
        latest[state.photo] = (state, items, check_rows(items, vectors, schema))
    states = [state for state, _, _ in latest.values()]
    items = [item for _, items, _ in latest.values() for item in items]
    check_distinct(items)
    parts = [np.zeros((0, schema.dim), np.float32), *(rows for _, _, rows in latest.values())]
    return states, items, np.concatenate(parts)


def check_queries(queries: np.ndarray, k: int, schema: FeatureSchema) -> np.ndarray:
    """The queries as f32[Q, D]. InputError for another shape, NaN, or k below 1."""
    queries = np.asarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != schema.dim or not np.isfinite(queries).all():
        raise InputError(
            f"queries of shape {queries.shape}: give finite numbers, one row of {schema.dim} each"
        )
    if k < 1:
        raise InputError(f"k = {k}: ask for at least 1 item")
    return queries


def check_photo(state: PhotoState, items: Sequence[Item]) -> None:
    """InputError for an invalid photo name, or an item that belongs to another photo."""
    check_key(state.photo)
    for item in items:
        if item.photo != state.photo:
            raise InputError(f"{item.key}: belongs to {item.photo}, not to {state.photo}")


def check_key(key: str) -> None:
    """InputError for a key or photo name that some store could not hold."""
    if not key or "\0" in key:
        raise InputError(f"{key!r}: a key must have at least one character and no NUL")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InputError(f"{key!r}: not valid Unicode; rename the photo") from None
