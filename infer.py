"""Finds the garments in photos: masks, categories, attributes, colors and a page to see it all.

    python infer.py photos/ --output-dir out
    python infer.py a.jpg 'shots/**/*.png' --output-dir out --weights runs/d/checkpoint_best.pt
    torchrun --nproc_per_node=4 infer.py photos/ --output-dir out      # the photos are shared out

Written to --output-dir:

    index.html          look at it all: open it in a browser
    garments.json       per photo: every garment's box, mask, category, score, share of the photo,
                        likeliest attributes with probabilities, named colors with shares
    garments.csv        a row per garment
    coco_results.json   COCO result format (garments.json tells which image_id is which photo)
    features.npz        with --save-features: every garment's aspect vectors
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
from rich.progress import track

from engine import distributed
from engine.checkpoint import load_checkpoint
from engine.config import require
from engine.describer import Describer, DescriberSettings, Description, describe_photos
from engine.detections import Detections
from engine.detector import build_from_checkpoint
from engine.errors import InputError, exits_cleanly
from engine.find_photos import MARKER
from engine.journal import Appender, Record
from engine.photo_run import PhotoRun, open_run
from engine.photos import PhotoError
from engine.predict import PredictSettings, detect_photos
from engine.results import garments_record, save_pictures, unreadable_record
from engine.summary import assemble, print_summary

DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "detector.pt"
DEFAULT_MULTITASK_WEIGHTS = DEFAULT_WEIGHTS.with_name("multitask.pt")
LONGEST_WAIT_MINUTES = 7 * 24 * 60  # a rank that is done waits for the others, however slow
GPU_BATCH = 8


def infer(arguments: argparse.Namespace) -> None:
    """Plan on rank 0, detect on all ranks, assemble on rank 0."""
    started = time.monotonic()
    device = distributed.init(arguments.device, timeout_minutes=LONGEST_WAIT_MINUTES)
    distributed.configure_logging()
    checkpoint = load_checkpoint(arguments.weights, "detector")
    settings = predict_settings(arguments, checkpoint["config"], device)

    describer = build_describer(arguments, device)

    header = describe_run(arguments, settings) if distributed.is_main() else {}
    run, root, pending = open_together(arguments, header)
    part = [pending[index] for index in distributed.shard(len(pending))]
    if part:
        model = build_from_checkpoint(checkpoint).to(device)
        photos = [((name, stamp), root / name) for name, stamp in part]
        keep = arguments.pictures or describer is not None
        results = detect_photos(model, photos, settings, device, keep_photo=keep)
        results = describe_photos(
            results, describer, categories=checkpoint["categories"], overlap=arguments.overlap
        )
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
            groups=describer.groups if describer else None,
            features=arguments.save_features,
        )
        print_summary(summary, len(pending), time.monotonic() - started, arguments.output_dir)
        run.close()
    distributed.shutdown()


def open_together(
    arguments: argparse.Namespace, header: dict[str, Any]
) -> tuple[PhotoRun | None, Path, list]:
    """Open the run on rank 0 and tell every rank its root and what is pending, or what is wrong.

    Raises:
        InputError: on every rank, so that none is left waiting.
    """
    run, answer = None, None
    if distributed.is_main():
        try:
            run = open_run(arguments.photos, arguments.output_dir, header)
            answer = run.root, run.pending
        except InputError as error:
            answer = str(error)
    answer = distributed.broadcast_object(answer)
    if isinstance(answer, str):
        raise InputError(answer)
    return run, *answer


def predict_settings(
    arguments: argparse.Namespace, config: dict[str, Any], device: torch.device
) -> PredictSettings:
    """Photos get the size at which the detector was evaluated, unless the user chose another."""
    return PredictSettings(
        short_side=arguments.short_side
        or config.get("test_short_side", PredictSettings.short_side),
        max_side=arguments.max_side or config.get("test_max_side", PredictSettings.max_side),
        score_threshold=arguments.score_threshold,
        batch_size=arguments.batch_size or (1 if device.type == "cpu" else GPU_BATCH),
        workers=arguments.workers,
        precision=arguments.precision,
    )


def build_describer(arguments: argparse.Namespace, device: torch.device) -> Describer | None:
    """The multitask model, unless there are no weights for it."""
    if arguments.multitask_weights is None:
        return None
    return Describer(
        load_checkpoint(arguments.multitask_weights, "multitask"),
        device,
        DescriberSettings(
            top_k=arguments.top_k,
            temperature=arguments.temperature,
            tta=arguments.tta,
            vocabulary=arguments.vocabulary,
            precision=arguments.precision,
        ),
    )


def describe_run(arguments: argparse.Namespace, settings: PredictSettings) -> dict[str, Any]:
    """All that the results depend on; when it changes, photos are done again."""
    names = ("top_k", "temperature", "tta", "vocabulary", "save_features")
    described = {name: getattr(arguments, name) for name in names}
    if arguments.multitask_weights is not None:
        described["multitask_weights"] = digest(arguments.multitask_weights)
    return {
        "format": 2,
        "weights": digest(arguments.weights),
        "score_threshold": settings.score_threshold,
        "overlap": arguments.overlap,
        "short_side": settings.short_side,
        "max_side": settings.max_side,
        "precision": settings.precision,
        "pictures": arguments.pictures,
        "description": described,
    }


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def watch(results: Iterable, count: int) -> Iterable:
    """Show a progress bar on a terminal, for rank 0's share."""
    show = distributed.is_main() and sys.stderr.isatty()
    return track(results, "photos", count, console=Console(stderr=True), disable=not show)


