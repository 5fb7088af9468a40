"""Builds records from tables with one row per photo or garment (text lists, CSV).

The readers parse whole columns. This module checks the photos and boxes and packs everything in
the layout of ``engine.data.packing`` without an object per row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.packing import fill_columns, ragged_rows, to_offsets
from engine.data.readers import checks
from engine.data.readers.parallel import check_photos
from engine.data.readers.problems import BadRecord, Problems
from engine.data.records import AttributeGroup
from engine.pixels.photo_files import PhotoError

MAX_VALUES = 20  # of an attribute; more are allowed up to half as many as there are entries


@dataclass
class Rows:
    """R rows, one garment each; rows with the same file name are garments of one photo.

    Attributes:
        names: R file names relative to the photos' folder.
        numbers: int [R], the photo's image id, the same in every split.
        category: int [R], -1 unknown. This and the next ones may be None: all unknown.
        box: float [R, 4] xyxy in pixels; a row of NaN means the whole photo.
        identity: int [R], -1 unknown.
        attributes: int8 [R, A].
        source: int8 [R], index into ``engine.data.packing.SOURCES``.
        landmarks: float32 [P, 3] of all rows, concatenated, and offsets int [R + 1].
    """

    names: Sequence[str]
    numbers: np.ndarray
    category: np.ndarray | None = None
    box: np.ndarray | None = None
    identity: np.ndarray | None = None
    attributes: np.ndarray | None = None
    source: np.ndarray | None = None
    landmarks: tuple[np.ndarray, np.ndarray] | None = None


def to_columns(rows: Rows, folder: Path, problems: Problems) -> dict[str, np.ndarray]:
    """The columns of all usable rows; those with an unusable photo or box count as problems."""
    first_rows, photo_of_row = _photos_of(rows.names)
    names = [rows.names[row] for row in first_rows]
    sizes = _sizes(names, folder, problems)
    box, keep = _boxes(rows, sizes[photo_of_row], problems)
    good = sizes[:, 0] > 0
    # Rows of one photo need not be neighbors in the table, garments of one photo are.
    order = np.argsort(photo_of_row, kind="stable")
    order = order[keep[order] & good[photo_of_row[order]]]
    counts = np.bincount(photo_of_row[order], minlength=len(names))[good]
    encoded = [name.encode() for name, fine in zip(names, good, strict=True) if fine]
    columns = {
        "image_ids": rows.numbers[first_rows][good],
        "sizes": sizes[good],
        "file_name": np.frombuffer(b"".join(encoded), np.uint8),
        "file_name_offsets": to_offsets([len(name) for name in encoded]),
        "garment_offsets": to_offsets(counts),
        "garment_box": box[order],
        "garment_area": (box[order, 2:] - box[order, :2]).prod(axis=1),
        "garment_annotation_id": order + 1,
    }
    if rows.source is not None:
        columns["photo_source"] = rows.source[first_rows][good]
    for name, values in (("category", rows.category), ("identity", rows.identity)):
        if values is not None:
            columns[f"garment_{name}"] = values[order]
    if rows.attributes is not None:
        columns["attribute_values"] = rows.attributes[order].ravel()
        width = rows.attributes.shape[1]
        columns["attribute_values_offsets"] = np.arange(len(order) + 1) * width
    if rows.landmarks is not None:
        points, offsets = rows.landmarks
        values, columns["landmarks_offsets"] = ragged_rows(offsets, order)
        columns["landmarks"] = points[values]
    return fill_columns(int(good.sum()), len(order), columns)


def _photos_of(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each photo, int [N], ascending; the photo index of each row, int [R]."""
    position: dict[str, int] = {}
    photo_of_row = np.array([position.setdefault(name, len(position)) for name in names], np.int64)
    return np.unique(photo_of_row, return_index=True)[1], photo_of_row


def _sizes(names: Sequence[str], root: Path, problems: Problems) -> np.ndarray:
    """Width and height from the photos' headers, int [N, 2]; 0, 0 for unusable photos (counted)."""
    folder = checks.PhotoFolder(root)
    sizes = np.zeros((len(names), 2), np.int64)
    places, paths = [], []
    for place, name in enumerate(names):
        try:
            paths.append(folder.path(name))
            places.append(place)
        except BadRecord as bad:
            problems.add(bad.kind, str(bad))
    for place, header in zip(places, check_photos(paths), strict=True):
        if isinstance(header, PhotoError):
            problems.add(f"{header.kind} photo", str(header))
        else:
            problems.add_traits(header.traits, names[place])
            sizes[place] = header.upright_size
    return sizes


def _boxes(rows: Rows, sizes: np.ndarray, problems: Problems) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float64 [R, 4], by default the whole photo, and bool [R], which ones are usable."""
    whole = np.concatenate([np.zeros_like(sizes), sizes], axis=1).astype(np.float64)
    keep = np.ones(len(sizes), bool)
    if rows.box is None:
        return whole, keep
    box = np.where(np.isnan(rows.box).all(axis=1, keepdims=True), whole, rows.box)
    with np.errstate(invalid="ignore"):
        fine = (box[:, 2:] > box[:, :2]).all(axis=1)
        fine &= (box >= 0).all(axis=1) & (box[:, 2:] <= sizes).all(axis=1)
    # A photo that cannot be read (size 0) has been counted already.
    for row in np.flatnonzero(~fine & (sizes[:, 0] > 0)):
        try:
            where = rows.names[row]
            box[row] = checks.clean_box(box[row].tolist(), *sizes[row].tolist(), problems, where)
        except BadRecord as bad:
            problems.add(bad.kind, f"{rows.names[row]}: {bad}")
            keep[row] = False
    return box, keep


def is_free_text(entries: Sequence[str]) -> bool:
    """Whether a column's entries, without blanks, repeat too little to be labels."""
    return len(set(entries)) > max(MAX_VALUES, len(entries) / 2)


def number_values(entries: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """The distinct entries except "", sorted, and each entry's index, int64 [N], -1 for ""."""
    entries = list(entries)
    values = sorted(set(entries) - {""})
    number = {value: i for i, value in enumerate(values)} | {"": -1}
    return values, np.array([number[entry] for entry in entries], np.int64)


def exclusive_groups(
    names: Sequence[str], columns: Iterable[Iterable[str]]
) -> tuple[list[str], list[AttributeGroup], np.ndarray]:
    """Attribute groups from columns of text, "" = unknown; empty columns make no group.

    Returns:
        The values of all groups; the groups; and int8 [R, A]: 1 for the row's value, -1 for the
        group's other values, 0 for all values of a group that is unknown in this row.
    """
    attributes, groups, blocks = [], [], []
    for name, column in zip(names, columns, strict=False):
        values, number = number_values(column)
        if not values:
            continue
        block = np.where(np.arange(len(values)) == number[:, None], 1, -1).astype(np.int8)
        block[number < 0] = 0
        start = len(attributes)
        groups.append(AttributeGroup(name, start, start + len(values), exclusive=True))
        attributes += values
        blocks.append(block)
    return attributes, groups, np.concatenate(blocks or [np.zeros((0, 0), np.int8)], axis=1)
