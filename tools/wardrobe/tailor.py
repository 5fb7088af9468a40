"""Making up a garment for a figure: which pieces it takes, in which layer, and its landmarks."""

from dataclasses import replace

import numpy as np

from tools.wardrobe import details
from tools.wardrobe.cloth import Panel
from tools.wardrobe.figures import Figure
from tools.wardrobe.garments import DRESSES, OUTERWEAR, Garment
from tools.wardrobe.patterns import COLLAR, LINING, TRUNK, Cut, band
from tools.wardrobe.shapes import curve, moved
from tools.wardrobe.skirts import cut_skirt
from tools.wardrobe.tops import (
    SLEEVELESS,
    SLINGS,
    Upper,
    Wear,
    armscye,
    back_neckline,
    flutes_of,
    hem_heights,
    landmarks,
    neckline,
    shoulder_point,
    sleeve,
    sleeve_panel,
    trunk_outline,
)
from tools.wardrobe.trousers import cut_trousers


def cut_garment(figure: Figure, garment: Garment, wear: Wear, rng: np.random.Generator) -> Cut:
    """Make the garment up for the figure.

    Args:
        figure: who wears it, in pose and in front of the camera.
        garment: what. wear: how. rng: folds of this photo.
    """
    camera = figure.camera
    upright = replace(figure, camera=replace(camera, roll=0.0))
    if garment.category in (7, 8):
        cut = cut_trousers(upright, garment)
    elif garment.category == 9:
        cut = cut_skirt(upright, garment, rng)
    elif garment.category in OUTERWEAR:
        cut = _cut_outerwear(Upper(upright, garment, wear))
    else:
        cut = _cut_top(Upper(upright, garment, wear), rng)
    return cut.rolled(camera)


def _cut_top(upper: Upper, rng: np.random.Generator) -> Cut:
    """Tops and dresses: one closed trunk, perhaps sleeves, a collar or straps."""
    cut = Cut()
    category, styles = upper.garment.category, upper.garment.styles
    turned = upper.figure.facing < 0
    flutes = flutes_of(upper, rng)
    s = np.linspace(-1, 1, 41)
    hem = upper.shell.edge(s, _shown_hem(upper, s, flutes))
    top, points = _bodice_edge(upper) if category in SLINGS else _neck_edge(upper)
    panel = _trunk(upper, trunk_outline(upper, top, hem))
    panel.flutes = flutes
    if category in DRESSES:
        _waist_seam(upper, panel)
    if category in SLINGS:
        _straps(upper, cut, points)
    else:
        _neck_details(upper, cut, panel, turned)
    details.hem_stitches(upper, panel, hem)
    if not turned and category not in SLINGS:
        _closures(upper, panel)
        details.pocket(upper, panel)
    cut.trunk.append(panel)
    sleeves = {} if category in SLEEVELESS else _sleeves(upper, cut)
    if styles["collar"] == "shirt" and not turned:
        details.shirt_collar(upper, cut)
    if styles["neckline"] == "turtle":
        details.stand_collar(upper, cut, 7.0, closed=True)
    landmarks(cut, upper, points, sleeves)
    return cut


def _shown_hem(upper: Upper, s: np.ndarray, flutes: tuple | None) -> np.ndarray:
    """Heights of the edge that is drawn: a tucked top ends just under the waistband."""
    if upper.wear.tucked is not None:
        return np.full(len(s), min(upper.wear.tucked + 5.0, upper.hem))
    return hem_heights(upper, s, flutes)


def _trunk(upper: Upper, outline: np.ndarray) -> Panel:
    """The main panel around the trunk."""
    ribbon = upper.ribbon()
    panel = Panel(outline, ribbon, TRUNK, "trunk", cast=2.0)
    panel.shift = (-upper.reference * float(np.sin(upper.figure.yaw)), 0.0)
    return panel


def _neck_edge(upper: Upper) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Upper edge on the photo (left to right as seen) and the neck's landmarks."""
    front_xy = neckline(upper)
    wide = float(front_xy[-1, 0])
    front = upper.shell.front(*front_xy.T)
    back = upper.shell.back(*back_neckline(upper, wide).T)
    strap = upper.garment.measures.get("strap_width")
    outer = upper.tip_x if strap is None else min(wide + strap * upper.unit, upper.tip_x - 0.3)
    place = upper.shell.front if upper.figure.facing > 0 else upper.shell.back
    shoulder = place(np.array([-outer, outer]), upper.slope(np.array([outer, outer])))
    steps = np.array([0, 6, 12, 18, 24])
    points = {"back": back[7], "front": front[steps], "shoulder": shoulder}
    return (front if upper.figure.facing > 0 else back[::-1]), points


