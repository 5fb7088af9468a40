"""The text lists of the DeepFashion benchmarks (Liu et al., CVPR 2016).

    3                                     number of rows
    image_name x_1 y_1 x_2 y_2            column names
    img/A_Blouse/img_00000001.jpg  72 79 232 273

A row is a name followed by numbers, separated by spaces. Names may contain spaces, so rows are
split from the right. The numbers of a file are parsed together: 289,222 rows of 1000 attributes are
too many for a Python loop.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from engine.data.packing import ragged_rows, to_offsets
from engine.data.readers.cache import fingerprint
from engine.data.readers.problems import Problems
from engine.data.records import AttributeGroup
from engine.errors import InputError


class ListFiles:
    """Finds and parses the list files of a dataset.

    Attributes:
        problems: what was wrong with them.
        sources: path -> fingerprint of every file looked for, also of missing ones.
    """

    def __init__(self, root: Path, *folders: str) -> None:
        self.root = root
        self.folders = folders
        self.problems = Problems()
        self.sources: dict[str, str] = {}

    def required(self, *names: str) -> Path:
        """The first of these files that exists.

        Raises:
            InputError: none exists.
        """
        found = self._find(names)
        if found is None:
            where = ", ".join(folder or "." for folder in self.folders)
            raise InputError(f"{self.root}: has no {names[0]} (looked in its folders {where})")
        return found

    def optional(self, *names: str) -> Path | None:
        """The first of these files that exists; None, noted as a problem, if none does."""
        found = self._find(names)
        if found is None:
            self.problems.add("missing list", names[0])
        return found

    def _find(self, names: Sequence[str]) -> Path | None:
        for path in (self.root / folder / name for folder in self.folders for name in names):
            # Missing files too: if one is added later, the dataset has changed.
            self.sources[str(path)] = fingerprint(path)
            if path.is_file():
                return path
        return None

    def rows(self, path: Path) -> list[str]:
        """The rows of a list, without its two header lines."""
        lines = read_lines(path)
        count, body = lines[0].strip() if lines else "", lines[2:]
        body = [line for line in body if line.strip()]
        if not count.isdigit():
            raise InputError(
                f"{path}: its first line must be the number of rows; is this the right file?"
            )
        if int(count) != len(body):
            detail = f"{path.name}: {len(body)} rows, its first line says {count}"
            self.problems.add("list of another length than announced", detail)
        return body

    def table(self, path: Path, columns: int) -> tuple[list[str], np.ndarray]:
        """Rows of a name and whole numbers: the names [R] and int64 [R, columns]."""
        rows = [line.rsplit(None, columns) for line in self.rows(path)]
        for number, row in enumerate(rows, 3):
            if len(row) != columns + 1:
                raise _bad_row(path, number, f"a name and {columns} numbers")
        values = parse_numbers(path, " ".join(" ".join(row[1:]) for row in rows))
        if len(values) != columns * len(rows):
            raise InputError(f"{path}: some rows are not a name and {columns} numbers")
        return [row[0] for row in rows], values.reshape(-1, columns)

    def words(self, path: Path, columns: int) -> list[list[str]]:
        """Rows of a name and ``columns`` words, split into a list each."""
        rows = [line.rsplit(None, columns) for line in self.rows(path)]
        for number, row in enumerate(rows, 3):
            if len(row) != columns + 1:
                raise _bad_row(path, number, f"{columns + 1} entries")
        return rows

    def landmarks(self, path: Path, skip: int) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Names [R], landmarks of all rows float32 [P, 3], and their number in each row int64 [R].

        A row is a name, ``skip`` unused numbers, and visibility, x, y of each landmark. In the file
        visibility is 0 visible, 1 occluded, 2 cut off; in the result 2, 1, 0.
        """
        rows = [line.split() for line in self.rows(path)]
        counts = np.array([len(row) - 1 - skip for row in rows], np.int64)
        for number in np.flatnonzero((counts < 0) | (counts % 3 > 0)):
            raise _bad_row(path, number + 3, f"a name, {skip} numbers, and v x y of each landmark")
        values = parse_numbers(path, " ".join(" ".join(row[1 + skip :]) for row in rows))
        if len(values) != counts.sum():
            raise InputError(f"{path}: holds something that is not a number")
        visibility, x, y = values.reshape(-1, 3).T
        points = np.stack([x, y, np.clip(2 - visibility, 0, 2)], axis=1).astype(np.float32)
        points[points[:, 2] == 0] = 0
        return [row[0] for row in rows], points, counts // 3


