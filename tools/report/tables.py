"""Costs and receptive fields as tables, on the terminal and in files."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.cost.flops import LayerCost
from engine.cost.receptive_field import Field, effective_size
from engine.files import replacing
from engine.wording import counted
from tools.report.measure import Measured

ORDERS = {
    "macs": lambda row: -row.macs,
    "parameters": lambda row: -row.parameters,
    "execution": lambda row: 0,  # sorting is stable
}


def print_costs(console: Console, rows: Sequence[LayerCost], order: str, top: int) -> None:
    """Print the first ``top`` layers in an order, and the sums of the others and of all."""
    ordered = sorted(rows, key=ORDERS[order])
    macs = sum(row.macs for row in rows)
    table = Table("layer", "kind", "output", box=None)
    for title in ("parameters", "MMAC", "MFLOP", "share"):
        table.add_column(title, justify="right")
    for row in ordered[:top]:
        output = "x".join(map(str, row.output)) if row.output else ""
        table.add_row(row.name or "(itself)", row.kind, output, *_numbers(row, macs))
    rest = ordered[top:]
    if rest:
        others = LayerCost("", "", None, _sum(rest, "parameters"), _sum(rest, "macs"))
        table.add_row(f"{len(rest)} others", "", "", *_numbers(others, macs))
    total = LayerCost("", "", None, _sum(rows, "parameters"), macs)
    table.add_row("total", "", "", *_numbers(total, macs), style="bold")
    console.print(table)


def _numbers(row: LayerCost, total: int) -> list[str]:
    share = row.macs / total if total else 0
    millions = (f"{value / 1e6:,.2f}" for value in (row.macs, row.flops))
    return [f"{row.parameters:,}", *millions, f"{share:.1%}"]


def _sum(rows: Iterable[LayerCost], what: str) -> int:
    return sum(getattr(row, what) for row in rows)


def print_fields(console: Console, found: Sequence[Field], effective: dict[str, float]) -> None:
    """Print the receptive field of the last map of every stride."""
    table = Table("last layer of its stride", "kind", box=None)
    for title in ("map", "stride", "sees", "visibly"):
        table.add_column(title, justify="right")
    for field in found:
        visible = f"{effective[field.name]:.0f} px" if field.name in effective else ""
        everything = " + all" if field.whole else ""
        table.add_row(
            field.name, field.kind, _by(field.map_size), f"{field.stride[0]:g}",
            f"{_by(field.size)} px{everything}", visible,
        )  # fmt: skip
    console.print(table)
    if any(field.whole for field in found):
        console.print("+ all: also the whole picture, through squeeze-excitation", style="dim")


def _by(sizes: tuple[int, int]) -> str:
    return f"{sizes[0]}x{sizes[1]}"


def print_measured(console: Console, measured: Measured, batch: int, threads: int | None) -> None:
    """Print a line with time per call, memory and conditions."""
    where = counted(threads, "thread") if threads else "a GPU"
    console.print(
        f"measured: {measured.median_ms:,.1f} ms per call (median of {measured.runs}, fastest "
        f"{measured.fastest_ms:,.1f}) with batch {batch} on {where}; weights "
        f"{measured.weights_mib:,.1f} MiB, at most {measured.peak_mib:,.1f} MiB more while it runs"
    )


def write_costs(path: Path, rows: Sequence[LayerCost]) -> None:
    """Write a row per layer, in order of execution."""
    _write(path, [
        {
            "layer": row.name,
            "kind": row.kind,
            "output": "x".join(map(str, row.output or ())),
            "parameters": row.parameters,
            "macs": row.macs,
            "flops": row.flops,
        }
        for row in rows
    ])  # fmt: skip


def write_fields(path: Path, found: Sequence[Field]) -> None:
    """Write a row per layer: the receptive field of its middle position."""
    _write(path, [
        {
            "layer": field.name,
            "kind": field.kind,
            "map_height": field.map_size[0],
            "map_width": field.map_size[1],
            "stride_y": field.stride[0],
            "stride_x": field.stride[1],
            "field_height": field.size[0],
            "field_width": field.size[1],
            "first_row": field.rows[0],
            "first_column": field.columns[0],
            "sees_whole_picture_too": int(field.whole),
        }
        for field in found
    ])  # fmt: skip


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with replacing(path, "w") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def last_of_each_stride(found: Sequence[Field]) -> list[Field]:
    """The last field of every stride, fine to coarse."""
    last = {field.stride: field for field in found}
    return [last[stride] for stride in sorted(last)]


def sizes_of(influences: dict[str, Any]) -> dict[str, float]:
    """Layer -> side of its effective field in pixels."""
    return {name: effective_size(influence) for name, influence in influences.items()}
