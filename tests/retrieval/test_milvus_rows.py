"""Rows and expressions against the expected ones; tests/retrieval/test_milvus.py runs them."""

import numpy as np
import pytest

from engine.errors import InputError
from retrieval.milvus_rows import (
    chunks,
    expression,
    item_row,
    label,
    matrix,
    photo_row,
    problem,
    read_item,
    read_photo,
)
from retrieval.store import Filter, Item, PhotoState


def test_filters_as_expressions() -> None:
    for none in (None, Filter(), Filter(folder="/"), Filter(folder=".")):
        assert expression(none) == ""
    assert expression(Filter(categories=("a", 'b"'))) == (
        r'category in ["\"a\"", "\"b\\\"\""]'  # JSON texts, quoted as literals
    )
    assert expression(Filter(attributes={"color": ("red",), "x": ()})) == (
        r'array_contains_any(tags, ["[\"color\", \"red\"]"]) and key == ""'
    )
    assert expression(Filter(folder="a/b/", exclude_keys=("k",), exclude_photos=("p",))) == (
        'photo > "a/b/" and photo < "a/b0" and not (photo in ["p"]) and not (key in ["k"])'
    )


@pytest.mark.parametrize("text", ['" or key != "', "\\", '\\"', "'", "\n", "\x00\x1f\x7f", "%_"])
def test_no_text_ends_its_literal(text: str) -> None:
    found = expression(Filter(exclude_keys=(text,)))
    literal = found.removeprefix('not (key in ["').removesuffix('"])')
    # Every quote inside is escaped, and an escape is never cut in two.
    assert '"' not in literal.replace("\\\\", "").replace('\\"', "")
    assert not literal.replace("\\\\", "").endswith("\\")
    assert all(c >= " " for c in literal)


def test_filters_that_are_not_unicode_are_refused() -> None:
    with pytest.raises(InputError, match="not valid Unicode"):
        expression(Filter(categories=("\udc80",)))


def test_different_labels_have_different_texts() -> None:
    texts = [None, "", "null", '["a", "b"]', ["a", "b"], ['a", "b'], ["", "a"], ["a", ""]]
    assert len({label(text) for text in texts}) == len(texts)


def test_items_and_photos_are_read_back_unchanged() -> None:
    box = (1.5, 2, np.float32(3), 4)
    item = Item("k#1", "k", np.int64(1), box, "coat", {"a": "b"}, "7", {"x": [None]})
    row = item_row(item, np.arange(3, dtype=np.float32))
    assert [row[name] for name in ("key", "photo", "category", "tags")] == [
        "k#1", "k", '"coat"', ['["a", "b"]']
    ]  # fmt: skip
    assert read_item(row) == item and problem(row) == ""
    assert read_item(item_row(Item("k", "p"), row["vector"])) == Item("k", "p")
    for state in (PhotoState("p", 1, 2**62 + 1), PhotoState("p", 0, 0, "why\ud800")):
        assert read_photo(photo_row(state)) == state
    with pytest.raises(InputError, match="damaged"):
        read_photo({"photo": "p", "record": '{"sizes": 1}'})


def test_rows_that_contradict_their_record_are_reported() -> None:
    row = item_row(Item("k", "p", category="coat"), np.zeros(2, np.float32))
    for changes, word in (
        ({"photo": "q"}, "photo"),
        ({"category": label(None)}, "category"),
        ({"tags": [label(["a", "b"])]}, "tags"),
        ({"record": "{}"}, "damaged"),
        ({"record": "[]"}, "damaged"),
        ({"vector": [0.0, float("nan")]}, "NaN"),
        ({"vector": [float("inf"), 0.0]}, "infinity"),
    ):
        assert word in problem(row | changes)


def test_labels_that_cannot_be_stored_are_refused() -> None:
    with pytest.raises(InputError, match="JSON"):
        item_row(Item("k", "p", extra={"x": object()}), np.zeros(1))
    with pytest.raises(InputError, match=r"take 8\d{4} bytes"):  # two for each letter
        item_row(Item("k", "p", extra={"x": "ü" * 40_000}), np.zeros(1))
    with pytest.raises(InputError, match=r"take 65\d{3} bytes"):  # the key counts, too
        item_row(Item("k" * 65_500, "p"), np.zeros(1))
    with pytest.raises(InputError, match="4096 attributes"):
        item_row(Item("k", "p", attributes={str(i): "" for i in range(4097)}), np.zeros(1))


def test_chunks_split_a_list() -> None:
    assert chunks([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]] and chunks([], 3) == []


def test_vectors_of_no_rows_have_their_width() -> None:
    assert matrix([], 3).shape == (0, 3) and matrix([[1, 2]], 2).tolist() == [[1, 2]]


def test_only_long_errors_are_cut() -> None:
    for count, wanted in ((1000, "x" * 1000), (1001, "x" * 1000 + " ...")):
        assert read_photo(photo_row(PhotoState("p", 1, 1, "x" * count))).error == wanted
