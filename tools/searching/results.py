"""The results of a search, as a table to read and as JSON for programs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from engine.wording import printable
from retrieval.garment_sources import YES
from retrieval.search import Query
from retrieval.store import Hit

MOST_LABELS = 4  # attributes of an item in the table
WIDEST = 10_000  # characters of a line


def print_results(
    results: Sequence[tuple[Query, Sequence[Hit]]], weights: dict[str, float]
) -> None:
    """Print a table per query with a column per aspect; aspects without weight are dim.

    Keys and numbers are never cut: if necessary, a table is wider than the terminal, or than the
    80 characters assumed for a pipe.
    """
    console = Console(highlight=False)
    for query, hits in results:
        title = escape(printable(" ".join(filter(None, (query.title, query.category)))))
        if not hits:
            console.print(f"{title}: no item passes the filters")
            continue
        table = Table(title=title, title_justify="left")
        table.add_column("item", no_wrap=True)  # so that keys can be copied
        table.add_column("score", justify="right", no_wrap=True)
        for name in hits[0].aspects:
            style = None if weights.get(name) else "dim"
            table.add_column(name, justify="right", style=style, no_wrap=True)
        table.add_column("what", overflow="fold")
        for hit in hits:
            cosines = (f"{value:.3f}" for value in hit.aspects.values())
            cells = (printable(hit.item.key), f"{hit.score:.3f}", *cosines, summary(hit))
            table.add_row(*(escape(cell) for cell in cells))
        options = console.options.update(max_width=WIDEST)
        needed = Measurement.get(console, options, table).minimum
        console.width = max(console.width, needed)
        console.print(table)


def summary(hit: Hit) -> str:
    """The item's category and first labels."""
    attributes = list(hit.item.attributes.items())[:MOST_LABELS]
    words = [name if value == YES else value for name, value in attributes]
    labels = [hit.item.category or "", *words]
    return ", ".join(dict.fromkeys(label for label in labels if label))


def to_plain(
    results: Sequence[tuple[Query, Sequence[Hit]]], weights: dict[str, float]
) -> dict[str, Any]:
    """All results, ready for JSON. Boxes are xyxy in pixels of the photo."""
    return {"weights": weights, "queries": [_query(query, hits) for query, hits in results]}


def _query(query: Query, hits: Sequence[Hit]) -> dict[str, Any]:
    plain = {
        "photo": None if query.photo is None else str(query.photo),
        "key": None if query.item is None else query.item.key,
        "garment": query.number,
        "category": query.category,
        "box": None if query.box is None else [round(value, 2) for value in query.box],
    }
    return plain | {"hits": [_hit(hit) for hit in hits]}


def _hit(hit: Hit) -> dict[str, Any]:
    aspects = {name: round(value, 6) for name, value in hit.aspects.items()}
    numbers = {"score": round(hit.score, 6), "aspects": aspects}
    return {"key": hit.item.key} | numbers | asdict(hit.item)
