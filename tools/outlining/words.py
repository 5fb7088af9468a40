"""Photos of one garment each, of which a set knows the category, in a detector's words."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from engine.config import require
from engine.data.records import PhotoRecords
from engine.files import absolute


def add_words_flag(parser: argparse.ArgumentParser) -> None:
    """``--words``; ``words_of`` reads it."""
    parser.add_argument(
        "--words", nargs="+", required=True, metavar="WORD=CATEGORY",
        help="what the detector calls their categories; photos of other words are left out",
    )  # fmt: skip


def words_of(texts: Iterable[str], categories: list[str]) -> dict[str, str]:
    """A set's word -> the detector's category.

    Args:
        texts: WORD=CATEGORY each.
        categories: of the detector.

    Raises:
        InputError: something else, or a category that the detector does not know.
    """
    known, words = ", ".join(categories), {}
    for text in texts:
        word, _, category = text.partition("=")
        require(bool(word and category), f"--words {text}: write WORD=CATEGORY")
        require(category in categories, f"--words {text}: name one of {known}")
        words[word] = category
    return words


def photos_by_category(
    sets: Iterable[PhotoRecords], words: dict[str, str]
) -> dict[str, list[Path]]:
    """Category -> absolute paths of the photos of one such garment, in the sets' order.

    Raises:
        InputError: there are none.
    """
    found: dict[str, list[Path]] = {}
    there: set[str] = set()
    for records in sets:
        for index in range(len(records)):
            first, end = records.garment_offsets[index : index + 2].tolist()
            if end - first != 1:
                continue
            word = records.category_name(int(records.garment_category[first]))
            there.add(word)
            if word in words:
                found.setdefault(words[word], []).append(absolute(records.path(index)))
    known = ", ".join(sorted(there)) or "more garments than one, or none"
    require(bool(found), f"--words: no photo has any of them; the photos have {known}")
    return found
