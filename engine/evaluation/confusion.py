"""Confusion matrices as a table (CSV) and as a picture that stays readable with many classes."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.files import replacing

INCHES_PER_CLASS = 0.3
NO_PREDICTION_NAME = "(no answer)"


def write_confusion(path: Path, matrix: np.ndarray, names: Sequence[str]) -> None:
    """Write a CSV with a row per true value, a column per predicted value and counts in the cells.

    Args:
        path: the CSV file.
        matrix: int64 [C, C + 1] of ``engine.evaluation.classify_metrics.confusion``.
        names: of the C values.
    """
    with replacing(path, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["truth \\ answer", *names, NO_PREDICTION_NAME])
        for name, row in zip(names, matrix.tolist(), strict=True):
            table.writerow([name, *row])


def draw_confusion(path: Path, matrix: np.ndarray, names: Sequence[str], title: str) -> None:
    """Draw a PNG: colors are shares of a row, numbers are counts; cells of 0 stay empty.

    Values that are never true nor predicted are left out. The arguments are those of
    ``write_confusion`` and the title of the figure.
    """
    # Imported here, since importing matplotlib is slow and most commands never draw.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = np.flatnonzero(matrix.sum(axis=1) + matrix[:, :-1].sum(axis=0))
    columns = [*shown, *([len(names)] if matrix[:, -1].any() else [])]
    cells = matrix[np.ix_(shown, columns)]
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    side = INCHES_PER_CLASS * len(columns) + 3
    figure = Figure(figsize=(side, side), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(cells), strict=True):
        color = "white" if shares[row, column] > 0.6 else "black"
        count = str(cells[row, column])
        axis.text(column, row, count, ha="center", va="center", color=color, fontsize=7)
    labels = [*names, NO_PREDICTION_NAME]
    axis.set_xticks(range(len(columns)), [labels[i] for i in columns], rotation=90, fontsize=8)
    axis.set_yticks(range(len(shown)), [labels[i] for i in shown], fontsize=8)
    axis.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(len(shown) + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="0.9", linewidth=0.5)
    axis.tick_params(which="minor", length=0)
    axis.set(title=title, xlabel="answer", ylabel="truth")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)
