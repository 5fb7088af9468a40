"""A table of photos: one row per photo, or one row per garment if rows have boxes.

    file_name,category,identity,split,color,pattern          labels.csv
    a/1.jpg,dress,D-17,train,red,                            blank or nan = unknown

``file_name`` may also be called path, image or file, ``identity`` also item_id. x1, y1, x2, y2, or
the other names in ``BOX_COLUMNS``, are a garment's box in pixels (blank: the whole photo). Every
other column is an exclusive attribute group, except free text: columns whose values hardly repeat.
Categories, attribute values and identities are numbered over the whole table, alike in all splits.
"""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.data.readers import checks
from engine.data.readers.cache import fingerprint
from engine.data.readers.listed import (
    Rows,
    exclusive_groups,
    is_free_text,
    number_values,
    to_columns,
)
from engine.data.readers.problems import Problems
from engine.data.records import PhotoRecords
from engine.errors import InputError

FILE_COLUMNS = ("file_name", "path", "image", "file")
IDENTITY_COLUMNS = ("identity", "item_id")
BOX_COLUMNS = (  # two corners, or the upper left one and the size
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("bbox_x", "bbox_y", "bbox_w", "bbox_h"),
)
RESERVED = {"category", "split", *IDENTITY_COLUMNS}  # never read as attributes by default
BLANKS = {"nan", "<na>", "null"}  # as data frames and databases write blanks

Table = dict[str, list[str]]  # column name -> its entries, stripped, "" = blank


def find_table(root: Path, annotations: str | Path | None) -> Path:
    """Path of the table: ``annotations`` (also relative to the root), default labels.csv.

    Raises:
        InputError: there is no such file.
    """
    candidates = [root / "labels.csv"]
    if annotations is not None:
        candidates = [Path(annotations), root / annotations]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = ", ".join(map(str, candidates))
    raise InputError(f"no table for {root}: looked for {looked}; name it with annotations=")


def read(
    file: Path,
    folders: Sequence[Path],
    split: str,
    *,
    category: str | None = None,
    identity: str | None = None,
    attributes: Sequence[str] | None = None,
) -> tuple[PhotoRecords, dict[str, str]]:
    """Read one split of a table.

    Args:
        file: the table: UTF-8, separated by commas, semicolons or tabs; the first line holds the
            column names.
        folders: where the photos may be; the first that holds any of them is used.
        split: rows with another ``split`` are left out; without such a column all are read.
        category, identity: columns to use instead of the usual ones; "none" uses none.
        attributes: the attribute columns; None: all other columns that are not free text.

    Returns:
        The records and the fingerprints of the table and the photo folder.

    Raises:
        InputError: the file is not such a table, or lacks a column or the split.
    """
    sources = {str(file.resolve()): fingerprint(file)}
    problems = Problems()
    table = _parse(file, problems)
    files = _column_named(table, None, FILE_COLUMNS, file)
    if files is None:
        raise InputError(f"{file}: has no column file_name; its columns are {', '.join(table)}")
    box = _box_columns(table, file)
    chosen, numbers = _choose_rows(table, files, box, split, file, problems)
    root = checks.choose_folder(table[files], folders, file)
    sources[str(root.resolve())] = fingerprint(root)

    category = _column_named(table, category, ("category",), file)
    identity = _column_named(table, identity, IDENTITY_COLUMNS, file)
    categories, category_of_row = _values(table, category)
    identities, identity_of_row = _values(table, identity)
    taken = {files, category, identity, *box}
    names = _attribute_columns(table, attributes, taken, problems, file)
    values, groups, matrix = exclusive_groups(names, [table[name] for name in names])

    rows = Rows(
        names=[table[files][row] for row in chosen],
        numbers=numbers,
        category=category_of_row[chosen],
        identity=identity_of_row[chosen],
        attributes=matrix[chosen] if groups else None,
        box=_boxes(table, chosen, box),
    )
    records = PhotoRecords(
        to_columns(rows, root, problems),
        format="csv",
        root=root,
        categories=categories,
        category_ids=range(1, len(categories) + 1),
        attributes=values,
        attribute_groups=groups,
        identities=identities,
        problems=problems.found(),
    )
    return records, sources


def _parse(file: Path, problems: Problems) -> Table:
    header, *lines = _read_lines(file)
    names = [name.strip().lower() for name in header]
    for name in names:
        if name and names.count(name) > 1:
            raise InputError(f"{file}: column {name!r} occurs twice; rename one")
    complete = []
    for line in filter(any, lines):
        if len(line) == len(names):
            complete.append(line)
        else:
            detail = f"{file.name}: {len(line)} entries instead of {len(names)}"
            problems.add("malformed row", f"{detail}: {','.join(line)[:60]}")
    columns = zip(*complete, strict=True) if complete else ([] for _ in names)
    return {
        name: ["" if entry.strip().lower() in BLANKS else entry.strip() for entry in column]
        for name, column in zip(names, columns, strict=True)
        if name  # spreadsheets write row numbers in a column without a name
    }


