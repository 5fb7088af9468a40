"""Checks a dataset before training: its statistics, its faults, and leaks between splits.

    python tools/check_dataset.py coco photos/ --split train val --output-dir check/
    python tools/check_dataset.py deepfashion2 DF2 --split train validation -j 8
    python tools/check_dataset.py coco photos/ --annotations a.json b.json --json report.json
    python tools/check_dataset.py csv:products csv:clothing:val=none deepfashion:DF     (several)

Give a format and a folder, or any number of FORMAT:PATH:key=value as for train.py; then their
training and validation splits are compared across all datasets, unless --split names the splits.
Every photo is decoded and every annotation read. It prints histograms of categories, sizes and
garments per photo, counts of every attribute, and every kind of fault with its count and first
examples: records that the readers skip, damaged photos, masks that don't fit their boxes, garments
annotated twice, and photos that occur twice (identical, resized, recompressed or mirrored), within
a split or, worse, across splits. --output-dir gets report.json, a sheet of annotated photos per
split and one of the duplicates.

Exit code: 0 clean, 1 problems found, 2 nothing could be checked.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.console import Console

from dataset_helpers import DATASETS, load_dataset, load_spec, parse_specs
from engine.command_line import Parser
from engine.data.readers.parallel import own_cores
from engine.data.readers.problems import Problem, Problems
from engine.data.records import PhotoRecords
from engine.distributed import configure_logging
from engine.errors import InputError, exits_cleanly
from engine.files import make_folder, plain_file_name
from engine.training.meters import write_json
from engine.wording import counted
from tools.checkup.duplicates import MOST_PAIRS, Pair, find_duplicates
from tools.checkup.inspection import inspect
from tools.checkup.pictures import write_pairs, write_samples
from tools.checkup.tables import print_problems, print_statistics, statistics

PAIRS_REPORTED = 1000
PAIRS_DRAWN = 16


class Part(NamedTuple):
    """One split of one dataset."""

    records: PhotoRecords
    role: str  # "train", "val" or the split's name; equal photos of different roles are a leak


class Place(NamedTuple):
    """Where a decodable photo is."""

    split: str
    role: str
    path: Path


@exits_cleanly
def main() -> int:
    """Load, inspect, compare, print and write."""
    arguments = parse_arguments()
    configure_logging().setLevel("ERROR")  # the problems are printed at the end, in one table
    prepare_outputs(arguments)
    parts = load_parts(arguments)
    splits = {name: part.records for name, part in parts.items()}
    problems = {name: Problems() for name in parts}
    places, thumbnails, digests = [], [], []
    for name, (records, role) in parts.items():
        problems[name].merge(records.problems)
        for index, finding in enumerate(inspect(records, workers=arguments.workers, title=name)):
            for kind, where in finding.problems:
                problems[name].add(kind, where)
            if finding.digest is not None:
                places.append(Place(name, role, records.path(index)))
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
    parser = Parser(description=__doc__)
    formats = ", ".join(DATASETS)
    parser.add_argument(
        "dataset",
        nargs="+",
        help=f"format and root folder, or FORMAT:PATH[:key=value] once or more; formats: {formats}",
    )
    parser.add_argument(
        "--split",
        nargs="+",
        help="splits to check and compare (default: train; for FORMAT:PATH, those of train.py)",
    )
    parser.add_argument(
        "--annotations", nargs="+", help="coco: annotation files to check, instead of --split"
    )
    parser.add_argument("--images", help="folder of the photos, if not <path>/images ...")
    parser.add_argument("--output-dir", type=Path, help="folder for report.json and the pictures")
    parser.add_argument("--json", type=Path, help="write the report to this file")
    parser.add_argument(
        "--samples", type=int, default=16, help="photos on a sheet of samples (default: 16)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the choice of samples (default: 0)"
    )
    cores = min(own_cores(), 16)
    parser.add_argument(
        "-j", "--workers", type=int, default=cores, help=f"processes (default here: {cores})"
    )
    return parser.parse_args()


def prepare_outputs(arguments: argparse.Namespace) -> None:
    """Fail now, not after hours of decoding, if the output cannot be written."""
    if arguments.output_dir:
        make_folder(arguments.output_dir)
    if arguments.json:
        make_folder(arguments.json.parent)


def load_parts(arguments: argparse.Namespace) -> dict[str, Part]:
    """Name -> part, for every requested split.

    Raises:
        InputError: flags that do not go together, or a dataset that cannot be read.
    """
    if arguments.workers < 0 or arguments.samples < 0:
        raise InputError("--workers and --samples must not be negative")
    name, *rest = arguments.dataset
    if name not in DATASETS:
        return load_mix(arguments)
    if len(rest) != 1:
        raise InputError(f"{name}: give one folder after the format, or FORMAT:PATH for each")
    if arguments.annotations and name != "coco":
        raise InputError("--annotations is for coco; choose splits of this dataset by --split")
    if arguments.annotations and arguments.split:
        raise InputError("--split: not with --annotations, whose files are the splits")
    parts = {}
    for split in dict.fromkeys(arguments.annotations or arguments.split or ["train"]):
        records = load_dataset(
            name,
            rest[0],
            split=split if not arguments.annotations else "train",
            annotations=split if arguments.annotations else None,
            images=arguments.images,
        )
        parts[split] = Part(records, split)
    return parts


def load_mix(arguments: argparse.Namespace) -> dict[str, Part]:
    """The splits that a training with these datasets would train and evaluate on.

    Raises:
        InputError: as ``load_parts``, or two splits would have the same name in results.
    """
    if arguments.annotations or arguments.images:
        raise InputError("--annotations and --images: write FORMAT:PATH:annotations=...:images=...")
    parts = {}
    for spec in parse_specs(arguments.dataset):
        roles = {spec.split: "train"}
        if spec.val != "none":
            roles.setdefault(spec.val, "val")
        if arguments.split:
            roles = {split: split for split in arguments.split}
        for split, role in roles.items():
            name = f"{spec.title}-{split}"
            if name in parts:  # a with a split b-train, and a-b with a split train
                raise InputError(f"two splits named {name}: give a dataset another name with name=")
            parts[name] = Part(load_spec(spec, split), role)
    return parts


def report_pairs(
    pairs: Sequence[Pair], places: Sequence[Place], problems: dict[str, Problems]
) -> None:
    """Count each pair of equal photos as a problem of the later photo's split."""
    for pair in pairs:
        first, second = places[pair.first], places[pair.second]
        leak = first.role != second.role
        kind = "photo that is in another split too" if leak else "photo that is in its split twice"
        problems[second.split].add(kind, caption(pair, places).replace("\n", " "))


