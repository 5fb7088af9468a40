"""Selects a subset of a dataset's labels; the others become unknown."""

from collections.abc import Sequence

import numpy as np

from engine.data.records import AttributeGroup, PhotoRecords
from engine.errors import InputError


def select_labels(
    records: PhotoRecords,
    *,
    category: str | None = None,
    identity: str | None = None,
    attributes: Sequence[str] | None = None,
) -> PhotoRecords:
    """Remove categories or identities ("none") and all but the named attribute groups.

    Args:
        records: the dataset; not changed.
        category, identity: None keeps them, "none" removes them.
        attributes: names of the groups to keep, ignoring case; None keeps all.

    Raises:
        InputError: there is no such group, or a column is named though the format has none.
    """
    for option, value in (("category", category), ("identity", identity)):
        if value not in (None, "none"):
            raise InputError(
                f"{records.root}: {option}={value} names a column, which only works for csv; "
                f"for {records.format}, use {option}=none or leave it out"
            )
    if category == "none":
        records = forget_categories(records)
    if identity == "none":
        records = forget_identities(records)
    return records if attributes is None else keep_attribute_groups(records, attributes)


def forget_categories(records: PhotoRecords) -> PhotoRecords:
    """A copy without categories."""
    unknown = np.full_like(records.garment_category, -1)
    about = {"categories": [], "category_ids": [], "category_groups": []}
    return records.with_columns({"garment_category": unknown}, **about)


def forget_identities(records: PhotoRecords) -> PhotoRecords:
    """A copy without identities."""
    unknown = np.full_like(records.garment_identity, -1)
    return records.with_columns({"garment_identity": unknown}, identities=[])


def forget_masks(records: PhotoRecords) -> PhotoRecords:
    """A copy with boxes only."""
    columns = {}
    for name in ("points", "polygon_lengths", "rle"):
        columns[name] = records.columns[name][:0]
        columns[f"{name}_offsets"] = np.zeros_like(records.columns[f"{name}_offsets"])
    return records.with_columns(columns)


def keep_attribute_groups(records: PhotoRecords, names: Sequence[str]) -> PhotoRecords:
    """A copy with only the named attribute groups (ignoring case), in that order.

    Raises:
        InputError: there is no such group.
    """
    by_name = {group.name.lower(): group for group in records.attribute_groups}
    for name in names:
        if name.lower() not in by_name:
            known = ", ".join(by_name) or "none"
            raise InputError(f"{records.root}: no attribute group {name!r}; there are: {known}")
    matrix, groups, attributes, ids = records.attribute_matrix, [], [], []
    blocks = [matrix[:, :0]]
    for old in (by_name[name.lower()] for name in names):
        start = len(attributes)
        attributes += records.attributes[old.start : old.stop]
        ids += records.attribute_ids[old.start : old.stop]
        groups.append(AttributeGroup(old.name, start, len(attributes), old.exclusive))
        blocks.append(matrix[:, old.start : old.stop])
    columns = {
        "attribute_values": np.concatenate(blocks, axis=1).ravel(),
        "attribute_values_offsets": np.arange(len(matrix) + 1) * len(attributes),
    }
    about = {"attributes": attributes, "attribute_ids": ids, "attribute_groups": groups}
    return records.with_columns(columns, **about)
