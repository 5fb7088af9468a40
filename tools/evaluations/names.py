"""Category accuracy of infer.py, on photos of which only one garment's category is known.

    python tools/evaluate.py names --dataset csv:PHONE --words T-Shirt=top Pants=trousers
    python tools/evaluate.py names --dataset csv:PRODUCTS --words Tshirts=top \\
        --multitask-weights none                                # the detector alone

For photos of one garment each, with its category from a table: how often a detection has that
category, which share of all detections has it, and how often nothing is detected. Detections beside
the garment count as wrong, so the second number only makes sense for photos of a single garment on
a floor or a bed, not for people who wear several.

--output-dir gets metrics.json: for each category, and for all, the number of photos ("photos",
including "unreadable"), of photos where a detection has the right category ("named") or nothing is
detected ("empty"), and of detections in all ("shown") and with the right category ("right").
"""

import argparse
from collections import Counter
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from dataset_helpers import load_spec, parse_specs
from engine import distributed
from engine.description.describer import Describer
from engine.detection.detections import Detections
from engine.detection.finder import Found, GarmentFinder
from engine.detection.predict import with_progress
from engine.model_flags import (
    add_detector_flags,
    add_multitask_flag,
    add_running_flags,
    build_describer,
    build_finder,
    positive,
)
from engine.training.meters import write_json
from tools.evaluations.shared import start
from tools.outlining.words import add_words_flag, photos_by_category, words_of

ALL = "all"
COUNTS = ("photos", "unreadable", "named", "empty", "shown", "right")


def evaluate(arguments: argparse.Namespace) -> None:
    """Process every photo as infer.py does, on all ranks; rank 0 prints and writes."""
    device = start(arguments)
    finder = build_finder(arguments, device)
    words = words_of(arguments.words, finder.categories)
    specs = parse_specs(arguments.dataset)
    with distributed.first_on_each_machine():
        datasets = [load_spec(spec, arguments.split or spec.val) for spec in specs]
    photos = [
        ((number, category), path)
        for category, paths in photos_by_category(datasets, words).items()
        for number, path in enumerate(paths[: arguments.most])
    ]
    describer = build_describer(arguments, device)
    part = [photos[index] for index in distributed.shard(len(photos))]
    counts: dict[str, Counter] = {}
    results = finder.find(part, keep_photo=describer is not None)
    for result in with_progress(results, len(part)):
        (_, category), *_ = result
        counts.setdefault(category, Counter()).update(count_photo(result, finder, describer))
    gathered = distributed.gather_objects(counts)
    if gathered is not None:
        metrics = _sum_counts(gathered)
        _print(metrics)
        if arguments.output_dir:
            write_json(arguments.output_dir / "metrics.json", metrics)


def count_photo(
    result: Found, finder: GarmentFinder, describer: Describer | None
) -> dict[str, int]:
    """The counts of one photo, whose key is (number, category of its garment)."""
    (_, category), found, photo = result
    if not isinstance(found, Detections):
        return {"photos": 1, "unreadable": 1}
    if describer:
        found, _ = describer.describe(photo, found, finder.categories)
    right = int((found.labels == 1 + finder.categories.index(category)).sum())
    return {
        "photos": 1,
        "named": int(right > 0),
        "empty": int(len(found) == 0),
        "shown": len(found),
        "right": right,
    }


def _sum_counts(parts: list[dict[str, Counter]]) -> dict[str, dict[str, int]]:
    """All ranks' counts by category in alphabetical order, then their sums."""
    sums = {name: Counter() for name in [*sorted(set().union(*parts)), ALL]}
    for part in parts:
        for name, counts in part.items():
            sums[name].update(counts)
            sums[ALL].update(counts)
    return {name: {count: sums[name][count] for count in COUNTS} for name in sums}


def _print(metrics: dict[str, dict[str, int]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="what infer.py shows")
    table.add_column("category")
    for header in ("photos", "right category", "no detection", "detections", "of them right"):
        table.add_column(header, justify="right")
    for name, row in metrics.items():
        shares = [_percent(row[count], row["photos"]) for count in ("named", "empty")]
        right = _percent(row["right"], row["shown"])
        style = "bold" if name == ALL else None
        table.add_row(name, str(row["photos"]), *shares, str(row["shown"]), right, style=style)
    Console().print(table)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``evaluate``."""
    parser.add_argument(
        "--dataset", action="extend", nargs="+", required=True,
        metavar="FORMAT:PATH[:key=value]...",
        help="photos of one garment each, with its category; as in train.py multitask --help",
    )  # fmt: skip
    parser.add_argument("--split", help="split of every dataset (default: each one's val=, or val)")
    add_words_flag(parser)
    parser.add_argument(
        "--most", type=positive, metavar="N",
        help="use at most the first N photos of each category (default: all)",
    )  # fmt: skip
    parser.add_argument("--output-dir", type=Path, help="where to write metrics.json")
    add_detector_flags(parser)
    add_multitask_flag(parser)
    add_running_flags(parser)