def caption(pair: Pair, places: Sequence[Place]) -> str:
    """Names, relation and similarity of a pair of photos."""
    names = [f"{places[i].split}/{places[i].path.name}" for i in (pair.first, pair.second)]
    return f"{names[0]}\n= {names[1]}\n({pair.how}, {pair.similarity:.3f})"


def make_report(
    arguments: argparse.Namespace,
    splits: dict[str, PhotoRecords],
    found: dict[str, list[Problem]],
    pairs: Sequence[Pair],
    places: Sequence[Place],
) -> dict[str, Any]:
    """The whole report as plain data, ready for JSON."""
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
    """Write the report and the sheets that the flags ask for."""
    if arguments.json:
        write_json(arguments.json, report)
    folder = arguments.output_dir
    if folder is None:
        return
    write_json(folder / "report.json", report)
    taken: set[str] = set()
    for name, records in splits.items():
        plain = plain_file_name(Path(name).name.removesuffix(".json"), taken)
        write_samples(folder / f"samples_{plain}.jpg", records, arguments.samples, arguments.seed)
    # Leaks first: they matter most.
    ordered = sorted(pairs, key=lambda p: places[p.first].role == places[p.second].role)
    drawn = [
        (places[pair.first].path, places[pair.second].path, caption(pair, places))
        for pair in ordered[:PAIRS_DRAWN]
    ]
    write_pairs(folder / "duplicates.jpg", drawn)


def conclude(console: Console, found: dict[str, list[Problem]]) -> int:
    """Print the result in one line and return the exit code."""
    faults = [problem for problems in found.values() for problem in problems if not problem.is_note]
    if not faults:
        console.print("clean: no faults found", style="green")
        return 0
    total = sum(fault.count for fault in faults)
    kinds = counted(len({fault.kind for fault in faults}), "kind")
    console.print(f"faults: {total:,} (of {kinds})", style="red")
    return 1


if __name__ == "__main__":
    main()
