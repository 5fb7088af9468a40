"""Finds the garments in photos: masks, categories, attributes, colors and a page to see it all.

    python infer.py photos/ --output-dir out
    python infer.py a.jpg 'shots/**/*.png' --output-dir out --weights runs/d/checkpoint_best.pt
    python infer.py photos/ --output-dir out --database DB        # with similar items of DB
    python infer.py photos/ --output-dir out --runtime onnx --weights detector.onnx
    torchrun --nproc_per_node=4 infer.py photos/ --output-dir out      # the photos are shared out

Written to --output-dir:

    index.html          look at it all: open it in a browser
    garments.json       per photo: every garment's box, mask, category, score, share of the photo,
                        likeliest attributes with probabilities, named colors with shares; with
                        --database the most similar items with their scores
    garments.csv        a row per garment; measured_colors are those of its pixels, color and all
                        else the network's words, by which a search filters
    coco_results.json   COCO result format (garments.json tells which image_id is which photo);
                        category_id is the detector's training set's, masks are COCO's RLE
    features.npz        with --save-features: every garment's aspect vectors
    overlays/ crops/    pictures, under the photos' own paths; similar/ those of similar items

Boxes are x1, y1, x2, y2 in pixels of the photo as a viewer shows it, turned upright, (0, 0) its
upper left corner; in coco_results.json x, y, width, height. A score, 0..1, is the probability that
the detector gives its category, lowered where the outline is vague.

Run it again to continue after a kill, or with more photos: finished ones are skipped unless the
photo, the weights or a setting has changed, or one of their pictures is gone. The files tell of the
photos that the command names.
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
from engine.detection.predict import watch
from engine.errors import exits_cleanly
from engine.outputs.journal import Appender, Record
from engine.outputs.photo_run import PhotoRun, open_run
from engine.outputs.results import garments_record, save_pictures, unreadable_record
from engine.outputs.summary import assemble, print_summary
from engine.pixels.find_photos import MARKER, find_photos
from engine.pixels.photos import PhotoError
from engine.threads import map_ahead, threads
from retrieval.search import weights_of
from retrieval.similar import SimilarItems
from retrieval.store import Hit, open_database


def infer(arguments: argparse.Namespace) -> None:
    """Plan on rank 0, look at the photos on all ranks, assemble the results on rank 0."""
    started = time.monotonic()
    device = distributed.init(arguments.device, distributed.LONGEST_WAIT_MINUTES)
    distributed.configure_logging()
    # Before the models, which take a while: there may be no such photos, or no such database.
    photos, _ = distributed.on_main(lambda: (find_photos(arguments.photos), None))
    store = weights = None
    if arguments.database:
        store = open_database(arguments.database, read_only=True)
        weights = weights_of(arguments.aspect_weights, store.schema)
    finder = model_flags.build_finder(arguments, device)
    describer = model_flags.build_describer(arguments, device)
    similar = None
    if store:
        kinds = finder.categories if arguments.same_category else None
        similar = SimilarItems(
            store, describer, k=arguments.similar, weights=weights, categories=kinds
        )
    header = describe_run(arguments, finder, similar) if distributed.is_main() else {}
    run, (root, pending) = distributed.on_main(lambda: plan(arguments, photos, header))

    part = [pending[index] for index in distributed.shard(len(pending))]
    if part:
        look(arguments, root, part, finder, describer, similar)
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


def plan(
    arguments: argparse.Namespace, photos: tuple[Path, list[str]], header: dict[str, Any]
) -> tuple[PhotoRun, tuple[Path, list]]:
    """Open the run: itself, and of it what every rank needs to know."""
    run = open_run(*photos, arguments.output_dir, header)
    return run, (run.root, run.pending)


def describe_run(
    arguments: argparse.Namespace, finder: GarmentFinder, similar: SimilarItems | None
) -> dict[str, Any]:
    """All that the results depend on; when it changes, photos are done again."""
    described = model_flags.description_basis(arguments)
    described["save_features"] = arguments.save_features
    header = {"format": 3, **model_flags.detection_basis(arguments, finder.settings)}
    header |= {"pictures": arguments.pictures, "description": described}
    return header | ({"similar": similar.basis()} if similar else {})


def look(
    arguments: argparse.Namespace,
    root: Path,
    part: list,
    finder: GarmentFinder,
    describer: Describer | None,
    similar: SimilarItems | None,
) -> None:
    """Find and describe the garments on this rank's photos, and journal each photo's record."""
    photos = (((name, stamp), root / name) for name, stamp in part)
    keep = arguments.pictures or describer is not None or similar is not None
    found = finder.find(photos, keep_photo=keep)
    results = watch(describe(found, root, finder.categories, describer, similar), len(part))
    with Appender(arguments.output_dir / MARKER, distributed.rank()) as journal:
        for record in records(results, finder.categories, similar, arguments):
            journal.add(record)


Answer = tuple[
    Any,
    Detections | PhotoError,
    list[Description] | None,
    list[list[Hit]] | None,
    np.ndarray | None,
]


def describe(
    results: Iterable[Found],
    root: Path,
    categories: list[str],
    describer: Describer | None,
    similar: SimilarItems | None,
) -> Iterator[Answer]:
    """Add what the multitask model and the database have to say of each photo's garments."""
    for key, found, photo in results:
        descriptions = hits = None
        if isinstance(found, Detections):
            if describer:
                found, descriptions = describer.describe(photo, found, categories)
            if similar:
                hits = similar.find(root / key[0], photo, found, descriptions)
        yield key, found, descriptions, hits, photo


