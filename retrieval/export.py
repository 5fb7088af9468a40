"""A store as files that other programs read: vectors as npz, items as a table.

vectors.npz    keys (text), vectors f32[n, D]: np.load(path)["vectors"]
items.csv      a row an item, in the same order; a column an attribute; extra as JSON
"""

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from engine.files import make_folder, replacing
from retrieval.store import Item, Store

BLOCK = 4096  # items in memory at a time
COLUMNS = ("key", "photo", "garment", "x1", "y1", "x2", "y2", "category", "identity")


def write_export(store: Store, folder: Path) -> None:
    """Write both files into a folder, rows ordered by key; see the top of this module.

    Raises:
        InputError: when the folder cannot be written or the store not be read.
    """
    make_folder(folder)
    keys = store.keys()
    with replacing(folder / "vectors.npz") as file:
        _write_vectors(file, store, keys)
    names = sorted({name for items in _blocks(store, keys) for i in items for name in i.attributes})
    with replacing(folder / "items.csv") as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        table = csv.writer(text)
        table.writerow((*COLUMNS, *(_column(name) for name in names), "extra"))
        for items in _blocks(store, keys):
            table.writerows(_row(item, names) for item in items)
        text.detach()  # flushes; the file stays open for whoever opened it


def _write_vectors(file: IO, store: Store, keys: Sequence[str]) -> None:
    # Entry by entry: np.savez would want all vectors in memory at once.
    shape = (len(keys), store.schema.dim)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open("keys.npy", "w", force_zip64=True) as entry:
            np.lib.format.write_array(entry, np.array(keys, np.str_), allow_pickle=False)
        with archive.open("vectors.npy", "w", force_zip64=True) as entry:
            np.lib.format.write_array_header_1_0(entry, header)
            for start in range(0, len(keys), BLOCK):
                entry.write(store.vectors(keys[start : start + BLOCK]).astype("<f4").tobytes())


def _blocks(store: Store, keys: Sequence[str]) -> Iterator[list[Item]]:
    for start in range(0, len(keys), BLOCK):
        yield [item for item in store.get(keys[start : start + BLOCK]) if item is not None]


def _column(name: str) -> str:
    """An attribute's column, told apart from the fixed ones."""
    return f"attribute {name}" if name in (*COLUMNS, "extra") else name


def _row(item: Item, names: Sequence[str]) -> list:
    box = item.box or ("",) * 4
    fixed = (item.key, item.photo, item.garment, *box, item.category or "", item.identity or "")
    extra = json.dumps(item.extra, ensure_ascii=False) if item.extra else ""
    return [*fixed, *(item.attributes.get(name, "") for name in names), extra]
