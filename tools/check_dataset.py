"""Checks a dataset before hours are spent on it: what is in it, what is wrong, what leaks.

    python tools/check_dataset.py coco photos/ --split train val --output-dir check/
    python tools/check_dataset.py deepfashion2 DF2 --split train validation -j 8
    python tools/check_dataset.py coco photos/ --annotations a.json b.json --json report.json

Every photo is decoded, every annotation read. Printed are histograms of categories, sizes and
garments per photo, and every kind of problem with its count and first places: what the readers
leave out, photos that are damaged inside, masks that don't fit their boxes, garments annotated
twice, and photos that occur twice: as the same file, or resized, recompressed or mirrored, within
a split or (worse: the evaluation is then no test) in two. --output-dir gets report.json, a sheet of
annotated photos per split and one of the duplicates.

Exit code: 0 clean, 1 problems found, 2 nothing could be checked.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.console import Console

from dataset_helpers import DATASETS, load_dataset
from engine.distributed import configure_logging
from engine.errors import InputError, exits_cleanly
from engine.meters import write_json
from engine.readers.problems import Problem, Problems
from engine.records import PhotoRecords
from tools.checkup.duplicates import MOST_PAIRS, Pair, find_duplicates
from tools.checkup.inspection import inspect
from tools.checkup.pictures import write_pairs, write_samples
from tools.checkup.tables import print_problems, print_statistics, statistics

PAIRS_REPORTED = 1000
PAIRS_DRAWN = 16


class Place(NamedTuple):
    """Where a decodable photo is."""

    split: str
    path: Path


@exits_cleanly
def main() -> int:
    """Load, inspect, compare, print and write."""
    arguments = parse_arguments()
    configure_logging().setLevel("ERROR")  # the problems are told at the end, in one table
    prepare_outputs(arguments)
    splits = load_splits(arguments)
    problems = {name: Problems() for name in splits}
    places, thumbnails, digests = [], [], []
    for name, records in splits.items():
        problems[name].merge(records.problems)
        for index, finding in enumerate(inspect(records, workers=arguments.workers, title=name)):
            for kind, where in finding.problems:
                problems[name].add(kind, where)
            if finding.digest is not None:
                places.append(Place(name, records.path(index)))
                thumbnails.append(finding.thumbnail)
                digests.append(finding.digest)
    pairs = find_duplicates(np.array(thumbnails), digests) if places else []
    report_pairs(pairs, places, problems)

    found = {name: collected.found() for name, collected in problems.items()}
    report = make_report(arguments, splits, found, pairs, places)
    console = Console(markup=False, highlight=False)  # names may hold square brackets
    print_statistics(console, report["splits"])
    print_problems(console, found)
    write_outputs(arguments, splits, report, pairs, places)
    return conclude(console, found)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=DATASETS, help="format")
    parser.add_argument("path", help="root folder of the dataset")
    parser.add_argument(
        "--split", nargs="+", default=["train"], help="parts to check, together (default: train)"
    )
    parser.add_argument(
        "--annotations", nargs="+", help="coco: annotation files to check, instead of --split"
    )
    parser.add_argument("--images", help="coco: folder of the photos, if not <path>/images ...")
    parser.add_argument("--output-dir", type=Path, help="folder for report.json and the pictures")
    parser.add_argument("--json", type=Path, help="write the report to this file")
    parser.add_argument("--samples", type=int, default=16, help="photos drawn (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="which photos are drawn")
    cores = min(len(os.sched_getaffinity(0)), 16)
    parser.add_argument(
        "-j", "--workers", type=int, default=cores, help=f"processes (default here: {cores})"
    )
    return parser.parse_args()


def prepare_outputs(arguments: argparse.Namespace) -> None:
    """Fail now, not after hours of decoding, if there is no place for the result."""
    try:
        if arguments.output_dir:
            arguments.output_dir.mkdir(parents=True, exist_ok=True)
        if arguments.json:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {error.filename}: {error.strerror}") from error


def load_splits(arguments: argparse.Namespace) -> dict[str, PhotoRecords]:
    """Name -> records of every part asked for."""
    if arguments.workers < 0 or arguments.samples < 0:
        raise InputError("--workers and --samples must not be negative")
    if arguments.annotations and arguments.dataset != "coco":
        raise InputError("--annotations is for coco; choose parts of this dataset by --split")
    names = arguments.annotations or arguments.split
    splits = {}
    for name in dict.fromkeys(names):
        splits[name] = load_dataset(
            arguments.dataset,
            arguments.path,
            split=name if not arguments.annotations else "train",
            annotations=name if arguments.annotations else None,
            images=arguments.images,
        )
    return splits


def report_pairs(
    pairs: Sequence[Pair], places: Sequence[Place], problems: dict[str, Problems]
) -> None:
    """Count each pair of equal photos as a problem of the later photo's split."""
    for pair in pairs:
        first, second = places[pair.first], places[pair.second]
        leak = first.split != second.split
        kind = "photo that is in another split too" if leak else "photo that is in its split twice"
        problems[second.split].add(kind, caption(pair, places).replace("\n", " "))


