"""Painting a person (skin, head, hair, shoes) or a mannequin."""

from dataclasses import dataclass

import cv2
import numpy as np

from tools.wardrobe.canvas import Canvas
from tools.wardrobe.colors import HAIR_LAB, SKIN_LAB, lab_to_rgb, toned
from tools.wardrobe.figures import Figure
from tools.wardrobe.shapes import closed_curve, curve, ellipse, moved, normals

SHOE_STYLES = ("sneaker", "flat", "boot", "barefoot")

# Radii along a limb as (share of its length, share of the stature).
ARM_RADII = np.array([
    (0.0, 0.0255), (0.12, 0.0275), (0.25, 0.0255), (0.4, 0.0225), (0.5, 0.020), (0.62, 0.0195),
    (1.0, 0.0135),
])  # fmt: skip
LEG_RADII = np.array([
    (0.0, 0.050), (0.18, 0.047), (0.36, 0.038), (0.5, 0.0305), (0.66, 0.0315), (1.0, 0.0185),
])  # fmt: skip
# Heights, as shares of the stature, at which the trunk's outline is taken.
TRUNK_ROWS = np.array([
    0.118, 0.135, 0.15, 0.163, 0.172, 0.18, 0.19, 0.205, 0.235, 0.262, 0.3, 0.345, 0.385, 0.43,
    0.485, 0.53, 0.555,
])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Looks:
    """A person's appearance: colors f32[3] (sRGB), styles, and whether it is a mannequin."""

    skin: np.ndarray
    hair: np.ndarray
    hair_style: str
    shoes: str
    shoe_color: np.ndarray
    beard: bool = False
    mannequin: bool = False
    headless: bool = False


def draw_looks(rng: np.random.Generator, masculine: float) -> Looks:
    """Draw a person's looks; darker skins get darker hair."""
    tone = int(rng.integers(len(SKIN_LAB)))
    skin = np.array(SKIN_LAB[tone]) + rng.uniform(-1, 1, 3) * (2, 1.5, 2)
    hairs = HAIR_LAB[:3] if tone >= 4 else HAIR_LAB
    hair = np.array(hairs[rng.integers(len(hairs))])
    masculine_styles = ("short", "short", "buzz", "beanie", "short", "bun")
    feminine_styles = ("bob", "long", "long", "bun", "ponytail", "long", "beanie", "short")
    styles = masculine_styles if masculine > 0.5 else feminine_styles
    shoe_lab = ((92, 0, 2), (15, 0, 0), (38, 12, 18), (70, 6, 16), (45, 50, 30))[rng.integers(5)]
    return Looks(
        skin=lab_to_rgb(skin),
        hair=lab_to_rgb(hair),
        hair_style=styles[rng.integers(len(styles))],
        shoes=SHOE_STYLES[rng.choice(4, p=[0.45, 0.25, 0.2, 0.1])],
        shoe_color=lab_to_rgb(shoe_lab),
        beard=bool(masculine > 0.5 and rng.random() < 0.3),
    )


def mannequin_looks(rng: np.random.Generator) -> Looks:
    """Draw a mannequin: one matte color, often without a head."""
    lab = ((88, 0, 3), (75, 4, 12), (30, 0, 0), (60, 0, 0))[rng.integers(4)]
    rgb = lab_to_rgb(lab)
    return Looks(rgb, rgb, "buzz", "barefoot", rgb, mannequin=True, headless=rng.random() < 0.55)


def limb(figure: Figure, joints: np.ndarray, radii: np.ndarray, build: float) -> np.ndarray:
    """Outline f64[N, 2] of a limb through the joints f64[J, 3], round at its end."""
    line = curve(joints, 22)
    t = np.linspace(0, 1, len(line))
    radius = np.interp(t, radii[:, 0], radii[:, 1]) * figure.stature * build * figure.camera.scale
    center = figure.project(line)
    side = normals(center) * radius[:, None]
    cap = _cap(center[-1], center[-1] - center[-2], radius[-1])
    start = _cap(center[0], center[0] - center[1], radius[0])
    return np.concatenate([center + side, cap, (center - side)[::-1], start])


def _cap(center: np.ndarray, direction: np.ndarray, radius: float) -> np.ndarray:
    """Half a circle around the end of a limb, from its left side to its right."""
    heading = np.arctan2(direction[1], direction[0])
    t = heading + np.linspace(-np.pi / 2, np.pi / 2, 9)[1:-1]
    return center + radius * np.stack([np.cos(t), np.sin(t)], axis=1)


def paint_legs(canvas: Canvas, figure: Figure, looks: Looks) -> None:
    """Both legs with feet and shoes, the farther one first."""
    soft = 0.022 * figure.stature * figure.camera.scale
    for side in (-figure.facing, figure.facing):
        joints = figure.leg(side)
        paint_foot(canvas, figure, looks, side)
        outline = limb(figure, joints, LEG_RADII, 0.5 + 0.5 * figure.build)
        canvas.shape(outline, looks.skin, roundness=0.75, softness=soft)


