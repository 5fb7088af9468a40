"""Search: Recall@K, mAP, MRR and P@K by label, for each aspect and for weights.

    python tools/evaluate.py retrieval --database DB --weights item=1,color=0.5
    python tools/evaluate.py retrieval --database DB --query-views back alt1 --gallery-view main \\
        --tune-weights
    python tools/evaluate.py retrieval --vectors OUT/features.npz --items OUT/garments.csv
    python tools/evaluate.py retrieval --database DB --protocol inshop --dataset inshop:PATH

By default every item is a query against all others; if items have a source (user or shop), user
photos search shop photos. --query-views and --gallery-view select queries and gallery by view (of
the gallery, the first item of each product), --queries and --gallery list them in tables with a
column key or photo. A photo never retrieves itself. P@10 by a label is the share of the ten nearest
items of other products with the query's label.

--tune-weights optimizes the weights on the queries of one half of the products and reports on those
of the other half; the gallery is not split.

--protocol follows the papers, with identities and roles from --dataset:
  inshop, consumer2shop   any hit among K, whole gallery, mean over all queries; other variants of
                          recall in use are listed under their own names
  deepfashion2            the official rule on the items of user and shop photos, whether they are
                          annotated garments or detections; a strict variant that requires
                          --min-iou of detections; a breakdown of failures. --results evaluates an
                          official result file instead; --queries and --gallery may then be the
                          official ground-truth files instead of --dataset
Items are matched to the dataset's photos by path if the folder that the database was built from
still exists, else by file name.

--output-dir gets metrics.json (0..1) and, for deepfashion2, results_ASPECT.json in the official
format.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from engine import distributed
from engine.config import flag_of, require
from engine.errors import InputError
from engine.evaluation.aspect_metrics import GarmentTable, Roles, aspect_metrics, roles_of
from engine.evaluation.multitask_tables import print_neighbors
from engine.training.meters import write_json
from engine.wording import counted
from retrieval.features import parse_weights
from retrieval.loaded_items import LoadedItems, from_files, from_store, read_table
from retrieval.store import open_database
from retrieval.tuning import tune_weights
from tools.evaluations import search_protocols
from tools.evaluations.shared import add_views, start, views_of

TUNING_QUERIES = 2000
LABELS_ARE_PREDICTIONS = (
    "labels are the model's own predictions: this measures how consistent they are with its "
    "vectors, not how correct; a database built with --dataset has true labels"
)


def evaluate(arguments: argparse.Namespace) -> None:
    """Read the items, measure on all ranks; rank 0 prints and writes."""
    weights = parse_weights(arguments.weights) if arguments.weights else None
    start(arguments)
    _check_combinations(arguments)
    if arguments.protocol:
        metrics = search_protocols.evaluate(arguments, lambda: _load(arguments), weights)
    else:
        metrics = _neighbors(_load(arguments), arguments, weights)
    if distributed.is_main() and arguments.output_dir:
        write_json(arguments.output_dir / "metrics.json", metrics)


def _check_combinations(arguments: argparse.Namespace) -> None:
    """Refuse flags that would have no effect."""
    require(0 < arguments.min_iou <= 1, f"--min-iou {arguments.min_iou}: must be above 0, up to 1")
    judged_file = arguments.protocol == "deepfashion2"
    sentence = "--results: only with --protocol deepfashion2"
    require(arguments.results is None or judged_file, sentence)
    held = arguments.database or arguments.vectors
    require(not (arguments.results and held), "--results: instead of --database and --vectors")
    require(arguments.items is None or arguments.vectors, "--items: only goes with --vectors")
    both = (arguments.queries is None) == (arguments.gallery is None)
    require(both or not arguments.results, "--results: --queries and --gallery go together")
    unused = ["query_views", "gallery_view", "tune_weights", "labels"]
    unused += [] if arguments.results else ["queries", "gallery"]
    for name in unused if arguments.protocol else ["dataset"]:
        flag = flag_of(name)
        goes = "does not go" if arguments.protocol else "only goes"
        require(not getattr(arguments, name), f"{flag}: {goes} with --protocol")


def _load(arguments: argparse.Namespace) -> LoadedItems:
    require(
        (arguments.database is None) != (arguments.vectors is None),
        "give either --database or --vectors",
    )
    if arguments.database is not None:
        with open_database(arguments.database, read_only=True) as store:
            return from_store(store)
    items = arguments.items or arguments.vectors.with_name("items.csv")
    return from_files(arguments.vectors, items)


def _neighbors(
    found: LoadedItems, arguments: argparse.Namespace, weights: dict[str, float] | None
) -> dict[str, Any]:
    table = found.table(arguments.labels)
    roles = _roles(found, table, arguments)
    rows = _measure(found, table, roles, {"weighted": weights} if weights else {})
    metrics: dict[str, Any] = {"items": len(found.items)} | rows
    console = Console(quiet=not distributed.is_main())
    console.print(counted(len(found.items), "item"), style="bold")
    if found.labels_are_predictions and table.aspect_of_group:
        metrics["labels_are_answers"] = True
        console.print(LABELS_ARE_PREDICTIONS)
    if (table.identity < 0).all():
        console.print("no item has an identity: no Recall@K")
    elif not any(rows.values()):
        console.print("no two photos share a product or a label: nothing to measure")
    print_neighbors(rows, console)
    if arguments.tune_weights:
        tuned, metrics["other_half"] = _tune(found, table, roles, arguments.tune_weights)
        metrics["tuned_weights"] = tuned
        shown = ", ".join(f"{name}={weight:g}" for name, weight in tuned.items())
        console.print(f"tuned on half of the products: {shown}; on the other half:", style="bold")
        print_neighbors(metrics["other_half"], console)
    return metrics


def _measure(
    found: LoadedItems,
    table: GarmentTable,
    roles: Roles,
    weighted: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Metrics of each aspect, and of each weighting under its name."""
    rows = {name: found.aspect(name) for name in found.schema.names}
    rows |= {name: found.weighted(weights) for name, weights in weighted.items()}
    return {
        name: aspect_metrics(
            vectors, table, roles, intervals=True, progress_title=f"evaluating {name}"
        )
        for name, vectors in rows.items()
    }


