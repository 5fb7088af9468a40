"""Cutting sleeves: strips along the arms, set into the trunk."""

import numpy as np

from tools.wardrobe.cloth import Panel
from tools.wardrobe.patterns import Cut, sleeve_part, smoothstep
from tools.wardrobe.people import ARM_RADII
from tools.wardrobe.shapes import Ribbon, curve, normals
from tools.wardrobe.tops import Upper, shoulder_point


def cut_sleeves(upper: Upper, cut: Cut) -> dict[int, Ribbon]:
    """Add both sleeves to the cut; returns where they lie, by side."""
    ribbons = {}
    for side in (-1, 1):
        shape, weave = _sleeve(upper, side)
        ribbons[side] = shape
        cut.sleeves[side].append(_panel(upper, shape, weave, side))
    return ribbons


def _sleeve(upper: Upper, side: int) -> tuple[Ribbon, Ribbon]:
    """A sleeve along the arm, from the armhole to the cuff; left edges are the outer ones.

    Returns:
        Its shape, whose first rows turn from the armhole's line to lie across the arm; and its
        weave, whose rows lie across the arm all the way and begin above the shoulder.
    """
    figure = upper.figure
    path, places = curve(figure.arm(side)[:3], 60), np.linspace(0, 1, 60)
    wanted = np.concatenate([[-0.3], np.linspace(0, upper.garment.measures["sleeve_length"], 20)])
    line = np.stack([np.interp(wanted, places, path[:, k]) for k in range(3)], axis=1)
    line += np.minimum(wanted, 0)[:, None] * (path[1] - path[0]) * 60
    line += np.maximum(wanted - 1, 0)[:, None] * (path[-1] - path[-2]) * 60
    center, radius = figure.project(line), _half_width(upper, np.maximum(wanted, 0))
    tip, pit = _armhole_ends(upper, side)
    across = normals(center) * (radius * figure.camera.scale)[:, None]
    if np.dot(across[1], tip - pit) < 0:
        across = -across
    blend = smoothstep(wanted / 0.34)[1:, None]
    middle = center[1:] + ((tip + pit) / 2 - center[1]) * (1 - blend)
    reach = blend * across[1:] + (1 - blend) * (tip - pit) / 2
    along, half = wanted * 0.32 * figure.stature, radius * 1.15
    bow = 0.8 * (1 - figure.flatness)
    shape = Ribbon(middle + reach, middle - reach, along[1:], half[1:], bow)
    return shape, Ribbon(center + across, center - across, along - along[0], half, bow)


def _half_width(upper: Upper, wanted: np.ndarray) -> np.ndarray:
    """Half width of the cloth in cm at shares of the arm's length; long sleeves taper."""
    figure, m = upper.figure, upper.garment.measures
    taper = 1 - 0.62 * wanted if m["sleeve_length"] > 0.7 else 1 + 0.15 * wanted
    ease = (m["sleeve_width"] * taper + 0.7) * upper.unit
    if upper.wear.under:
        ease = np.minimum(ease, 1.4 * upper.unit)
    arm = np.interp(wanted, *ARM_RADII.T) * figure.stature * (0.55 + 0.45 * figure.build)
    return (arm + ease + upper.wear.over * 0.7) * (1 + 0.25 * figure.flatness)


def _armhole_ends(upper: Upper, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Shoulder tip and armpit, a little under the trunk's edge so that no gap opens there."""
    tip, pit = shoulder_point(upper, side), upper.shell.side(side, upper.pit)
    inward = upper.shell.edge(0.0, upper.pit) - pit
    inward *= 1.6 * upper.scale / max(float(np.linalg.norm(inward)), 1e-6)
    return tip, pit + inward


def _panel(upper: Upper, shape: Ribbon, weave: Ribbon, side: int) -> Panel:
    """The visible sleeve with its armhole seam and cuff."""
    scale = upper.scale
    bow = 0.9 * scale * upper.unit * (1 - upper.figure.flatness)
    if upper.wear.under:
        # The outer sleeve hides the armhole, yet is painted before this one's lower end.
        shape = shape.after(int(np.searchsorted(shape.along, 0.055 * upper.figure.stature)))
    outline = shape.outline(bow)
    panel = Panel(outline, weave, sleeve_part(side), "sleeve", cast=1.2, strip=shape)
    if not upper.wear.under:
        armhole = _armhole_arc(upper, shape)
        panel.outline = np.concatenate([outline, armhole[1:-1]])
        panel.seams.append((armhole, 0.35 * scale, 0.45))
    end = float(shape.along[-1])
    s = np.linspace(-1, 1, 11)
    cuff = 5.5 if upper.garment.styles["collar"] == "shirt" and end > 40 else 2.0
    line = shape.at(s, np.full(11, end - cuff)) + _bow_offset(shape, bow, s)
    panel.seams.append((line, 0.25 * scale, 0.35))
    return panel


def _armhole_arc(upper: Upper, ribbon: Ribbon) -> np.ndarray:
    """The seam from armpit to shoulder, arched into the trunk so that no gap opens there."""
    pit, tip = ribbon.right[0], ribbon.left[0]
    middle = (pit + tip) / 2
    inward = upper.shell.edge(0.0, 0.5 * (upper.tip + upper.pit)) - middle
    inward /= max(float(np.linalg.norm(inward)), 1e-6)
    depth = (2.0 + 0.10 * upper.width) * upper.unit * upper.scale
    return curve([pit, middle + inward * depth, tip], 12)


def _bow_offset(ribbon: Ribbon, bow: float, s: np.ndarray) -> np.ndarray:
    """The cuff's roundness for lines across the sleeve's end."""
    heading = (ribbon.left[-1] + ribbon.right[-1] - ribbon.left[-3] - ribbon.right[-3]) / 2
    heading /= max(float(np.linalg.norm(heading)), 1e-6)
    return np.sqrt(np.maximum(1 - s**2, 0))[:, None] * heading * bow