def records(results: Iterable, categories: list[str], arguments: argparse.Namespace) -> Iterator:
    """Draw each photo's pictures and make its record, on threads, a few photos ahead."""
    threads = max(arguments.workers, 1)

    def conclude(
        name: str,
        found: Detections | PhotoError,
        descriptions: list[Description] | None,
        photo: np.ndarray | None,
    ) -> Record:
        if isinstance(found, PhotoError):
            return unreadable_record(name, found)
        if arguments.pictures:
            save_pictures(arguments.output_dir, name, found, photo, categories)
        return garments_record(
            name,
            found,
            categories,
            descriptions=descriptions,
            vectors=arguments.save_features,
            pictures=arguments.pictures,
        )

    waiting: deque = deque()
    with ThreadPoolExecutor(threads) as pool:
        for (name, stamp), *answer in results:
            waiting.append((pool.submit(conclude, name, *answer), stamp))
            if len(waiting) > 2 * threads:
                future, its_stamp = waiting.popleft()
                yield future.result() | {"stamp": its_stamp}
        for future, its_stamp in waiting:
            yield future.result() | {"stamp": its_stamp}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTOS", help="files, folders (all below them) or patterns"
    )
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="DIR", help="results folder"
    )
    parser.add_argument(
        "--weights", type=Path, default=DEFAULT_WEIGHTS, metavar="FILE",
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
    text = parser.add_argument_group("how to describe them")
    text.add_argument(
        "--multitask-weights", metavar="FILE",
        help="multitask model's checkpoint or weights file, or none for no description (default: "
        "weights/multitask.pt, where it is there)",
    )  # fmt: skip
    text.add_argument(
        "--top-k", type=positive, default=3, metavar="N",
        help="likeliest values to list per group of attributes (default: 3)",
    )  # fmt: skip
    text.add_argument(
        "--temperature", type=float, default=1.0, metavar="T",
        help="divides the logits: above 1, probabilities are less extreme (default: 1)",
    )  # fmt: skip
    text.add_argument(
        "--tta", action="store_true",
        help="average over the crop, its mirror image and a wider crop: three times the work",
    )  # fmt: skip
    text.add_argument(
        "--vocabulary", metavar="NAME",
        help="describe in the words of this training set (default: for each group of attributes "
        "those of the first set that knows it)",
    )  # fmt: skip
    text.add_argument(
        "--save-features", action="store_true",
        help="write every garment's aspect vectors to features.npz",
    )  # fmt: skip
    work = parser.add_argument_group("how to run")
    work.add_argument(
        "--short-side", type=positive, metavar="N",
        help="pixels to which a photo's short side is resized (default: as trained)",
    )  # fmt: skip
    work.add_argument(
        "--max-side", type=positive, metavar="N",
        help="bound on its long side (default: as trained)",
    )  # fmt: skip
    work.add_argument(
        "-b", "--batch-size", type=positive, metavar="N",
        help="photos a pass; changes results by no more than rounding (default: 1 on a CPU, which "
        "gains nothing from more; 8 on a GPU)",
    )  # fmt: skip
    work.add_argument(
        "-j", "--workers", type=positive, default=4, metavar="N",
        help="threads that decode and draw (default: 4)",
    )  # fmt: skip
    work.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32",
        help="of the network's arithmetic; the shorter ones are faster on a GPU (default: fp32)",
    )  # fmt: skip
    work.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="where the network runs (default: auto, a GPU if there is one)",
    )  # fmt: skip
    arguments = parser.parse_args()
    require(
        arguments.weights != DEFAULT_WEIGHTS or DEFAULT_WEIGHTS.exists(),
        f"{DEFAULT_WEIGHTS} is not there: give --weights FILE, or train a detector with "
        "python train.py detector",
    )
    arguments.multitask_weights = multitask_weights(arguments.multitask_weights)
    sentence = "--save-features: needs a multitask model, give --multitask-weights FILE"
    require(arguments.multitask_weights is not None or not arguments.save_features, sentence)
    return arguments


def multitask_weights(text: str | None) -> Path | None:
    """The file to describe with; None for no description."""
    if text is None:
        return DEFAULT_MULTITASK_WEIGHTS if DEFAULT_MULTITASK_WEIGHTS.exists() else None
    return None if text == "none" else Path(text)


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
