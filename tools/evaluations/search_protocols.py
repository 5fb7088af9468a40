"""The protocols of ``evaluate.py retrieval``: In-shop, Consumer-to-shop, DeepFashion2."""

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dataset_helpers import load_spec, parse_spec
from engine import distributed
from engine.config import require
from engine.data.records import PhotoRecords
from engine.errors import InputError
from engine.evaluation.multitask_tables import print_rows
from engine.evaluation.ranking import nearest_on_all
from retrieval.deepfashion2 import KS, RESULTS, QueryResult, evaluate_results, summarize
from retrieval.deepfashion2_files import (
    queries_and_gallery,
    read_gallery,
    read_queries,
    read_results,
    write_results,
)
from retrieval.loaded_items import LoadedItems
from retrieval.protocols import CONSUMER2SHOP_KS, INSHOP_KS, image_recall
from retrieval.store import Item

PROTOCOLS = ("inshop", "consumer2shop", "deepfashion2")
Load = Callable[[], LoadedItems]


def evaluate(
    arguments: argparse.Namespace, load: Load, weights: Mapping[str, float] | None
) -> dict[str, Any]:
    """Evaluate by ``--protocol`` and print; all ranks call it and get the same metrics."""
    console = Console(quiet=not distributed.is_main())
    if arguments.protocol == "deepfashion2":
        return _deepfashion2(arguments, load, weights, console)
    ks = INSHOP_KS if arguments.protocol == "inshop" else CONSUMER2SHOP_KS
    queries, gallery = (_records(arguments, split) for split in ("query", "gallery"))
    found = load()
    rows = {
        name: _image_recall(vectors, found, queries, gallery, ks)
        for name, vectors in _searches(found, weights).items()
    }
    columns = {name: name for name in (*(f"R@{k}" for k in ks), "mAP")}
    print_rows(console, arguments.protocol, rows, columns, count="queries")
    _print_variants(console, {name: row["variants"] for name, row in rows.items()}, ks)
    return rows


def _print_variants(console: Console, rows: dict[str, Any], ks: tuple[int, ...]) -> None:
    """Print a table for each variant of recall that ``image_recall`` returns."""
    for template in ("found_share@{}", "precision@{}", "R@{}_same_category"):
        title = "variant: " + template.replace("@{}", "").replace("_", " ")
        print_rows(console, title, rows, {template.format(k): f"@{k}" for k in ks})


def _records(arguments: argparse.Namespace, split: str | None = None) -> PhotoRecords:
    require(arguments.dataset is not None, f"--protocol {arguments.protocol}: give its --dataset")
    spec = parse_spec(arguments.dataset)
    sentence = f"--protocol {arguments.protocol}: --dataset must be {arguments.protocol}:PATH"
    require(spec.format == arguments.protocol, sentence)
    part = split or spec.options.get("val") or spec.options.get("split") or spec.val
    with distributed.first_on_each_machine():
        return load_spec(spec, part)


def _searches(found: LoadedItems, weights: Mapping[str, float] | None) -> dict[str, np.ndarray]:
    searches = {name: found.aspect(name) for name in found.schema.names}
    return searches | ({"weighted": found.weighted(weights)} if weights else {})


def photo_rows(found: LoadedItems, records: PhotoRecords) -> np.ndarray:
    """int64 [items], the index of each item's photo in the records, -1 for none.

    Matched by path if the folder that the database was built from still exists, because the splits
    of a dataset may use the same file names. Else by name, of which a unique ending is enough.

    Raises:
        InputError: no item is on a photo of the dataset.
    """
    names = [records.file_name_of(i) for i in range(len(records))]
    photos = [item.photo for item in found.items]
    if found.root is not None and Path(found.root).is_dir():
        root, base = (os.path.realpath(folder) for folder in (found.root, records.root))
        places = {os.path.normpath(f"{base}/{name}"): i for i, name in enumerate(names)}
        rows = [places.get(os.path.normpath(f"{root}/{photo}"), -1) for photo in photos]
    else:
        rows = _rows_by_name(photos, names)
    if max(rows) < 0:
        raise InputError(
            f"no item is on a photo of {records.root}: items are on photos like {photos[0]} (in "
            f"{found.root or 'an unknown folder'}), the dataset has {names[0]}"
        )
    return np.array(rows, np.int64)


def _rows_by_name(photos: list[str], names: list[str]) -> list[int]:
    whole = {name: i for i, name in enumerate(names)}
    by_end: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        by_end.setdefault(name.rpartition("/")[2], []).append(i)

    def row_of(photo: str) -> int:
        if photo in whole:
            return whole[photo]
        ends = by_end.get(photo.rpartition("/")[2], [])
        ends = [i for i in ends if names[i].endswith("/" + photo)]
        return ends[0] if len(ends) == 1 else -1

    return [row_of(photo) for photo in photos]


