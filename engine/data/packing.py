"""The layout of packed records: the arrays, and how they are made from photos.

A *ragged* column holds rows of different lengths: row i is the slice ``offsets[i]:offsets[i + 1]``
of its values, where the offsets are another column, ``<name>_offsets``.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from engine.data.records import Garment, Photo

SOURCES = ("", "shop", "user")

# Name -> (dtype, shape of one element). Photo columns have N rows; garment columns have G, ordered
# by photo.
PHOTO_COLUMNS = {
    "image_ids": (np.int64, ()),
    "sizes": (np.int32, (2,)),  # width, height
    "photo_source": (np.int8, ()),  # index into SOURCES
}
GARMENT_COLUMNS = {
    "garment_category": (np.int32, ()),
    "garment_box": (np.float64, (4,)),
    "garment_area": (np.float64, ()),
    "garment_crowd": (np.bool_, ()),
    "garment_annotation_id": (np.int64, ()),
    "garment_identity": (np.int64, ()),
    "garment_style": (np.int64, ()),
    "garment_pair_id": (np.int64, ()),
    "garment_scale": (np.int8, ()),
    "garment_occlusion": (np.int8, ()),
    "garment_zoom_in": (np.int8, ()),
    "garment_viewpoint": (np.int8, ()),
}
RAGGED_PHOTO_COLUMNS = {"file_name": (np.uint8, ())}  # UTF-8, relative to the root
RAGGED_GARMENT_COLUMNS = {
    "points": (np.float64, (2,)),  # x, y of all polygons, concatenated
    "polygon_lengths": (np.int32, ()),  # number of points of each polygon
    "rle": (np.uint8, ()),  # counts of a compressed COCO RLE; its size is that of the photo
    "landmarks": (np.float32, (3,)),
    "attribute_values": (np.int8, ()),
}
RAGGED_COLUMNS = RAGGED_PHOTO_COLUMNS | RAGGED_GARMENT_COLUMNS
OFFSETS = (np.int64, ())
COLUMNS = (
    {"garment_offsets": OFFSETS}
    | PHOTO_COLUMNS
    | GARMENT_COLUMNS
    | RAGGED_COLUMNS
    | {f"{name}_offsets": OFFSETS for name in RAGGED_COLUMNS}
)


def pack(photos: "Iterable[Photo]", root: Path) -> dict[str, np.ndarray]:
    """The columns of photo objects; file names become relative to ``root``."""
    rows: dict[str, list] = {name: [] for name in (*PHOTO_COLUMNS, *GARMENT_COLUMNS)}
    ragged: dict[str, list] = {name: [] for name in RAGGED_COLUMNS}
    counts = []
    for photo in photos:
        rows["image_ids"].append(photo.image_id)
        rows["sizes"].append((photo.width, photo.height))
        rows["photo_source"].append(SOURCES.index(photo.source))
        name = photo.path.relative_to(root).as_posix().encode()
        ragged["file_name"].append(np.frombuffer(name, np.uint8))
        counts.append(len(photo.garments))
        for garment in photo.garments:
            _pack_garment(garment, rows, ragged)
    columns = {"garment_offsets": to_offsets(counts)}
    for name, (dtype, shape) in (PHOTO_COLUMNS | GARMENT_COLUMNS).items():
        columns[name] = np.array(rows[name], dtype).reshape(-1, *shape)
    for name, (dtype, shape) in RAGGED_COLUMNS.items():
        values = [np.zeros((0, *shape), dtype), *ragged[name]]
        columns[name] = np.concatenate(values).astype(dtype, copy=False)
        columns[f"{name}_offsets"] = to_offsets([len(value) for value in ragged[name]])
    return columns


def fill_columns(
    photos: int, garments: int, columns: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """All columns of the layout: those given, cast to its dtypes, and "unknown" for the others.

    Args:
        photos, garments: how many there are.
        columns: some of the columns, at least "garment_offsets".
    """
    unknown = {"garment_category": -1, "garment_identity": -1, "garment_pair_id": -1}
    filled = {}
    for table, rows in ((PHOTO_COLUMNS, photos), (GARMENT_COLUMNS, garments)):
        for name, (dtype, shape) in table.items():
            values = columns.get(name)
            default = np.full((rows, *shape), unknown.get(name, 0))
            filled[name] = np.asarray(default if values is None else values, dtype)
    for name, (dtype, shape) in RAGGED_COLUMNS.items():
        rows = photos if name in RAGGED_PHOTO_COLUMNS else garments
        empty = np.zeros((0, *shape), dtype)
        filled[name] = np.asarray(columns.get(name, empty), dtype)
        offsets = columns.get(f"{name}_offsets", np.zeros(rows + 1))
        filled[f"{name}_offsets"] = np.asarray(offsets, np.int64)
    return filled | {"garment_offsets": np.asarray(columns["garment_offsets"], np.int64)}


def _pack_garment(garment: "Garment", rows: dict[str, list], ragged: dict[str, list]) -> None:
    for name in GARMENT_COLUMNS:
        rows[name].append(getattr(garment, name.removeprefix("garment_")))
    is_rle = isinstance(garment.segmentation, dict)
    polygons = [] if is_rle or garment.segmentation is None else garment.segmentation
    counts = garment.segmentation["counts"] if is_rle else b""
    landmarks = np.zeros((0, 3)) if garment.landmarks is None else garment.landmarks
    ragged["points"].append(np.concatenate([np.zeros((0, 2)), *polygons]))
    ragged["polygon_lengths"].append(np.array([len(p) for p in polygons], np.int32))
    ragged["rle"].append(np.frombuffer(counts, np.uint8))
    ragged["landmarks"].append(landmarks.astype(np.float32))
    ragged["attribute_values"].append(garment.attributes)


def concatenate(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Concatenate the columns of several calls of ``pack``."""
    columns = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        if name.endswith("_offsets"):
            columns[name] = to_offsets(np.concatenate([np.diff(array) for array in arrays]))
        else:
            columns[name] = np.concatenate(arrays)
    return columns


def to_offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Offsets of a ragged column with rows of these lengths [N]: int64 [N + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def ragged_rows(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the values in the chosen rows (int [K]) of a ragged column; the new offsets."""
    lengths = (offsets[1:] - offsets[:-1])[rows]
    new_offsets = to_offsets(lengths)
    shift = np.repeat(offsets[:-1][rows] - new_offsets[:-1], lengths)
    return np.arange(new_offsets[-1]) + shift, new_offsets


def choose_rows(
    values: np.ndarray, offsets: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values and offsets of a ragged column reduced to the chosen rows (int [K])."""
    lengths = np.diff(offsets)
    if len(lengths) and lengths[0] and (lengths == lengths[0]).all():
        # Rows of equal length (attributes): an index per value would take many times their memory.
        chosen = values.reshape(len(lengths), lengths[0], *values.shape[1:])[rows]
        return chosen.reshape(-1, *values.shape[1:]), np.arange(len(rows) + 1) * lengths[0]
    indices, new_offsets = ragged_rows(offsets, rows)
    return values[indices], new_offsets
