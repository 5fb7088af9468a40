"""Renders a synthetic wardrobe in DeepFashion2's format: garments of known color, texture, shape.

    python tools/make_wardrobe.py --output wardrobe --count 200 --val-count 50
    python tools/make_wardrobe.py --output small --count 60 --size 320 -j 2

The thirteen DeepFashion2 categories are drawn as clothes on people, mannequins, hangers and
surfaces, for tests, demos and benchmarks without real data. Output:

    OUTPUT/
        wardrobe.json                        seed and size, so that a stopped run can be continued
        train/image/000001.jpg ...           photos
        train/annos/000001.json ...          DeepFashion2 annotations; items also hold "factors"
        train/factors.csv                    one row per item: color, texture, measures, identity
        validation/...                       the same, with other garments than train

A photo depends on (seed, split, number) only: the same command writes the same bytes, whatever -j
is, and a larger --count adds photos to the existing ones. Each four consecutive photos show one
outfit (``pair_id``): odd numbers are shop photos, even ones user photos. ``style`` identifies a
garment within the outfit (0: in this photo only); its factors are the same wherever it appears.
"""

import argparse
import csv
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.command_line import Parser
from engine.errors import InputError, exits_cleanly
from engine.files import explain_os_errors, make_folder, replacing
from engine.wording import counted
from tools.wardrobe.garments import MEASURE_COLUMNS, STYLE_COLUMNS
from tools.wardrobe.photographer import encode_jpeg, take_photo
from tools.wardrobe.scenes import plan_photo

# Increased when the same seed would draw other photos than before; older folders are refused.
RENDERER = 1
SMALLEST, LARGEST, MOST = 64, 4096, 999_999

FACTOR_COLUMNS = (
    "file", "item", "category_id", "category_name", "identity", "pair_id", "style", "source",
    "color", "color_L", "color_a", "color_b", "texture", "texture_scale_cm", "texture_angle",
    "texture_fill", "second_color", "second_color_L", "second_color_a", "second_color_b",
    *STYLE_COLUMNS, *MEASURE_COLUMNS,
)  # fmt: skip


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    """Render the missing photos of both splits, then list the factors."""
    arguments = _parse(argv)
    _check(arguments)
    _claim(arguments.output, arguments.seed, arguments.size)
    started, rendered = time.monotonic(), 0
    for split, count in (("train", arguments.count), ("validation", arguments.val_count)):
        if count:
            rendered += render_split(arguments, split, count)
            write_factors(arguments.output / split)
    seconds = time.monotonic() - started
    print(f"{arguments.output}: {counted(rendered, 'photo')} rendered in {seconds:.1f} s")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="dataset folder, new or to be continued")
    add("--count", type=int, default=200, help="photos in train (default 200)")
    add("--val-count", type=int, default=50, help="photos in validation (default 50; 0: none)")
    add("--size", type=int, default=640, help="pixels of a photo's long side (default 640)")
    add("--seed", type=int, default=0, help="random seed of the wardrobe (default 0)")
    add("-j", "--jobs", type=int, default=1, help="rendering processes (default 1)")
    return parser.parse_args(argv)


def _check(arguments: argparse.Namespace) -> None:
    """InputError for numbers out of range."""
    spans = {
        "--count": (arguments.count, 1, MOST),
        "--val-count": (arguments.val_count, 0, MOST),
        "--size": (arguments.size, SMALLEST, LARGEST),
        "--seed": (arguments.seed, 0, 2**63 - 1),
        "-j": (arguments.jobs, 1, 1024),
    }
    for flag, (value, low, high) in spans.items():
        if not low <= value <= high:
            raise InputError(f"{flag} {value}: give a number from {low} to {high}")