def _read_lines(file: Path) -> list[list[str]]:
    """The header and all rows, split into entries."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except csv.Error as error:
        raise InputError(
            f"{file}: is not a readable table ({error}); a quote may not be closed"
        ) from None
    if not lines:
        raise InputError(f"{file}: is empty; its first line must hold the column names")
    return lines


def _column_named(table: Table, wanted: str | None, usual: Sequence[str], file: Path) -> str | None:
    """The wanted column (None if that is "none"); by default the first usual one that exists."""
    if wanted is None:
        return next((name for name in usual if name in table), None)
    name = wanted.lower()
    if name not in (*table, "none"):
        raise InputError(f"{file}: has no column {wanted!r}; its columns are {', '.join(table)}")
    return None if name == "none" else name


def _values(table: Table, column: str | None) -> tuple[list[str], np.ndarray]:
    """A column's distinct entries, sorted, and each row's index into them, int64 [R], -1: blank."""
    rows = len(next(iter(table.values()), []))
    return number_values(table[column]) if column else ([], np.full(rows, -1))


def _attribute_columns(
    table: Table, wanted: Sequence[str] | None, taken: set, problems: Problems, file: Path
) -> list[str]:
    if wanted is not None:
        for name in wanted:
            if _column_named(table, name, (), file) is None:
                raise InputError(f"{file}: attributes: {name!r} is not a column")
        return [name.lower() for name in wanted]
    names = []
    for name in table:
        if name in taken | RESERVED:
            continue
        filled = [entry for entry in table[name] if entry]
        if is_free_text(filled):
            detail = f"{name}: {len(set(filled))} values in {len(filled)} rows"
            problems.add("column of free text", detail)
        elif filled:
            names.append(name)
    return names


def _box_columns(table: Table, file: Path) -> Sequence[str]:
    """The columns that hold boxes, () if there are none."""
    for names in BOX_COLUMNS:
        if all(name in table for name in names):
            return names
    for names in BOX_COLUMNS[:3]:  # the other names are also used for other things
        for name in names:
            if name in table:
                raise InputError(f"{file}: has a column {name}, but a box needs {', '.join(names)}")
    return ()


def _choose_rows(
    table: Table, files: str, box: Sequence[str], split: str, file: Path, problems: Problems
) -> tuple[list[int], np.ndarray]:
    """The split's rows and their photos' ids (int64), which are numbered over all splits."""
    chosen = _without_repeats(table, files, box, _rows_of_split(table, split, file), problems)
    number = {name: i for i, name in enumerate(dict.fromkeys(table[files]), 1)}
    return chosen, np.array([number[table[files][row]] for row in chosen], np.int64)


def _rows_of_split(table: Table, split: str, file: Path) -> list[int]:
    if "split" not in table:
        return list(range(len(next(iter(table.values()), []))))
    for name in (split.lower(), *checks.OTHER_SPLIT_NAMES.get(split.lower(), ())):
        rows = [row for row, entry in enumerate(table["split"]) if entry.lower() == name]
        if rows:
            return rows
    there = ", ".join(sorted(set(table["split"]) - {""})) or "none"
    raise InputError(f"{file}: has no row of split {split!r}; its splits are {there}")


def _without_repeats(
    table: Table, files: str, box: Sequence[str], rows: Sequence[int], problems: Problems
) -> list[int]:
    """The rows without repeated photos; rows with a box may share a photo."""
    boxed = [any(entries) for entries in zip(*(table[name] for name in box), strict=True)]
    seen, kept = set(), []
    for row in rows:
        name = table[files][row]
        if name in seen and not (boxed and boxed[row]):
            problems.add("photo listed twice", name)
            continue
        seen.add(name)
        kept.append(row)
    return kept


def _boxes(table: Table, rows: Sequence[int], names: Sequence[str]) -> np.ndarray | None:
    """float64 [R, 4] xyxy in pixels, NaN where blank; None without box columns."""
    if not names:
        return None
    columns = [[_parse_number(table[name][row]) for row in rows] for name in names]
    boxes = np.array(columns, np.float64).T.reshape(-1, 4)
    if names[2].endswith(("w", "width")):
        boxes[:, 2:] += boxes[:, :2]
    return boxes


def _parse_number(entry: str) -> float:
    """NaN if blank; infinity if not a number, so that the box is rejected as not finite."""
    try:
        return float(entry or "nan")
    except ValueError:
        return math.inf