def _tune(
    found: LoadedItems, table: GarmentTable, roles: Roles, metric: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """Tune weights for ``metric`` on one half of the products.

    Items of unknown product are split by photo.

    Returns:
        (weights, all metrics on the queries of the other half).
    """
    group = np.where(table.identity >= 0, table.identity, table.photo)
    side = np.random.default_rng(0).permutation(group.max() + 1) % 2
    half = side[group].astype(bool)

    def measure(weights: Mapping[str, float]) -> float:
        numbers = aspect_metrics(
            found.weighted(weights),
            table,
            _with_queries_of(roles, half),
            max_queries=TUNING_QUERIES,
        )
        if metric not in numbers:
            known = ", ".join(numbers) or "nothing"
            raise InputError(f"--tune-weights {metric}: these items only allow {known}")
        return numbers[metric]

    weights, _ = tune_weights(found.schema.names, measure)
    return weights, _measure(found, table, _with_queries_of(roles, ~half), {"tuned": weights})


def _with_queries_of(roles: Roles, half: np.ndarray) -> Roles:
    """The roles, with only those queries that are in one half of the items, bool[items]."""
    queries, label_queries = (side[half[side]] for side in (roles.queries, roles.label_queries))
    return replace(roles, queries=queries, label_queries=label_queries, main=roles.main[:0])


def _roles(found: LoadedItems, table: GarmentTable, arguments: argparse.Namespace) -> Roles:
    views = views_of(arguments)
    if views is not None:
        known = table.values.get(views.column, ())
        for view in (*views.queries, views.gallery):
            sentence = f"view {view!r}: the items' {views.column!r} has {sorted(known)}"
            require(view in known, sentence)
    roles = roles_of(table, views)
    if arguments.queries is None and arguments.gallery is None:
        return roles
    require(views is None, "--queries and --gallery: not together with --query-views")
    everything = np.arange(len(found.items))
    queries = everything if arguments.queries is None else _listed(arguments.queries, found)
    gallery = np.setdiff1d(everything, queries)
    if arguments.gallery is not None:
        gallery = _listed(arguments.gallery, found)
    return Roles(queries, gallery, queries, gallery, everything[:0])


def _listed(path: Path, found: LoadedItems) -> np.ndarray:
    """Numbers i64[n] of the items that a table lists by key or photo.

    Raises:
        InputError: no such table, no such column, or an unknown item.
    """
    rows = read_table(path)
    column = next(
        (name for name in ("key", "photo", "file_name") if rows and name in rows[0]), None
    )
    require(column is not None, f"{path}: needs rows and a column key or photo")
    places: dict[str, list[int]] = {}
    for number, item in enumerate(found.items):
        places.setdefault(item.key if column == "key" else item.photo, []).append(number)
    for row in rows:
        require(row[column] in places, f"{path}: {row[column]}: no item of the database")
    return np.unique([number for row in rows for number in places[row[column]]])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``evaluate``."""
    source = parser.add_argument_group("items")
    source.add_argument("--database", help="folder of a database, or its Milvus URI")
    source.add_argument("--vectors", type=Path, help=".npz of vectors, instead of a database")
    source.add_argument(
        "--items", type=Path,
        help="CSV with one row per vector (default: items.csv beside --vectors)",
    )  # fmt: skip
    source.add_argument(
        "--results", type=Path, help="deepfashion2: result file to evaluate instead"
    )
    roles = parser.add_argument_group("queries and gallery")
    add_views(roles)
    roles.add_argument("--queries", type=Path, help="table of the items that are queries")
    roles.add_argument(
        "--gallery", type=Path, help="table of the items to search (default: all others)"
    )
    parser.add_argument(
        "--weights", metavar="ASPECT=NUMBER,...", help="also evaluate these weights"
    )
    parser.add_argument(
        "--tune-weights", nargs="?", const="R@1", metavar="METRIC",
        help="find the weights that maximize a metric (default: R@1)",
    )  # fmt: skip
    parser.add_argument(
        "--labels", nargs="+", help="labels for P@10 (default: those of color, texture or shape)"
    )
    protocol = parser.add_argument_group("protocols of papers")
    add = protocol.add_argument
    add("--protocol", choices=search_protocols.PROTOCOLS, help="evaluate by this protocol")
    add(
        "--dataset", metavar="FORMAT:PATH[:key=value]...",
        help="annotated dataset that the items come from, for their identities and roles",
    )  # fmt: skip
    strict = "deepfashion2: IoU that the strict variant requires of a detection (default: 0.5)"
    add("--min-iou", type=float, default=0.5, metavar="0..1", help=strict)
    parser.add_argument("--output-dir", type=Path, help="where to write the results")
    parser.set_defaults(device="cpu")
