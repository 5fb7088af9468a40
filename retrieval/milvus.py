"""The feature store on a Milvus server or cluster: ``http://host:19530#collection``.

A database is two collections: ``collection`` holds a row per garment (key, texts to filter by, the
item as JSON, its vector), ``collection_photos`` a row per photo. The feature schema is part of the
first one's description: written when it is created, compared whenever it is opened.

Search is one inner product of the weighted query with the stored concatenated vectors, over a FLAT
index, ranked exactly by ``milvus_search``.

Consistency. A ``Strong`` read waits until the query nodes have seen everything written before it:
one or two ticks of the server's clock, 0.2 to 0.4 seconds. A ``Bounded`` read returns at once (10
ms) and may miss what was written in the last five seconds. Reads of everything (count, keys,
photos, verify) are strong. ``search``, ``get`` and ``vectors`` are strong in the first seconds
after opening or writing, and bounded afterwards: they always see what was stored when the store was
opened and what it wrote itself, and see other processes' writes within seconds. ``Session`` is not
enough: it may still return an item that was just deleted.

No transactions. Milvus makes only single calls atomic, so ``put_photos`` and ``delete_photos``
first mark the photos as unfinished (a state that no file has), then replace their rows, then write
or remove the real state. A kill in between leaves marked photos with old garments, new ones, or
some of both. The next build finds that their state differs from the file's and puts them again, or
deletes them if the file is gone; ``verify`` lists them.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from engine.errors import InputError
from retrieval import milvus_rows as rows
from retrieval.features import FeatureSchema
from retrieval.milvus_link import Address, Link, create_collection, load_collections, read_note
from retrieval.milvus_search import Search
from retrieval.store import (
    Filter,
    Hit,
    Item,
    PhotoEntry,
    PhotoState,
    Store,
    check_queries,
    check_rows,
    merge_entries,
)

CALL_BYTES = 16 << 20  # of rows in one call; a server accepts 64 MiB by default
MOST_ROWS = 16_384  # that Milvus returns for one query
LISTED = 1_000  # names in one expression
STALE_SECONDS = 6  # how old the state of a bounded read may be; Milvus's own setting is 5


class MilvusStore(Store):
    """See the module and ``Store``. Several processes may write; the last write of a photo wins.

    Unlike in a folder, a kill can leave photos of a batch half replaced (but marked as such), and
    only the first rows of an ``add`` of thousands.
    """

    def __init__(
        self,
        location: str,
        *,
        schema: FeatureSchema | None = None,
        create: bool = False,
        read_only: bool = False,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        address = Address.parse(location)
        self._items, self._photos = address.collection, f"{address.collection}_photos"
        self._read_only = read_only
        self._changed = time.monotonic()  # other processes may just have written
        self._link = Link(address)
        try:
            self.name = str(address)
            self.schema, self.about = self._open(schema, create and not read_only, about or {})
        except BaseException:
            self._link.close()
            raise
        row_bytes = 4 * self.schema.dim + 1024  # a record is a few hundred bytes
        self._page = max(1, min(MOST_ROWS, CALL_BYTES // row_bytes))

    def _open(
        self, schema: FeatureSchema | None, may_create: bool, about: Mapping[str, Any]
    ) -> tuple[FeatureSchema, dict[str, Any]]:
        where = str(self._link.address)
        note = read_note(self._link, self._items)
        if note is None:
            if not may_create or schema is None:
                raise InputError(f"{where}: no such collection; build the database first")
            note = {"items": schema.to_plain(), "about": dict(about)}
            self._create(schema, note)
        stored = FeatureSchema.from_plain(note.get("items"), where)
        if schema is not None:
            stored.require_same(schema, where)
        load_collections(self._link, (self._items, self._photos))
        return stored, dict(note.get("about", {}))

    def _create(self, schema: FeatureSchema, note: dict[str, Any]) -> None:
        """Photos' collection first: the items' collection means that the database is complete."""
        others = read_note(self._link, self._photos)
        if others is None:
            texts = ("photo", "record")
            create_collection(
                self._link, self._photos, texts=texts, tags=False, dim=2, note={"photos": 1}
            )
        elif "photos" not in others:
            raise InputError(f"{self._link.address}: {self._photos} is another database's")
        texts = ("key", "photo", "category", "record")
        create_collection(
            self._link, self._items, texts=texts, tags=True, dim=schema.dim, note=note
        )

    def close(self) -> None:
        self._link.close()

    # Writing

    def put_photos(self, batch: Iterable[PhotoEntry]) -> None:
        states, items, vectors = merge_entries(batch, self.schema)
        photos = [state.photo for state in states]
        data = rows.item_rows(items, vectors)  # first, because it refuses bad items
        self._mark_unfinished(photos)
        self._upsert(self._items, data)
        self._delete_others(photos, items)
        self._upsert(self._photos, [rows.photo_row(state) for state in states])

    def _mark_unfinished(self, photos: Iterable[str]) -> None:
        marks = [PhotoState(photo, rows.UNFINISHED, rows.UNFINISHED) for photo in photos]
        self._upsert(self._photos, [rows.photo_row(mark) for mark in marks])

    def _delete_others(self, photos: Sequence[str], items: Sequence[Item]) -> None:
        """Remove garments that the photos no longer have."""
        keys: dict[str, list[str]] = {photo: [] for photo in photos}
        for item in items:
            keys[item.photo].append(item.key)
        for some in rows.chunks(photos, LISTED):
            others = rows.one_of("photo", some)
            if kept := [key for photo in some for key in keys[photo]]:
                others += f" and not ({rows.one_of('key', kept)})"
            self._write("delete", self._items, filter=others)

    def add(self, items: Sequence[Item], vectors: np.ndarray) -> None:
        vectors = check_rows(items, vectors, self.schema)
        self._upsert(self._items, rows.item_rows(items, vectors))

    def delete(self, keys: Iterable[str]) -> int:
        found = [row["key"] for row in self._rows_of(list(keys), ["key"], strong=True)]
        for some in rows.chunks(found, LISTED):
            # Not ids=some: pymilvus would put the keys into an expression without quoting them.
            self._write("delete", self._items, filter=rows.one_of("key", some))
        return len(found)

    def delete_photos(self, photos: Iterable[str]) -> int:
        photos = list(dict.fromkeys(photos))
        self._mark_unfinished(photos)
        deleted = 0
        for some in rows.chunks(photos, LISTED):
            deleted += self.delete(self._keys(rows.one_of("photo", some)))
            self._write("delete", self._photos, filter=rows.one_of("photo", some))
        return deleted

    def _upsert(self, collection: str, data: Sequence[dict[str, Any]]) -> None:
        for some in rows.chunks(data, self._page):
            self._write("upsert", collection, list(some))

    def _write(self, method: str, *args: Any, **kwargs: Any) -> None:
        if self._read_only:
            raise InputError(f"{self._link.address}: opened for reading only")
        try:
            self._link.call(method, *args, **kwargs)
        finally:
            self._changed = time.monotonic()

    # Reading

    def get(self, keys: Iterable[str]) -> list[Item | None]:
        keys = list(keys)
        found = {row["key"]: rows.read_item(row) for row in self._rows_of(keys, ["key", "record"])}
        return [found.get(key) for key in keys]

    def vectors(self, keys: Sequence[str]) -> np.ndarray:
        found = {row["key"]: row["vector"] for row in self._rows_of(keys, ["key", "vector"])}
        for key in keys:
            if key not in found:
                raise InputError(f"{self._link.address}: no item {key!r}")
        return rows.matrix([found[key] for key in keys], self.schema.dim)

    def count(self, filter: Filter | None = None) -> int:
        (row,) = self._query(rows.expression(filter), ["count(*)"], strong=True)
        return int(row["count(*)"])

    def keys(self, filter: Filter | None = None) -> list[str]:
        return self._keys(rows.expression(filter))

    def _keys(self, expression: str) -> list[str]:
        pages = self._pages(self._items, ["key"], expression)
        return sorted(row["key"] for page in pages for row in page)

    def photos(self) -> dict[str, PhotoState]:
        pages = self._pages(self._photos, ["photo", "record"])
        return {row["photo"]: rows.read_photo(row) for page in pages for row in page}

    def _rows_of(
        self, keys: Sequence[str], fields: list[str], strong: bool = False
    ) -> Iterator[dict[str, Any]]:
        for some in rows.chunks(list(dict.fromkeys(keys)), min(LISTED, self._page)):
            yield from self._query(rows.one_of("key", some), fields, strong=strong)

    def _query(
        self, expression: str, fields: list[str], *, strong: bool = False
    ) -> list[dict[str, Any]]:
        return self._link.call(
            "query",
            self._items,
            filter=expression,
            output_fields=fields,
            consistency_level="Strong" if strong else self._consistency(),
        )

    def _pages(
        self, collection: str, fields: list[str], expression: str = ""
    ) -> Iterator[list[dict[str, Any]]]:
        """All rows that pass, page by page; the first field must be the collection's key.

        pymilvus has an iterator for this, but it puts keys into expressions without quoting
        them, and on older servers it may return rows as they were before the last write.
        """
        key, beyond = fields[0], ""
        limit = MOST_ROWS if fields == [key] else self._page
        while page := self._link.call(
            "query",
            collection,
            filter=" and ".join(f"({term})" for term in (beyond, expression) if term),
            output_fields=fields,
            limit=limit,
            reduce_stop_for_best=True,  # the lowest keys, not the first rows found
            consistency_level="Strong",
        ):
            yield page  # a page that is not full need not be the last
            beyond = f"{key} > {rows.quote(max(row[key] for row in page))}"

    def _consistency(self) -> str:
        settled = time.monotonic() > self._changed + STALE_SECONDS
        return "Bounded" if settled else "Strong"

    # Upkeep

    def verify(self, *, repair: bool = False) -> list[str]:
        problems, damaged = [], set()
        fields = ["key", "photo", "category", "tags", "record", "vector"]
        for page in self._pages(self._items, fields):
            found = [(row["photo"], text) for row in page if (text := rows.problem(row))]
            problems += [text for _, text in found]
            damaged |= {photo for photo, _ in found}
        for photo, state in self.photos().items():
            if state.size == rows.UNFINISHED:
                problems.append(f"{photo}: was being replaced when a process ended; build again")
        if repair:
            self.delete_photos(damaged)
        return problems

    def compact(self) -> None:
        """Ask the server to compact, which it does later in the background."""
        for collection in (self._items, self._photos):
            self._write("flush", collection)
            self._write("compact", collection)

    # Search

    def search(
        self,
        queries: np.ndarray,
        *,
        weights: Mapping[str, float],
        k: int,
        filter: Filter | None = None,
    ) -> list[list[Hit]]:
        queries = check_queries(queries, k, self.schema)
        passing = rows.expression(filter)
        fields = ["key", "record", "vector"]

        def nearest(weighted: np.ndarray, limit: int) -> list[list[dict[str, Any]]]:
            found = self._link.call(
                "search",
                self._items,
                data=list(weighted),
                filter=passing,
                limit=limit,
                output_fields=fields,
                consistency_level=self._consistency(),
            )
            return [
                [{**hit["entity"], "distance": hit["distance"]} for hit in hits] for hits in found
            ]

        search = Search(
            schema=self.schema,
            weights=weights,
            k=k,
            nearest=nearest,
            everything=lambda: self._pages(self._items, fields, passing),
            most=self._page,
        )
        return search.run(queries)
