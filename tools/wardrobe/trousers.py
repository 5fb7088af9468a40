"""Cutting trousers and shorts: two legs that meet in the middle, a waistband, landmarks."""

import numpy as np

from tools.wardrobe.cloth import Panel
from tools.wardrobe.figures import Figure
from tools.wardrobe.garments import Garment
from tools.wardrobe.patterns import Cut, Shell, smoothstep
from tools.wardrobe.people import LEG_RADII
from tools.wardrobe.shapes import Ribbon, curve, moved
from tools.wardrobe.waists import WAISTBAND, waist_height, waistband

LEG_LEFT, LEG_RIGHT = 1, 2


class Trousers:
    """Heights in cm, and the shell around the hips, of one pair on one figure."""

    def __init__(self, figure: Figure, garment: Garment) -> None:
        self.figure, self.garment = figure, garment
        self.unit = figure.stature / 170
        m = garment.measures
        self.top = waist_height(figure, garment)
        self.crotch = figure.y(0.525) + 0.35 * m["width"] * self.unit
        self.hem = max(self.top + m["length"] * self.unit, self.crotch + 6)
        ease = 0.25 * m["width"] * self.unit + 0.8
        y = np.linspace(self.top - 2, self.crotch + 2, 16)
        self.shell = Shell(figure, y, figure.width(y) + ease, figure.depth(y) + ease)

    def middle(self, y: np.ndarray | float) -> np.ndarray:
        """The middle of the front, or of the back when that is seen, as photo positions."""
        return self.shell.near(np.zeros_like(np.asarray(y, np.float64)), y)


def cut_trousers(figure: Figure, garment: Garment) -> Cut:
    """Cut trousers or shorts, the farther leg first."""
    cut, trousers = Cut(), Trousers(figure, garment)
    ribbons = {side: _leg(trousers, side) for side in (-1, 1)}
    far = -1 if np.sin(figure.yaw) * figure.facing > 0 else 1
    cut.trunk += [_leg_panel(trousers, ribbons[side], side) for side in (far, -far)]
    cut.trunk.append(waistband(trousers.shell, garment, trousers.top))
    _landmarks(cut, trousers, ribbons)
    return cut


def _leg(trousers: Trousers, side: int) -> Ribbon:
    """One leg; left edge the outer one. Rows go from the waist down to the hem."""
    figure, unit, scale = trousers.figure, trousers.unit, trousers.figure.camera.scale
    crotch = trousers.crotch
    leg_rows = np.linspace(crotch, trousers.hem, 18)[1:]
    y = np.concatenate([np.linspace(trousers.top, crotch, 8), leg_rows])
    center, radius = _axis(trousers, side, y)
    outward = side * figure.facing
    half = radius * scale * (0.85 + 0.15 * abs(np.cos(figure.yaw)))
    seam = trousers.middle(np.minimum(y, crotch))
    # Legs too wide to stand side by side push each other outward, lying flat altogether.
    overlap = np.maximum(half - (center - seam)[:, 0] * outward, 0)
    split = smoothstep((y - crotch) / (4.5 * unit))
    gap = figure.flatness * (overlap + 2.0 * scale * unit * split)
    shift = outward * (0.6 * overlap * (1 - figure.flatness) + gap)
    outer, inner = center.copy(), center.copy()
    outer[:, 0] += shift + outward * half
    inner[:, 0] += shift - outward * half
    seat = trousers.shell.side(side, np.minimum(y, crotch))
    into_leg = smoothstep((y - trousers.top) / (crotch + 8 - trousers.top))[:, None] ** 2
    split = split[:, None]
    return Ribbon(
        _lowered(seat, center, y > crotch) * (1 - into_leg) + outer * into_leg,
        _lowered(seam, center, y > crotch) * (1 - split) + inner * split,
        y - trousers.top,
        radius * 1.2,
        bow=6 * float(np.sin(figure.camera.pitch)),
    )


