"""Statistics of a dataset, as plain numbers and as tables for the terminal."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from engine.data.readers.problems import Problem
from engine.data.records import PhotoRecords
from engine.wording import printable

SIDES = (0, 128, 256, 384, 512, 640, 800, 1024, 1536, 2048)  # pixels of the short side
MANY_GARMENTS = 8
BINNED = ("photos by short side", "garments by area", "photos by number of garments")
# COCO's limits, applied to the annotated areas.
AREAS = {"small (< 32²)": 32**2, "medium (< 96²)": 96**2, "large": np.inf}
BAR_WIDTH = 30
STATES = ("yes", "no", "unknown")
MOST_ATTRIBUTES = 20  # values of a group that are printed


def statistics(records: PhotoRecords) -> dict[str, Any]:
    """Counts and histograms of one split: label -> count, in the order to be shown."""
    names = records.categories
    per_category = np.bincount(records.garment_category + 1, minlength=len(names) + 1)
    if per_category[0]:  # of unknown category
        names = [*names, records.category_name(-1)]
    per_photo = np.minimum(np.diff(records.garment_offsets), MANY_GARMENTS)
    short = records.sizes.min(axis=1)
    side_counts = np.bincount(np.digitize(short, SIDES) - 1, minlength=len(SIDES))
    areas = np.digitize(records.garment_area, list(AREAS.values())[:-1])
    return {
        "photos": len(records),
        "garments": len(records.garment_category),
        "masks": int(records.garment_has_mask.sum()),
        "crowds": int(records.garment_crowd.sum()),
        "identities": len(np.unique(records.garment_identity[records.garment_identity >= 0])),
        "categories": _by_label(names, np.roll(per_category, -1)[: len(names)]),
        "photos by short side": _by_label(_side_labels(), side_counts),
        "garments by area": _by_label(AREAS, np.bincount(areas, minlength=len(AREAS))),
        "photos by number of garments": _by_label(
            _garment_labels(), np.bincount(per_photo, minlength=MANY_GARMENTS + 1)
        ),
        "attributes": attribute_counts(records),
    }


def attribute_counts(records: PhotoRecords) -> dict[str, dict[str, dict[str, int]]]:
    """Group -> value -> how many garments have it ("yes"), don't ("no"), or are "unknown"."""
    matrix = records.attribute_matrix
    yes, no = (matrix == 1).sum(axis=0), (matrix == -1).sum(axis=0)
    counts = np.stack([yes, no, len(matrix) - yes - no], axis=1).tolist()
    return {
        group.name: {
            records.attributes[a]: dict(zip(STATES, counts[a], strict=True))
            for a in range(group.start, group.stop)
        }
        for group in records.attribute_groups
    }


def _by_label(labels: Iterable[str], counts: np.ndarray) -> dict[str, int]:
    return dict(zip(labels, counts.tolist(), strict=True))


def _side_labels() -> list[str]:
    ends = [f"{low}–{high - 1}" for low, high in pairwise(SIDES)]
    return [*ends, f"{SIDES[-1]} and more"]


def _garment_labels() -> list[str]:
    return [*map(str, range(MANY_GARMENTS)), f"{MANY_GARMENTS} and more"]


def print_statistics(console: Console, splits: dict[str, dict[str, Any]]) -> None:
    """Print a table of totals and a table per histogram, with the splits side by side."""
    keys = ("photos", "garments", "masks", "crowds", "identities")
    totals = Table("split", *(Column(key, justify="right") for key in keys), box=box.SIMPLE_HEAD)
    for name, split in splits.items():
        totals.add_row(name, *(f"{split[key]:,}" for key in keys))
    console.print(totals)
    for title, value in next(iter(splits.values())).items():
        if title == "attributes":
            for table in _attribute_tables({name: split[title] for name, split in splits.items()}):
                console.print(table)
        elif isinstance(value, dict):
            columns = {name: split[title] for name, split in splits.items()}
            console.print(_histogram_table(title, columns))


def _histogram_table(title: str, splits: dict[str, dict[str, int]]) -> Table:
    table = Table(title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in splits:
        table.add_column(name, justify="right")
        table.add_column("")
    # All names are shown, but of bins only those from the first to the last that is not empty.
    labels = list(dict.fromkeys(label for split in splits.values() for label in split))
    filled = [i for i, label in enumerate(labels) if any(s.get(label) for s in splits.values())]
    if title in BINNED:
        labels = labels[filled[0] : filled[-1] + 1] if filled else []
    for label in labels:
        cells = []
        for split in splits.values():
            count, most = split.get(label, 0), max(split.values(), default=0)
            cells += [f"{count:,}", "█" * round(BAR_WIDTH / len(splits) * count / max(most, 1))]
        table.add_row(label, *cells)
    return table


def _attribute_tables(splits: dict[str, dict[str, dict[str, dict[str, int]]]]) -> Iterator[Table]:
    """A table per group: how many garments have each value, most frequent first."""
    for group in dict.fromkeys(group for split in splits.values() for group in split):
        counts = {
            name: {value: states["yes"] for value, states in split.get(group, {}).items()}
            for name, split in splits.items()
        }
        total = Counter()
        for count in counts.values():
            total.update(count)
        frequent = [value for value, _ in total.most_common(MOST_ATTRIBUTES)]
        rest = len(total) - len(frequent)
        shown = {name: {v: count.get(v, 0) for v in frequent} for name, count in counts.items()}
        yield _histogram_table(f"{group} (and {rest} more)" if rest else group, shown)


def print_problems(console: Console, splits: dict[str, list[Problem]]) -> None:
    """Print every kind of problem with its count and first examples, faults before notes."""
    for notes, title in ((False, "fault"), (True, "note")):
        columns = ("split", title, Column("count", justify="right"))
        places = Column("first places", overflow="fold")
        table = Table(*columns, places, box=box.SIMPLE_HEAD)
        for name, problems in splits.items():
            for problem in problems:
                if problem.is_note == notes:
                    kind = f"{problem.kind}\n({problem.consequence})"
                    # Text, not markup: a file name may hold square brackets.
                    examples = Text("\n".join(map(printable, problem.examples)))
                    table.add_row(name, kind, f"{problem.count:,}", examples)
        if table.row_count:
            console.print(table)
