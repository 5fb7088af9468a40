"""Cutting what hangs from the waist: trousers, shorts and skirts, with landmarks."""

import numpy as np

from tools.wardrobe.cloth import Panel
from tools.wardrobe.colors import lab_to_rgb, toned
from tools.wardrobe.figures import Figure
from tools.wardrobe.garments import Garment
from tools.wardrobe.patterns import LINING, Cut, Shell, band, smoothstep
from tools.wardrobe.people import LEG_RADII
from tools.wardrobe.shapes import Ribbon, curve, ellipse, moved

LEG_LEFT, LEG_RIGHT, WAISTBAND = 1, 2, 0


def waist_height(figure: Figure, garment: Garment) -> float:
    """Where the waistband sits, in cm below the crown."""
    return figure.y(0.485) - garment.measures["rise"] * figure.stature / 170


def cut_trousers(figure: Figure, garment: Garment) -> Cut:
    """Trousers and shorts: two legs that meet in the middle, and a waistband."""
    cut, unit, scale = Cut(), figure.stature / 170, figure.camera.scale
    m = garment.measures
    top = waist_height(figure, garment)
    crotch = figure.y(0.525) + 0.35 * m["width"] * unit
    shell = _hip_shell(figure, top, crotch, 0.25 * m["width"] * unit + 0.8)
    ribbons = {side: _leg(figure, garment, shell, top, crotch, side) for side in (-1, 1)}
    far = -1 if np.sin(figure.yaw) * figure.facing > 0 else 1
    for side in (far, -far):
        cut.trunk.append(_leg_panel(figure, garment, shell, ribbons[side], side, top, crotch))
    cut.trunk.append(_waistband(shell, garment, top, unit, scale))
    _trouser_landmarks(cut, figure, garment, shell, ribbons, top, crotch)
    return cut


def _hip_shell(figure: Figure, top: float, low: float, ease: float) -> Shell:
    y = np.linspace(top - 2, low + 2, 16)
    return Shell(figure, y, figure.width(y) + ease, figure.depth(y) + ease)


def _leg(
    figure: Figure, garment: Garment, shell: Shell, top: float, crotch: float, side: int
) -> Ribbon:
    """One leg; left edge the outer one. Rows go from the waist down to the hem."""
    m, unit, scale = garment.measures, figure.stature / 170, figure.camera.scale
    hem = top + m["length"] * unit
    y = np.concatenate(
        [np.linspace(top, crotch, 8), np.linspace(crotch, max(hem, crotch + 4), 18)[1:]]
    )
    joints = figure.leg(side)
    path = curve(joints, 40)
    path = np.concatenate([path, path[-1:] + (path[-1:] - path[-2:-1]) * 6])
    line3 = np.stack([np.interp(y, path[:, 1], path[:, k]) for k in (0, 1, 2)], axis=1)
    center = figure.project(line3)
    t = (y - joints[0, 1]) / (joints[2, 1] - joints[0, 1])
    leg = (
        np.interp(t, LEG_RADII[:, 0], LEG_RADII[:, 1]) * figure.stature * (0.5 + 0.5 * figure.build)
    )
    down = np.clip((y - crotch) / max(hem - crotch, 1), 0, 1)
    ease = (m["width"] * (1 - down) * 0.55 + m["hem"] * down**1.3 + 0.5) * unit
    radius = (leg + ease) * (1 + 0.12 * figure.flatness)
    outward = side * figure.facing
    squeeze = 0.85 + 0.15 * abs(np.cos(figure.yaw))
    offset = np.stack([radius * scale * squeeze, 0 * radius], axis=1) * outward
    blend = smoothstep((y - top) / max(crotch + 8 - top, 1))[:, None]
    seat = shell.side(side, np.minimum(y, crotch))
    outer = seat + (0, 1) * (center - seat) * (y > crotch)[:, None]
    outer = outer + (center + offset - outer) * blend**2
    seam = _center_seam(shell, np.minimum(y, crotch))
    inner_leg = center - offset
    sign = np.sign(outward)
    past = (inner_leg - seam) * sign
    inner_leg[:, 0] = np.where(
        past[:, 0] < 0, seam[:, 0] + 0.25 * past[:, 0] * sign, inner_leg[:, 0]
    )
    split = smoothstep((y - crotch) / (4.5 * unit))[:, None]
    inner = seam + (0, 1) * (center - seam) * (y > crotch)[:, None]
    inner = inner + (inner_leg - inner) * split
    return Ribbon(outer, inner, y - top, radius * 1.2, bow=1.0 * np.sin(figure.camera.pitch) * 6)


