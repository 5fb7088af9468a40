"""The item table of a local database, in SQLite: only what it lists exists.

Every method runs inside the caller's transaction (``reading`` or ``writing``). Row numbers are
positions in the segments. A row is in ``items``, or in ``dead`` once its item was replaced or
deleted; dead rows are not reused until a compaction renumbers all rows.

SQLite uses a rollback journal, not a write-ahead log: the log's shared memory does not work on
network drives and needs a writable folder even for reading.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import InputError
from retrieval.store import Item, PhotoState

BUSY_SECONDS = 60
TABLES = """
CREATE TABLE IF NOT EXISTS state (generation INTEGER, rows INTEGER, commits INTEGER);
CREATE TABLE IF NOT EXISTS items (
    row INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, photo TEXT NOT NULL,
    garment INTEGER NOT NULL, category TEXT, identity TEXT,
    about TEXT NOT NULL);  -- JSON: box, attributes, extra
CREATE INDEX IF NOT EXISTS items_photo ON items (photo);
CREATE INDEX IF NOT EXISTS items_category ON items (category);
CREATE TABLE IF NOT EXISTS words (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, value TEXT NOT NULL, UNIQUE (name, value));
CREATE TABLE IF NOT EXISTS labels (
    word INTEGER NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (word, row)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS photos (
    photo TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, error TEXT);
CREATE TABLE IF NOT EXISTS dead (row INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS blocks (block INTEGER PRIMARY KEY, checksum INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS absorbed (shard TEXT PRIMARY KEY, offset INTEGER NOT NULL);
INSERT INTO state SELECT 1, 0, 0 WHERE NOT EXISTS (SELECT * FROM state);
"""
ITEM_COLUMNS = "key, photo, garment, category, identity, about"


@dataclass(frozen=True)
class State:
    """What is committed: ``rows`` counts dead rows too, ``commits`` grows with every commit."""

    generation: int
    rows: int
    commits: int


class ItemTable:
    """One connection, for one thread at a time; a forked process must open its own."""

    def __init__(self, path: Path, *, create: bool, read_only: bool) -> None:
        self.path, self._place = path, path.absolute()
        mode = "rwc" if create else "rw"
        with self._clear_errors():
            # If the file is write-protected, "rw" falls back to reading.
            self.connection = sqlite3.connect(
                f"{self._place.as_uri()}?mode={mode}",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            if create:
                self.connection.executescript(f"BEGIN IMMEDIATE; {TABLES} COMMIT;")
            self.connection.execute(f"PRAGMA query_only = {int(read_only)}")
            self.state()
        self._file = self._file_in_place()

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def reading(self) -> Iterator[State]:
        """A transaction that sees one consistent state. Keep it short: it blocks the writer."""
        with self._clear_errors():
            self._require_in_place()
            self.connection.execute("BEGIN")
            try:
                yield self.state()
            finally:
                self.connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[State]:
        """A transaction that is committed when the block ends without an error."""
        with self._clear_errors():
            self._require_in_place()
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.state()
                self.connection.execute("UPDATE state SET commits = commits + 1")
                self.connection.execute("COMMIT")
            except BaseException:
                # After some failures (disk full) SQLite has rolled back by itself.
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def _file_in_place(self) -> tuple[int, int] | None:
        """Device and inode of the file that is at the path now; None if there is none."""
        try:
            status = self._place.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _require_in_place(self) -> None:
        """InputError if the file was deleted or replaced, which SQLite would never notice."""
        if self._file_in_place() != self._file:
            raise InputError(f"{self.path}: was removed or replaced meanwhile; start again")

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            advice = {
                "SQLITE_FULL": "free space or choose another place",
                "SQLITE_BUSY": "another process has locked it for too long; try again",
                "SQLITE_CORRUPT": "it is damaged: restore a copy, or build the database again",
                "SQLITE_NOTADB": "it is damaged: restore a copy, or build the database again",
            }
            name = getattr(error, "sqlite_errorname", None) or ""
            fallback = "make sure that it exists and is readable, and its folder writable"
            hint = next((text for key, text in advice.items() if name.startswith(key)), fallback)
            raise InputError(f"{self.path}: {error}; {hint}") from error

    # State and checksums.

    def state(self) -> State:
        """The state that this connection's transaction sees."""
        return State(*self.connection.execute("SELECT * FROM state").fetchone())

    def set_rows(self, rows: int, checksums: Iterable[tuple[int, int]]) -> None:
        """Record the number of rows and the (block, checksum) pairs that changed."""
        self.connection.execute("UPDATE state SET rows = ?", (rows,))
        self.connection.executemany("INSERT OR REPLACE INTO blocks VALUES (?, ?)", checksums)

    def skip_rows(self, start: int, stop: int) -> None:
        """Declare rows from ``start`` up to ``stop`` dead: they never get an item."""
        self.connection.executemany(
            "INSERT INTO dead VALUES (?)", ((r,) for r in range(start, stop))
        )

    def checksums(self) -> dict[int, int]:
        """Block -> checksum."""
        return dict(self.connection.execute("SELECT block, checksum FROM blocks"))

    def checksum(self, block: int) -> int:
        """A block's checksum; 0 (that of no bytes) if it has no rows yet."""
        query = "SELECT checksum FROM blocks WHERE block = ?"
        return (self.connection.execute(query, (block,)).fetchone() or (0,))[0]

    # Reading items.

    def items(self, rows: Iterable[int]) -> dict[int, Item]:
        """Row -> item; dead rows are left out."""
        query = f"SELECT row, {ITEM_COLUMNS} FROM items"
        found = self.connection.execute(f"{query} WHERE row IN {_LIST}", (_as_json(rows),))
        return {row: _to_item(columns) for row, *columns in found}

    def rows_by_key(self, keys: Iterable[str]) -> dict[str, int]:
        """Key -> row; unknown keys are left out."""
        query = f"SELECT key, row FROM items WHERE key IN {_LIST}"
        return dict(self.connection.execute(query, (_as_json(keys),)))

    def rows_in_key_order(self) -> Iterator[tuple[int, str]]:
        """(row, key) of all items, by key ascending."""
        return self.connection.execute("SELECT row, key FROM items ORDER BY key")

    def photos(self) -> dict[str, PhotoState]:
        """Photo -> its state."""
        found = self.connection.execute("SELECT photo, size, mtime_ns, error FROM photos")
        return {row[0]: PhotoState(*row) for row in found}

    def category_counts(self) -> dict[str, int]:
        """Category -> number of items."""
        query = "SELECT category, count(*) FROM items WHERE category > '' GROUP BY category"
        return dict(self.connection.execute(query))

    def label_counts(self) -> dict[str, dict[str, int]]:
        """Attribute -> value -> number of items."""
        counted: dict[str, dict[str, int]] = {}
        counts = "SELECT word, count(*) AS n FROM labels GROUP BY word"
        query = f"SELECT name, value, n FROM words JOIN ({counts}) ON word = id ORDER BY id"
        for name, value, count in self.connection.execute(query):
            counted.setdefault(name, {})[value] = count
        return counted

    # Rows that pass a criterion, for masks.

    def dead_rows(self) -> np.ndarray:
        """int64[n], rows whose item was replaced or deleted."""
        return self._rows("SELECT row FROM dead")

    def rows_of_categories(self, categories: Sequence[str]) -> np.ndarray:
        """int64[n], the rows whose item has one of the categories."""
        return self._rows(f"SELECT row FROM items WHERE category IN {_LIST}", _as_json(categories))

    def rows_of_label(self, name: str, values: Sequence[str]) -> np.ndarray:
        """int64[n], the rows whose item has one of the values of attribute ``name``."""
        words = f"SELECT id FROM words WHERE name = ? AND value IN {_LIST}"
        query = f"SELECT row FROM labels WHERE word IN ({words})"
        return self._rows(query, name, _as_json(values))

    def rows_of_folder(self, folder: str) -> np.ndarray:
        """int64[n], the rows whose photo is below the folder, at any depth."""
        # "0" is the character after "/", so this is a range of the index; LIKE would need escaping.
        query = "SELECT row FROM items WHERE photo > ? AND photo < ?"
        return self._rows(query, f"{folder}/", f"{folder}0")

    def rows_of_photos(self, photos: Iterable[str]) -> np.ndarray:
        """int64[n], the rows of the photos' items."""
        return self._rows(f"SELECT row FROM items WHERE photo IN {_LIST}", _as_json(photos))

    def rows_of_keys(self, keys: Iterable[str]) -> np.ndarray:
        """int64[n], the rows of the items; unknown keys are ignored."""
        return self._rows(f"SELECT row FROM items WHERE key IN {_LIST}", _as_json(keys))

    def rows_between(self, start: int, stop: int) -> np.ndarray:
        """int64[n], the rows of items from ``start`` up to ``stop``, ascending."""
        return self._rows("SELECT row FROM items WHERE row >= ? AND row < ?", start, stop)

    def _rows(self, query: str, *values: str | int) -> np.ndarray:
        found = self.connection.execute(query, values)
        return np.fromiter((row for (row,) in found), np.int64)

    # Writing.

    def insert(self, start: int, items: Sequence[Item]) -> None:
        """Add items as rows ``start``, ``start + 1``, and so on. Their keys must be unused."""
        rows = [(start + i, *_to_columns(item)) for i, item in enumerate(items)]
        marks = ", ".join("?" * 7)
        self.connection.executemany(
            f"INSERT INTO items (row, {ITEM_COLUMNS}) VALUES ({marks})", rows
        )
        self._label(
            (start + i, name, value)
            for i, item in enumerate(items)
            for name, value in _labels(item.attributes)
        )

    def _label(self, labels: Iterable[tuple[int, str, str]]) -> None:
        labels = list(labels)
        words = dict.fromkeys((name, value) for _, name, value in labels)  # same order every time
        self.connection.executemany(
            "INSERT OR IGNORE INTO words (name, value) VALUES (?, ?)", words
        )
        insert = "INSERT INTO labels SELECT id, ? FROM words WHERE name = ? AND value = ?"
        self.connection.executemany(insert, labels)

    def remove(self, rows: np.ndarray) -> None:
        """Delete the items of rows int64[n], which become dead."""
        listed = _as_json(rows.tolist())
        found = self.connection.execute(
            f"SELECT row, about FROM items WHERE row IN {_LIST}", (listed,)
        )
        labels = [
            (row, name, value)
            for row, about in found
            for name, value in json.loads(about)[1].items()
        ]
        word = "(SELECT id FROM words WHERE name = ? AND value = ?)"
        # The row comes last in the key, so that the primary key finds the label directly.
        self.connection.executemany(f"DELETE FROM labels WHERE row = ? AND word = {word}", labels)
        self.connection.execute(f"DELETE FROM items WHERE row IN {_LIST}", (listed,))
        self.connection.execute("INSERT INTO dead SELECT value FROM json_each(?)", (listed,))

    def put_states(self, states: Iterable[PhotoState]) -> None:
        """Insert or replace the states of photos."""
        rows = [(s.photo, int(s.size), int(s.mtime_ns), s.error) for s in states]
        self.connection.executemany("INSERT OR REPLACE INTO photos VALUES (?, ?, ?, ?)", rows)

    def forget_states(self, photos: Iterable[str]) -> None:
        """Remove the states of photos."""
        query = f"DELETE FROM photos WHERE photo IN {_LIST}"
        self.connection.execute(query, (_as_json(photos),))

    def renumber(self, generation: int, rows: int, checksums: Iterable[tuple[int, int]]) -> None:
        """Number live rows 0, 1, ... in their order, as a compaction has copied them."""
        run = self.connection.execute
        run("CREATE TEMP TABLE moves (old INTEGER PRIMARY KEY, new INTEGER NOT NULL)")
        run("INSERT INTO moves SELECT row, ROW_NUMBER() OVER (ORDER BY row) - 1 FROM items")
        create, joined = "CREATE TEMP TABLE moved_{} AS SELECT", "JOIN moves ON row = old"
        run(f"{create.format('labels')} word, new FROM labels {joined}")
        run(f"{create.format('items')} new, {ITEM_COLUMNS} FROM items {joined} ORDER BY new")
        # Readers wait from here to the commit. Refilling takes a third of the time of updating.
        for table in ("labels", "items"):
            run(f"DELETE FROM {table}")
            run(f"INSERT INTO {table} SELECT * FROM moved_{table}")
            run(f"DROP TABLE moved_{table}")
        run("DROP TABLE moves")
        run("DELETE FROM dead")
        run("DELETE FROM blocks")
        run("DELETE FROM words WHERE id NOT IN (SELECT word FROM labels)")
        run("UPDATE state SET generation = ?", (generation,))
        self.set_rows(rows, checksums)

    def vacuum(self) -> None:
        """Give SQLite's free pages back to the file system; outside of any transaction."""
        with self._clear_errors():
            self.connection.execute("VACUUM")

    # Progress through shards.

    def absorbed(self, shard: str) -> int:
        """How many bytes of a shard's journal are committed."""
        query = "SELECT offset FROM absorbed WHERE shard = ?"
        return (self.connection.execute(query, (shard,)).fetchone() or (0,))[0]

    def set_absorbed(self, shard: str, offset: int | None) -> None:
        """Record how many bytes of a shard's journal are committed; None: forget the shard."""
        if offset is None:
            self.connection.execute("DELETE FROM absorbed WHERE shard = ?", (shard,))
        else:
            row = (shard, offset)
            self.connection.execute("INSERT OR REPLACE INTO absorbed VALUES (?, ?)", row)

    def check(self) -> list[str]:
        """A sentence for each problem: what SQLite reports, and rows neither used nor dead."""
        found = self.connection.execute("PRAGMA integrity_check").fetchall()
        problems = [f"{self.path.name}: {text}" for (text,) in found if text != "ok"]
        count = "SELECT count(*), min(row), max(row) FROM (SELECT row FROM items UNION ALL "
        total, first, last = self.connection.execute(f"{count} SELECT row FROM dead)").fetchone()
        rows = self.state().rows
        if total != rows or (total and (first, last) != (0, rows - 1)):
            problems.append(f"{self.path.name}: {total} rows are listed, {rows} were written")
        return problems


_LIST = "(SELECT value FROM json_each(?))"


def _as_json(values: Iterable[str] | Iterable[int]) -> str:
    """A list of any length as one SQL parameter, for ``_LIST``.

    Escaped to ASCII, so that a file name that is not valid Unicode finds nothing; SQLite would
    refuse it.
    """
    return json.dumps(list(values))


def _labels(attributes: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in attributes.items()]


def _to_columns(item: Item) -> tuple:
    box = None if item.box is None else [float(value) for value in item.box]
    # One JSON text for everything that is never searched: decoding once is faster.
    about = json.dumps([box, dict(_labels(item.attributes)), item.extra], ensure_ascii=False)
    return item.key, item.photo, int(item.garment), item.category, item.identity, about


def _to_item(columns: Sequence) -> Item:
    key, photo, garment, category, identity, about = columns
    box, attributes, extra = json.loads(about)
    corners = None if box is None else tuple(box)
    return Item(key, photo, garment, corners, category, attributes, identity, extra)
