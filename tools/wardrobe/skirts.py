"""Cutting skirts: one shell from the waist to the hem, falling in folds when it is full."""

import numpy as np

from tools.wardrobe.cloth import Panel
from tools.wardrobe.figures import Figure
from tools.wardrobe.garments import Garment
from tools.wardrobe.patterns import LINING, Cut, Shell
from tools.wardrobe.shapes import ellipse, moved
from tools.wardrobe.waists import WAISTBAND, waist_height, waistband

BODY = 1  # the part number of what hangs below the waistband
BUTTON = (120, 96, 70)


class Skirt:
    """Heights in cm, shell and folds of one skirt on one figure."""

    def __init__(self, figure: Figure, garment: Garment, rng: np.random.Generator) -> None:
        self.figure, self.garment = figure, garment
        self.unit = figure.stature / 170
        m = garment.measures
        self.top = waist_height(figure, garment)
        self.hem = self.top + m["length"] * self.unit
        self.pleated = garment.styles["closure"] == "pleats"
        flare = m["flare"] * self.unit
        self.shell = self._shell(flare)
        strength = (0.2 + 0.8 * m["fullness"]) * min(1.0, max(flare, 0) / 9)
        count = 11.0 if self.pleated else 4 + 5 * m["fullness"]
        # Number, strength and phase of the folds that fall from the waist.
        self.flutes = (count, max(strength, 0.35 * self.pleated), rng.uniform(0, 6.28))

    def _shell(self, flare: float) -> Shell:
        figure, top, hem = self.figure, self.top, self.hem
        y = np.linspace(top - 2, hem + 8, 30)
        hip = figure.y(0.5)
        body, deep = figure.width(np.minimum(y, hip)), figure.depth(np.minimum(y, hip))
        fall = np.clip((y - top) / (hem - top), 0, 1.2)
        half = np.maximum.accumulate(body + 0.9 + max(flare, 0) * fall**1.05)
        # A pencil skirt narrows again below the hips; any other keeps its greatest width.
        half += min(flare, 0) * 1.5 * np.clip((y - hip) / max(hem - hip, 1), 0, 1)
        return Shell(figure, y, half, deep + 0.9 + 0.8 * max(flare, 0) * fall)

    def lower_edge(self, s: np.ndarray) -> np.ndarray:
        """The hem on the photo, f64[N, 2], waving with the folds."""
        count, strength, phase = self.flutes
        wave = np.cos(count * np.arcsin(s * 0.98) + phase) * 1.5 * strength * self.unit
        return self.shell.edge(s, self.hem + wave)


def cut_skirt(figure: Figure, garment: Garment, rng: np.random.Generator) -> Cut:
    """Cut a skirt: its inside behind the legs, body and waistband."""
    cut, skirt = Cut(), Skirt(figure, garment, rng)
    shell, top, hem = skirt.shell, skirt.top, skirt.hem
    ribbon = shell.ribbon(top - 1, hem + 6, float(shell.ring(top + 18)[0]))
    low = skirt.lower_edge(np.linspace(-1, 1, 61))
    down = np.linspace(top, hem, 22)
    waist = shell.edge(np.linspace(-1, 1, 16), np.full(16, top))
    outline = np.concatenate([shell.edge(-1, down)[::-1], waist, shell.edge(1, down), low[::-1]])
    panel = Panel(outline, ribbon, BODY, "skirt", folds=0.7)
    panel.flutes = skirt.flutes if skirt.flutes[1] > 0.1 else None
    _details(panel, skirt, low)
    cut.lining.append(Panel(_inside(skirt), ribbon, LINING, "none", tone=0.5, lining=True))
    cut.trunk += [panel, waistband(shell, garment, top)]
    _landmarks(cut, skirt)
    return cut


def _inside(skirt: Skirt) -> np.ndarray:
    """The far side of the hem, seen between the front hem and the legs."""
    s = np.linspace(-1, 1, 21)
    far = skirt.shell.edge(s, skirt.hem - 6 + 1.2 * np.sqrt(1 - s**2))
    near = skirt.shell.edge(s, np.full(21, skirt.hem + 0.3))
    return np.concatenate([far, near[::-1]])


def _details(panel: Panel, skirt: Skirt, low: np.ndarray) -> None:
    """Hem, pleats or buttons, pockets."""
    shell, unit, scale = skirt.shell, skirt.unit, skirt.figure.camera.scale
    styles, front = skirt.garment.styles, skirt.figure.facing > 0
    down = np.linspace(skirt.top + 3, skirt.hem, 10)
    panel.seams.append((moved(low, 0, -2.6 * scale), 0.25 * scale, 0.22))
    if skirt.pleated:
        for s in np.sin(np.linspace(-1.35, 1.35, 13)):
            panel.seams.append((shell.edge(np.full(10, s), down), 0.5 * scale, 0.32))
    elif styles["closure"] == "buttons" and front:
        for y in np.arange(skirt.top + 7, skirt.hem - 3, 8 * unit):
            button = ellipse(shell.front(0.0, y), 0.8 * scale, 0.8 * scale, n=14)
            panel.marks.append((button, BUTTON))
        for x in (-1.8, 1.8):
            panel.seams.append((shell.front(np.full(10, x), down), 0.3 * scale, 0.4))
    if styles["pocket"] == "patch" and front:
        y = skirt.top + np.array([9, 20, 20, 9]) * unit
        for side in (-1, 1):
            patch = shell.front(side * np.array([4.5, 4.5, 13.5, 13.5]) * unit, y)
            panel.seams.append((patch, 0.35 * scale, 0.45))


def _landmarks(cut: Cut, skirt: Skirt) -> None:
    """Waist left, middle, right; then around the hem from the left side to the right."""
    shell, top, hem = skirt.shell, skirt.top, skirt.hem
    half_way = 0.5 * (top + hem)
    waist = (shell.side(-1, top), shell.near(0.0, top), shell.side(1, top))
    left = (shell.side(-1, half_way), shell.side(-1, hem))
    right = (shell.side(1, hem), shell.side(1, half_way))
    cut.landmarks += [(point, (WAISTBAND, BODY)) for point in waist]
    cut.landmarks += [(point, (BODY,)) for point in (*left, shell.near(0.0, hem), *right)]
