"""Metrics of a detector as tables for the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_metrics(metrics: dict[str, Any], console: Console) -> None:
    """Print what ``engine.predict.evaluate_detector`` returns, and "subsets" where there are any.

    Percent, as detection papers give them; a dash stands where there was nothing to find.
    """
    kinds = [kind for kind in ("box", "mask") if kind in metrics]
    unreadable = metrics["unreadable"]
    left_out = f", {unreadable} of them unreadable" if unreadable else ""
    console.print(_summary(metrics, kinds, f"{metrics['photos']} photos{left_out}"))
    rows = {kind: metrics["per_class"][kind] for kind in kinds}
    console.print(_triples(rows, "category"))
    for factor in metrics.get("subsets", {}).get("box", {}):
        rows = {kind: metrics["subsets"][kind][factor] for kind in kinds}
        console.print(_triples(rows, factor.replace("_", "-")))


def _summary(metrics: dict[str, Any], kinds: list[str], title: str) -> Table:
    table = Table(title=title)
    table.add_column("")
    for name in metrics[kinds[0]]:
        table.add_column(name, justify="right")
    for kind in kinds:
        table.add_row(kind, *map(_percent, metrics[kind].values()))
    return table


def _triples(rows: dict[str, dict[str, dict[str, float]]], first_column: str) -> Table:
    """A row per category or subset: how many garments, then AP, AP50 and AP75 of each kind."""
    table = Table(first_column)
    table.add_column("garments", justify="right")
    for kind in rows:
        for name in ("AP", "AP50", "AP75"):
            table.add_column(f"{kind} {name}", justify="right")
    for name, box in rows["box"].items():
        values = [row[name][column] for row in rows.values() for column in ("AP", "AP50", "AP75")]
        table.add_row(name, str(box["garments"]), *map(_percent, values))
    return table


def _percent(value: float) -> str:
    return "–" if value < 0 else f"{100 * value:.1f}"
