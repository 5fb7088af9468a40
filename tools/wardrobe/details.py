"""Details of garments: neckbands, collars, lapels, buttons, zips, pockets, stitching."""

import numpy as np

from tools.wardrobe.cloth import Panel
from tools.wardrobe.colors import lab_to_rgb, toned
from tools.wardrobe.patterns import COLLAR, Cut, band, parallel
from tools.wardrobe.shapes import Ribbon, curve, ellipse, moved
from tools.wardrobe.tops import Upper, back_neckline, neckline


def front_line(upper: Upper, points: list) -> np.ndarray:
    """Photo positions of (x, y) cm on the front."""
    xy = np.asarray(points, np.float64)
    return upper.shell.front(xy[:, 0], xy[:, 1])


def stitch(upper: Upper, panel: Panel, line: np.ndarray, darkness: float) -> None:
    """A stitched line on a panel."""
    panel.seams.append((line, 0.28 * upper.scale, darkness))


def neckband(upper: Upper, panel: Panel) -> None:
    """The ribbed or bound edge of a neckline."""
    if upper.figure.facing < 0:
        line = upper.shell.back(*back_neckline(upper, upper.neck_x).T)[::-1]
    else:
        line = front_line(upper, neckline(upper))
    cm = 1.9 if upper.garment.styles["neckline"] in ("crew", "v") else 0.9
    wide = cm * upper.unit * upper.scale
    stitch(upper, panel, parallel(line, -wide), 0.5)
    panel.seams.append((parallel(line, -0.2 * wide), 0.3 * upper.scale, 0.18))


def hem_stitches(upper: Upper, panel: Panel, hem: np.ndarray) -> None:
    """One or two lines above the lower edge, or a ribbed band on a sweater."""
    scale = upper.scale
    up = np.array([0.0, -1.0])
    if upper.garment.texture.name == "knit":
        stitch(upper, panel, hem + up * 5 * scale, 0.5)
        for k in np.linspace(2, len(hem) - 3, 24):
            foot = hem[int(k)]
            panel.seams.append((np.stack([foot, foot + up * 4.6 * scale]), 0.3 * scale, 0.16))
        return
    for rise in (2.2, 2.8):
        stitch(upper, panel, hem + up * rise * scale, 0.2)


def button_row(upper: Upper, panel: Panel, x: float, start: float, end: float) -> None:
    """Buttons every 9 cm or so down the front."""
    radius = 0.62 * upper.unit * upper.scale
    rgb = button_color(upper)
    for y in np.arange(start, end, 9.0 * upper.unit):
        center = upper.shell.front(x, y)
        below = np.stack([moved(center, 0, 0.6 * radius), moved(center, 0, radius)])
        panel.seams.append((below, 2 * radius, 0.4))
        panel.marks.append((ellipse(center, radius, radius, n=14), rgb))


def button_color(upper: Upper) -> tuple:
    """Light buttons on dark cloth, dark on light, or the second color."""
    light = upper.garment.texture.first[0]
    if upper.garment.texture.fill > 0.6:
        return tuple(lab_to_rgb(upper.garment.texture.second))
    return (236, 232, 222) if light < 55 else (70, 58, 50)


def placket(upper: Upper, panel: Panel, start: float, end: float) -> None:
    """The buttoned strip down the front."""
    unit = upper.unit
    for x in (-1.7 * unit, 1.7 * unit):
        stitch(upper, panel, front_line(upper, [(x, y) for y in np.linspace(start, end, 12)]), 0.42)
    if end < upper.hem - 5:
        stitch(upper, panel, front_line(upper, [(-1.7 * unit, end), (1.7 * unit, end)]), 0.42)
    button_row(upper, panel, 0.0, start + 2.5 * unit, end - 1.5 * unit)


def zipper(upper: Upper, panel: Panel, x: float, start: float) -> None:
    """A metal zip down the front."""
    scale = upper.scale
    line = front_line(upper, [(x, y) for y in np.linspace(start, upper.hem - 0.5, 16)])
    panel.marks.append((band(line, 0.9 * scale), (150, 150, 154)))
    panel.seams.append((line, 0.3 * scale, 0.55))
    panel.seams.append((parallel(line, 0.9 * scale), 0.3 * scale, 0.55))


