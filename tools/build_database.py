"""Builds a searchable database of garments from photos or from an annotated dataset.

    python tools/build_database.py photos/ --database DB            # every garment of every photo
    python tools/build_database.py shop/ --database DB --whole-photo        # one item per photo
    python tools/build_database.py --dataset csv:products:split=val --database DB
    python tools/build_database.py photos/ --database http://localhost:19530#garments
    torchrun --nproc_per_node=4 tools/build_database.py photos/ --database DB   # split among 4

An item is a garment with the key `relative/photo.jpg#number`: box, category, attributes, dominant
colors and a vector for each of item, color, texture and shape, which tools/search.py weights.

Run it again after an interruption, or to update the database: new and changed photos are added, and
items of photos that are gone from the disk are removed; all others stay. An empty folder may be a
disk that is not mounted: photos that were in it are kept until you delete the folder. To forget all
photos, delete the database.

With --dataset the dataset's labels are stored instead of the model's predictions, and items that
the dataset no longer lists are removed. --repair first checks every vector and recomputes damaged
ones from their photos.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.markup import escape

from dataset_helpers import parse_spec
from engine import distributed, model_flags
from engine.command_line import Parser
from engine.config import require
from engine.description.category_fusion import RECOGNIZED
from engine.detection.predict import with_progress
from engine.errors import InputError, exits_cleanly
from engine.files import absolute, exists
from engine.pixels.find_photos import find_photos
from engine.wording import counted, printable
from retrieval.build import (
    GIVEN,
    MADE_BY,
    Plan,
    entries,
    plan_build,
    put_in_batches,
    require_same_settings,
)
from retrieval.embedders import FEATURES, GarmentEmbedder
from retrieval.features import FeatureSchema
from retrieval.garment_sources import (
    AnnotatedGarments,
    DetectedGarments,
    GarmentSource,
    WholePhotos,
)
from retrieval.pictures import ROOT, relative_names
from retrieval.store import Store, open_database, open_shard, require_writable

Photos = tuple[Path, list[str]]  # a folder, and the photos' names relative to it

logger = logging.getLogger("weft")

ABSORB_SECONDS = 30.0  # how often rank 0 commits what all ranks have finished
MOST_VALUES = 20  # stored per group of attributes that do not exclude each other
MOST_NAMED = 20  # unreadable photos in the printed summary


def build(arguments: argparse.Namespace) -> None:
    """Plan on rank 0, read photos on all ranks, commit and report on rank 0."""
    started = time.monotonic()
    device = distributed.init(arguments.device, distributed.LONGEST_WAIT_MINUTES)
    distributed.configure_logging()
    # Checks photos and location before loading the models, which takes a while.
    photos, _ = distributed.on_main(lambda: (find(arguments), None))
    # A dataset has labels, and descriptors need no network.
    needs_no_model = bool(arguments.dataset) and arguments.features == "descriptors"
    describer = None if needs_no_model else model_flags.build_describer(arguments, device)
    features = arguments.features or ("multitask" if describer else "descriptors")
    embedder = GarmentEmbedder(describer, features)
    source, made_by = open_source(arguments, embedder, device)
    store, (root, plan) = distributed.on_main(
        lambda: open_and_plan(arguments, photos, source, embedder.schema, made_by)
    )

    part = [plan.pending[index] for index in distributed.shard(len(plan.pending))]
    if part:
        with open_shard(
            arguments.database, schema=embedder.schema, rank=distributed.rank()
        ) as sink:
            found = with_progress(entries(source, embedder, root, part), len(part))
            put_in_batches(found, sink, committing(store))
    distributed.barrier()

    if store:
        store.absorb_shards()
        report(store, plan, time.monotonic() - started)
        store.compact_if_worthwhile()
        store.close()
    distributed.shutdown()


def find(arguments: argparse.Namespace) -> Photos | None:
    """The photos that the command names; None with --dataset, which lists its own.

    Raises:
        InputError: there are none, or --database is not a valid place for a database.
    """
    require_writable(arguments.database)
    try:
        return find_photos(arguments.photos) if arguments.photos else None
    except InputError as error:
        if not exists(arguments.database):
            raise
        kept = "the database keeps its photos; to forget them all, delete it"
        raise InputError(f"{error}; {kept}") from None


def open_source(
    arguments: argparse.Namespace, embedder: GarmentEmbedder, device: Any
) -> tuple[GarmentSource, dict[str, Any]]:
    """The source of garments, and the settings that items depend on besides the photos."""
    precision = {"precision": arguments.precision} if embedder.describer else {}
    if arguments.dataset:
        with distributed.first_on_each_machine():
            source = AnnotatedGarments(arguments.dataset, embedder.cut, arguments.workers)
        return source, {"garments": GIVEN, **precision}
    groups = embedder.describer.groups if embedder.describer else {}
    described = model_flags.description_basis(arguments)
    if arguments.whole_photo:
        source = WholePhotos(embedder.cut, arguments.workers, groups)
        return source, {"garments": "whole photos", **precision, **described}
    finder = model_flags.build_finder(arguments, device)
    found = model_flags.detection_basis(arguments, finder.settings)
    found |= {"recognized": RECOGNIZED} if embedder.describer else {}
    return DetectedGarments(finder, groups), {"garments": "detected", **found, **described}


def open_and_plan(
    arguments: argparse.Namespace,
    photos: Photos | None,
    source: GarmentSource,
    schema: FeatureSchema,
    made_by: dict[str, Any],
) -> tuple[Store, tuple[Path, Plan]]:
    """Open or create the database, plan the work, and remove items of vanished photos."""
    annotated = isinstance(source, AnnotatedGarments)
    found_root = source.root if annotated else photos[0]
    about = {ROOT: str(absolute(arguments.root or found_root)), MADE_BY: made_by}
    store = open_database(arguments.database, schema=schema, create=True, about=about)
    try:
        require_same_settings(store, made_by)
        root = absolute(arguments.root or store.about.get(ROOT, found_root))
        if annotated:
            source.name_from(root)
        names = list(source.places) if annotated else relative_names(root, *photos)
        store.absorb_shards()
        if arguments.repair:
            for problem in store.verify(repair=True):
                logger.warning("%s", problem)
        is_stored = source.are_stored if annotated else None
        plan = plan_build(store, root, names, is_stored=is_stored)
        if not annotated:  # the command may name some of the database's photos only
            plan.vanished = gone_photos(root, plan.vanished)
        about = {**store.about, ROOT: str(root), MADE_BY: made_by}
        if about != store.about:  # the photos have moved, or an older version recorded less
            store.set_about(about)
        store.delete_photos(plan.vanished)
    except BaseException:
        store.close()
        raise
    return store, (root, plan)


def gone_photos(root: Path, names: Iterable[str]) -> list[str]:
    """Those of the photos that certainly do not exist.

    A photo may still exist in an unreadable folder, and in an empty one, which may be the mount
    point of a disk that is not mounted; the latter is logged.
    """
    gone: list[str] = []
    holds_files: dict[Path, bool] = {}  # looked up once per folder: large ones are slow to list
    for name in names:
        photo = root / name
        with suppress(OSError):
            try:
                photo.stat()
            except (FileNotFoundError, NotADirectoryError):
                folder = next(parent for parent in photo.parents if parent.is_dir())
                if folder not in holds_files:
                    holds_files[folder] = any(folder.iterdir())
                if holds_files[folder]:
                    gone.append(name)
    for folder in sorted(folder for folder, holds in holds_files.items() if not holds):
        logger.warning(
            "%s: empty, as if its disk were not mounted; the database keeps the photos that "
            "were in it; delete the folder to forget them",
            folder,
        )
    return gone


def committing(store: Store | None) -> Callable[[], None]:
    """A function that commits all ranks' finished photos, at most every ABSORB_SECONDS, so that
    readers see them; without a store it does nothing."""
    last = time.monotonic()

    def commit() -> None:
        nonlocal last
        if store and time.monotonic() - last >= ABSORB_SECONDS:
            store.absorb_shards()
            last = time.monotonic()

    return commit


def report(store: Store, plan: Plan, seconds: float) -> None:
    """Print what is in the database and which photos could not be read."""
    console = Console(highlight=False, soft_wrap=True)
    photos = store.photos()
    bad = [f"{name}: {state.error}" for name, state in sorted(photos.items()) if state.error]
    bad += plan.refused
    for line in bad[:MOST_NAMED]:
        console.print(escape(f"unreadable: {printable(line)}"))
    if len(bad) > MOST_NAMED:
        console.print(f"... and {len(bad) - MOST_NAMED} more")
    console.print(
        f"{counted(len(photos), 'photo')}, {len(plan.pending)} of them now in {seconds:.1f} s, "
        f"{len(plan.vanished)} gone: {counted(store.count(), 'item')}, {len(bad)} unreadable"
    )
    command = f"python tools/search.py PHOTO --database {printable(store.name)}"
    console.print(escape(f"search it: {command}"))


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "photos", nargs="*", metavar="PHOTOS", help="files, folders (recursive) or glob patterns"
    )
    parser.add_argument(
        "--database", required=True, metavar="DB",
        help="folder, new or of an earlier build, or a Milvus collection: http://host:19530#name",
    )  # fmt: skip
    parser.add_argument(
        "--dataset", nargs="+", action="extend", default=[],
        metavar="FORMAT:PATH[:key=value]...",
        help="use boxes, masks, labels and identities of an annotated dataset (formats and keys as "
        "for train.py multitask; split=NAME selects the split); list several splits one by one",
    )  # fmt: skip
    parser.add_argument(
        "--whole-photo", action="store_true",
        help="every photo is one item: for product photos, needs no detector",
    )  # fmt: skip
    parser.add_argument(
        "--root", type=Path, metavar="FOLDER",
        help="folder that item keys are relative to; give it if the photos have moved (default: as "
        "in the database; for a new one the deepest folder that holds all PHOTOS)",
    )  # fmt: skip
    parser.add_argument(
        "--repair", action="store_true",
        help="first check all vectors, and recompute damaged ones from their photos",
    )  # fmt: skip
    parser.add_argument(
        "--features", choices=FEATURES,
        help="vectors to store: the multitask model's, classical descriptors, or both concatenated "
        "(default: multitask if there is a model)",
    )  # fmt: skip
    model_flags.add_multitask_flag(parser)
    model_flags.add_detector_flags(parser)
    model_flags.add_running_flags(parser)
    parser.set_defaults(top_k=MOST_VALUES)
    arguments = parser.parse_args(argv)
    require(bool(arguments.photos) != bool(arguments.dataset), "give either PHOTOS or --dataset")
    require(
        not (arguments.dataset and arguments.whole_photo),
        "--whole-photo: not with --dataset, which has boxes",
    )
    arguments.dataset = [parse_spec(text) for text in arguments.dataset]
    return arguments


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    build(parse_arguments(argv))


if __name__ == "__main__":
    main()
