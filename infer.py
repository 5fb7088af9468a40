"""Detects and describes the garments in photos: masks, categories, attributes, colors, a web page.

    python infer.py photos/ --output-dir out
    python infer.py a.jpg 'shots/**/*.png' --output-dir out --weights runs/d/checkpoint_best.pt
    python infer.py photos/ --output-dir out --database DB        # with similar items of DB
    python infer.py photos/ --output-dir out --runtime onnx --weights detector.onnx
    torchrun --nproc_per_node=4 infer.py photos/ --output-dir out      # split among 4 processes

Written to --output-dir:

    index.html          a page that shows all results
    garments.json       per photo: every garment's box, mask, category, score, share of the photo,
                        top attributes with probabilities, named colors with shares; with
                        --database the most similar items with their scores; "dropped": how many
                        detections of the photo the multitask model took for false
    garments.csv        one row per garment; measured_colors are computed from its pixels, color and
                        the other label columns are the network's predictions, as search filters use
    coco_results.json   COCO result format (garments.json maps image_id to photos); category_id as
                        in the detector's training set, masks as COCO RLE
    features.npz        with --save-features: every garment's aspect vectors
    overlays/ crops/    pictures, under the photos' relative paths; similar/ those of similar items

Boxes are x1, y1, x2, y2 in pixels of the upright photo (EXIF orientation applied), origin at the
upper left; in coco_results.json x, y, width, height. A score, 0..1, is the detector's probability
of the category, lowered where the mask is uncertain.

Run it again, with more photos if you like, to continue after an interruption: a photo is skipped
unless it, the weights or a setting has changed or one of its pictures is missing. The output covers
exactly the photos that the command names.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine import distributed, model_flags
from engine.command_line import Parser, positive
from engine.config import flag_of, require
from engine.description.describer import Describer, Description
from engine.detection.detections import Detections
from engine.detection.finder import Found, GarmentFinder
from engine.detection.predict import with_progress
from engine.errors import exits_cleanly
from engine.outputs.journal import Appender, Record
from engine.outputs.photo_run import WRITTEN, PhotoRun, check_folder, open_run
from engine.outputs.results import garments_record, save_pictures, unreadable_record
from engine.outputs.summary import assemble, print_summary
from engine.pixels.find_photos import MARKER, find_photos
from engine.pixels.photos import PhotoError
from engine.threads import map_ahead, threads
from retrieval.search import weights_from_flag
from retrieval.similar import SimilarItems
from retrieval.store import Hit, open_database

SIMILAR = 5  # items per garment


def infer(arguments: argparse.Namespace) -> None:
    """Plan on rank 0, look at the photos on all ranks, assemble the results on rank 0."""
    started = time.monotonic()
    device = distributed.init(arguments.device, distributed.LONGEST_WAIT_MINUTES)
    distributed.configure_logging()
    # Before loading the models, which takes a while: the photos or the database may not exist.
    photos, _ = distributed.on_main(lambda: (find_inputs(arguments), None))
    store = weights = None
    if arguments.database:
        store = open_database(arguments.database, read_only=True)
        weights = weights_from_flag(arguments.aspect_weights, store.schema)
    finder = model_flags.build_finder(arguments, device)
    describer = model_flags.build_describer(arguments, device)
    similar = None
    if store:
        kinds = finder.categories if arguments.same_category else None
        similar = SimilarItems(
            store,
            describer,
            k=arguments.similar or SIMILAR,
            weights=weights,
            categories=kinds,
        )
    header = describe_run(arguments, finder, similar) if distributed.is_main() else {}
    run, (root, pending) = distributed.on_main(lambda: plan(arguments, photos, header))

    part = [pending[index] for index in distributed.shard(len(pending))]
    if part:
        process_photos(arguments, root, part, finder, describer, similar)
    distributed.barrier()

    if run:
        summary = assemble(
            arguments.output_dir,
            run.records(),
            header={"root": str(root), **header},
            categories=finder.categories,
            category_ids=finder.category_ids,
            groups=describer.groups if describer else None,
            features=arguments.save_features,
        )
        seconds = time.monotonic() - started
        print_summary(summary, len(pending), seconds, arguments.output_dir, others=run.others)
        run.close()
    distributed.shutdown()


def find_inputs(arguments: argparse.Namespace) -> tuple[Path, list[str]]:
    """The photos, as ``find_photos``; InputError also if the results could not be written."""
    photos = find_photos(arguments.photos)
    check_folder(arguments.output_dir, WRITTEN)
    return photos


def plan(
    arguments: argparse.Namespace, photos: tuple[Path, list[str]], header: dict[str, Any]
) -> tuple[PhotoRun, tuple[Path, list]]:
    """Open the run on rank 0; (root, pending photos) is what every rank needs of it."""
    run = open_run(*photos, arguments.output_dir, header)
    return run, (run.root, run.pending)


def describe_run(
    arguments: argparse.Namespace, finder: GarmentFinder, similar: SimilarItems | None
) -> dict[str, Any]:
    """All settings that the results depend on; when they change, photos are processed again."""
    described = model_flags.description_basis(arguments)
    described["save_features"] = arguments.save_features
    header = {"format": 4, **model_flags.detection_basis(arguments, finder.settings)}
    header |= {"pictures": arguments.pictures, "description": described}
    return header | ({"similar": similar.basis()} if similar else {})


def process_photos(
    arguments: argparse.Namespace,
    root: Path,
    part: list,
    finder: GarmentFinder,
    describer: Describer | None,
    similar: SimilarItems | None,
) -> None:
    """Detect and describe the garments in this rank's photos, and journal each photo's record."""
    photos = (((name, stamp), root / name) for name, stamp in part)
    keep = arguments.pictures or describer is not None or similar is not None
    found = finder.find(photos, keep_photo=keep)
    results = with_progress(describe(found, root, finder.categories, describer, similar), len(part))
    with Appender(arguments.output_dir / MARKER, distributed.rank()) as journal:
        for record in records(results, finder.categories, similar, arguments):
            journal.add(record)


Result = tuple[
    Any,  # (name, stamp) of the photo
    Detections | PhotoError,
    list[Description] | None,  # per garment
    list[list[Hit]] | None,  # per garment its similar items
    np.ndarray | None,  # u8[H,W,3], the decoded photo
]


def describe(
    results: Iterable[Found],
    root: Path,
    categories: list[str],
    describer: Describer | None,
    similar: SimilarItems | None,
) -> Iterator[Result]:
    """Add each garment's description and its similar items in the database.

    A photo whose descriptions are not finite becomes a PhotoError.
    """
    for key, found, photo in results:
        descriptions = hits = None
        if isinstance(found, Detections):
            if describer:
                found, descriptions = describer.describe(photo, found, categories)
            if not all(description.is_finite() for description in descriptions or ()):
                # Neither a database nor JSON holds such numbers.
                sentence = "the multitask model's answers are not finite; use --precision fp32"
                found = PhotoError("unreadable", root / key[0], f"{sentence}, or remove it")
            elif similar:
                hits = similar.find(root / key[0], photo, found, descriptions)
        yield key, found, descriptions, hits, photo


def records(
    results: Iterable[Result],
    categories: list[str],
    similar: SimilarItems | None,
    arguments: argparse.Namespace,
) -> Iterator[Record]:
    """Draw each photo's pictures and make its record, on threads, a few photos ahead."""
    output = arguments.output_dir

    def to_record(result: Result) -> Record:
        (name, stamp), found, descriptions, hits, photo = result
        if isinstance(found, PhotoError):
            return unreadable_record(name, found) | {"stamp": stamp}
        if arguments.pictures:
            save_pictures(output, name, found, photo, categories)
        place = output if arguments.pictures else None
        entries = [similar.entries(own, place) for own in hits] if similar else None
        record = garments_record(
            name,
            found,
            categories,
            descriptions=descriptions,
            vectors=arguments.save_features,
            similar=entries,
            pictures=arguments.pictures,
        )
        return record | {"stamp": stamp}

    with threads(arguments.workers) as pool:
        yield from map_ahead(pool, to_record, results, 2 * arguments.workers)


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTOS", help="files, folders (recursive) or glob patterns"
    )
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="DIR", help="results folder"
    )
    parser.add_argument(
        "--no-pictures", dest="pictures", action="store_false",
        help="write no overlays, crops or page: faster, and less disk space for many photos",
    )  # fmt: skip
    model_flags.add_detector_flags(parser, "--weights")
    model_flags.add_description_flags(parser)
    alike = parser.add_argument_group("similar items")
    alike.add_argument(
        "--database", metavar="DB",
        help="database to search, made by tools/build_database.py (a folder or a Milvus URI)",
    )  # fmt: skip
    alike.add_argument(
        "--similar", type=positive, metavar="N",
        help=f"similar items to list per garment (default: {SIMILAR})",
    )  # fmt: skip
    alike.add_argument(
        "--same-category", action="store_true",
        help="list only items of the garment's predicted category",
    )  # fmt: skip
    alike.add_argument(
        "--aspect-weights", metavar="ASPECT=NUMBER,...",
        help="weight of each aspect, like color=1,shape=0.5 (default: all equal)",
    )  # fmt: skip
    model_flags.add_running_flags(parser)
    model_flags.add_runtime_flag(parser)
    arguments = parser.parse_args()
    model_flags.apply_runtime(arguments)
    described = model_flags.multitask_path(arguments) is not None
    sentence = "--save-features: needs a multitask model, give --multitask-weights FILE"
    require(described or not arguments.save_features, sentence)
    for name in ("similar", "same_category", "aspect_weights"):
        sentence = f"{flag_of(name)}: needs a database to look for similar items in, --database DB"
        require(arguments.database is not None or not getattr(arguments, name), sentence)
    return arguments


@exits_cleanly
def main() -> None:
    infer(parse_arguments())


if __name__ == "__main__":
    main()