def pocket(upper: Upper, panel: Panel) -> None:
    """Chest, kangaroo, patch or flap pockets, stitched on."""
    unit, kind = upper.unit, upper.garment.styles["pocket"]
    if kind == "chest":
        x, y = 4.5 * unit, upper.pit + 1.0
        _patch(upper, panel, x, y, 10 * unit, 11 * unit)
    elif kind == "kangaroo":
        w, top, low = 13 * unit, upper.hem - 24 * unit, upper.hem - 4 * unit
        points = [
            (-w * 0.6, top), (w * 0.6, top), (w, low - 8 * unit), (w, low), (-w, low),
            (-w, low - 8 * unit), (-w * 0.6, top),
        ]  # fmt: skip
        stitch(upper, panel, front_line(upper, points), 0.6)
    elif kind in ("patch", "flap"):
        low = min(upper.hem - 4 * unit, upper.figure.y(0.46))
        for side in (-1, 1):
            outer, y = side * 14.5 * unit, low - 14 * unit
            x = outer if side < 0 else outer - 11 * unit
            _patch(upper, panel, x, y, 11 * unit, 13 * unit if kind == "patch" else 4.5 * unit)


def _patch(upper: Upper, panel: Panel, x: float, y: float, w: float, h: float) -> None:
    """A pocket's outline with its top edge; corners cut."""
    scale = upper.scale
    points = [
        (x, y), (x, y + h * 0.85), (x + w * 0.15, y + h), (x + w * 0.85, y + h),
        (x + w, y + h * 0.85), (x + w, y),
    ]  # fmt: skip
    stitch(upper, panel, front_line(upper, points), 0.5)
    panel.seams.append((front_line(upper, [(x, y), (x + w, y)]), 0.6 * scale, 0.55))
    stitch(upper, panel, front_line(upper, [(x, y + 1.6), (x + w, y + 1.6)]), 0.25)


def collar_piece(upper: Upper, points: list, *, turn: float, cast: float = 0.9) -> Panel:
    """A flap of the same cloth over the front, given as (x, y) cm, cut on another grain."""
    outline = front_line(upper, points)
    panel = Panel(outline, upper.ribbon(), COLLAR, "none", turn=turn, cast=cast, tone=1.04)
    closed = np.concatenate([outline, outline[:1]])
    panel.seams.append((closed, 0.35 * upper.scale, 0.3))
    return panel


def _beside(upper: Upper, side: int, top: float, points: list) -> list:
    """(x, y) cm on one side of the front, of points given as (outward, below ``top``)."""
    return [(side * x * upper.unit, top + y * upper.unit) for x, y in points]


def shirt_collar(upper: Upper, cut: Cut, open_by: float = 0.0) -> None:
    """Two pointed flaps that fold down from the neck."""
    unit = upper.unit
    top = upper.slope(6.4 * unit)
    bottom = float(neckline(upper)[12, 1]) - 1.0 * unit if open_by == 0 else top + 9 * unit
    for side in (-1, 1):
        outer = [(4.9, -3.0), (6.3, -2.4), (7.6, 0.2), (9.2 + 0.5 * open_by, 5.5)]
        points = [
            *_beside(upper, side, top, outer),
            (side * (6.0 + open_by) * unit, max(bottom + 3.4 * unit, top + 8.0 * unit)),
            (side * (0.2 + open_by) * unit, bottom),
        ]
        cut.collar.append(collar_piece(upper, points, turn=side * 35))
    if not upper.figure.flatness:
        return
    # Lying flat, the collar's stand shows behind the neck.
    back = upper.shell.back(*back_neckline(upper, 5.6 * unit).T)
    raised = back - (0, 3.0 * unit * upper.scale)
    cut.lining.append(_lining(upper, np.concatenate([back, raised[::-1]]), 0.85))


def _lining(upper: Upper, outline: np.ndarray, tone: float) -> Panel:
    return Panel(outline, upper.ribbon(), COLLAR, "none", tone=tone, lining=True)


def lapels(upper: Upper, cut: Cut, edges: dict[int, np.ndarray], broken: float) -> None:
    """The notched collar of a blazer or coat, down to height ``broken`` on the opening.

    Args:
        edges: by side, f64[N, 2] (x, y) cm of the opening from the neck down.
    """
    top = upper.slope(6.0 * upper.unit)
    outer = [(4.8, -2.6), (6.2, -2.2), (7.6, -0.2), (10.6, 6.2), (8.8, 8.4), (12.4, 9.2)]
    for side in (1, -1):
        upto = edges[side][edges[side][:, 1] < broken]
        points = [
            *_beside(upper, side, top, outer),
            (side * 9.6 * upper.unit, top + 0.62 * (broken - top)),
            (float(upto[-1, 0]), broken),
            *upto[::-4],
        ]
        piece = collar_piece(upper, points, turn=side * 20, cast=1.3)
        gorge = _beside(upper, side, top, [(5.6, 4.4), (8.8, 8.4)])
        piece.seams.append((front_line(upper, gorge), 0.45 * upper.scale, 0.5))
        cut.collar.append(piece)