def read_lines(path: Path) -> list[str]:
    """A text file's lines."""
    try:
        return path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text at byte {error.start}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def parse_numbers(path: Path, text: str) -> np.ndarray:
    """All whole numbers of a text, int64."""
    if not text.strip():
        return np.zeros(0, np.int64)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy's way to report a bad value
            return np.fromstring(text, np.int64, sep=" ")
    except (DeprecationWarning, ValueError):
        raise InputError(f"{path}: holds something that is not a whole number") from None


def read_signs(
    path: Path, rows: Mapping[str, Sequence[int]], order: np.ndarray, count: int
) -> np.ndarray:
    """Attribute values int8 [count, A]: 1 yes, -1 no, 0 unknown or not in the list.

    Args:
        path: a list whose rows are a name and A values.
        rows: name -> the rows of the result that get its values.
        order: int [A], which column of the list each column of the result is.
        count: rows of the result.
    """
    values = np.zeros((count, len(order)), np.int8)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            name, rest = (*line.split(None, 1), b"", b"")[:2]
            wanted = rows.get(name.decode("utf-8", "replace"))
            if number <= 2 or wanted is None:
                continue
            try:
                signs = parse_numbers(path, rest.decode("ascii", "replace"))
            except InputError:
                signs = np.zeros(0)
            if len(signs) != len(order) or np.abs(signs).max(initial=0) > 1:
                raise _bad_row(path, number, f"a name and {len(order)} values -1, 0 or 1")
            values[wanted] = signs[order]
    return values


def positions(names: Sequence[str], listed: Iterable[str]) -> np.ndarray:
    """Index of each name in ``listed``, -1 if it is not there: int64 [len(names)]."""
    place = {name: i for i, name in enumerate(listed)}
    return np.array([place.get(name, -1) for name in names], np.int64)


def rows_at(values: np.ndarray, places: np.ndarray, missing: float) -> np.ndarray:
    """``values[places]``, with rows of ``missing`` where a place is -1."""
    padded = np.concatenate(
        [values, np.full_like(values[:1], missing, shape=(1, *values.shape[1:]))]
    )
    return padded[places]


def ragged_rows_at(
    values: np.ndarray, counts: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values and offsets of the ragged rows at ``places``; empty where a place is -1.

    Row i has ``counts[i]`` of the values.
    """
    offsets = to_offsets([*counts, 0])  # index -1 is the additional empty row
    chosen, new_offsets = ragged_rows(offsets, places)
    return values[chosen], new_offsets


def group_by_type(
    names: Sequence[str], types: Sequence[int], type_names: Mapping[int, str]
) -> tuple[list[str], list[AttributeGroup], np.ndarray]:
    """Sort attributes by type, otherwise keeping their order.

    Returns:
        The sorted names, one multi-label group per type, and the old index of each name, int64 [A].
    """
    types = np.asarray(types, np.int64)
    order = np.argsort(types, kind="stable")
    groups, start = [], 0
    for number in np.unique(types):
        stop = start + int((types == number).sum())
        name = type_names.get(int(number), f"type {number}")
        groups.append(AttributeGroup(name, start, stop, exclusive=False))
        start = stop
    return [names[i] for i in order], groups, order


def _bad_row(path: Path, number: int, expected: str) -> InputError:
    return InputError(f"{path}: line {number} is not {expected}; the file is damaged")