def _image_recall(
    vectors: np.ndarray,
    found: LoadedItems,
    queries: PhotoRecords,
    gallery: PhotoRecords,
    ks: tuple[int, ...],
) -> dict[str, Any]:
    """``image_recall`` with one item per photo; a query photo without an item is a miss."""
    sides = []
    for records in (queries, gallery):
        rows = _item_of_photo(found, records)
        side = np.where((rows >= 0)[:, None], vectors[rows], 0)
        first = records.garment_offsets[:-1]
        sides.append((rows, side, records.garment_identity[first], records.garment_category[first]))
    (asking, query_vectors, query_ids, query_kinds), (held, *searched) = sides
    has_item = held >= 0
    gallery_vectors, gallery_ids, gallery_kinds = (side[has_item] for side in searched)
    no_product = query_ids.max(initial=0) + gallery_ids.max(initial=0) + 1  # an unused number
    metrics = image_recall(
        query_vectors,
        gallery_vectors,
        np.where(asking >= 0, query_ids, no_product),
        gallery_ids,
        ks=ks,
        query_categories=query_kinds,
        gallery_categories=gallery_kinds,
    )
    missing = {"query": int((asking < 0).sum()), "gallery": int((held < 0).sum())}
    return metrics | {"photos_without_item": missing}


def _item_of_photo(found: LoadedItems, records: PhotoRecords) -> np.ndarray:
    """int64 [photos], the item with the largest box on each photo, -1 if there is none."""
    items, photos = found.items, photo_rows(found, records)
    chosen = np.full(len(records), -1, np.int64)
    order = sorted(np.flatnonzero(photos >= 0), key=lambda i: (_area(items[i]), -i))
    chosen[photos[order]] = order  # the last of a photo, the largest, is kept
    return chosen


def _area(item: Item) -> float:
    if item.box is None:
        return float("inf")  # the whole photo
    return (item.box[2] - item.box[0]) * (item.box[3] - item.box[1])


def _deepfashion2(
    arguments: argparse.Namespace,
    load: Load,
    weights: Mapping[str, float] | None,
    console: Console,
) -> dict[str, Any]:
    records = None
    if arguments.results and arguments.queries and arguments.gallery:
        queries, gallery = read_queries(arguments.queries), read_gallery(arguments.gallery)
    else:
        records = _records(arguments)
        queries, gallery = queries_and_gallery(records)
    if arguments.results:
        results = {"results": read_results(arguments.results)}
    else:
        found = load()
        results = {
            name: search_from_user_photos(vectors, found, records)
            for name, vectors in _searches(found, weights).items()
        }
    metrics = {}
    for rule, min_iou in (("official", None), (f"IoU {arguments.min_iou:g}", arguments.min_iou)):
        rows = {
            name: summarize(evaluate_results(queries, gallery, found_by, min_iou=min_iou))
            for name, found_by in results.items()
        }
        print_rows(console, rule, rows, {f"top{k}": f"top-{k}" for k in KS}, count="queries")
        lost = {name: row.get("lost", {}).get(f"top{KS[-1]}", {}) for name, row in rows.items()}
        reasons = ("not_detected", "wrong_class", "wrong_neighbor")
        title = f"{rule}: lost at {KS[-1]}"
        print_rows(console, title, lost, {reason: reason.replace("_", " ") for reason in reasons})
        metrics[rule] = rows
    if arguments.output_dir and not arguments.results and distributed.is_main():
        for name, found_by in results.items():
            write_results(arguments.output_dir / f"results_{name}.json", found_by)
    return metrics


def search_from_user_photos(
    vectors: np.ndarray, found: LoadedItems, records: PhotoRecords
) -> list[QueryResult]:
    """Search the items on shop photos for every item on a user photo; all ranks call it.

    Args:
        vectors: f32[n, D] of the items, ranked by inner product.
        found: the items.
        records: the dataset.

    Raises:
        InputError: no items on user photos or none on shop photos, an item without a box, or
            items of other categories than the dataset's.
    """
    items, photos = found.items, photo_rows(found, records)
    sources = np.array([records.source_of(i) if i >= 0 else "" for i in photos.tolist()])
    users, shops = np.flatnonzero(sources == "user"), np.flatnonzero(sources == "shop")
    require(len(users) > 0, f"{records.root}: no item is on a user photo, so no queries")
    require(len(shops) > 0, f"{records.root}: no item is on a shop photo, so no gallery")
    for item in items:
        require(item.box is not None, f"{item.key}: has no box; this protocol needs them")
    classes = {name: number for number, name in enumerate(records.categories, 1)}
    named = {items[i].category for i in users} - {None}
    require(
        not named or not named.isdisjoint(classes),
        f"the database's items are {', '.join(sorted(named))}; {records.root} has "
        f"{', '.join(classes)}: build it with --dataset, or with a detector of these categories",
    )
    best = nearest_on_all(vectors[users], vectors[shops], RESULTS)
    return [
        QueryResult(
            image_id=int(records.image_ids[photos[i]]),
            box=items[i].box,
            category=classes.get(items[i].category or "", 0),
            score=float(items[i].extra.get("score", 1.0)),
            found_images=tuple(records.image_ids[photos[row]].tolist()),
            found_boxes=tuple(items[j].box for j in row),
        )
        for i, row in zip(users, shops[best], strict=True)
    ]
