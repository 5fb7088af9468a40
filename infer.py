"""Finds the garments in photos: masks, categories, crops and a page to look at it all.

    python infer.py photos/ --output-dir out
    python infer.py a.jpg 'shots/**/*.png' --output-dir out --weights runs/d/checkpoint_best.pt
    torchrun --nproc_per_node=4 infer.py photos/ --output-dir out      # the photos are shared out

Written to --output-dir:

    index.html          look at it all: open it in a browser
    garments.json       per photo: every garment's box, mask, category, score, share of the photo
    garments.csv        a row per garment
    coco_results.json   COCO result format (garments.json tells which image_id is which photo)
    overlays/ crops/    pictures, under the photos' own paths

Run it again to continue after a kill or to add new photos: finished ones are skipped unless the
photo, the weights or a setting has changed.
"""

import argparse
import hashlib
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from engine import distributed
from engine.checkpoint import load_checkpoint
from engine.config import require
from engine.detections import Detections
from engine.detector import build_from_checkpoint
from engine.duplicates import drop_duplicates
from engine.errors import exits_cleanly
from engine.find_photos import MARKER
from engine.journal import Appender, Record
from engine.photo_run import open_run
from engine.photos import PhotoError
from engine.predict import PredictSettings, detect_photos
from engine.results import garments_record, save_pictures, unreadable_record
from engine.summary import Summary, assemble

DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "detector.pt"
LONGEST_WAIT_MINUTES = 7 * 24 * 60  # a rank that is done waits for the others, however slow
GPU_BATCH = 8
MOST_NAMED = 10


def infer(arguments: argparse.Namespace) -> None:
    """Plan on rank 0, detect on all ranks, assemble on rank 0."""
    started = time.monotonic()
    device = distributed.init(arguments.device, timeout_minutes=LONGEST_WAIT_MINUTES)
    distributed.configure_logging()
    checkpoint = load_checkpoint(arguments.weights, "detector")
    settings = predict_settings(arguments, checkpoint["config"], device)

    run = header = None
    if distributed.is_main():
        header = describe(arguments, settings)
        run = open_run(arguments.photos, arguments.output_dir, header)
    root, pending = distributed.broadcast_object(run and (run.root, run.pending))

    part = [pending[index] for index in distributed.shard(len(pending))]
    if part:
        model = build_from_checkpoint(checkpoint).to(device)
        photos = [((name, stamp), root / name) for name, stamp in part]
        results = detect_photos(model, photos, settings, device, keep_photo=arguments.pictures)
        with Appender(arguments.output_dir / MARKER, distributed.rank()) as journal:
            for record in records(watch(results, len(part)), checkpoint["categories"], arguments):
                journal.add(record)
    distributed.barrier()

    if run:
        summary = assemble(
            arguments.output_dir,
            run.records(),
            header={"root": str(root), **header},
            categories=checkpoint["categories"],
            category_ids=checkpoint["category_ids"],
        )
        print_summary(summary, len(pending), time.monotonic() - started, arguments.output_dir)
        run.close()
    distributed.shutdown()


def predict_settings(
    arguments: argparse.Namespace, config: dict[str, Any], device: torch.device
) -> PredictSettings:
    """Photos get the size at which the detector was evaluated, unless the user chose another."""
    return PredictSettings(
        short_side=arguments.short_side or config["test_short_side"],
        max_side=arguments.max_side or config["test_max_side"],
        score_threshold=arguments.score_threshold,
        batch_size=arguments.batch_size or (1 if device.type == "cpu" else GPU_BATCH),
        workers=arguments.workers,
        precision=arguments.precision,
    )


def describe(arguments: argparse.Namespace, settings: PredictSettings) -> dict[str, Any]:
    """All that the results depend on; when it changes, photos are done again."""
    with arguments.weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "format": 1,
        "weights": digest,
        "score_threshold": settings.score_threshold,
        "overlap": arguments.overlap,
        "short_side": settings.short_side,
        "max_side": settings.max_side,
        "precision": settings.precision,
        "pictures": arguments.pictures,
    }


def watch(results: Iterable, count: int) -> Iterable:
    """Show a progress bar on a terminal, for rank 0's share."""
    show = distributed.is_main() and sys.stderr.isatty()
    return track(results, "photos", count, console=Console(stderr=True), disable=not show)


