"""A filter as a mask over the rows of a local database, applied before ranking.

The rows of each criterion come from an index of the item table and are cached in the view, so that
the next query with the same category costs nothing.
"""

from collections.abc import Callable, Iterator

import numpy as np

from engine.errors import InputError
from retrieval.item_table import ItemTable
from retrieval.store import Filter, check_key
from retrieval.view import View

MOST_MASKS = 32  # cached per view


def filter_mask(view: View, table: ItemTable, filter: Filter | None) -> np.ndarray | None:
    """bool[rows], the rows that may be found; None if all may.

    Call inside a transaction that sees the view's state.
    """
    if filter is None or filter == Filter():
        return view.live
    mask = view.live_mask()
    for name, find in _criteria(table, filter):
        mask &= _cached(view, name, find)
    # Not cached: these differ from query to query.
    mask[table.rows_of_photos(filter.exclude_photos)] = False
    mask[table.rows_of_keys(filter.exclude_keys)] = False
    return mask


def _criteria(table: ItemTable, filter: Filter) -> Iterator[tuple[tuple, Callable[[], np.ndarray]]]:
    """For each criterion a cache key and a function that looks up its rows int64[n]."""
    for field in ("categories", "exclude_photos", "exclude_keys"):
        _refuse_text(field, getattr(filter, field))
    if filter.categories:
        categories = tuple(filter.categories)
        yield ("category", *categories), lambda: table.rows_of_categories(categories)
    for attribute, values in filter.attributes.items():
        _refuse_text(attribute, values)
        check_key(attribute)
        name = ("attribute", attribute, *values)
        yield name, lambda name=name: table.rows_of_label(name[1], name[2:])
    folder = (filter.folder or "").strip("/")
    if folder not in ("", "."):
        check_key(folder)
        yield ("folder", folder), lambda: table.rows_of_folder(folder)


def _refuse_text(field: str, values: tuple[str, ...]) -> None:
    # A forgotten comma in a tuple would search for single letters.
    if isinstance(values, str):
        raise InputError(f"filter {field}: give a tuple of texts, not the text {values!r}")


def _cached(view: View, name: tuple, find: Callable[[], np.ndarray]) -> np.ndarray:
    if name not in view.masks:
        if len(view.masks) >= MOST_MASKS:
            view.masks.pop(next(iter(view.masks)))
        mask = np.zeros(view.rows, bool)
        mask[find()] = True
        view.masks[name] = mask
    return view.masks[name]