def stand_collar(upper: Upper, cut: Cut, height: float, *, closed: bool) -> None:
    """A band around the neck: a turtleneck when closed, a jacket's stand when open in front."""
    unit, shell, figure = upper.unit, upper.shell, upper.figure
    wide = 6.3 * unit
    s = np.linspace(-1, 1, 11)
    low_y = upper.slope(wide) + (1.8 if closed else 0.6) * unit * np.sqrt(1 - s**2)
    low = shell.front(s * wide, low_y) if figure.facing > 0 else shell.back(-s * wide, low_y)
    lift = np.array([0.0, -height * unit * upper.scale])
    top = low * (0.97, 1) + low.mean(axis=0) * (0.03, 0) + lift
    if not closed and figure.facing > 0:
        _open_stand(upper, cut, height)
        return
    left, right = np.linspace(top[0], low[0], 6), np.linspace(top[-1], low[-1], 6)
    ribbon = Ribbon(left, right, np.linspace(0, height, 6), np.full(6, wide * 1.2), bow=0.8)
    panel = Panel(np.concatenate([low, top[::-1]]), ribbon, COLLAR, "none", cast=0.8)
    middle = (low + top) / 2
    panel.seams.append((curve(middle, 12), 0.5 * upper.scale, 0.28 if closed else 0.1))
    panel.seams.append((curve(low, 12), 0.5 * upper.scale, 0.4))
    cut.collar.append(panel)


def _open_stand(upper: Upper, cut: Cut, height: float) -> None:
    """The two ends of a jacket's stand-up collar at the sides of the neck."""
    top = upper.slope(6.3 * upper.unit)
    points = [(2.4, 3.2), (6.9, 0.4), (6.6, -0.75 * height), (5.0, -height), (3.2, -0.6 * height)]
    for side in (-1, 1):
        cut.collar.append(collar_piece(upper, _beside(upper, side, top, points), turn=side * 20))


def hood(upper: Upper, cut: Cut) -> None:
    """A hood lying on the shoulders, with its strings in front."""
    unit, scale, figure = upper.unit, upper.scale, upper.figure
    top = upper.slope(8 * unit)
    center = upper.shell.edge(0.0, top)
    rise = (9 if not figure.flatness else 17) * unit
    t = np.linspace(np.pi, 2 * np.pi, 21)
    arc = center + np.stack([np.cos(t) * 12.5 * unit, np.sin(t) * rise], axis=1) * scale
    sag = center + np.array([[9.0, 6.0], [0.0, 10.0], [-9.0, 6.0]]) * unit * scale
    outline = np.concatenate([arc, curve([arc[-1], *sag, arc[0]], 16)])
    cut.lining.append(_lining(upper, outline, 0.92))
    if figure.facing < 0:
        drop = center + np.stack([np.cos(t) * 12.5, -np.sin(t) * 15.0], axis=1)[::-1] * unit * scale
        panel = collar_piece(upper, [(0, top)] * 3, turn=8, cast=1.2)
        panel.outline = np.concatenate([arc[::-1] * (1, 0.4) + center * (0, 0.6), drop[::-1]])
        panel.seams = [(curve(np.stack([arc[10], drop[10]]), 8), 0.4 * scale, 0.4)]
        cut.collar.append(panel)
        return
    inside = center + (arc - center) * (0.74, 0.72) + (0, 1.0 * scale)
    cut.lining.append(_lining(upper, np.concatenate([inside, (sag - center) * 0.8 + center]), 0.58))
    points = [(5.4, -3), (10.5, -1.5), (10.5, 3), (4.5, 10.5), (1.0, 9.5)]
    for side in (-1, 1):
        piece = collar_piece(upper, _beside(upper, side, top, points), turn=side * 25)
        piece.outline = curve(np.concatenate([piece.outline, piece.outline[:1]]), 30)
        piece.seams = [(piece.outline, 0.3 * scale, 0.3)]
        cut.collar.append(piece)


def drawstring(upper: Upper, panel: Panel, side: int) -> None:
    """A cord that hangs from one side of a hood."""
    scale, unit = upper.scale, upper.unit
    rgb = toned(lab_to_rgb(upper.garment.texture.first), 1.5)
    x = side * (4.4 + 2.0 * upper.wear.opening) * unit
    line = front_line(upper, [(x, upper.neck + 9 * unit), (x * 1.1, upper.neck + 26 * unit)])
    panel.marks.append((band(line, 0.7 * scale), rgb))