def _center_seam(shell: Shell, y: np.ndarray) -> np.ndarray:
    """The middle of the front, or of the back when that is seen."""
    return shell.front(0 * y, y) if shell.figure.facing > 0 else shell.back(0 * y, y)


def _leg_panel(
    figure: Figure,
    garment: Garment,
    shell: Shell,
    ribbon: Ribbon,
    side: int,
    top: float,
    crotch: float,
) -> Panel:
    scale, unit = figure.camera.scale, figure.stature / 170
    part = LEG_LEFT if side < 0 else LEG_RIGHT
    bow = 0.8 * scale * (1 - figure.flatness)
    panel = Panel(ribbon.outline(bow), ribbon, part, "leg", cast=1.0)
    panel.shift = (side * figure.facing * 9.0, 0.0)
    end = float(ribbon.along[-1])
    s = np.linspace(-1, 1, 9)
    lift = np.sqrt(np.maximum(1 - s**2, 0))[:, None] * (0, bow)
    for rise in (2.4, 3.0):
        panel.seams.append((ribbon.at(s, np.full(9, end - rise)) + lift, 0.25 * scale, 0.25))
    inner = np.linspace(crotch - top, end, 14)
    panel.seams.append((ribbon.at(0.97, inner), 1.0 * scale, 0.3))
    crease = np.linspace(0, crotch - top, 10)
    panel.seams.append((ribbon.at(1.0, crease), 0.5 * scale, 0.5))
    _leg_pockets(panel, ribbon, garment, figure, unit)
    if garment.styles["closure"] == "fly" and side * figure.facing > 0 and figure.facing > 0:
        fly = ribbon.at(np.array([0.78, 0.78, 0.8, 0.97]), np.array([3, 9, 12.5, 15.0]) * unit)
        panel.seams.append((curve(fly, 12), 0.25 * scale, 0.35))
    return panel


def _leg_pockets(
    panel: Panel, ribbon: Ribbon, garment: Garment, figure: Figure, unit: float
) -> None:
    scale, kind = figure.camera.scale, garment.styles["pocket"]
    if figure.facing < 0:
        spots = (
            np.array([-0.35, 0.55, 0.55, 0.1, -0.35, -0.35]),
            np.array([9, 9, 19, 21, 19, 9.0]) * unit,
        )
        panel.seams.append((ribbon.at(*spots), 0.35 * scale, 0.5))
        return
    if kind == "cargo" and ribbon.along[-1] > 45:
        spots = np.array([-0.95, -0.1, -0.1, -0.95]), np.array([38, 38, 54, 54.0]) * unit
        panel.seams.append((ribbon.at(*spots), 0.4 * scale, 0.5))
        panel.seams.append(
            (ribbon.at(np.array([-0.95, -0.1]), np.array([42, 42.0]) * unit), 0.4 * scale, 0.4)
        )
    slant = curve(ribbon.at(np.array([-0.35, -0.55, -0.96]), np.array([4.0, 10, 17]) * unit), 10)
    panel.seams.append((slant, 0.4 * scale, 0.55))
    panel.seams.append((moved(slant, 0.8 * scale, 0), 0.25 * scale, 0.25))


