"""Items as rows of a Milvus collection, and filters as expressions of safely quoted texts."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from engine.errors import InputError
from retrieval.milvus_link import TAGS, TEXT_BYTES
from retrieval.store import Filter, Item, PhotoState

# A size and time no file has: its photo is being replaced, or was when the process was killed.
UNFINISHED = -1
NOTHING = 'key == ""'  # an expression that no row passes


def item_row(item: Item, vector: np.ndarray) -> dict[str, Any]:
    """A row of the items' collection: ``record`` is the item, the other texts are for filters.

    Raises:
        InputError: labels that JSON or Milvus cannot hold.
    """
    attributes = {str(name): str(value) for name, value in item.attributes.items()}
    plain = {
        "photo": item.photo,
        "garment": int(item.garment),
        "box": None if item.box is None else [float(value) for value in item.box],
        "category": item.category,
        "attributes": attributes,
        "identity": item.identity,
        "extra": item.extra,
    }
    try:
        record = json.dumps(plain, ensure_ascii=False)
        # Every field except the key is part of the record, so none of them is longer.
        size = len(item.key.encode()) + len(record.encode())
    except (TypeError, ValueError) as error:
        raise InputError(f"{item.key}: labels that cannot be stored as JSON ({error})") from error
    if size > TEXT_BYTES or len(attributes) > TAGS:
        raise InputError(
            f"{item.key}: its labels and extra take {size} bytes, {len(attributes)} of them "
            f"attributes; Milvus holds {TEXT_BYTES} bytes and {TAGS} attributes"
        )
    return {
        "key": item.key,
        "photo": item.photo,
        "category": label(item.category),
        "tags": [label([name, value]) for name, value in attributes.items()],
        "record": record,
        "vector": vector,
    }


def item_rows(items: Sequence[Item], vectors: np.ndarray) -> list[dict[str, Any]]:
    """``item_row`` of each of the items and vectors f32[n, D]."""
    return [item_row(item, vector) for item, vector in zip(items, vectors, strict=True)]


def read_item(row: dict[str, Any]) -> Item:
    """Inverse of ``item_row``.

    Raises:
        InputError: the record is not what ``item_row`` writes.
    """
    try:
        plain = json.loads(row["record"])
        box = plain.pop("box")
        return Item(key=row["key"], **plain, box=None if box is None else tuple(box))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{row['key']}: its record in Milvus is damaged; build it again"
        ) from error


def problem(row: dict[str, Any]) -> str:
    """A sentence that says what is wrong with a stored row; empty if nothing is."""
    try:
        expected = item_row(read_item(row), row["vector"])
    except InputError as error:
        return str(error)
    wrong = [
        name for name in ("photo", "category", "tags") if list(row[name]) != list(expected[name])
    ]
    if wrong:
        return f"{row['key']}: {wrong[0]} contradicts its record; build it again"
    if not np.isfinite(np.asarray(row["vector"], np.float32)).all():
        return f"{row['key']}: its vector holds NaN or infinity; build it again"
    return ""


def photo_row(state: PhotoState) -> dict[str, Any]:
    """A row of the photos' collection; Milvus requires its dummy vector."""
    plain = {"size": state.size, "mtime_ns": state.mtime_ns, "error": state.error}
    if state.error is not None and len(state.error) > 1000:
        plain["error"] = state.error[:1000] + " ..."
    record = json.dumps(plain, ensure_ascii=True)
    return {"photo": state.photo, "record": record, "vector": np.zeros(2, np.float32)}


def read_photo(row: dict[str, Any]) -> PhotoState:
    """Inverse of ``photo_row``; InputError as ``read_item``."""
    try:
        return PhotoState(row["photo"], **json.loads(row["record"]))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{row['photo']}: its record in Milvus is damaged; build it again"
        ) from error


def label(value: str | list[str] | None) -> str:
    """A category (None: unknown) or an attribute [name, value] as a unique text to filter by."""
    return json.dumps(value, ensure_ascii=False)


def quote(text: str) -> str:
    """A text as a string literal in an expression.

    JSON escapes quotes, backslashes and control characters, and Milvus undoes exactly these
    escapes, so no text can end its literal early.

    Raises:
        InputError: the text is not valid Unicode (a file name of arbitrary bytes).
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{text!r}: not valid Unicode") from None
    return json.dumps(text, ensure_ascii=False)


def one_of(field: str, texts: Iterable[str]) -> str:
    """``field in ["...", ...]``."""
    return f"{field} in {_list(texts)}"


def expression(filter: Filter | None) -> str:
    """A filter as an expression; the empty expression passes everything."""
    if filter is None:
        return ""
    terms = []
    if filter.categories:
        terms.append(one_of("category", map(label, filter.categories)))
    for name, values in filter.attributes.items():
        allowed = [label([name, value]) for value in values]
        terms.append(f"array_contains_any(tags, {_list(allowed)})" if allowed else NOTHING)
    if filter.folder is not None:
        terms.append(_below(filter.folder))
    if filter.exclude_photos:
        terms.append(f"not ({one_of('photo', filter.exclude_photos)})")
    if filter.exclude_keys:
        terms.append(f"not ({one_of('key', filter.exclude_keys)})")
    return " and ".join(term for term in terms if term)


def _below(folder: str) -> str:
    """Photos below a folder, as a range: texts compare by bytes, and "0" follows "/".

    Unlike a ``like`` pattern it has no wildcards to escape.
    """
    folder = folder.strip("/")
    if folder in ("", "."):
        return ""
    return f"photo > {quote(folder + '/')} and photo < {quote(folder + '0')}"


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(quote(text) for text in texts) + "]"


def matrix(vectors: Sequence[Any], dim: int) -> np.ndarray:
    """f32[n, dim] of the rows' vectors, which Milvus returns as various kinds of lists."""
    return np.array([np.asarray(vector, np.float32) for vector in vectors]).reshape(-1, dim)


def chunks(values: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """The values in runs of at most ``size``."""
    return [values[start : start + size] for start in range(0, len(values), size)]