def _claim(folder: Path, seed: int, size: int) -> None:
    """Label a new or empty folder as a wardrobe; InputError if it holds anything else."""
    own = {"renderer": RENDERER, "seed": seed, "size": size}
    label = folder / "wardrobe.json"
    make_folder(folder)
    with explain_os_errors(folder, "cannot look into"):
        there = [path.name for path in folder.iterdir()]
    if label.name not in there:
        # A temporary file of the label, left by a killed run, is allowed.
        if any(not name.startswith(f".{label.name}.") for name in there):
            raise InputError(f"{folder} is not empty and not a wardrobe; give another --output")
        with replacing(label, "w") as file:
            json.dump(own, file)
        return
    try:
        found = json.loads(label.read_text())
        was = ", ".join(f"{name} {value}" for name, value in found.items())
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{label} is damaged; remove it or give another --output") from error
    if found != own:
        raise InputError(
            f"{folder} holds a wardrobe of {was}, not of seed {seed} and size {size}; use the same "
            "or another --output"
        )


def render_split(arguments: argparse.Namespace, split: str, count: int) -> int:
    """Render the missing photos of a split; returns how many."""
    folder = arguments.output / split
    for part in ("image", "annos"):
        make_folder(folder / part)
    present = _numbers(folder / "annos", ".json") & _numbers(folder / "image", ".jpg")
    missing = [number for number in range(1, count + 1) if number not in present]
    work = partial(render_photo, folder, arguments.seed, split, arguments.size)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(split, total=count, completed=count - len(missing))
        for _ in _results(work, missing, arguments.jobs):
            progress.advance(task)
    return len(missing)


def _numbers(folder: Path, suffix: str) -> set[int]:
    """The photo numbers whose file is in the folder."""
    stems = (path.stem for path in folder.iterdir() if path.suffix == suffix)
    return {int(stem) for stem in stems if len(stem) == 6 and stem.isdigit()}


def _results(work: partial, numbers: list[int], jobs: int) -> Iterator[None]:
    """Run the work over the numbers, here or in ``jobs`` processes; yields as they finish."""
    jobs = min(jobs, len(numbers))
    if jobs <= 1:
        cv2.setNumThreads(1)  # -j counts the cores
        yield from map(work, numbers)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker)
    try:
        yield from pool.map(work, numbers, chunksize=max(1, min(8, len(numbers) // (4 * jobs))))
    except BrokenProcessPool as error:
        raise InputError("a rendering process was killed; run again with a smaller -j") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Use one thread, leave Ctrl-C to the parent process, and end if the parent is gone."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def render_photo(folder: Path, seed: int, split: str, size: int, number: int) -> None:
    """Render one photo and write it; the annotation last, since it marks the photo as finished."""
    plan = plan_photo(seed, split, number)
    rgb, annotation = take_photo(plan, size)
    jpeg = encode_jpeg(rgb, plan.lens.quality)
    _put(folder / "image" / f"{number:06d}.jpg", jpeg)
    _put(folder / "annos" / f"{number:06d}.json", json.dumps(annotation).encode())


def _put(path: Path, data: bytes) -> None:
    """Write a file completely or not at all.

    Not with ``engine.files.replacing``: syncing two files per photo to disk would take longer than
    rendering it, and a photo lost in a power cut is rendered again.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; free space and run again"
        ) from error


def write_factors(folder: Path) -> None:
    """List every item of a split in ``factors.csv``, gathered from its annotations."""
    with replacing(folder / "factors.csv", "w") as file:
        table = csv.DictWriter(file, FACTOR_COLUMNS, restval="", lineterminator="\n")
        table.writeheader()
        for path in sorted((folder / "annos").glob("[0-9]*.json")):
            try:
                table.writerows(_factor_rows(json.loads(path.read_text()), f"{path.stem}.jpg"))
            except (ValueError, KeyError, AttributeError) as error:
                raise InputError(f"{path} is damaged; remove it and run again") from error


def _factor_rows(annotation: dict, file: str) -> Iterator[dict]:
    """The rows of one photo."""
    for key, item in annotation.items():
        if key in ("source", "pair_id"):
            continue
        yield {
            "file": file,
            "item": key,
            "source": annotation["source"],
            "pair_id": annotation["pair_id"],
            **{name: item[name] for name in ("category_id", "category_name", "style")},
            **item["factors"],
        }


if __name__ == "__main__":
    main()
