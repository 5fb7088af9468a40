"""Metrics of a multitask model as tables for the terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column, Table

from engine.data.labels import ASPECTS
from engine.wording import counted

LABEL_COLUMNS = {
    "top1": "top-1",
    "top3": "top-3",
    "top5": "top-5",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
}
ATTRIBUTE_COLUMNS = {
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "hamming": "Hamming",
    "recall@3_pooled": "R@3 pooled",
    "recall@3_per_image": "R@3 image",
    "recall@3_per_attribute": "R@3 attribute",
    "recall@5_pooled": "R@5 pooled",
}
SEARCH_COLUMNS = {name: name for name in ("R@1", "R@5", "R@10", "mAP", "MRR")}


def print_multitask(metrics: dict[str, Any], console: Console) -> None:
    """Print what ``engine.description.describe.evaluate_multitask`` returns.

    In percent, with ± half the width of the 95% bootstrap interval if there is one. Metrics that
    could not be measured are left out.
    """
    for part, entries in metrics.items():
        counts = f"{part}: {counted(entries['garments'], 'garment')}"
        if entries["unreadable"]:
            counts += f", {entries['unreadable']} more on unreadable photos are left out"
        console.print(counts, style="bold")
        groups = {k: v for k, v in entries.items() if isinstance(v, dict)}
        exclusive = {k: v for k, v in groups.items() if "top1" in v}
        print_rows(console, "labels", exclusive, LABEL_COLUMNS, count="labelled")
        multi_label = {k: v for k, v in groups.items() if "recall@3_pooled" in v}
        print_rows(console, "attributes", multi_label, ATTRIBUTE_COLUMNS, count="labelled")
        print_neighbors({name: groups[name] for name in ASPECTS if name in groups}, console)
        for name, group in groups.items():
            _warn(console, name, group.get("unheard_of", {}))


def print_neighbors(rows: dict[str, dict[str, Any]], console: Console) -> None:
    """Print what ``engine.evaluation.aspect_metrics.aspect_metrics`` returns, a row per aspect."""
    print_rows(console, "same garment", rows, SEARCH_COLUMNS, count="queries")
    labels = sorted({name for row in rows.values() for name in row if name.startswith("P@")})
    columns = {name: name.replace("_", " ") for name in (*labels, "other_color_R@1")}
    print_rows(console, "neighbors", rows, columns)


def print_rows(
    console: Console,
    title: str,
    rows: dict[str, dict[str, Any]],
    columns: dict[str, str],
    count: str | None = None,
) -> None:
    """Print a table of the entries and columns that have any values."""
    columns = {k: v for k, v in columns.items() if any(k in row for row in rows.values())}
    rows = {k: row for k, row in rows.items() if any(column in row for column in columns)}
    if not rows:
        return
    headers = [*([count] if count else []), *columns.values()]
    right: Sequence[Column] = [Column(header, justify="right") for header in headers]
    table = Table(Column(title, no_wrap=True), *right, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, row in rows.items():
        counts = [str(row.get(count, ""))] if count else []
        table.add_row(name, *counts, *(_percent(row, column) for column in columns))
    console.print(table)


def _percent(row: dict[str, Any], name: str) -> str:
    if name not in row:
        return "–"
    value = f"{100 * row[name]:.1f}"
    if name in row.get("intervals", {}):
        low, high = row["intervals"][name]
        value += f"±{50 * (high - low):.1f}"
    return value


def _warn(console: Console, group: str, unheard_of: dict[str, int]) -> None:
    if unheard_of:
        values = ", ".join(f"{value} ({count})" for value, count in unheard_of.items())
        console.print(
            f"{group}: values the model does not know, counted as misses: {values}", style="yellow"
        )