def records(results: Iterable, categories: list[str], arguments: argparse.Namespace) -> Iterator:
    """Draw each photo's pictures and make its record, on threads, a few photos ahead."""
    threads = max(arguments.workers, 1)

    def conclude(name: str, found: Detections | PhotoError, photo: np.ndarray | None) -> Record:
        if isinstance(found, PhotoError):
            return unreadable_record(name, found)
        found = drop_duplicates(found, arguments.overlap)
        if photo is not None:
            save_pictures(arguments.output_dir, name, found, photo, categories)
        return garments_record(name, found, categories, pictures=photo is not None)

    waiting: deque = deque()
    with ThreadPoolExecutor(threads) as pool:
        for (name, stamp), found, photo in results:
            waiting.append((pool.submit(conclude, name, found, photo), stamp))
            if len(waiting) > 2 * threads:
                future, its_stamp = waiting.popleft()
                yield future.result() | {"stamp": its_stamp}
        for future, its_stamp in waiting:
            yield future.result() | {"stamp": its_stamp}


def print_summary(summary: Summary, new: int, seconds: float, output: Path) -> None:
    """Tell what was found, what could not be read and where to look."""
    console = Console(highlight=False)
    if summary.garments:
        table = Table("category")
        table.add_column("garments", justify="right")
        table.add_column("photos", justify="right")
        for category, count in summary.per_category.most_common():
            table.add_row(escape(category), str(count), str(summary.photos_with[category]))
        console.print(table)
    for entry in summary.unreadable[:MOST_NAMED]:
        console.print(escape(f"unreadable: {printable(entry['photo'])}: {entry['reason']}"))
    if len(summary.unreadable) > MOST_NAMED:
        console.print(f"... and {len(summary.unreadable) - MOST_NAMED} more, in garments.json")
    console.print(
        f"{summary.photos} photos, {new} of them now in {seconds:.1f} s: {summary.garments} "
        f"garments, {summary.photos_without} photos without, {len(summary.unreadable)} unreadable"
    )
    page = output / "index.html"
    console.print(escape(f"look at {page if page.exists() else output / 'garments.json'}"))


def printable(name: str) -> str:
    """A file name as a terminal takes it: some are not even text."""
    return name.encode(errors="replace").decode().replace("\n", "?")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTOS", help="files, folders (all below them) or patterns"
    )
    parser.add_argument("--output-dir", type=Path, required=True, help="results folder")
    parser.add_argument(
        "--weights", type=Path, default=DEFAULT_WEIGHTS,
        help="detector's checkpoint or weights file (default: weights/detector.pt)",
    )  # fmt: skip
    parser.add_argument(
        "--no-pictures", dest="pictures", action="store_false",
        help="write no overlays, crops and page: faster, and small for very many photos",
    )  # fmt: skip
    choice = parser.add_argument_group("which garments")
    choice.add_argument(
        "--score-threshold", type=share, default=0.5, metavar="0..1",
        help="leave out garments the detector is less sure of (default: 0.5)",
    )  # fmt: skip
    choice.add_argument(
        "--overlap", type=share, default=0.6, metavar="0..1",
        help="of garments whose masks overlap more than this (intersection over union), whatever "
        "their categories, keep the surest; 1 keeps all (default: 0.6)",
    )  # fmt: skip
    work = parser.add_argument_group("how to run")
    work.add_argument("--short-side", type=positive, help="photo size in pixels (as trained)")
    work.add_argument("--max-side", type=positive, help="bound on the long side (as trained)")
    work.add_argument(
        "-b", "--batch-size", type=positive, help="photos a pass (1 on a CPU, 8 on a GPU)"
    )
    work.add_argument(
        "-j", "--workers", type=positive, default=4, help="threads that decode and draw (4)"
    )
    work.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="(fp32)"
    )
    work.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(auto)")
    arguments = parser.parse_args()
    require(
        arguments.weights != DEFAULT_WEIGHTS or DEFAULT_WEIGHTS.exists(),
        f"{DEFAULT_WEIGHTS} is not there: give --weights FILE, or train a detector with "
        "python train.py detector",
    )
    return arguments


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


@exits_cleanly
def main() -> None:
    infer(parse_arguments())


if __name__ == "__main__":
    main()
