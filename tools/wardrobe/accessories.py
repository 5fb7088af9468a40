"""Things that hold clothes or occlude them: hangers, bags, phones, foreground objects."""

import cv2
import numpy as np

from tools.wardrobe.canvas import NOBODY, Canvas
from tools.wardrobe.colors import NAMED, lab_to_rgb, toned
from tools.wardrobe.figures import Figure
from tools.wardrobe.patterns import parallel
from tools.wardrobe.shapes import curve, ellipse, moved

BAGS = ("crossbody", "shoulder", "hand")


def paint_hanger(
    canvas: Canvas, figure: Figure, rng: np.random.Generator, *, clips: bool, waist: float
) -> None:
    """A wooden or wire hanger inside the shoulders, or with clips at a waistband."""
    scale = figure.camera.scale
    rgb = ((176, 132, 84), (60, 60, 64), (228, 226, 220), (120, 84, 52))[rng.integers(4)]
    if clips:
        y = waist - 2.5
        bar = figure.project(np.array([(-14.0, y, 0), (14.0, y, 0)]))
        canvas.shape(_thick(bar, 1.3 * scale), rgb, roundness=0.5, softness=scale, shadow=scale)
        for x in (-11.0, 11.0):
            clip = figure.project(np.array([(x, y - 1, 0), (x, y + 5.5, 0)]))
            canvas.shape(_thick(clip, 2.6 * scale), (170, 170, 176), roundness=0.5, softness=scale)
        hook_y = y
    else:
        neck = figure.y(0.163)
        arms = np.array([(-17.0, neck + 8, 0), (0, neck - 2.5, 0), (17.0, neck + 8, 0)])
        line = curve(figure.project(arms), 16)
        canvas.shape(_thick(line, 2.6 * scale), rgb, roundness=0.6, softness=scale)
        hook_y = neck - 2.5
    hook = [(0, 0), (0, 5), (2.6, 7.5), (2.2, 11), (-1.2, 12), (-2.6, 9.5)]
    line = curve(figure.project(np.array([(x, hook_y - up, 0) for x, up in hook])), 24)
    canvas.shape(_thick(line, 0.8 * scale), (150, 150, 156), shadow=0.8 * scale)


def paint_rail(canvas: Canvas, figure: Figure, y: float) -> None:
    """A clothes rail behind the hook."""
    camera = figure.camera
    row = camera.y + (y - camera.height) * camera.scale
    line = np.array([(-50.0, row), (canvas.width + 50.0, row)])
    outline, scale = _thick(line, 2.6 * camera.scale), camera.scale
    canvas.shape(outline, (165, 165, 170), roundness=0.7, softness=scale, shadow=2 * scale)


def _thick(line: np.ndarray, width: float) -> np.ndarray:
    """The outline of a line of some width."""
    return np.concatenate([parallel(line, width / 2), parallel(line, -width / 2)[::-1]])


def paint_bag(canvas: Canvas, figure: Figure, kind: str, rng: np.random.Generator) -> None:
    """A bag with its strap across the trunk, over a shoulder, or in a hand."""
    names = list(NAMED)
    rgb = lab_to_rgb(NAMED[names[rng.integers(len(names))]])
    scale, unit = figure.camera.scale, figure.stature / 170
    side = int(rng.choice((-1, 1)))
    size = rng.uniform(0.8, 1.3) * unit
    if kind == "hand":
        top = figure.project(figure.arm(side)[3])
        center = moved(top, 0, 16 * scale * size)
        _bag_body(canvas, center, 15 * scale * size, 13 * scale * size, rgb)
        handle = np.array([(-8, 14), (-6, 0), (6, 0), (8, 14)]) * scale * size * (1, 0.5) + top
        canvas.shape(_thick(curve(handle, 16), 1.2 * scale), toned(rgb, 0.7))
        return
    depth = float(figure.depth(figure.y(0.3))) + 3
    shoulder = (-side if kind == "crossbody" else side) * 11.0 * unit
    hip_x, hip_y = side * 17.0 * unit, figure.y(0.46 if kind == "crossbody" else 0.37)
    y0 = figure.y(0.182)
    points = [
        (shoulder, y0, 0.3 * depth),
        (0.75 * shoulder + 0.25 * hip_x, y0 + 0.27 * (hip_y - y0), depth),
        (hip_x, hip_y, 0.5 * depth),
    ]
    strap = curve(figure.project(np.array(points)), 20)
    canvas.shape(_thick(strap, rng.uniform(1.2, 3.0) * scale), toned(rgb, 0.8), shadow=scale)
    center = figure.project((hip_x, hip_y + 9 * size, 0.8 * depth))
    _bag_body(canvas, center, 12 * scale * size, 9 * scale * size, rgb)


def _bag_body(
    canvas: Canvas, center: np.ndarray, half: float, tall: float, rgb: np.ndarray
) -> None:
    corners = np.array(
        [(-1, -1), (0, -1.04), (1, -1), (1.06, 0.8), (0.85, 1), (-0.85, 1), (-1.06, 0.8), (-1, -1)]
    )
    outline = curve(corners * (half, tall) + center, 40)[:-1]
    canvas.shape(outline, rgb, roundness=0.5, softness=0.25 * half, shadow=0.18 * half)
    flap = np.array([(-1, -1), (1, -1), (1, -0.1), (0, 0.25), (-1, -0.1)]) * (half, tall) + center
    canvas.shape(flap, toned(rgb, 1.12), shadow=0.06 * half)
    canvas.shape(ellipse(moved(center, 0, 0.1 * tall), 0.09 * half, 0.09 * half), (212, 186, 120))


def paint_phone(canvas: Canvas, figure: Figure, side: int) -> None:
    """A phone held before the face, as in a mirror."""
    joints = figure.project(figure.arm(side))
    scale = figure.camera.scale * figure.stature / 170
    center = 0.35 * joints[2] + 0.65 * joints[3]
    half, tall = 3.9 * scale, 7.8 * scale
    corners = np.array([
        (-1, -0.92), (-0.85, -1), (0.85, -1), (1, -0.92), (1, 0.92), (0.85, 1), (-0.85, 1),
        (-1, 0.92),
    ])  # fmt: skip
    body = corners * (half, tall) + center
    canvas.shape(body, (26, 26, 30), roundness=0.3, softness=scale, shadow=scale)
    lens = ellipse(moved(center, -0.5 * half, -0.75 * tall), 0.8 * scale, 0.8 * scale)
    canvas.shape(lens, (70, 74, 84))


def paint_foreground(canvas: Canvas, rng: np.random.Generator) -> None:
    """Something near the camera, out of focus, that hides a corner: leaves, a table, a shoulder."""
    h, w = canvas.height, canvas.width
    side = float(rng.choice((0, w)))
    reach = rng.uniform(0.22, 0.42) * w
    center = np.array([side, rng.uniform(0.45, 1.05) * h])
    t = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    radius = reach * rng.uniform(0.75, 1.2, 14)
    outline = curve(np.stack([np.cos(t) * radius, np.sin(t) * radius * 1.4], axis=1) + center, 60)
    region = canvas.region(outline, 0.1 * w)
    if region is None:
        return
    x0, y0, x1, y1 = region
    alpha = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(alpha, [(outline - (x0, y0)).astype(np.int32)], 255)
    alpha = cv2.GaussianBlur(alpha, (0, 0), 0.02 * w)
    rgb = lab_to_rgb((rng.uniform(15, 70), rng.uniform(-20, 20), rng.uniform(-10, 25)))
    color = np.full((*alpha.shape, 3), rgb.astype(np.uint8))
    canvas.paint(region, alpha, color, NOBODY)
