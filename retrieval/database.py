"""The local database: a folder that one process writes and any number read.

A commit has two steps; a kill or a power loss at any moment leaves the last committed state:

1. vectors are appended after the last committed row and fsynced (and a new file's folder as well);
2. one SQLite transaction removes the replaced items, adds the new ones, and records the blocks'
   checksums and the new number of rows. When SQLite commits it, the items exist.

Committed rows are never changed in place, so readers' mappings stay valid. Rows that a killed
writer appended without committing are overwritten by the next one. A compaction writes all live
rows into a new generation of segments, switches to it in one transaction and then deletes the old
generation; readers that still map the old files keep them until their next transaction.

The files on disk are described in ``retrieval.folder``.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import require
from engine.errors import InputError
from engine.lock import Lock
from retrieval import folder as db_folder
from retrieval.features import FeatureSchema
from retrieval.item_table import ItemTable
from retrieval.reader import DatabaseReader
from retrieval.segments import Layout, append, block_checksums, remove_other_generations
from retrieval.shards import Shard, shards
from retrieval.store import Item, PhotoEntry, check_rows, merge_entries
from retrieval.view import ADVICE, View

COPY_ROWS = 1 << 14  # rows that a compaction holds in memory at a time
MIN_ROWS_TO_COMPACT = 1 << 12


class LocalDatabase(DatabaseReader):
    """See ``retrieval.store``. Threads may share one; a forked process opens its own."""

    def __init__(
        self,
        folder: Path,
        *,
        schema: FeatureSchema | None = None,
        create: bool = False,
        read_only: bool = False,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        with contextlib.ExitStack() as undo:
            if not db_folder.is_database(folder):
                may_create = create and not read_only
                require(may_create, f"{folder}: no database there; build one first")
                require(schema is not None, f"{folder}: a new database needs a feature schema")
                db_folder.prepare(folder)
            self._lock = None
            if not read_only:
                self._lock = Lock(folder / db_folder.LOCK, folder, "name another database")
                undo.callback(self._lock.close)
            # Checked again: another process may have created it before we had the lock.
            if not db_folder.is_database(folder):
                ItemTable(folder / db_folder.TABLE, create=True, read_only=False).close()
                db_folder.write_description(folder, schema, Layout(schema.dim), about or {})
            stored, layout, self.about = db_folder.read_description(folder)
            self.name = str(folder)
            if schema is not None:
                stored.require_same(schema, str(folder))
            table = ItemTable(folder / db_folder.TABLE, create=False, read_only=read_only)
            undo.callback(table.close)
            super().__init__(folder, stored, layout, table)
            self._end_is_checked = False  # whether the last block is known to be undamaged
            if self._lock:
                remove_other_generations(self._segments, table.state().generation)
            undo.pop_all()

    def close(self) -> None:
        self._table.close()
        self._view = None
        if self._lock:
            self._lock.close()

    def set_about(self, about: Mapping[str, Any]) -> None:
        self._require_writer()
        db_folder.write_description(self.folder, self.schema, self.layout, about)
        self.about = dict(about)

    def put_photos(self, batch: Iterable[PhotoEntry]) -> None:
        self._put_photos(batch, lambda: None)

    def _put_photos(self, batch: Iterable[PhotoEntry], also: Callable[[], None]) -> None:
        states, items, vectors = merge_entries(batch, self.schema)

        def replaced() -> np.ndarray:
            photos = self._table.rows_of_photos(state.photo for state in states)
            return np.union1d(photos, self._table.rows_of_keys(item.key for item in items))

        def record() -> None:
            self._table.put_states(states)
            also()

        self._commit(items, vectors, replaced, record)

    def add(self, items: Sequence[Item], vectors: np.ndarray) -> None:
        vectors = check_rows(items, vectors, self.schema)
        self._commit(items, vectors, lambda: self._table.rows_of_keys(item.key for item in items))

    def delete(self, keys: Iterable[str]) -> int:
        return self._commit((), self._no_vectors(), lambda: self._table.rows_of_keys(keys))

    def delete_photos(self, photos: Iterable[str]) -> int:
        photos = list(photos)
        return self._commit(
            (),
            self._no_vectors(),
            lambda: self._table.rows_of_photos(photos),
            lambda: self._table.forget_states(photos),
        )

    def _no_vectors(self) -> np.ndarray:
        return np.zeros((0, self.schema.dim), np.float32)

    def _commit(
        self,
        items: Sequence[Item],
        vectors: np.ndarray,
        replaced: Callable[[], np.ndarray],
        record: Callable[[], None] = lambda: None,
    ) -> int:
        """Commit in the two steps of the module's docstring; returns how many items were removed.

        Args:
            items: to add.
            vectors: f32[n, D], theirs.
            replaced: finds the rows of the items to remove; called inside the transaction.
            record: further changes of the item table, made in the same transaction.
        """
        self._require_writer()
        with self._guard:
            # Read in a transaction, which fails if another database has taken this one's place.
            generation, start = self.version().generation, self._next_row()
            append(self._segments, self.layout, generation, start, vectors)
            with self._table.writing() as state:
                gone = replaced()
                self._table.remove(gone)
                if len(items):
                    self._table.skip_rows(state.rows, start)
                    self._table.insert(start, items)
                    before = self._table.checksum(start // self.layout.block_rows)
                    checksums = block_checksums(self.layout, start, vectors, before)
                    self._table.set_rows(start + len(items), checksums)
                record()
            self._end_is_checked = self._end_is_checked or len(items) > 0
        return len(gone)

    def _next_row(self) -> int:
        """Where to append: after the last row, or in the next block if the last one is damaged.

        A block has one checksum, so rows appended to a damaged block would count as damaged too.
        """
        rows, size = self._table.state().rows, self.layout.block_rows
        if self._end_is_checked or rows % size == 0:
            return rows
        with self._reading() as view:
            return rows if view.is_sound(rows // size) else (rows // size + 1) * size

    def _require_writer(self) -> None:
        if self._lock is None:
            raise InputError(f"{self.folder}: opened for reading only")

    def absorb_shards(self) -> int:
        self._require_writer()
        return sum(self._absorb(shard) for shard in shards(self.folder, self.schema))

    def _absorb(self, shard: Shard) -> int:
        count, is_finished = 0, shard.is_finished()
        for entries, offset in shard.batches(self._table.absorbed(shard.name)):
            self._put_photos(
                entries, lambda offset=offset: self._table.set_absorbed(shard.name, offset)
            )
            count += len(entries)
        if is_finished:
            # The files first: a recorded offset without its file does no harm.
            shard.remove()
            with self._table.writing():
                self._table.set_absorbed(shard.name, None)
        return count

    def verify(self, *, repair: bool = False) -> list[str]:
        """Check the item table, and every block of vectors against its checksum."""
        if repair:
            self._require_writer()
        while True:
            with self._reading() as view:
                problems = self._table.check()
            # Outside of the transaction: reading every vector takes long and would block the
            # writer.
            bad = [block for block in view.blocks() if not view.is_sound(block)]
            with self._reading() as newest:
                if newest.state.generation != view.state.generation:  # compacted meanwhile
                    continue
                lost = [self._table.rows_between(*view.block_range(block)) for block in bad]
                problems += [
                    self._damage(view, block, rows)
                    for block, rows in zip(bad, lost, strict=True)
                    if len(rows)
                ]
                break
        if repair and problems:
            self._drop(np.concatenate([np.zeros(0, np.int64), *lost]))
        return problems

    def _damage(self, view: View, block: int, rows: np.ndarray) -> str:
        first = next(iter(self._table.items(rows[:1].tolist()).values()))
        others = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        return f"{view.describe(block)} are damaged ({first.key}{others}); {ADVICE}"

    def _drop(self, rows: np.ndarray) -> None:
        with self._guard, self._table.writing():
            items = self._table.items(rows.tolist())
            self._table.remove(rows)
            self._table.forget_states({item.photo for item in items.values()})

    def compact_if_worthwhile(self) -> None:
        """Compact if more than half of the rows are dead."""
        if self._table.state().rows > max(2 * self.count(), MIN_ROWS_TO_COMPACT):
            self.compact()

    def compact(self) -> None:
        """Free the space of replaced and deleted rows. Needs disk space for a second copy."""
        self._require_writer()
        with self._guard:
            with self._reading() as view:
                rows = self._table.rows_between(0, view.rows)
            generation = view.state.generation + 1
            checksums = self._copy(view, rows, generation)
            with self._table.writing():
                self._table.renumber(generation, len(rows), checksums)
            self._view, self._end_is_checked = None, True
            remove_other_generations(self._segments, generation)
            self._table.vacuum()

    def _copy(self, view: View, rows: np.ndarray, generation: int) -> list[tuple[int, int]]:
        """Write rows as a new generation; returns (block, checksum) of each of its blocks."""
        checksums = []
        size = self.layout.block_rows
        step = max(COPY_ROWS // size, 1) * size  # whole blocks, so that each has one checksum
        for start in range(0, len(rows), step):
            vectors = view.read_checked(rows[start : start + step])
            append(self._segments, self.layout, generation, start, vectors)
            checksums += block_checksums(self.layout, start, vectors, 0)
        return checksums
