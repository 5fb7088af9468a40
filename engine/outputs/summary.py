"""Assembles the final files of a run from its journal, photo by photo, in constant memory.

garments.json        settings, one entry per photo (a line each), unreadable photos, totals
garments.csv         a row per garment
coco_results.json    COCO result format; image ids are those in garments.json
features.npz         on request: every garment's aspect vectors (engine/outputs/feature_file.py)
index.html           the page that shows all results (engine/outputs/gallery.py)
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.files import JsonList, replacing
from engine.outputs.feature_file import FeatureFile
from engine.outputs.gallery import GalleryWriter
from engine.outputs.journal import Record
from engine.wording import counted, printable

CSV_COLUMNS = ("photo", "number", "category", "score", "x1", "y1", "x2", "y2", "area_share", "crop")
COLORS = "measured_colors"  # "color" is the network's prediction
MAX_LISTED = 10  # unreadable photos in the printed summary


@dataclass
class Summary:
    """Counts of what a run found."""

    photos: int = 0
    garments: int = 0
    photos_without: int = 0
    dropped: int = 0  # detections that the multitask model took for false
    unreadable: list[Record] = field(default_factory=list)
    per_category: Counter = field(default_factory=Counter)
    photos_with: Counter = field(default_factory=Counter)  # photos that show the category

    def count(self, record: Record) -> None:
        """Add one photo."""
        self.photos += 1
        if "kind" in record:
            self.unreadable.append(record)
            return
        names = [garment["category"] for garment in record["garments"]]
        self.garments += len(names)
        self.photos_without += not names
        self.dropped += record["dropped"]
        self.per_category.update(names)
        self.photos_with.update(set(names))


def assemble(
    output: Path,
    records: Iterable[Record],
    *,
    header: dict[str, Any],
    categories: Sequence[str],
    category_ids: Sequence[int],
    groups: Mapping[str, bool] | None = None,
    features: bool = False,
) -> Summary:
    """Write the final files, each atomically.

    Args:
        output: the results folder.
        records: of every photo, sorted by name, as the journal holds them.
        header: first part of garments.json: "root" of the photos' names, "pictures" (whether there
            are overlays and crops; without them no page is written), weights and settings.
        categories, category_ids: of the detector; COCO results use the ids.
        groups: name of each group of predicted labels -> whether it is exclusive; None if garments
            are not described.
        features: write features.npz.
    """
    ids = dict(zip(categories, category_ids, strict=True))
    summary = Summary()
    with ExitStack() as stack:
        document = _PhotosJson(stack.enter_context(replacing(output / "garments.json")), header)
        table = _Table(stack.enter_context(replacing(output / "garments.csv")), groups)
        vectors = FeatureFile(output / "features.npz") if features else None
        coco = JsonList(stack.enter_context(replacing(output / "coco_results.json")))
        page = None
        if header["pictures"]:
            file = stack.enter_context(replacing(output / "index.html"))
            page = GalleryWriter(file, header["root"], output, categories)
        for record in records:
            entry = {key: value for key, value in record.items() if key != "stamp"}
            summary.count(entry)
            if vectors and "kind" not in entry:
                vectors.add(entry)
            if page:
                page.add(entry)
            if "kind" not in entry:
                document.add(entry)
                table.add(entry)
                for result in _coco_results(entry, ids):
                    coco.add(result)
        document.close(summary)
        if vectors:
            vectors.close()
        table.close()
        coco.close()
        if page:
            page.close()
    # Those of an earlier run would not match the other files.
    for name, written in (("index.html", page), ("features.npz", vectors)):
        if not written:
            (output / name).unlink(missing_ok=True)
    return summary


def print_summary(summary: Summary, new: int, seconds: float, output: Path, *, others: int) -> None:
    """Print what was found, what could not be read and where the results are.

    Args:
        summary: of all photos of the run.
        new: how many of them this run processed.
        seconds: duration of the run.
        output: the results folder.
        others: finished photos of earlier runs into this folder that this run does not name.
    """
    console = Console(highlight=False, soft_wrap=True)
    if summary.garments:
        table = Table("category")
        table.add_column("garments", justify="right")
        table.add_column("photos", justify="right")
        for category, count in summary.per_category.most_common():
            table.add_row(escape(category), str(count), str(summary.photos_with[category]))
        console.print(table)
    for entry in summary.unreadable[:MAX_LISTED]:
        console.print(escape(f"unreadable: {printable(entry['photo'])}: {entry['reason']}"))
    if len(summary.unreadable) > MAX_LISTED:
        console.print(f"... and {len(summary.unreadable) - MAX_LISTED} more, in garments.json")
    console.print(
        f"{counted(summary.photos, 'photo')}, {new} of them now in {seconds:.1f} s: "
        f"{counted(summary.garments, 'garment')}, {counted(summary.photos_without, 'photo')} "
        f"without, {len(summary.unreadable)} unreadable"
    )
    if summary.dropped:
        console.print(
            f"{counted(summary.dropped, 'detection')} dropped as false by the multitask model"
        )
    if others:
        console.print(
            f"{counted(others, 'photo')} of earlier runs, not named now, left out of these "
            "results; name them, too, to include them"
        )
    page = output / "index.html"
    shown = page if page.exists() else output / "garments.json"
    console.print(escape(f"look at {printable(str(shown))}"))


def _coco_results(record: Record, ids: dict[str, int]) -> Iterable[dict[str, Any]]:
    for garment in record["garments"]:
        x1, y1, x2, y2 = garment["box"]
        result = {
            "image_id": record["image_id"],
            "category_id": ids[garment["category"]],
            "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
            "score": garment["score"],
        }
        if "mask" in garment:
            result["segmentation"] = garment["mask"]
        yield result


class _PhotosJson:
    """garments.json: the header, "photos" (one line each), and the totals at the end."""

    def __init__(self, file: IO[bytes], header: dict[str, Any]) -> None:
        self.file = file
        file.write(json.dumps(header, indent=1).encode().removesuffix(b"\n}") + b',\n "photos": ')
        self.photos = JsonList(file)

    def add(self, record: Record) -> None:
        self.photos.add(record)

    def close(self, summary: Summary) -> None:
        self.photos.close()
        totals = {
            "photos": summary.photos,
            "unreadable": len(summary.unreadable),
            "without_garments": summary.photos_without,
            "garments": summary.garments,
            "dropped": summary.dropped,
            "per_category": dict(summary.per_category.most_common()),
        }
        rest = json.dumps({"unreadable": summary.unreadable, "summary": totals}, indent=1)
        self.file.write(b"," + rest.encode().removeprefix(b"{") + b"\n")


class _Table:
    r"""garments.csv, in UTF-8; bytes of file names that are not UTF-8 are written as in
    garments.json, like \udce9, since most readers refuse a whole table for one of them.

    Described garments have a column for the colors of their pixels and, for each label group, one
    for the prediction; an exclusive group has another one for its probability.
    """

    def __init__(self, file: IO[bytes], groups: Mapping[str, bool] | None) -> None:
        self.text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="")
        self.rows = csv.writer(self.text, lineterminator="\n")
        self.groups = groups or {}
        columns = [*CSV_COLUMNS]
        if groups is not None:
            columns.append(COLORS)
        for group, exclusive in self.groups.items():
            columns += _label_columns(group)[: 1 + exclusive]
        self.columns = columns
        self.rows.writerow(columns)

    def add(self, record: Record) -> None:
        for garment in record["garments"]:
            values = {**garment, **dict(zip(("x1", "y1", "x2", "y2"), garment["box"], strict=True))}
            values["photo"] = record["photo"]
            shares = (f"{c['name']} {c['share']:.0%}" for c in garment.get("colors", ()))
            values[COLORS] = "; ".join(shares)
            for group, ranked in garment.get("labels", {}).items():
                label, probability = _label_columns(group)
                sure = [r["value"] for r in ranked if self.groups[group] or r["probability"] > 0.5]
                values[label] = sure[0] if self.groups[group] else "; ".join(sure)
                values[probability] = ranked[0]["probability"]
            self.rows.writerow([values.get(column, "") for column in self.columns])

    def close(self) -> None:
        self.text.detach()  # flushes; the file is closed by its owner


def _label_columns(group: str) -> tuple[str, str]:
    """Columns of a group's prediction and probability, renamed if the name is taken."""
    name = f"described_{group}" if group in {*CSV_COLUMNS, COLORS} else group
    return name, f"{name}_probability"