def records(
    results: Iterable[Answer],
    categories: list[str],
    similar: SimilarItems | None,
    arguments: argparse.Namespace,
) -> Iterator[Record]:
    """Draw each photo's pictures and make its record, on threads, a few photos ahead."""
    output = arguments.output_dir

    def conclude(answer: Answer) -> Record:
        (name, stamp), found, descriptions, hits, photo = answer
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
        yield from map_ahead(pool, conclude, results, 2 * arguments.workers)


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTOS", help="files, folders (all below them) or patterns"
    )
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="DIR", help="results folder"
    )
    parser.add_argument(
        "--no-pictures", dest="pictures", action="store_false",
        help="write no overlays, crops and page: faster, and small for very many photos",
    )  # fmt: skip
    model_flags.add_detector_flags(parser, "--weights")
    model_flags.add_description_flags(parser)
    alike = parser.add_argument_group("similar items")
    alike.add_argument(
        "--database", metavar="DB",
        help="database of tools/build_database.py (a folder or a Milvus URI) to look for them in",
    )  # fmt: skip
    alike.add_argument(
        "--similar", type=positive, default=5, metavar="N",
        help="how many items to list a garment (default: 5)",
    )  # fmt: skip
    alike.add_argument(
        "--same-category", action="store_true",
        help="list only items of the garment's own category, as the results name it",
    )  # fmt: skip
    alike.add_argument(
        "--aspect-weights", metavar="ASPECT=NUMBER,...",
        help="what counts, like color=1,shape=0.5 (default: all aspects alike)",
    )  # fmt: skip
    model_flags.add_running_flags(parser)
    model_flags.add_runtime_flag(parser)
    arguments = parser.parse_args()
    model_flags.settle_runtime(arguments)
    described = model_flags.multitask_path(arguments) is not None
    sentence = "--save-features: needs a multitask model, give --multitask-weights FILE"
    require(described or not arguments.save_features, sentence)
    for name in ("same_category", "aspect_weights"):
        sentence = f"{flag_of(name)}: needs a database to look for similar items in, --database DB"
        require(arguments.database is not None or not getattr(arguments, name), sentence)
    return arguments


@exits_cleanly
def main() -> None:
    infer(parse_arguments())


if __name__ == "__main__":
    main()