def _waistband(shell: Shell, garment: Garment, top: float, unit: float, scale: float) -> Panel:
    """A band of 3.5 cm with loops and button, or a cord."""
    s = np.linspace(-1, 1, 17)
    upper = shell.edge(s, np.full(17, top))
    lower = shell.edge(s, np.full(17, top + 3.6 * unit))
    panel = Panel(
        np.concatenate([upper, lower[::-1]]),
        shell.ribbon(top - 2, top + 8, float(shell.half[0])),
        WAISTBAND,
        "none",
        cast=0.5,
        turn=90.0,
    )
    panel.seams.append((lower, 0.4 * scale, 0.5))
    panel.seams.append((upper, 0.3 * scale, 0.3))
    if shell.figure.facing < 0:
        return panel
    rgb = lab_to_rgb(garment.texture.first)
    middle = shell.front(0.0, top + 1.8 * unit)
    if garment.styles["closure"] == "drawstring":
        for k in (-1, 1):
            cord = curve(
                [
                    middle,
                    moved(middle, k * 1.5 * scale, 4 * scale),
                    moved(middle, k * 2.0 * scale, 9 * scale),
                ],
                8,
            )
            panel.marks.append((band(cord, 0.6 * scale), toned(rgb, 1.5)))
        for k in np.linspace(0, 16, 15):
            panel.seams.append((np.stack([upper[int(k)], lower[int(k)]]), 0.3 * scale, 0.18))
        return panel
    for x in (-0.62, -0.3, 0.3, 0.62):
        loop = shell.edge(x, np.array([top, top + 3.6 * unit]))
        panel.seams.append((moved(loop, 0.4 * scale, 0), 0.3 * scale, 0.5))
        panel.seams.append((moved(loop, -0.4 * scale, 0), 0.3 * scale, 0.5))
    panel.marks.append((ellipse(middle, 0.7 * scale, 0.7 * scale, n=14), (150, 140, 122)))
    return panel


def _trouser_landmarks(cut, figure, garment, shell, ribbons, top, crotch) -> None:
    """Waist left, middle, right; left leg down outside and up inside; crotch; right leg."""
    place = shell.front if figure.facing > 0 else shell.back
    waist = [shell.side(-1, top), place(0.0, top), shell.side(1, top)]
    cut.landmarks += [(point, (WAISTBAND, LEG_LEFT, LEG_RIGHT)) for point in waist]
    drop = crotch - top
    chains = {}
    for side, part in ((-1, LEG_LEFT), (1, LEG_RIGHT)):
        ribbon = ribbons[side]
        end = float(ribbon.along[-1])
        if garment.category == 8:
            outer = [drop * 0.75, 0.5 * (drop + end), end]
            inner = [end, 0.5 * (drop + end)]
        else:
            outer, inner = [0.5 * (drop * 0.5 + end), end], [end]
        chains[side] = [(ribbon.at(-1.0, y), (part,)) for y in outer]
        chains[side] += [(ribbon.at(1.0, y), (part,)) for y in inner]
    middle = (ribbons[-1].at(1.0, drop), (LEG_LEFT, LEG_RIGHT))
    cut.landmarks += [*chains[-1], middle, *chains[1][::-1]]