def caption(pair: Pair, places: Sequence[Place]) -> str:
    names = [f"{places[i].split}/{places[i].path.name}" for i in (pair.first, pair.second)]
    return f"{names[0]}\n= {names[1]}\n({pair.how}, {pair.similarity:.3f})"


def make_report(
    arguments: argparse.Namespace,
    splits: dict[str, PhotoRecords],
    found: dict[str, list[Problem]],
    pairs: Sequence[Pair],
    places: Sequence[Place],
) -> dict[str, Any]:
    """All of it as plain data."""
    parts = {}
    for name, records in splits.items():
        listed = [
            asdict(p) | {"consequence": p.consequence, "note": p.is_note} for p in found[name]
        ]
        parts[name] = statistics(records) | {"problems": listed}
    duplicates = [
        {
            "photos": [str(places[i].path) for i in (pair.first, pair.second)],
            "splits": [places[i].split for i in (pair.first, pair.second)],
            "how": pair.how,
            "similarity": round(pair.similarity, 4),
        }
        for pair in pairs[:PAIRS_REPORTED]
    ]
    return {
        "dataset": arguments.dataset,
        "path": arguments.path,
        "splits": parts,
        "duplicates": {
            "count": len(pairs),
            "complete": len(pairs) < MOST_PAIRS,
            "pairs": duplicates,
        },
    }


def write_outputs(
    arguments: argparse.Namespace,
    splits: dict[str, PhotoRecords],
    report: dict[str, Any],
    pairs: Sequence[Pair],
    places: Sequence[Place],
) -> None:
    if arguments.json:
        write_json(arguments.json, report)
    folder = arguments.output_dir
    if folder is None:
        return
    write_json(folder / "report.json", report)
    for name, records in splits.items():
        file = folder / f"samples_{Path(name).stem}.jpg"
        write_samples(file, records, arguments.samples, arguments.seed)
    # Leaks first: they matter most.
    ordered = sorted(pairs, key=lambda p: places[p.first].split == places[p.second].split)
    drawn = [
        (places[pair.first].path, places[pair.second].path, caption(pair, places))
        for pair in ordered[:PAIRS_DRAWN]
    ]
    write_pairs(folder / "duplicates.jpg", drawn)


def conclude(console: Console, found: dict[str, list[Problem]]) -> int:
    """The verdict's line and exit code."""
    faults = [problem for problems in found.values() for problem in problems if not problem.is_note]
    if not faults:
        console.print("clean: no faults found", style="green")
        return 0
    total, kinds = sum(fault.count for fault in faults), len({fault.kind for fault in faults})
    console.print(f"faults: {total:,} (of {kinds} kind{'s' * (kinds > 1)})", style="red")
    return 1


if __name__ == "__main__":
    main()
