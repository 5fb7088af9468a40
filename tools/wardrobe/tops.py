"""Cutting garments of the trunk: tops, dresses and outerwear, with sleeves and landmarks."""

from dataclasses import dataclass

import numpy as np

from tools.wardrobe.cloth import Panel
from tools.wardrobe.figures import Figure
from tools.wardrobe.garments import DRESSES, LONG_SLEEVES, SLEEVELESS, SLINGS, Garment
from tools.wardrobe.patterns import COLLAR, LINING, TRUNK, Cut, Shell, sleeve_part
from tools.wardrobe.shapes import Ribbon, curve


@dataclass(frozen=True, slots=True)
class Wear:
    """How a garment is worn in one photo.

    over: cm of clothes beneath it. under: outerwear is worn over it. opening: 0 closed .. 1 wide
    open (outerwear). tucked: height in cm at which it vanishes under a waistband, or None.
    """

    over: float = 0.0
    under: bool = False
    opening: float = 0.0
    tucked: float | None = None


class Upper:
    """Heights and rings of one upper-body garment on one figure, in cm."""

    def __init__(self, figure: Figure, garment: Garment, wear: Wear) -> None:
        self.figure, self.garment, self.wear = figure, garment, wear
        self.unit = figure.stature / 170
        self.scale = figure.camera.scale  # px per cm
        m = garment.measures
        self.width = (m["width"] + wear.over) * self.unit
        self.neck = figure.y(0.163)
        self.tip = figure.y(0.199)
        self.pit = figure.y(0.262) + 0.35 * self.width
        self.hem = self.neck + m["length"] * self.unit
        self.waist = figure.y(0.385) + m.get("waist_height", 0.0) * self.unit
        self.tip_x = float(figure.width(figure.y(0.205))) + 0.4 + 0.16 * self.width
        self.neck_x = min(m["neck_width"] * self.unit, self.tip_x - 2.5)
        self.reference = self.reference_deep = 0.0
        self.shell = self._shell()

    def slope(self, x: np.ndarray | float) -> np.ndarray | float:
        """Height of the shoulder line x cm from the middle."""
        inner, top = 5.4 * self.unit, self.neck - 0.6
        return top + (np.abs(x) - inner) / (self.tip_x - inner) * (self.tip - self.neck + 0.6)

    def _shell(self) -> Shell:
        figure = self.figure
        x = np.linspace(3.0 * self.unit, self.tip_x, 7)
        top_y = self.slope(x)
        top_deep = figure.depth(top_y) + 0.8
        y = np.linspace(self.pit, self.hem + 12, 30)
        half, deep = self._body(y)
        self.reference = float(half[0])
        self.reference_deep = float(deep[0])
        middle = (self.tip + self.pit) / 2
        return Shell(
            figure,
            np.concatenate([top_y, [middle], y]),
            np.concatenate([x, [min(self.tip_x, half[0]) * 0.985], half]),
            np.concatenate([top_deep, [0.5 * (top_deep[-1] + deep[0])], deep]),
        )

    def _body(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Half width and depth of the cloth below the armpits."""
        figure, m = self.figure, self.garment.measures
        hip = figure.y(0.5)
        body, deep = figure.width(np.minimum(y, hip)), figure.depth(np.minimum(y, hip))
        chest = float(figure.width(self.pit)) + self.width
        fall = np.clip((y - self.pit) / max(self.hem - self.pit, 1), 0, 1.3)
        flare = m["flare"] * self.unit
        if self.garment.category in DRESSES:
            below = np.clip((y - self.waist) / max(self.hem - self.waist, 1), 0, 1.3)
            snug = body + 0.5 * self.width
            loose = np.where(y < self.waist, chest, np.maximum(chest, snug))
            half = loose + (snug - loose) * m["waist"] + flare * below**0.9
            # Once past the hips a skirt does not follow the body inward again.
            skirt = y > self.waist
            half = np.where(skirt, np.maximum.accumulate(np.where(skirt, half, 0)), half)
            return np.maximum(half, body + 0.5), deep + 0.5 * self.width + 0.8 * flare * below
        snug = body + self.width
        half = chest + (snug - chest) * m["waist"] + flare * fall**1.5
        if self.wear.tucked is not None:
            half = np.minimum(half, body + 1.2 + np.maximum(self.wear.tucked - y, 0) * 0.5)
        half = np.maximum(half, body + 0.5 + self.wear.over)
        return half, deep + 0.7 * self.width + 0.6 * flare * fall

    def ribbon(self) -> Ribbon:
        """The cloth of the trunk as a ribbon, straight up past the shoulders to a hood's height."""
        shell = self.shell
        below = shell.y >= self.pit
        above = Shell(
            self.figure,
            np.append(shell.y[below], self.neck - 40),
            np.append(shell.half[below], self.reference),
            np.append(shell.deep[below], self.reference_deep),
        )
        return above.ribbon(self.neck - 32 * self.unit, self.hem + 4, self.reference)


def neckline(upper: Upper) -> np.ndarray:
    """The front neckline f64[N, 2] as (x, y) cm from x < 0 to x > 0, ends on the shoulder line."""
    m, kind = upper.garment.measures, upper.garment.styles["neckline"]
    wide, unit, share = upper.neck_x, upper.unit, m["neck_depth"]
    t = np.linspace(-1, 1, 25)
    if kind == "boat":
        wide = min(wide + 3.5 * unit, upper.tip_x - 2)
        depth = (2.5 + 2.5 * share) * unit * np.sqrt(1 - t**2)
    elif kind == "v":
        depth = (10 + 11 * share) * unit * (1 - np.abs(t)) ** 0.92
    elif kind == "square":
        depth = (8 + 6 * share) * unit * np.minimum(1, (1 - np.abs(t)) * 9)
        t = np.sign(t) * np.minimum(np.abs(t), 0.93 + 0.07 * np.abs(t))
    elif kind == "scoop":
        depth = (10 + 8 * share) * unit * np.sqrt(1 - np.abs(t) ** 2.4)
    elif kind == "collar":
        depth = (4 + 5 * share) * unit * (1 - np.abs(t)) ** 0.8 + 2.0 * unit * np.sqrt(1 - t**2)
    elif kind == "turtle":
        wide, depth = 6.2 * unit, 1.5 * unit * np.sqrt(1 - t**2)
    else:
        depth = (5.5 + 4 * share) * unit * np.sqrt(1 - t**2)
    return np.stack([t * wide, upper.slope(wide) + depth], axis=1)


def back_neckline(upper: Upper, wide: float) -> np.ndarray:
    """The back neckline f64[N, 2], shallow."""
    t = np.linspace(-1, 1, 15)
    drop = (1.2 if upper.figure.flatness else 2.2) * upper.unit
    return np.stack([t * wide, upper.slope(wide) + drop * np.sqrt(1 - t**2)], axis=1)


def hem_heights(upper: Upper, s: np.ndarray, flutes: tuple | None) -> np.ndarray:
    """Height in cm of the lower edge along s; it waves where folds fall from the waist."""
    rise = 1.0 * upper.unit * (1 - s**2) if upper.garment.category not in DRESSES else 0.0
    if flutes is None:
        return upper.hem + rise
    count, strength, phase = flutes
    wave = np.cos(count * np.arcsin(np.clip(s, -1, 1) * 0.98) + phase)
    return upper.hem + rise + 1.5 * strength * upper.unit * wave


def trunk_outline(upper: Upper, top: np.ndarray, hem: np.ndarray) -> np.ndarray:
    """Photo outline f64[N, 2]: the neckline (or bodice edge), sides and hem of a closed garment.

    Args:
        top: photo points of the upper edge, in the order of increasing x on the photo.
        hem: photo points of the lower edge, same order.
    """
    heights = np.linspace(upper.pit, upper.hem, 18)[:-1]
    left, right = (
        np.concatenate([_armhole(upper, s), upper.shell.edge(s, heights)]) for s in (-1, 1)
    )
    return np.concatenate([top, right, hem[::-1], left[::-1]])


def _armhole(upper: Upper, s: int) -> np.ndarray:
    """From the end of the upper edge to just above the armpit."""
    shell, figure = upper.shell, upper.figure
    pit = shell.edge(s, upper.pit)
    if upper.garment.category in SLINGS:
        return np.zeros((0, 2))
    if upper.garment.category not in SLEEVELESS:
        return curve([shoulder_point(upper, s * figure.facing), armscye(upper, s), pit], 9)[:-1]
    strap = upper.garment.measures["strap_width"] * upper.unit
    outer = min(abs(_neck_end(upper)) + strap, upper.tip_x - 0.3)
    shoulder = shell.front(s * outer, upper.slope(outer))
    if figure.facing < 0:
        shoulder = shell.back(-s * outer, upper.slope(outer))
    inward = shell.edge(s * 0.86, upper.slope(outer) + 0.55 * (upper.pit - upper.slope(outer)))
    return curve([shoulder, inward, pit], 12)[:-1]


def shoulder_point(upper: Upper, side: int) -> np.ndarray:
    """Where the sleeve's seam meets the shoulder line, just inside the edge of the trunk."""
    x = upper.tip_x - 1.0
    return upper.shell.near(side * x, upper.slope(x))


def armscye(upper: Upper, s: int) -> np.ndarray:
    """Middle of the armhole's seam on one side of the photo."""
    return upper.shell.edge(s * 0.95, (upper.tip + upper.pit) / 2)


def _neck_end(upper: Upper) -> float:
    return float(neckline(upper)[-1, 0])


def flutes_of(upper: Upper, rng: np.random.Generator) -> tuple[float, float, float] | None:
    """Folds that fall from the waist of a full dress; None for a narrow one."""
    m = upper.garment.measures
    if upper.garment.category not in DRESSES:
        return None
    strength = (0.15 + 0.85 * m["fullness"]) * min(1.0, m["flare"] / 9)
    return (4 + 5 * m["fullness"], strength, rng.uniform(0, 6.28)) if strength > 0.1 else None


def landmarks(
    cut: Cut, upper: Upper, top: dict[str, np.ndarray], sleeves: dict[int, Ribbon]
) -> None:
    """Append DeepFashion2's points in its order.

    1 back neck; 2..6 front neckline from the left; then the left chain (shoulder, outer sleeve,
    cuff, inner sleeve, armpit, side) down to the hem corner; hem center; the right chain back up.
    Outerwear ends with the second front edge: neck, two points, hem, and two of the first edge.

    Args:
        top: "back" [2], "front" [5, 2], "shoulder" [2, 2] photo points (left, right).
    """
    turned = upper.figure.facing < 0
    cut.landmarks.append((top["back"], (TRUNK, COLLAR) if turned else (LINING, COLLAR)))
    cut.landmarks += [(point, () if turned else (TRUNK, COLLAR)) for point in top["front"]]
    left = _chain(upper, -1, top["shoulder"][0], sleeves)
    right = _chain(upper, 1, top["shoulder"][1], sleeves)
    hem = upper.shell.near(0.0, upper.hem)
    cut.landmarks += [*left, (hem, (TRUNK,)), *right[::-1]]


def _chain(upper: Upper, side: int, shoulder: np.ndarray, sleeves: dict[int, Ribbon]):
    """One side's landmarks from the shoulder to the hem corner."""
    category, part = upper.garment.category, sleeve_part(side)
    points: list = [(shoulder, (TRUNK, part, COLLAR))]
    if category not in SLEEVELESS:
        ribbon = sleeves[side]
        steps = np.linspace(0, 1, 5 if category in LONG_SLEEVES else 3)
        end = float(ribbon.along[-1])
        points += [(ribbon.at(-1.0, end * t), (part,)) for t in steps[1:]]
        points += [(ribbon.at(1.0, end * t), (part,)) for t in steps[:0:-1]]
    pit = upper.shell.side(side, upper.pit)
    points.append((pit, (TRUNK, part)))
    count = {5: 1, 6: 1, 10: 4, 11: 4, 12: 3, 13: 3}.get(category, 2)
    heights = np.linspace(upper.pit, upper.hem, count + 2)[1:]
    points += [(upper.shell.side(side, y), (TRUNK,)) for y in heights]
    return points


def trunk_panel(upper: Upper, outline: np.ndarray) -> Panel:
    """The main panel around the trunk."""
    ribbon = upper.ribbon()
    panel = Panel(outline, ribbon, TRUNK, "trunk", cast=2.0)
    panel.shift = (-upper.reference * float(np.sin(upper.figure.yaw)), 0.0)
    return panel


def neck_edge(upper: Upper) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Upper edge on the photo (left to right as seen) and the neck's landmarks."""
    front_xy = neckline(upper)
    wide = float(front_xy[-1, 0])
    front = upper.shell.front(*front_xy.T)
    back = upper.shell.back(*back_neckline(upper, wide).T)
    strap = upper.garment.measures.get("strap_width")
    outer = upper.tip_x if strap is None else min(wide + strap * upper.unit, upper.tip_x - 0.3)
    shoulder = upper.shell.near(np.array([-outer, outer]), upper.slope(np.array([outer, outer])))
    steps = np.array([0, 6, 12, 18, 24])
    points = {"back": back[7], "front": front[steps], "shoulder": shoulder}
    return (front if upper.figure.facing > 0 else back[::-1]), points
