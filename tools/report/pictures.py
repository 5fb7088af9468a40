"""Costs and receptive fields as pictures."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from engine.cost.flops import LayerCost
from engine.cost.receptive_field import Field, effective_size
from engine.files import replacing

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

MOST_BARS = 40


def draw_costs(path: Path, rows: Sequence[LayerCost], title: str) -> None:
    """Draw MACs and parameters of every layer, in order of execution, and their sums.

    In deep networks neighboring layers share a bar.
    """
    groups = _grouped(rows)
    labels = [group[0].name or "(itself)" for group in groups]
    figure, axes = plt.subplots(
        1, 2, figsize=(11, 1.5 + 0.22 * len(groups)), sharey=True, layout="constrained"
    )
    columns = (("macs", 1e9, "GMAC"), ("parameters", 1e6, "million parameters"))
    for axis, (what, unit, name) in zip(axes, columns, strict=True):
        values = [sum(getattr(row, what) for row in group) / unit for group in groups]
        axis.barh(range(len(groups)), values, color="#4878a8")
        axis.set_xlabel(f"{name} (total {sum(values):,.2f})")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(groups)), labels, fontsize=7)
    axes[0].set_ylim(len(groups) - 0.4, -0.6)
    figure.suptitle(title)
    _save(path, figure)


def _grouped(rows: Sequence[LayerCost]) -> list[list[LayerCost]]:
    """Group layers by the deepest common paths that give at most MOST_BARS groups."""
    for depth in range(8, 0, -1):
        groups: dict[str, list[LayerCost]] = {}
        for row in rows:
            prefix = ".".join(row.name.split(".")[:depth])
            groups.setdefault(prefix, []).append(row)
        if len(groups) <= MOST_BARS:
            break
    return [_named(prefix, group) for prefix, group in groups.items()]


def _named(prefix: str, group: list[LayerCost]) -> list[LayerCost]:
    """The group, with its first layer renamed to the common path."""
    first = group[0]
    renamed = LayerCost(prefix, first.kind, first.output, first.parameters, first.macs)
    return [renamed, *group[1:]]


def draw_fields(
    path: Path, found: Sequence[Field], influences: Sequence[np.ndarray], title: str
) -> None:
    """Draw each map's effective receptive field as a heat map, and the theoretical one as a frame.

    Args:
        path: of the PNG.
        found: the maps' fields.
        influences: f64[H,W] each, scaled to a maximum of 1.
        title: of the figure.
    """
    height, width = influences[0].shape
    each = min(max(3.2 * width / height, 2), 4)
    figure, axes = plt.subplots(
        1, len(found), figsize=(each * len(found), 4), squeeze=False, layout="constrained"
    )
    for axis, field, influence in zip(axes[0], found, influences, strict=True):
        # The square root makes the faint surroundings visible.
        axis.imshow(np.sqrt(influence), cmap="magma", vmin=0, vmax=1)
        height, width = field.size
        corner = (field.columns[0] - 0.5, field.rows[0] - 0.5)
        axis.add_patch(Rectangle(corner, width, height, fill=False, ec="cyan", lw=1.2))
        everything = " + all" if field.whole else ""
        axis.set_title(
            f"{field.name}\nstride {field.stride[0]:g}, sees {height}x{width}{everything}\n"
            f"visibly {effective_size(influence):.0f} px",
            fontsize=8,
        )
        axis.tick_params(labelsize=6)
    figure.suptitle(f"{title}: frame theoretical, brightness effective (root)", fontsize=9)
    _save(path, figure)


def _save(path: Path, figure: plt.Figure) -> None:
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)
    plt.close(figure)
