"""Search of the local database against the bare matrix product.

The reference multiplies the queries with the same vectors, held in memory as one matrix: matrix
times vector for one query (the vectors are read once), a blockwise matrix product for many. A ratio
of 1 means that mapping, filtering, ranking, exact scores and items cost nothing.
The reference of a filtered search is the same search without the filter.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.command_line import positive
from engine.config import require
from engine.wording import counted
from retrieval.features import FeatureSchema, weighted_query
from retrieval.store import Filter, Item, Store, item_key, open_database
from tools.benchmarks.timing import compare, timed

WEIGHTS = {"item": 1.0, "color": 0.5}
TENTH = Filter(attributes={"tenth": ("3",)})
PUT_ROWS = 8192
PRODUCT_ROWS = 4096  # a block of the reference: the quickest of 1024 to 16384


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--items", type=positive, default=200_000, help="items stored (default: 200000)")
    add("--dimensions", type=int, default=512, help="vector length (default: 512)")
    add("--queries", type=positive, default=256, help="queries per batch (default: 256)")
    add("--top-k", type=positive, default=10, help="items to find (default: 10)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rows for one query and for a batch, with and without a filter that a tenth passes."""
    require(arguments.dimensions >= 2, "--dimensions: must be at least 2, one an aspect")
    half = arguments.dimensions // 2
    schema = FeatureSchema(1, (("item", half), ("color", arguments.dimensions - half)), "benchmark")
    with tempfile.TemporaryDirectory() as folder:
        location = Path(folder) / "database"
        seconds = _build(location, schema, arguments)
        memory = _in_fresh_process(_measure_memory, location, arguments)
        started = time.perf_counter()
        with open_database(location, read_only=True) as store:
            opening = time.perf_counter() - started
            rows = _compare_times(store, arguments)
    needed = arguments.items * arguments.dimensions * 4 / 2**20
    row = {"case": "memory beside the libraries", "ours_mib": memory, "reference_mib": needed}
    rows.append(row | {"ratio": needed / memory})
    sizes = {"items": arguments.items, "dimensions": arguments.dimensions}
    timings = {"build_seconds": round(seconds, 2), "opening_seconds": round(opening, 4)}
    return {"rows": rows} | sizes | timings


def _build(location: Path, schema: FeatureSchema, arguments: argparse.Namespace) -> float:
    started = time.perf_counter()
    with open_database(location, schema=schema, create=True) as store:
        fill(store, arguments.items, _item)
    return time.perf_counter() - started


def _item(number: int) -> Item:
    photo = f"photos/{number:08d}.jpg"
    return Item(item_key(photo, 0), photo, attributes={"tenth": str(number % 10)})


def fill(store: Store, count: int, item: Callable[[int], Item]) -> None:
    """Fill the store with ``count`` items, made from their numbers, with random vectors."""
    for start in range(0, count, PUT_ROWS):
        items = [item(number) for number in range(start, min(start + PUT_ROWS, count))]
        store.add(items, unit_parts(len(items), store.schema, seed=start))


def unit_parts(count: int, schema: FeatureSchema, seed: int) -> np.ndarray:
    """f32[count, D] random vectors, each aspect's part of unit length."""
    vectors = np.random.default_rng(seed).standard_normal((count, schema.dim), np.float32)
    for name in schema.names:
        part = vectors[:, schema.slice(name)]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def _compare_times(store: Store, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    stored = torch.from_numpy(store.vectors(store.keys()))
    rows = []
    for count in sorted({1, arguments.queries}):
        queries = unit_parts(count, store.schema, seed=-count % 2**32)
        search = _searcher(store, queries, arguments.top_k)
        filtered = _searcher(store, queries, arguments.top_k, TENTH)
        product = _product(stored, torch.from_numpy(weighted_query(queries, WEIGHTS, store.schema)))
        search(0), filtered(0)
        for case, pair in {"": (search, product), ", a tenth passes": (filtered, search)}.items():
            times = compare(*map(timed, pair), items=1, rounds=arguments.rounds)
            rows.append({"case": counted(count, "query", "queries") + case} | times)
    return rows


def _searcher(
    store: Store, queries: np.ndarray, k: int, filter: Filter | None = None
) -> Callable[[int], Any]:
    return lambda _: store.search(queries, weights=WEIGHTS, k=k, filter=filter)


def _product(stored: torch.Tensor, queries: torch.Tensor) -> Callable[[int], Any]:
    """Compute the scores of all items, block by block, and discard them."""
    if len(queries) == 1:
        return lambda _: torch.mv(stored, queries[0])

    def multiply(_: int) -> None:
        # Each block's scores are freed before the next: allocating memory for all would be slower.
        for block in stored.split(PRODUCT_ROWS):
            torch.mm(queries, block.T)

    return multiply


def _in_fresh_process(measure: Callable, *arguments: Any) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as processes:
        return processes.apply(measure, arguments)


def _measure_memory(location: Path, arguments: argparse.Namespace) -> float:
    """Peak MiB that opening and searching add, mapped vectors included."""
    warm = torch.ones(1024, 1024)
    torch.mm(warm, warm)
    before = _peak_mib()
    with open_database(location, read_only=True) as store:
        for count in (1, arguments.queries):
            queries = unit_parts(count, store.schema, seed=0)
            _searcher(store, queries, arguments.top_k)(0)
    return max(_peak_mib() - before, 1)


def _peak_mib() -> float:
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line[:5] == "VmHWM")
