"""The height and the waistband of skirts, trousers and shorts."""

import numpy as np

from tools.wardrobe.cloth import Panel
from tools.wardrobe.colors import lab_to_rgb, toned
from tools.wardrobe.figures import Figure
from tools.wardrobe.garments import Garment
from tools.wardrobe.patterns import Shell, band
from tools.wardrobe.shapes import curve, ellipse, moved

WAISTBAND = 0  # its part number
HEIGHT = 3.6  # cm
BUTTON = (150, 140, 122)


def waist_height(figure: Figure, garment: Garment) -> float:
    """Where the waistband sits, in cm below the crown."""
    return figure.y(0.485) - garment.measures["rise"] * figure.stature / 170


def waistband(shell: Shell, garment: Garment, top: float) -> Panel:
    """A band around the waist, with belt loops and a button or gathered on a cord."""
    figure = shell.figure
    unit, scale = figure.stature / 170, figure.camera.scale
    s = np.linspace(-1, 1, 17)
    upper = shell.edge(s, np.full(17, top))
    lower = shell.edge(s, np.full(17, top + HEIGHT * unit))
    ribbon = shell.ribbon(top - 2, top + 8, float(shell.half[0]))
    outline = np.concatenate([upper, lower[::-1]])
    panel = Panel(outline, ribbon, WAISTBAND, "none", cast=0.5, turn=90.0)
    panel.seams += [(lower, 0.4 * scale, 0.5), (upper, 0.3 * scale, 0.3)]
    if figure.facing > 0:
        middle = shell.front(0.0, top + 0.5 * HEIGHT * unit)
        if garment.styles["closure"] == "drawstring":
            _cord(panel, garment, middle, scale)
            for a, b in zip(upper[::2], lower[::2], strict=True):
                panel.seams.append((np.stack([a, b]), 0.3 * scale, 0.18))
        else:
            _loops(panel, shell, top, top + HEIGHT * unit, scale)
            panel.marks.append((ellipse(middle, 0.7 * scale, 0.7 * scale, n=14), BUTTON))
    return panel


def _cord(panel: Panel, garment: Garment, middle: np.ndarray, scale: float) -> None:
    """The two hanging ends of a cord."""
    rgb = toned(lab_to_rgb(garment.texture.first), 1.5)
    for side in (-1, 1):
        ends = [middle, moved(middle, side * 1.5 * scale, 4 * scale)]
        ends.append(moved(middle, side * 2.0 * scale, 9 * scale))
        panel.marks.append((band(curve(ends, 8), 0.6 * scale), rgb))


def _loops(panel: Panel, shell: Shell, top: float, low: float, scale: float) -> None:
    """Belt loops."""
    for s in (-0.62, -0.3, 0.3, 0.62):
        loop = shell.edge(s, np.array([top, low]))
        panel.seams.append((moved(loop, 0.4 * scale, 0), 0.3 * scale, 0.5))
        panel.seams.append((moved(loop, -0.4 * scale, 0), 0.3 * scale, 0.5))
