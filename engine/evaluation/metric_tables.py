"""Metrics of a detector as tables for the terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column, Table

from engine.wording import counted

MEANINGS = {
    "AP": "mean over IoU .50 ... .95",
    "AP50": "at IoU .50",
    "AP75": "at IoU .75",
    "APs": "garments under 32² pixels",
    "APm": "garments up to 96² pixels",
    "APl": "garments over 96² pixels",
    "AR1": "recall with 1 detection per photo",
    "AR10": "recall with 10",
    "AR100": "recall with 100",
    "ARs": "recall of small garments",
    "ARm": "recall of medium garments",
    "ARl": "recall of large garments",
}

WITH_ATTRIBUTES = {
    "AP": "mean over IoU and F1 of attributes .50 ... .95",
    "AP50": "at IoU .50",
    "AP75": "at IoU .75",
    "APf50": "at F1 .50",
    "APf75": "at F1 .75",
    "AP50f50": "at IoU .50 and F1 .50",
    "AP50f75": "at IoU .50 and F1 .75",
    "AP75f50": "at IoU .75 and F1 .50",
    "AP75f75": "at IoU .75 and F1 .75",
}


def print_metrics(metrics: dict[str, Any], console: Console) -> None:
    """Print what ``engine.evaluation.coco_metrics.evaluate_all`` returns.

    In percent; a dash means that there was nothing to measure.
    """
    kinds = [kind for kind in ("box", "mask") if kind in metrics]
    unreadable = metrics["unreadable"]
    left_out = f", {unreadable} of them unreadable" if unreadable else ""
    title = counted(metrics["photos"], "photo") + left_out
    console.print(_summary({kind: metrics[kind] for kind in kinds}, title, MEANINGS))
    console.print(_triples("category", {kind: metrics["per_class"][kind] for kind in kinds}))
    for factor in metrics.get("subsets", {}).get("box", {}):
        rows = {kind: metrics["subsets"][kind][factor] for kind in kinds}
        console.print(_triples(factor.replace("_", "-"), rows))


def print_with_attributes(results: dict[str, dict[str, Any]], console: Console) -> None:
    """Print what ``evaluate_with_attributes`` returns for "box" and perhaps "mask"."""
    summaries = {kind: result["summary"] for kind, result in results.items()}
    console.print(_summary(summaries, "with attributes", WITH_ATTRIBUTES))
    rows = {kind: result["per_class"] for kind, result in results.items()}
    console.print(_triples("category with attributes", rows))


def print_operating_points(points: list[dict[str, float]], console: Console) -> None:
    """Print what ``engine.evaluation.operating_points`` returns, the best F1 in bold."""
    headers = (
        "score from",
        "detections",
        "precision",
        "recall",
        "F1",
        "wrong category",
        "repeated",
    )
    table = Table(*_right(headers), box=box.SIMPLE_HEAD, title="at each score threshold")
    best = max(points, key=lambda point: point["f1"])
    for point in points:
        shares = [_percent(point[name]) for name in ("precision", "recall", "f1")]
        counts = [str(point[name]) for name in ("wrong_name", "repeated")]
        style = "bold" if point is best else None
        table.add_row(f"{point['score']:.2f}", str(point["found"]), *shares, *counts, style=style)
    console.print(table)


def _summary(results: dict[str, dict[str, float]], title: str, meanings: dict[str, str]) -> Table:
    table = Table(title, *_right(list(results)), "", box=box.SIMPLE_HEAD)
    for name, meaning in meanings.items():
        table.add_row(name, *(_percent(result[name]) for result in results.values()), meaning)
    return table


def _triples(title: str, rows: dict[str, dict[str, dict[str, float]]]) -> Table:
    """A row per category or subset: number of garments, then AP, AP50 and AP75 of each kind."""
    columns = [name for kind in rows for name in (f"{kind} AP", "AP50", "AP75")]
    first = Column(title, no_wrap=True)
    table = Table(first, *_right(["garments", *columns]), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, row in rows["box"].items():
        values = [rows[kind][name][column] for kind in rows for column in ("AP", "AP50", "AP75")]
        table.add_row(name, str(row["garments"]), *map(_percent, values))
    return table


def _right(headers: Sequence[str]) -> list[Column]:
    return [Column(header, justify="right") for header in headers]


def _percent(value: float) -> str:
    return "–" if value < 0 else f"{100 * value:.1f}"