def _bodice_edge(upper: Upper) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The upper edge of a strapped garment, and its neck landmarks: strap tops and edge."""
    figure, kind = upper.figure, upper.garment.styles["neckline"]
    turned = figure.facing < 0
    top = figure.y(0.232) + 2.0 * upper.garment.measures["neck_depth"]
    wide = float(upper.shell.ring(top)[0]) * 0.80
    t = np.linspace(-1, 1, 25)
    dip = {
        "straight": 0.6 * (1 - t**2),
        "sweetheart": 4.5 * np.exp(-((t / 0.28) ** 2))
        - 1.5 * np.exp(-(((np.abs(t) - 0.55) / 0.3) ** 2)),
        "v": 8.0 * (1 - np.abs(t)),
        "scoop": 6.5 * np.sqrt(1 - t**2),
    }[kind] * upper.unit
    if turned:
        edge = upper.shell.back(-t * wide, top + 5 * upper.unit + 0 * t)
    else:
        edge = upper.shell.front(t * wide, top + dip)
    ends = upper.shell.edge(np.array([-1.0, 1.0]), np.full(2, upper.pit - 0.5))
    tops_x = np.array([-1, 1]) * min(upper.neck_x + 1.5, upper.tip_x - 2)
    place = upper.shell.back if turned else upper.shell.front
    over = place(tops_x, upper.slope(tops_x))
    joints = place(
        np.array([-wide, wide]) * 0.92, np.full(2, top + (5 * upper.unit if turned else dip[1]))
    )
    middle = upper.shell.front(0.0, top + dip[12])
    back = upper.shell.back(0.0, top + 5 * upper.unit)
    front = np.stack([over[0], joints[0], middle, joints[1], over[1]])
    points = {"back": back, "front": front, "shoulder": np.stack([joints[0], joints[1]])}
    return np.concatenate([ends[:1], edge, ends[1:]]), points


def _straps(upper: Upper, cut: Cut, points: dict[str, np.ndarray]) -> None:
    """Thin straps from the bodice over the shoulders."""
    front = points["front"]
    width = upper.garment.measures["strap_width"] * upper.unit * upper.figure.camera.scale
    for joint, over in ((front[1], front[0]), (front[3], front[4])):
        middle = (joint + over) / 2 + (0.06 * (over - joint)[::-1] * (1, 0))
        line = curve([joint + (joint - over) * 0.04, middle, over], 10)
        outline = np.concatenate([band(line, width / 2), band(line, -width / 2)[::-1]])
        ribbon = upper.ribbon()
        cut.trunk.append(Panel(outline, ribbon, COLLAR, "none", cast=0.5))


def _neck_details(upper: Upper, cut: Cut, panel: Panel, turned: bool) -> None:
    """Neckband, and the inside of the back that shows through the neckline."""
    kind = upper.garment.styles["neckline"]
    if kind not in ("collar", "turtle"):
        details.neckband(upper, panel)
    if turned:
        return
    front = neckline(upper)
    back = upper.shell.back(*back_neckline(upper, float(front[-1, 0])).T)
    outline = np.concatenate([back, upper.shell.front(*front.T)[::-1]])
    ribbon = upper.ribbon()
    inside = Panel(outline, ribbon, LINING, "none", tone=0.6, lining=True)
    inside.seams.append((moved(back, 0, 1.6 * upper.figure.camera.scale), 0.4, 0.3))
    cut.lining.append(inside)


def _closures(upper: Upper, panel: Panel) -> None:
    """Plackets with buttons, all the way or half of it."""
    closure = upper.garment.styles["closure"]
    start = float(neckline(upper)[12, 1])
    end = upper.hem if upper.wear.tucked is None else upper.wear.tucked + 4
    if closure == "buttons":
        details.placket(upper, panel, start, end)
    elif closure == "half buttons":
        details.placket(upper, panel, start, min(start + 17 * upper.unit, end))


def _waist_seam(upper: Upper, panel: Panel) -> None:
    """The seam between bodice and skirt, darker the more the skirt is gathered."""
    m = upper.garment.measures
    if m["waist"] < 0.35:
        return
    s = np.linspace(-1, 1, 15)
    line = upper.shell.edge(s, np.full(15, upper.waist))
    scale = upper.figure.camera.scale
    panel.seams.append((line, 0.5 * scale, 0.45))
    if m["fullness"] > 0.6:
        panel.seams.append((upper.shell.edge(s, np.full(15, upper.waist + 3.2)), 0.4 * scale, 0.4))


def _sleeves(upper: Upper, cut: Cut) -> dict:
    """Both sleeves, added to the cut."""
    ribbons = {}
    for side in (-1, 1):
        ribbons[side] = sleeve(upper, side)
        cut.sleeves[side].append(sleeve_panel(upper, ribbons[side], side))
    return ribbons


def _cut_outerwear(upper: Upper) -> Cut:
    """Jackets, cardigans and coats: a lining behind, two fronts with an opening, a collar."""
    cut = Cut()
    turned = upper.figure.facing < 0
    s = np.linspace(-1, 1, 41)
    hem = upper.shell.edge(s, hem_heights(upper, s, None))
    top, points = _neck_edge(upper)
    edges, broken = _opening(upper)
    if turned:
        panel = _trunk(upper, trunk_outline(upper, top, hem))
        panel.seams.append(
            (
                upper.shell.back(np.zeros(9), np.linspace(upper.neck + 2, upper.hem, 9)),
                0.4 * upper.figure.camera.scale,
                0.35,
            )
        )
        details.hem_stitches(upper, panel, hem)
        cut.trunk.append(panel)
    else:
        behind = upper.shell.back(*back_neckline(upper, 6.0 * upper.unit).T)
        _fronts(upper, cut, edges, broken, trunk_outline(upper, behind, hem))
    sleeves = _sleeves(upper, cut)
    _outer_collar(upper, cut, edges, broken, turned)
    landmarks(cut, upper, points, sleeves)
    _opening_landmarks(upper, cut, edges, turned)
    return cut


def _opening(upper: Upper) -> tuple[dict[int, np.ndarray], float]:
    """The two front edges, (x, y) cm from the neck to the hem, and where lapels break."""
    unit, wide = upper.unit, upper.wear.opening
    y = np.linspace(upper.slope(6.0 * unit), upper.hem + 0.6, 28)
    t = (y - y[0]) / (y[-1] - y[0])
    deep = {"lapel": 0.5, "none": 0.45, "shirt": 0.16, "stand": 0.06, "hood": 0.16}[
        upper.garment.styles["collar"]
    ]
    broken = float(y[0] + max(deep * (upper.hem - y[0]) * 0.8, 6 * unit))
    neck = 6.0 * unit * np.clip(1 - (y - y[0]) / max(broken - y[0], 1), 0, 1) ** 0.9
    spread = (1.5 + 11.5 * wide * (0.55 + 0.45 * t)) * unit
    edges = {}
    for side in (-1, 1):
        shut = side * neck - (1.2 * unit if side < 0 else -1.2 * unit) * (neck <= 0) * -1
        apart = side * np.maximum(neck * 0.9, np.minimum(spread, 6.0 * unit + 9 * t * unit * wide))
        edges[side] = np.stack([shut if wide == 0 else apart, y], axis=1)
    return edges, broken


def _fronts(upper: Upper, cut: Cut, edges: dict, broken: float, whole: np.ndarray) -> None:
    """Two front panels over the lining of the back."""
    scale, shell = upper.figure.camera.scale, upper.shell
    cut.lining.append(Panel(whole, upper.ribbon(), LINING, "none", tone=0.5, lining=True))
    closure = upper.garment.styles["closure"]
    for side in (1, -1):
        outline = _front_outline(upper, edges[side], side)
        panel = _trunk(upper, outline)
        line = shell.front(*edges[side].T)
        panel.seams.append((line, 0.35 * scale, 0.35))
        inset = edges[side] + (side * 2.4 * upper.unit, 0)
        details.stitch(panel, shell.front(*inset.T), scale, 0.25)
        hem = shell.front(
            np.linspace(edges[side][-1, 0], side * upper.shell.ring(upper.hem)[0], 12),
            np.full(12, upper.hem),
        )
        details.hem_stitches(upper, panel, hem)
        if closure == "zip":
            details.zipper(
                upper, panel, float(edges[side][-1, 0]) if upper.wear.opening else 0.0, broken
            )
        elif side < 0:
            x = float(edges[side][20, 0]) - 2.2 * upper.unit if upper.wear.opening else 0.0
            details.button_row(upper, panel, x, broken + 1, upper.hem - 6)
        details.pocket(upper, panel)
        if upper.garment.styles["collar"] == "hood":
            details.drawstring(upper, panel, side)
        cut.trunk.append(panel)


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


def _outer_collar(upper: Upper, cut: Cut, edges: dict, broken: float, turned: bool) -> None:
    collar = upper.garment.styles["collar"]
    if collar == "hood":
        details.hood(upper, cut)
    elif collar == "stand" or (turned and collar in ("lapel", "shirt")):
        details.stand_collar(upper, cut, 4.5 if collar == "stand" else 3.0, closed=False)
    elif collar == "lapel":
        details.lapels(upper, cut, edges, broken)
    elif collar == "shirt":
        details.shirt_collar(upper, cut, open_by=1.5 + 2.5 * upper.wear.opening)


def _opening_landmarks(upper: Upper, cut: Cut, edges: dict, turned: bool) -> None:
    """Replace the neckline's middle and the hem's middle by the left front's corners, add six."""
    parts = () if turned else (TRUNK, COLLAR)
    left, right = (upper.shell.front(*edges[side].T) for side in (-1, 1))
    cut.landmarks[3] = (left[6], parts)
    hem = next(i for i in range(6, len(cut.landmarks)) if i == 6 + (len(cut.landmarks) - 7) // 2)
    cut.landmarks[hem] = (left[-1], parts)
    cut.landmarks += [(right[i], parts) for i in (6, 13, 20, 27)]
    cut.landmarks += [(left[i], parts) for i in (13, 20)]