def cut_skirt(figure: Figure, garment: Garment, rng: np.random.Generator) -> Cut:
    """A skirt: one shell from the waist to the hem, falling in folds when it is full."""
    cut, unit, scale = Cut(), figure.stature / 170, figure.camera.scale
    m = garment.measures
    top = waist_height(figure, garment)
    hem = top + m["length"] * unit
    shell = _skirt_shell(figure, top, hem, m["flare"] * unit)
    pleated = garment.styles["closure"] == "pleats"
    strength = (0.2 + 0.8 * m["fullness"]) * min(1.0, max(m["flare"], 0) / 9)
    count = 11.0 if pleated else 4 + 5 * m["fullness"]
    flutes = (count, max(strength, 0.35 * pleated), rng.uniform(0, 6.28))
    s = np.linspace(-1, 1, 61)
    wave = np.cos(count * np.arcsin(s * 0.98) + flutes[2]) * 1.5 * flutes[1] * unit
    low = shell.edge(s, hem + wave)
    heights = np.linspace(top, hem, 22)
    outline = np.concatenate(
        [
            shell.edge(-1, heights)[::-1],
            shell.edge(s[::4], np.full(16, top)),
            shell.edge(1, heights),
            low[::-1],
        ]
    )
    reference = float(shell.ring(top + 18)[0])
    panel = Panel(outline, shell.ribbon(top - 1, hem + 6, reference), 1, "skirt", cast=1.6)
    panel.flutes = flutes if flutes[1] > 0.1 else None
    panel.folds = 0.7
    _skirt_details(panel, garment, shell, top, hem, low, unit, scale, pleated)
    inside = Panel(
        _hem_inside(shell, hem, low),
        shell.ribbon(top - 1, hem + 6, reference),
        LINING,
        "none",
        tone=0.5,
        lining=True,
    )
    cut.lining.append(inside)
    cut.trunk += [panel, _waistband(shell, garment, top, unit, scale)]
    place = shell.front if figure.facing > 0 else shell.back
    both = (WAISTBAND, 1)
    middle = 0.5 * (top + hem)
    cut.landmarks += [
        (shell.side(-1, top), both),
        (place(0.0, top), both),
        (shell.side(1, top), both),
    ]
    cut.landmarks += [
        (shell.side(-1, middle), (1,)),
        (shell.side(-1, hem), (1,)),
        (place(0.0, hem), (1,)),
    ]
    cut.landmarks += [(shell.side(1, hem), (1,)), (shell.side(1, middle), (1,))]
    return cut


def _skirt_shell(figure: Figure, top: float, hem: float, flare: float) -> Shell:
    y = np.linspace(top - 2, hem + 8, 30)
    hip = np.minimum(y, figure.y(0.5))
    fall = np.clip((y - top) / max(hem - top, 1), 0, 1.2)
    half = figure.width(hip) + 0.9 + max(flare, 0) * fall**1.05
    # A pencil skirt narrows again below the hips; any other keeps its greatest width.
    below = np.clip((y - figure.y(0.5)) / max(hem - figure.y(0.5), 1), 0, 1)
    half = np.maximum.accumulate(half) + min(flare, 0) * below * 1.5
    return Shell(figure, y, half, figure.depth(hip) + 0.9 + 0.8 * max(flare, 0) * fall)


def _hem_inside(shell: Shell, hem: float, low: np.ndarray) -> np.ndarray:
    """The far side of the hem, seen from inside between the front hem and the legs."""
    s = np.linspace(-1, 1, 21)
    rise = 1.2 * np.sqrt(np.maximum(1 - s**2, 0))
    far = shell.edge(s, hem - 6 + rise)
    near = shell.edge(s, np.full(21, hem + 0.3))
    return np.concatenate([far, near[::-1]])


def _skirt_details(panel, garment, shell, top, hem, low, unit, scale, pleated) -> None:
    front = shell.figure.facing > 0
    panel.seams.append((low - (0, 2.6 * scale), 0.25 * scale, 0.22))
    if pleated:
        for s in np.sin(np.linspace(-1.35, 1.35, 13)):
            line = shell.edge(np.full(10, s), np.linspace(top + 3, hem, 10))
            panel.seams.append((line, 0.5 * scale, 0.32))
    elif garment.styles["closure"] == "buttons" and front:
        for y in np.arange(top + 7, hem - 3, 8 * unit):
            center = shell.front(0.0, y)
            panel.marks.append((ellipse(center, 0.8 * scale, 0.8 * scale, n=14), (120, 96, 70)))
        for x in (-1.8, 1.8):
            line = shell.front(np.full(10, x), np.linspace(top + 3, hem, 10))
            panel.seams.append((line, 0.3 * scale, 0.4))
    if garment.styles["pocket"] == "patch" and front:
        for side in (-1, 1):
            x = side * np.array([4.5, 4.5, 13.5, 13.5]) * unit
            line = shell.front(x, top + np.array([9, 20, 20, 9]) * unit)
            panel.seams.append((line, 0.35 * scale, 0.45))