def paint_foot(canvas: Canvas, figure: Figure, looks: Looks, side: int) -> None:
    """A foot or shoe that points toward where the body faces, turned a little outward."""
    ankle = figure.leg(side)[2]
    size, scale = figure.stature / 170, figure.camera.scale
    toe = np.array([side * 4.5, 0.0, 13.0]) * size
    heel = np.array([side * -0.5, 0.0, -6.0]) * size
    sole = ankle[1] + 7.5 * size
    rows = []
    for share, half, low in ((0.0, 3.3, 0.0), (0.35, 3.6, 0.0), (0.75, 4.4, 0.6), (1.0, 2.6, 1.2)):
        middle = ankle + heel + (toe - heel) * share
        rows.append((middle, half * size, sole + low * size))
    left = [figure.project((middle[0] - half, low, middle[2])) for middle, half, low in rows]
    right = [figure.project((middle[0] + half, low, middle[2])) for middle, half, low in rows]
    throat = ankle - (0, (9.0 if looks.shoes == "boot" else 0.5) * size, 0)
    across = np.array([1.0, 0.0, -0.15])
    top = [figure.project(throat + across * k * size * 3.4) for k in (1, -1)]
    hull = np.array([*left, *right[::-1], *top])
    outline = _convex(hull)
    color = looks.skin if looks.shoes == "barefoot" else looks.shoe_color
    if looks.shoes == "sneaker":
        canvas.shape(moved(outline, 0, 1.5 * scale), (236, 236, 232), shadow=1.5 * scale)
    canvas.shape(outline, color, roundness=0.8, softness=2.2 * scale, shadow=1.5 * scale)


def _convex(points: np.ndarray) -> np.ndarray:
    """The rounded convex outline around the points."""
    hull = cv2.convexHull(points.astype(np.float32)).reshape(-1, 2).astype(np.float64)
    return closed_curve(hull, 40)


def paint_trunk(canvas: Canvas, figure: Figure, looks: Looks) -> None:
    """Neck, shoulders, trunk and hips in skin."""
    y = TRUNK_ROWS * figure.stature
    half, deep = figure.width(y), figure.depth(y)
    left, right = figure.edge(-1, y, half, deep), figure.edge(1, y, half, deep)
    outline = np.concatenate([curve(left, 50), curve(right, 50)[::-1]])
    canvas.shape(outline, looks.skin, roundness=0.55, softness=3.5 * figure.camera.scale)
    if not looks.mannequin and figure.facing > 0:
        _collarbones(canvas, figure, looks)


def _collarbones(canvas: Canvas, figure: Figure, looks: Looks) -> None:
    y = figure.y(0.19)
    half, deep = figure.width(figure.y(0.2)), figure.depth(y)
    for side in (-1, 1):
        x = side * np.array([0.09, 0.4, 0.75]) * half
        line = figure.front(x, np.array([y + 1.2, y - 0.2, y - 0.8]), half, deep)
        wide = normals(line) * 0.35 * figure.camera.scale
        canvas.shape(np.concatenate([line + wide, (line - wide)[::-1]]), toned(looks.skin, 0.86))


def paint_arm(
    canvas: Canvas, figure: Figure, looks: Looks, side: int, *, only_fore: bool = False
) -> None:
    """An arm with its hand; ``only_fore`` leaves out what lies above the elbow."""
    joints = figure.arm(side)
    scale = figure.camera.scale
    build = 0.55 + 0.45 * figure.build
    paint_hand(canvas, figure, looks, side)
    radii, points = ARM_RADII, joints[:3]
    if only_fore:
        points = np.stack([joints[1], (joints[1] + joints[2]) / 2, joints[2]])
        radii = np.stack([np.array([0, 0.5, 1.0]), np.array([0.0205, 0.0190, 0.0135])], axis=1)
    outline, soft = limb(figure, points, radii, build), 0.012 * figure.stature * scale
    canvas.shape(outline, looks.skin, roundness=0.75, softness=soft, shadow=1.2 * scale)


def paint_hand(canvas: Canvas, figure: Figure, looks: Looks, side: int) -> None:
    """A relaxed hand: a thumb, a palm with fingers; a fist when it points at the camera."""
    _, _, wrist, tip = figure.arm(side)
    root, end = figure.project(wrist), figure.project(tip)
    scale = figure.camera.scale * figure.stature / 170
    length = float(np.linalg.norm(end - root))
    if length < 3 * scale:
        fist = ellipse(root, 4.2 * scale, 4.6 * scale)
        canvas.shape(fist, looks.skin, roundness=0.8, softness=2 * scale)
        return
    forward = (end - root) / length
    across = np.array([-forward[1], forward[0]])
    if np.dot(across, figure.project((0, wrist[1], 0)) - root) < 0:
        across = -across  # the thumb points to the body

    def place(along: float, sideways: float) -> np.ndarray:
        """A share of the hand's length and cm toward the thumb -> photo."""
        return root + forward * length * along + across * sideways * scale

    wide = 1.25 * scale / length
    thumb = ((0.25 - 1.4 * wide, 2.6), (0.25 + 1.6 * wide, 2.6), (0.58 + wide, 5.2), (0.58, 5.2))
    palm = ((-0.05, 2.0), (0.2, 3.3), (0.5, 3.9), (0.78, 2.9), (0.97, 1.5))
    around = [*palm, *((along, -0.9 * half) for along, half in palm[::-1]), palm[0]]
    outline = curve([place(*point) for point in (*thumb, thumb[0])], 16)
    canvas.shape(outline, looks.skin, roundness=0.5, softness=scale)
    outline = curve([place(*point) for point in around], 36)[:-1]
    canvas.shape(outline, looks.skin, roundness=0.7, softness=1.8 * scale)
    for k in (-0.45, 0.05, 0.5):
        gap = ((0.6, 3.2 * k), (0.92, 2.0 * k), (0.92, 2.0 * k + 0.25), (0.6, 3.2 * k + 0.3))
        canvas.shape(np.array([place(*point) for point in gap]), toned(looks.skin, 0.82))
