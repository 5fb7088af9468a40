"""Cutting outerwear: a lining behind, two fronts with an opening, a collar, sleeves."""

import numpy as np

from tools.wardrobe import details
from tools.wardrobe.cloth import Panel
from tools.wardrobe.patterns import COLLAR, LINING, TRUNK, Cut
from tools.wardrobe.shapes import curve
from tools.wardrobe.sleeves import cut_sleeves
from tools.wardrobe.tops import (
    Upper,
    armscye,
    back_neckline,
    hem_heights,
    landmarks,
    neck_edge,
    shoulder_point,
    trunk_outline,
    trunk_panel,
)

Edges = dict[int, np.ndarray]  # by side: the opening's edge (x, y) cm, from the neck to the hem
# How far down the front a collar leaves open, as a share of the length.
DEPTH = {"lapel": 0.40, "none": 0.36, "shirt": 0.13, "stand": 0.05, "hood": 0.13}


def cut_outerwear(upper: Upper) -> Cut:
    """Cut a jacket, cardigan or coat."""
    cut = Cut()
    turned = upper.figure.facing < 0
    s = np.linspace(-1, 1, 41)
    hem = upper.shell.edge(s, hem_heights(upper, s, None))
    top, points = neck_edge(upper)
    edges, broken = _opening(upper)
    if turned:
        panel = trunk_panel(upper, trunk_outline(upper, top, hem))
        spine = upper.shell.back(np.zeros(9), np.linspace(upper.neck + 2, upper.hem, 9))
        panel.seams.append((spine, 0.4 * upper.scale, 0.35))
        details.hem_stitches(upper, panel, hem)
        cut.trunk.append(panel)
    else:
        behind = upper.shell.back(*back_neckline(upper, 6.0 * upper.unit).T)
        _fronts(upper, cut, edges, broken, trunk_outline(upper, behind, hem))
    sleeves = cut_sleeves(upper, cut)
    _outer_collar(upper, cut, edges, broken, turned)
    landmarks(cut, upper, points, sleeves)
    _opening_landmarks(upper, cut, edges, turned)
    return cut


def _opening(upper: Upper) -> tuple[Edges, float]:
    """The two front edges, (x, y) cm from the neck to the hem, and where lapels break."""
    unit, wide = upper.unit, upper.wear.opening
    y = np.linspace(upper.slope(6.0 * unit), upper.hem + 0.6, 28)
    t = (y - y[0]) / (y[-1] - y[0])
    deep = DEPTH[upper.garment.styles["collar"]] * (upper.hem - y[0])
    broken = float(y[0] + max(deep, 6 * unit))
    neck = 6.0 * unit * np.clip(1 - (y - y[0]) / max(broken - y[0], 1), 0, 1) ** 0.9
    spread = (1.5 + 11.5 * wide * (0.55 + 0.45 * t)) * unit
    edges = {}
    for side in (-1, 1):
        shut = side * (neck - 1.2 * unit * (neck <= 0))  # the fronts overlap
        apart = side * np.maximum(neck * 0.9, np.minimum(spread, 6.0 * unit + 9 * t * unit * wide))
        edges[side] = np.stack([shut if wide == 0 else apart, y], axis=1)
    return edges, broken


def _fronts(upper: Upper, cut: Cut, edges: Edges, broken: float, whole: np.ndarray) -> None:
    """Two front panels over the lining of the back."""
    shell = upper.shell
    cut.lining.append(Panel(whole, upper.ribbon(), LINING, "none", tone=0.5, lining=True))
    for side in (1, -1):
        outline = _front_outline(upper, edges[side], side)
        panel = trunk_panel(upper, outline)
        panel.seams.append((shell.front(*edges[side].T), 0.35 * upper.scale, 0.35))
        inset = edges[side] + (side * 2.4 * upper.unit, 0)
        details.stitch(upper, panel, shell.front(*inset.T), 0.25)
        x = np.linspace(edges[side][-1, 0], side * shell.ring(upper.hem)[0], 12)
        details.hem_stitches(upper, panel, shell.front(x, np.full(12, upper.hem)))
        _close(upper, panel, edges[side], side, broken)
        details.pocket(upper, panel)
        if upper.garment.styles["collar"] == "hood":
            details.drawstring(upper, panel, side)
        cut.trunk.append(panel)


def _close(upper: Upper, panel: Panel, edge: np.ndarray, side: int, broken: float) -> None:
    """A zip on both edges, or buttons on one."""
    opened = upper.wear.opening > 0
    if upper.garment.styles["closure"] == "zip":
        details.zipper(upper, panel, float(edge[-1, 0]) if opened else 0.0, broken)
    elif side < 0:
        x = float(edge[20, 0]) - 2.2 * upper.unit if opened else 0.0
        details.button_row(upper, panel, x, broken + 1, upper.hem - 6)


def _front_outline(upper: Upper, edge: np.ndarray, side: int) -> np.ndarray:
    """One front: neck, shoulder, armhole, side, hem and opening."""
    shell, s = upper.shell, side * upper.figure.facing
    start = shell.front(edge[0, 0], edge[0, 1] - 1.0)
    armhole = curve([shoulder_point(upper, side), armscye(upper, s), shell.edge(s, upper.pit)], 9)
    heights = np.linspace(upper.pit, upper.hem, 18)
    x = np.linspace(side * float(shell.ring(upper.hem)[0]), edge[-1, 0], 12)
    sag = np.sin(np.linspace(0, np.pi / 2, 12)) * 0.8
    hem = shell.front(x, upper.hem + sag)
    return np.concatenate(
        [start[None], armhole, shell.edge(s, heights)[1:], hem[1:], shell.front(*edge[::-1].T)]
    )


def _outer_collar(upper: Upper, cut: Cut, edges: Edges, broken: float, turned: bool) -> None:
    """Hood, stand-up collar, lapels or a shirt's collar."""
    collar = upper.garment.styles["collar"]
    if collar == "hood":
        details.hood(upper, cut)
    elif collar == "stand" or (turned and collar in ("lapel", "shirt")):
        details.stand_collar(upper, cut, 4.5 if collar == "stand" else 3.0, closed=False)
    elif collar == "lapel":
        details.lapels(upper, cut, edges, broken)
    elif collar == "shirt":
        details.shirt_collar(upper, cut, open_by=1.5 + 2.5 * upper.wear.opening)


def _opening_landmarks(upper: Upper, cut: Cut, edges: Edges, turned: bool) -> None:
    """Replace the neckline's middle and the hem's middle by the left front's corners, add six."""
    parts = () if turned else (TRUNK, COLLAR)
    left, right = (upper.shell.front(*edges[side].T) for side in (-1, 1))
    cut.landmarks[3] = (left[6], parts)
    hem = 6 + (len(cut.landmarks) - 7) // 2
    cut.landmarks[hem] = (left[-1], parts)
    cut.landmarks += [(right[i], parts) for i in (6, 13, 20, 27)]
    cut.landmarks += [(left[i], parts) for i in (13, 20)]
