"""Items of a whole store, or of a vector file and its table, loaded into memory for evaluation."""

import csv
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import require
from engine.data.labels import CATEGORY, LabelGroup
from engine.data.packing import SOURCES
from engine.errors import InputError
from engine.evaluation.aspect_metrics import GarmentTable
from retrieval.build import GIVEN, MADE_BY
from retrieval.features import SCHEMA_VERSION, FeatureSchema, normalized_weights
from retrieval.pictures import ROOT
from retrieval.store import Item, Store, item_key

FIXED_COLUMNS = {"key", "photo", "file_name", "garment", "number", "x1", "y1", "x2", "y2",
                 "category", "identity", "item_id", "extra"}  # fmt: skip


@dataclass(frozen=True)
class LoadedItems:
    """Items, at least one, and their vectors f32[n, D], in the same order.

    Attributes:
        about: the store's metadata; empty for files.
    """

    items: list[Item]
    vectors: np.ndarray
    schema: FeatureSchema
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> str | None:
        """Folder that the items' photo names are relative to; None if unknown."""
        return self.about.get(ROOT)

    @property
    def labels_are_predictions(self) -> bool:
        """Whether the labels are a model's predictions, which cannot measure its accuracy."""
        return self.about.get(MADE_BY, {}).get("garments", GIVEN) != GIVEN

    def aspect(self, name: str) -> np.ndarray:
        """f32[n, d], one aspect's part of the vectors."""
        return self.vectors[:, self.schema.slice(name)]

    def weighted(self, weights: Mapping[str, float]) -> np.ndarray:
        """f32[n, D] whose plain inner products are the weighted scores.

        Each part is scaled by the square root of its normalized weight, because these vectors
        serve as both queries and gallery.
        """
        shares = normalized_weights(weights, self.schema)
        sizes = [size for _, size in self.schema.aspects]
        return self.vectors * np.repeat(np.sqrt(shares), sizes).astype(np.float32)

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """Name -> text [n], for the category and every attribute; "" if unknown."""
        names = dict.fromkeys(name for item in self.items for name in item.attributes)
        columns = {CATEGORY: [item.category or "" for item in self.items]}
        columns |= {name: [item.attributes.get(name, "") for item in self.items] for name in names}
        return {name: np.array(column, np.str_) for name, column in columns.items()}

    def table(self, judged: Sequence[str] | None = None) -> GarmentTable:
        """The items in the form of ``engine.evaluation.aspect_metrics``.

        Args:
            judged: labels that neighbors should share; None: those of color, texture or shape.

        Raises:
            InputError: a label that no item has.
        """
        values, numbers = {}, {}
        for name, column in self.labels.items():
            values[name], numbers[name] = _number(column)
        aspects = {name: LabelGroup(name.lower(), (), True).aspect for name in values}
        if judged is None:
            judged = [name for name in values if aspects[name] and values[name]]
        for name in judged:
            if name not in values:
                raise InputError(f"--labels {name}: the items have {', '.join(values)}")
        sources = [item.extra.get("source", "") for item in self.items]
        return GarmentTable(
            photo=_number(np.array([item.photo for item in self.items], np.str_))[1],
            identity=_number(np.array([item.identity or "" for item in self.items], np.str_))[1],
            source=np.array([SOURCES.index(s) if s in SOURCES else 0 for s in sources], np.int8),
            labels=numbers,
            values=values,
            aspect_of_group={name: aspects[name] or "" for name in judged},
        )


def _number(column: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """The distinct texts of a column, sorted, and each row's index int64[n]; "" becomes -1."""
    texts, numbers = np.unique(column, return_inverse=True)
    unknown = int(texts[0] == "")  # it sorts first
    return tuple(texts[unknown:].tolist()), numbers.astype(np.int64) - unknown


def from_store(store: Store) -> LoadedItems:
    """Read a whole store.

    Raises:
        InputError: it is empty or cannot be read.
    """
    keys = store.keys()
    require(bool(keys), "the database is empty: build it with tools/build_database.py")
    return LoadedItems(store.get(keys), store.vectors(keys), store.schema, store.about)


def from_files(vectors: Path, table: Path) -> LoadedItems:
    """Read vectors with a table of their rows, such as infer.py writes.

    Args:
        vectors: npz; every 2-d array of floats is one aspect, named like the array; its rows are
            scaled to unit length.
        table: CSV, one row per vector in the same order: key or photo (or file_name), and
            optionally garment, category, identity (or item_id), x1, y1, x2, y2, extra (JSON);
            every other column is an attribute.

    Raises:
        InputError: files that are missing, damaged or do not fit together.
    """
    aspects = _read_vectors(vectors)
    items = list(_read_items(table))
    counts = {len(part) for part in aspects.values()}
    if counts != {len(items)}:
        raise InputError(
            f"{table}: has {len(items)} rows, {vectors} has {sorted(counts)}: give one row per "
            "vector"
        )
    sizes = tuple((name, part.shape[1]) for name, part in aspects.items())
    schema = FeatureSchema(SCHEMA_VERSION, sizes, str(vectors))
    return LoadedItems(items, np.concatenate(list(aspects.values()), axis=1), schema)


def _read_vectors(path: Path) -> dict[str, np.ndarray]:
    try:
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise ValueError  # a .npy file, a single array
        with content as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        # Without NumPy's own words, which advise to load a foreign file unsafely.
        raise InputError(
            f"{path}: no readable .npz of vectors; infer.py --save-features writes one"
        ) from error
    parts = {
        k: v.astype(np.float32) for k, v in arrays.items() if v.ndim == 2 and v.dtype.kind == "f"
    }
    if not parts or not all(len(part) and np.isfinite(part).all() for part in parts.values()):
        raise InputError(f"{path}: holds no vectors (2-d arrays of finite numbers)")
    lengths = {name: np.linalg.norm(part, axis=1, keepdims=True) for name, part in parts.items()}
    return {name: part / np.maximum(lengths[name], 1e-12) for name, part in parts.items()}


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file whose first line names the columns; InputError if unreadable."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: no readable table ({error})") from error


def _read_items(path: Path) -> Iterable[Item]:
    for line, row in enumerate(read_table(path), 2):
        try:
            yield _item(row)
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: line {line}: {error}; see --help for the columns") from error


def _item(row: dict[str, str]) -> Item:
    photo = row.get("photo") or row.get("file_name") or row.get("key", "").rpartition("#")[0]
    if not photo:
        raise ValueError("has no key, photo or file_name")
    garment = int(row.get("garment") or row.get("number") or 0)
    corners = [row.get(name) or "" for name in ("x1", "y1", "x2", "y2")]
    if any(corners) and not all(corners):
        raise ValueError("a box needs x1, y1, x2 and y2, or none of them")
    extra = json.loads(row.get("extra") or "{}")
    return Item(
        key=row.get("key") or item_key(photo, garment),
        photo=photo,
        garment=garment,
        box=tuple(map(float, corners)) if all(corners) else None,
        category=row.get("category") or None,
        attributes={k: v for k, v in row.items() if k and k not in FIXED_COLUMNS and v},
        identity=row.get("identity") or row.get("item_id") or None,
        extra=extra if isinstance(extra, dict) else {},
    )
