"""Shared by all cuts: the shell of cloth around a trunk, and the pieces of a finished cut."""

from dataclasses import dataclass, field

import numpy as np

from tools.wardrobe.cloth import Panel
from tools.wardrobe.figures import Camera, Figure
from tools.wardrobe.shapes import Ribbon, normals

# Parts of a garment in Canvas.owner: what a landmark may be seen on.
TRUNK, SLEEVE_LEFT, SLEEVE_RIGHT, COLLAR, LINING = 0, 1, 2, 3, 4


def sleeve_part(side: int) -> int:
    """The part number of a side's sleeve."""
    return SLEEVE_LEFT if side < 0 else SLEEVE_RIGHT


@dataclass(slots=True)
class Cut:
    """A garment made up for one figure: panels by layer, and landmarks.

    lining: behind the body. trunk: on it. sleeves: by side, over the arm. collar: over all.
    landmarks: (px f64[2], parts it may be seen on; empty for a point on the far side).
    """

    lining: list[Panel] = field(default_factory=list)
    trunk: list[Panel] = field(default_factory=list)
    sleeves: dict[int, list[Panel]] = field(default_factory=lambda: {-1: [], 1: []})
    collar: list[Panel] = field(default_factory=list)
    landmarks: list[tuple[np.ndarray, tuple[int, ...]]] = field(default_factory=list)

    def panels(self) -> list[Panel]:
        """Every piece, in no particular order."""
        return [*self.lining, *self.trunk, *self.sleeves[-1], *self.sleeves[1], *self.collar]

    def rolled(self, camera: Camera) -> "Cut":
        """This cut, made for an upright camera, as the camera sees it when it is rolled."""
        for panel in self.panels():
            panel.outline = roll(panel.outline, camera)
            for ribbon in filter(None, (panel.ribbon, panel.strip)):
                ribbon.left = roll(ribbon.left, camera)
                ribbon.right = roll(ribbon.right, camera)
            panel.seams = [(roll(line, camera), w, d) for line, w, d in panel.seams]
            panel.marks = [(roll(outline, camera), rgb) for outline, rgb in panel.marks]
        self.landmarks = [(roll(point, camera), parts) for point, parts in self.landmarks]
        return self


def roll(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Turn photo points f64[..., 2] about the camera's aim by its roll."""
    c, s = np.cos(camera.roll), np.sin(camera.roll)
    aim = np.array([camera.x, camera.y])
    return (points - aim) @ np.array([[c, s], [-s, c]]) + aim


class Shell:
    """Cloth around the trunk: rings given at heights y, half wide and deep, all in cm."""

    def __init__(self, figure: Figure, y: np.ndarray, half: np.ndarray, deep: np.ndarray) -> None:
        self.figure = figure
        order = np.argsort(y)
        self.y, self.half, self.deep = y[order], half[order], deep[order]

    def ring(self, y: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Half width and depth in cm at height y."""
        return np.interp(y, self.y, self.half), np.interp(y, self.y, self.deep)

    def edge(self, s: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        """Photo position at s (-1..1 as seen) and height y; f64[..., 2]."""
        y = np.asarray(y, np.float64)
        return self.figure.edge(np.asarray(s, np.float64), y, *self.ring(y))

    def side(self, side: int, y: np.ndarray | float) -> np.ndarray:
        """The silhouette on the body's own side, wherever that appears when it turns around."""
        return self.edge(side * self.figure.facing, y)

    def front(self, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        """Photo position f64[..., 2] x cm from the middle of the front, at height y."""
        y = np.asarray(y, np.float64)
        return self.figure.front(np.asarray(x, np.float64), y, *self.ring(y))

    def back(self, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        """As ``front``, on the back."""
        y = np.asarray(y, np.float64)
        return self.figure.back(np.asarray(x, np.float64), y, *self.ring(y))

    def near(self, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        """As ``front``, or ``back`` when that is seen."""
        return (self.front if self.figure.facing > 0 else self.back)(x, y)

    def ribbon(self, start: float, end: float, reference: float) -> Ribbon:
        """The cloth from height start to end as a ribbon.

        Args:
            reference: half width in cm that the weave keeps; where the shell is wider the
                pattern spreads half as much as the shell, as gathered or gored cloth does.
        """
        y = np.linspace(start, end, 26)
        half, _ = self.ring(y)
        cloth = reference + 0.5 * (half - reference)
        figure = self.figure
        cloth = cloth * figure.silhouette(*self.ring(y)) / np.maximum(half, 1e-6)
        bow = float(np.median(self.deep)) * np.sin(figure.camera.pitch)
        return Ribbon(self.edge(-1, y), self.edge(1, y), y - start, cloth, bow)


def parallel(line: np.ndarray, distance: float) -> np.ndarray:
    """The line moved sideways by px: to the left of its direction when positive."""
    return line + normals(line) * distance


def band(line: np.ndarray, width: float) -> np.ndarray:
    """The outline of a stripe of px width along a line, on its left when positive."""
    return np.concatenate([line, parallel(line, width)[::-1]])


def smoothstep(t: np.ndarray | float) -> np.ndarray:
    """0 up to t = 0, 1 from t = 1 on, without a corner in between."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)