def _axis(trousers: Trousers, side: int, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middle of a leg on the photo f64[N, 2] and half width of its cloth in cm, at heights y."""
    figure, m = trousers.figure, trousers.garment.measures
    joints = figure.leg(side)
    path = curve(joints, 40)
    path = np.concatenate([path, path[-1:] + (path[-1:] - path[-2:-1]) * 6])
    line = np.stack([np.interp(y, path[:, 1], path[:, k]) for k in range(3)], axis=1)
    share = (y - joints[0, 1]) / (joints[2, 1] - joints[0, 1])
    leg = np.interp(share, *LEG_RADII.T) * figure.stature * (0.5 + 0.5 * figure.build)
    down = np.clip((y - trousers.crotch) / (trousers.hem - trousers.crotch), 0, 1)
    ease = (m["width"] * (1 - down) * 0.55 + m["hem"] * down**1.3 + 0.5) * trousers.unit
    return figure.project(line), (leg + ease) * (1 + 0.12 * figure.flatness)


def _lowered(points: np.ndarray, center: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The points with the height of the leg's middle in some rows."""
    lowered = points.copy()
    lowered[rows, 1] = center[rows, 1]
    return lowered


def _leg_panel(trousers: Trousers, ribbon: Ribbon, side: int) -> Panel:
    """A leg with its hem, inner seam, pockets and fly."""
    figure, scale = trousers.figure, trousers.figure.camera.scale
    part = LEG_LEFT if side < 0 else LEG_RIGHT
    bow = 0.8 * scale * (1 - figure.flatness)
    panel = Panel(ribbon.outline(bow), ribbon, part, "leg", cast=1.0)
    panel.shift = (side * figure.facing * 9.0, 0.0)
    end, drop = float(ribbon.along[-1]), trousers.crotch - trousers.top
    s = np.linspace(-1, 1, 9)
    sag = np.sqrt(1 - s**2)[:, None] * np.array([0, bow])
    for rise in (2.4, 3.0):
        panel.seams.append((ribbon.at(s, np.full(9, end - rise)) + sag, 0.25 * scale, 0.25))
    panel.seams.append((ribbon.at(0.97, np.linspace(drop, end, 14)), scale, 0.3))
    panel.seams.append((ribbon.at(1.0, np.linspace(0, drop, 10)), 0.5 * scale, 0.5))
    _pockets(trousers, panel, ribbon)
    if trousers.garment.styles["closure"] == "fly" and side > 0 and figure.facing > 0:
        fly = np.array([0.78, 0.78, 0.8, 0.97]), np.array([3, 9, 12.5, 15.0]) * trousers.unit
        panel.seams.append((curve(ribbon.at(*fly), 12), 0.25 * scale, 0.35))
    return panel


def _pockets(trousers: Trousers, panel: Panel, ribbon: Ribbon) -> None:
    """Patches behind; in front slanted openings, and patches on the thighs of cargo trousers."""
    unit, scale = trousers.unit, trousers.figure.camera.scale
    if trousers.figure.facing < 0:
        patch = np.array([-0.35, 0.55, 0.55, 0.1, -0.35, -0.35]), np.array([9, 9, 19, 21, 19, 9])
        panel.seams.append((ribbon.at(patch[0], patch[1] * unit), 0.35 * scale, 0.5))
        return
    if trousers.garment.styles["pocket"] == "cargo" and ribbon.along[-1] > 45:
        patch = np.array([-0.95, -0.1, -0.1, -0.95]), np.array([38, 38, 54, 54])
        panel.seams.append((ribbon.at(patch[0], patch[1] * unit), 0.4 * scale, 0.5))
        flap = ribbon.at(np.array([-0.95, -0.1]), np.array([42, 42]) * unit)
        panel.seams.append((flap, 0.4 * scale, 0.4))
    slant = ribbon.at(np.array([-0.35, -0.55, -0.96]), np.array([4.0, 10, 17]) * unit)
    slant = curve(slant, 10)
    panel.seams.append((slant, 0.4 * scale, 0.55))
    panel.seams.append((moved(slant, 0.8 * scale, 0), 0.25 * scale, 0.25))


def _landmarks(cut: Cut, trousers: Trousers, ribbons: dict[int, Ribbon]) -> None:
    """Waist left, middle, right; left leg down outside and up inside; crotch; right leg."""
    top, shell = trousers.top, trousers.shell
    anywhere = (WAISTBAND, LEG_LEFT, LEG_RIGHT)
    waist = (shell.side(-1, top), trousers.middle(top), shell.side(1, top))
    cut.landmarks += [(point, anywhere) for point in waist]
    drop, chains = trousers.crotch - top, {}
    for side, part in ((-1, LEG_LEFT), (1, LEG_RIGHT)):
        ribbon = ribbons[side]
        end = float(ribbon.along[-1])
        knee = 0.5 * (drop + end)
        if trousers.garment.category == 8:
            outer, inner = (drop * 0.75, knee, end), (end, knee)
        else:
            outer, inner = (0.5 * (drop * 0.5 + end), end), (end,)
        chains[side] = [(ribbon.at(-1.0, y), (part,)) for y in outer]
        chains[side] += [(ribbon.at(1.0, y), (part,)) for y in inner]
    middle = (ribbons[-1].at(1.0, drop), (LEG_LEFT, LEG_RIGHT))
    cut.landmarks += [*chains[-1], middle, *chains[1][::-1]]
