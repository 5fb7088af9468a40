"""Cuts a garment for a figure: its pieces, their layers, and its landmarks."""

from dataclasses import replace

import numpy as np

from tools.wardrobe import details
from tools.wardrobe.cloth import Panel
from tools.wardrobe.figures import Figure
from tools.wardrobe.garments import DRESSES, OUTERWEAR, SLEEVELESS, SLINGS, Garment
from tools.wardrobe.outerwear import cut_outerwear
from tools.wardrobe.patterns import COLLAR, LINING, Cut, band
from tools.wardrobe.shapes import curve, moved
from tools.wardrobe.skirts import cut_skirt
from tools.wardrobe.sleeves import cut_sleeves
from tools.wardrobe.tops import (
    Upper,
    Wear,
    back_neckline,
    flutes_of,
    hem_heights,
    landmarks,
    neck_edge,
    neckline,
    trunk_outline,
    trunk_panel,
)
from tools.wardrobe.trousers import cut_trousers


def cut_garment(figure: Figure, garment: Garment, wear: Wear, rng: np.random.Generator) -> Cut:
    """Cut the garment for the figure.

    Args:
        figure: who wears it, posed in front of the camera.
        garment: what to cut. wear: how it is worn. rng: draws the folds of this photo.
    """
    camera = figure.camera
    upright = replace(figure, camera=replace(camera, roll=0.0))
    if garment.category in (7, 8):
        cut = cut_trousers(upright, garment)
    elif garment.category == 9:
        cut = cut_skirt(upright, garment, rng)
    elif garment.category in OUTERWEAR:
        cut = cut_outerwear(Upper(upright, garment, wear))
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
    top, points = _bodice_edge(upper) if category in SLINGS else neck_edge(upper)
    panel = trunk_panel(upper, trunk_outline(upper, top, hem))
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
    sleeves = {} if category in SLEEVELESS else cut_sleeves(upper, cut)
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


def _bodice_edge(upper: Upper) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The upper edge of a strapped garment, and its neck landmarks: strap tops and edge."""
    figure, kind = upper.figure, upper.garment.styles["neckline"]
    turned = figure.facing < 0
    top = figure.y(0.232) + 2.0 * upper.garment.measures["neck_depth"]
    wide = float(upper.shell.ring(top)[0]) * 0.80
    t = np.linspace(-1, 1, 25)
    hearts = np.exp(-(((np.abs(t) - 0.55) / 0.3) ** 2))
    dip = {
        "straight": 0.6 * (1 - t**2),
        "sweetheart": 4.5 * np.exp(-((t / 0.28) ** 2)) - 1.5 * hearts,
        "v": 8.0 * (1 - np.abs(t)),
        "scoop": 6.5 * np.sqrt(1 - t**2),
    }[kind] * upper.unit
    if turned:
        edge = upper.shell.back(-t * wide, top + 5 * upper.unit + 0 * t)
    else:
        edge = upper.shell.front(t * wide, top + dip)
    ends = upper.shell.edge(np.array([-1.0, 1.0]), np.full(2, upper.pit - 0.5))
    tops_x = np.array([-1, 1]) * min(upper.neck_x + 1.5, upper.tip_x - 2)
    over = upper.shell.near(tops_x, upper.slope(tops_x))
    joints_y = top + (5 * upper.unit if turned else dip[1])
    joints = upper.shell.near(np.array([-wide, wide]) * 0.92, np.full(2, joints_y))
    middle = upper.shell.front(0.0, top + dip[12])
    back = upper.shell.back(0.0, top + 5 * upper.unit)
    front = np.stack([over[0], joints[0], middle, joints[1], over[1]])
    points = {"back": back, "front": front, "shoulder": np.stack([joints[0], joints[1]])}
    return np.concatenate([ends[:1], edge, ends[1:]]), points


def _straps(upper: Upper, cut: Cut, points: dict[str, np.ndarray]) -> None:
    """Thin straps from the bodice over the shoulders."""
    front = points["front"]
    width = upper.garment.measures["strap_width"] * upper.unit * upper.scale
    for joint, over in ((front[1], front[0]), (front[3], front[4])):
        middle = (joint + over) / 2 + (0.06 * (over - joint)[::-1] * (1, 0))
        line = curve([joint + (joint - over) * 0.04, middle, over], 10)
        outline = np.concatenate([band(line, width / 2), band(line, -width / 2)[::-1]])
        cut.trunk.append(Panel(outline, upper.ribbon(), COLLAR, "none", cast=0.5))


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
    inside = Panel(outline, upper.ribbon(), LINING, "none", tone=0.6, lining=True)
    inside.seams.append((moved(back, 0, 1.6 * upper.scale), 0.4, 0.3))
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
    panel.seams.append((line, 0.5 * upper.scale, 0.45))
    if m["fullness"] > 0.6:
        lower = upper.shell.edge(s, np.full(15, upper.waist + 3.2))
        panel.seams.append((lower, 0.4 * upper.scale, 0.4))
