"""What a feature store is: items, photos, filters, hits, and the one interface of every store.

A store holds one row a garment: its item (key, photo, box, labels) and its vector, the
concatenation of all aspects in the schema's order. ``open_database`` opens a folder
(``retrieval.database``) or a Milvus collection (``retrieval.milvus``); nothing above this module
asks which of the two it got.
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
    """A stored garment. ``box`` is xyxy in pixels of the photo; an unknown label is left out."""

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
    """What a photo file was like when it was read; ``error`` says why it could not be."""

    photo: str
    size: int
    mtime_ns: int
    error: str | None = None


@dataclass(frozen=True)
class Filter:
    """Which items may be found: every field that is given must hold.

    ``attributes`` maps an attribute to its allowed values. ``folder`` allows photos below it, at
    any depth. Applied before ranking, so k items come back wherever k items pass.
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
        """Replace everything known of each photo by its state, items and vectors f32[n, D].

        A photo is never half there, whatever is killed when. Of several entries about one photo
        the last one counts. A commit takes longer than its rows: prefer large batches.

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
    """The interface. Every method raises InputError where the store cannot be read or written.

    Attributes:
        schema: of the features.
        about: what whoever made the store noted: where the photos lie, how garments were found on
            them.
        name: its folder or address, without a password.
    """

    schema: FeatureSchema
    name: str
    about: dict[str, Any]

    def note(self, about: Mapping[str, Any]) -> None:
        """Exchange ``about``, now and for who opens the store later.

        A Milvus collection keeps what it was made with.
        """

    @abstractmethod
    def add(self, items: Sequence[Item], vectors: np.ndarray) -> None:
        """Insert items with vectors f32[n, D], replacing those of the same keys, all or nothing."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> int:
        """Remove items; returns how many there were. Unknown keys are no error."""

    @abstractmethod
    def delete_photos(self, photos: Iterable[str]) -> int:
        """Forget photos and their items; returns how many items there were."""

    @abstractmethod
    def get(self, keys: Iterable[str]) -> list[Item | None]:
        """The items of the keys, in that order, None for an unknown key."""

    @abstractmethod
    def vectors(self, keys: Sequence[str]) -> np.ndarray:
        """f32[len(keys), D], in that order. InputError names the first unknown key."""

    def version(self) -> Hashable:
        """To be compared with a later one, from which it differs where items have changed.

        Of a Milvus collection no more is known than its number of items.
        """
        return self.count()

    @abstractmethod
    def count(self, filter: Filter | None = None) -> int:
        """How many items pass."""

    @abstractmethod
    def keys(self, filter: Filter | None = None) -> list[str]:
        """The keys of the items that pass, ascending."""

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
        """State of every photo that was put, those without items and unreadable ones included."""

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
        """Check everything stored against itself; a sentence for each problem found.

        Args:
            repair: also drop the items that are damaged, and what is known of their photos, so that
                the next build reads those photos again.
        """

    @abstractmethod
    def compact(self) -> None:
        """Give back the space of replaced and deleted rows."""

    def tidy(self) -> None:
        """Compact the store if that is worth it."""

    def absorb_shards(self) -> int:
        """Commit what ``open_shard`` writers have finished; returns how many photos.

        Safe at any time, while they still write and after they were killed.
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
        schema: what the features to come look like; one that differs from the stored is refused.
        create: make the store where there is none yet (needs a schema).
        read_only: take no writer's lock; writing methods are refused.
        about: what a new store notes of itself, ready for JSON.

    Raises:
        InputError: nothing there, another schema, or another process writing to the folder.
    """
    # Imported here because each needs what this module defines, and pymilvus takes a while.
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


def require_place(location: str | Path) -> None:
    """Refuse early, before models are loaded, what a build would refuse whatever its features.

    Raises:
        InputError: no database can be made there, nor the one that is there be written to.
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
    """Where process ``rank`` of a build puts its photos, beside the one that has the store open.

    A folder gets a file of this rank's own, which ``absorb_shards`` of the store commits; Milvus
    takes rows from many processes and needs no detour.
    """
    if str(location).startswith(MILVUS_PREFIXES):
        return open_database(location, schema=schema)
    from retrieval.shards import ShardWriter

    return ShardWriter(Path(location), schema=schema, rank=rank)


def check_rows(items: Sequence[Item], vectors: np.ndarray, schema: FeatureSchema) -> np.ndarray:
    """The vectors as contiguous f32[n, D], after making sure that items and vectors fit.

    Raises:
        InputError: wrong shape, values that are not finite, a repeated or an unusable key, labels
            or an extra that cannot be written as text.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    if len(items) == 0 and vectors.size == 0:
        return vectors.reshape(0, schema.dim)
    if vectors.shape != (len(items), schema.dim):
        raise InputError(
            f"{len(items)} items of {schema.dim} dimensions came with vectors of shape "
            f"{vectors.shape}: give one row an item"
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
        json.dumps(about, ensure_ascii=False).encode()  # JSON escapes half characters, UTF-8 cannot
    except (TypeError, ValueError):
        raise InputError(
            f"{item.key}: labels must be valid Unicode and extra what JSON can hold; correct them"
        ) from None


def check_distinct(items: Sequence[Item]) -> None:
    """InputError where a key comes twice: which of the two would count?"""
    seen = set()
    for item in items:
        if item.key in seen:
            raise InputError(f"{item.key}: given twice at once; give each key once")
        seen.add(item.key)


def merge_entries(
    batch: Iterable[PhotoEntry], schema: FeatureSchema
) -> tuple[list[PhotoState], list[Item], np.ndarray]:
    """States, items and vectors f32[n, D] of a checked batch, of each photo its last entry."""
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
    """InputError where an item belongs to another photo than the one it came with."""
    check_key(state.photo)
    for item in items:
        if item.photo != state.photo:
            raise InputError(f"{item.key}: belongs to {item.photo}, not to {state.photo}")


def check_key(key: str) -> None:
    """InputError for a key or photo name that not every store can hold."""
    if not key or "\0" in key:
        raise InputError(f"{key!r}: a key must be a text of at least one character, without NUL")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InputError(f"{key!r}: not valid Unicode; rename the photo") from None
