"""Painting the head: face, hair in seven styles, and the plain head of a mannequin."""

import numpy as np

from tools.wardrobe.canvas import Canvas
from tools.wardrobe.colors import toned
from tools.wardrobe.figures import Figure
from tools.wardrobe.people import Looks
from tools.wardrobe.shapes import closed_curve, curve, ellipse, normals

# The skull as an ellipsoid, shares of the stature: center height, half width, height, depth.
CENTER, HALF, TALL, DEEP = 0.068, 0.0425, 0.066, 0.052


class Head:
    """Projects positions on the head, (x, y) in -1..1 of the skull, to the photo."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        size = figure.stature
        self.wide = float(np.hypot(HALF * np.cos(figure.yaw), DEEP * np.sin(figure.yaw))) * size
        self.middle = figure.project((0, CENTER * size, 0))
        self.scale = figure.camera.scale
        self.tall = TALL * size

    def outline(self, grow: float = 1.0, chin: float = 0.2) -> np.ndarray:
        """The silhouette f64[N, 2], an egg that narrows to the chin."""
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        x, y = np.sin(t), -np.cos(t)
        x = x * (1 - chin * np.maximum(y, 0) ** 1.5)
        return self.seen(x * grow, y * grow)

    def seen(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Silhouette coordinates -> photo; x = ±1 are the edges of the head as seen."""
        c, s = np.cos(self.figure.camera.roll), np.sin(self.figure.camera.roll)
        u, v = np.asarray(x) * self.wide * self.scale, np.asarray(y) * self.tall * self.scale
        return self.middle + np.stack([c * u - s * v, s * u + c * v], axis=-1)

    def face(self, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        """Points on the face, x = ±1 at the ears, y = -1 crown .. 1 chin -> photo."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        size = self.figure.stature
        z = DEEP * size * np.sqrt(np.maximum(1 - 0.8 * x**2 - 0.25 * y**2, 0))
        point = np.stack([x * HALF * size, CENTER * size + y * self.tall, z], axis=-1)
        return self.figure.project(point)

    def hidden(self) -> bool:
        """True when the face is turned away."""
        return np.cos(self.figure.yaw) < 0.25


def paint_back_hair(canvas: Canvas, figure: Figure, looks: Looks) -> None:
    """Hair that hangs behind the neck and shoulders: painted before the body."""
    if looks.mannequin or looks.hair_style not in ("bob", "long") or figure.facing < 0:
        return
    head = Head(figure)
    low = 1.35 if looks.hair_style == "bob" else 2.4
    x = np.array([0, 0.7, 1.08, 1.22, 1.28, 1.15, 0.6])
    y = np.array([-1.05, -0.85, -0.3, 0.4, 0.5 * (low + 0.6), low * 0.92, low])
    outline, soft = _mirrored(head, x, y), 3 * head.scale
    canvas.shape(outline, toned(looks.hair, 0.8), roundness=0.5, softness=soft)


def paint_head(canvas: Canvas, figure: Figure, looks: Looks) -> None:
    """Head with ears, face and the hair over it."""
    head = Head(figure)
    soft = 3.2 * head.scale
    if looks.headless or canvas.region(head.outline(), head.tall * head.scale) is None:
        return
    if not head.hidden() and not looks.mannequin:
        for side in (-1, 1):
            ear = ellipse(head.seen(side * 0.99, 0.12), 1.3 * head.scale, 2.7 * head.scale)
            canvas.shape(ear, toned(looks.skin, 0.9), roundness=0.4, softness=head.scale)
    canvas.shape(head.outline(), looks.skin, roundness=0.5, softness=soft, shadow=1.6 * head.scale)
    if looks.mannequin:
        return
    if not head.hidden():
        _face(canvas, head, looks)
    _hair(canvas, head, looks)


def _face(canvas: Canvas, head: Head, looks: Looks) -> None:
    scale, skin = head.scale, looks.skin
    if looks.beard:
        x = np.array([-0.93, -0.8, -0.35, 0.0, 0.35, 0.8, 0.93, 0.82, 0.45, 0.0, -0.45, -0.82])
        y = [0.1, 0.42, 0.44, 0.5, 0.44, 0.42, 0.1, 0.62, 0.93, 1.0, 0.93, 0.62]
        rgb = 0.75 * looks.hair + 0.25 * skin
        canvas.shape(head.face(x * 0.96, y), rgb, roundness=0.3, softness=2 * scale)
    for side in (-1, 1):
        _eye(canvas, head, looks, side)
        brow = head.face(side * np.array([0.2, 0.42, 0.66]), [-0.16, -0.22, -0.13])
        _stroke(canvas, brow, 0.7 * scale, 0.7 * looks.hair + 0.2 * skin)
        cheek = head.face(side * 0.52, 0.36)
        canvas.shape(ellipse(cheek, 1.9 * scale, 1.3 * scale), skin * (1.0, 0.93, 0.92))
    shaded = 1 if canvas.light.x < 0 else -1
    bridge = head.face(np.array([0.08, 0.13, 0.2]) * shaded, [0.0, 0.2, 0.33])
    _stroke(canvas, bridge, 0.5 * scale, toned(skin, 0.84))
    nostrils = head.face([-0.17, 0.0, 0.17], [0.35, 0.39, 0.35])
    _stroke(canvas, nostrils, 0.5 * scale, toned(skin, 0.72))
    lip = skin * (0.86, 0.66, 0.66) + (10, 0, 3)
    mouth = head.face(
        [-0.34, -0.12, 0.0, 0.12, 0.34, 0.16, 0.0, -0.16],
        [0.61, 0.56, 0.58, 0.56, 0.61, 0.69, 0.71, 0.69],
    )
    canvas.shape(curve(np.concatenate([mouth, mouth[:1]]), 24), lip)
    closed = head.face([-0.33, 0.0, 0.33], [0.61, 0.625, 0.61])
    _stroke(canvas, closed, 0.35 * scale, toned(lip, 0.6))


def _eye(canvas: Canvas, head: Head, looks: Looks, side: int) -> None:
    scale = head.scale
    squeeze = max(0.35, abs(np.cos(head.figure.yaw)))
    middle = head.face(side * 0.43, 0.03)
    canvas.shape(ellipse(middle, 1.65 * scale * squeeze, 0.85 * scale), (224, 216, 210))
    canvas.shape(ellipse(middle, 0.88 * scale * squeeze, 0.85 * scale), (58, 40, 30))
    lid = head.face(side * np.array([0.22, 0.43, 0.66]), [0.035, -0.045, 0.02])
    _stroke(canvas, lid, 0.5 * scale, toned(looks.hair, 0.5))


def _stroke(canvas: Canvas, line: np.ndarray, width: float, rgb: tuple | np.ndarray) -> None:
    """A short line that thins out at both ends."""
    fine = curve(line, 12)
    wide = np.sin(np.linspace(0.25, np.pi - 0.25, 12))[:, None] * width / 2
    across = normals(fine) * -wide
    canvas.shape(np.concatenate([fine + across, (fine - across)[::-1]]), rgb)


def _mirrored(head: Head, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A closed smooth outline from its right half in silhouette coordinates."""
    points = head.seen(np.concatenate([x, -x[::-1]]), np.concatenate([y, y[::-1]]))
    return closed_curve(points, 60)


def _hair(canvas: Canvas, head: Head, looks: Looks) -> None:
    """What covers the head: a beanie, the back of the hair, or the hair around the face."""
    soft = 2.6 * head.scale
    if looks.hair_style == "beanie":
        _beanie(canvas, head, looks.shoe_color)
        return
    if head.hidden():
        _hair_behind(canvas, head, looks)
        return
    if looks.hair_style == "bun":
        knot = ellipse(head.seen(0.05, -1.22), 3.6 * head.scale, 3.2 * head.scale)
        canvas.shape(knot, looks.hair, roundness=0.8, softness=soft)
    canvas.shape(_cap(head, looks.hair_style), looks.hair, roundness=0.7, softness=soft)
    _strands(canvas, head, looks)


def _beanie(canvas: Canvas, head: Head, rgb: np.ndarray) -> None:
    """A knitted cap with a turned-up band."""
    x = np.array([0, 0.7, 1.1, 1.12, 1.0, 0.5])
    y = np.array([-1.3, -1.12, -0.62, -0.3, -0.24, -0.2])
    canvas.shape(_mirrored(head, x, y), rgb, roundness=0.7, softness=2.6 * head.scale)
    x, y = np.array([0, 0.6, 1.13, 1.12, 0.6]), np.array([-0.5, -0.52, -0.58, -0.2, -0.14])
    canvas.shape(_mirrored(head, x, y), toned(rgb, 0.85), roundness=0.5, softness=head.scale)


def _cap(head: Head, style: str) -> np.ndarray:
    """The outline of the hair from ear to ear, over the crown and back along the hairline.

    Turned sideways, the hairline moves with the face and the back of the head comes into view.
    """
    lift = 0.02 if style == "buzz" else 0.12
    down = {"short": 0.05, "buzz": -0.05, "bob": 0.55, "long": 0.7}.get(style, 0.0)
    turn = float(np.sin(head.figure.yaw))
    right, left = float(turn < 0), float(turn > 0)
    t = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 17)
    crown_x, crown_y = np.sin(t) * (1 + lift) * 0.99, -np.cos(t) * (1 + lift)
    follow = np.array(
        [right, 0.9 * right + 0.1, 0.6, 0.55, 0.55, 0.55, 0.6, 0.9 * left + 0.1, left]
    )
    x = np.array([0.97, 0.9, 0.74, 0.35, -0.1, -0.5, -0.78, -0.9, -0.97]) + turn * follow
    y = np.array([down, -0.15, -0.42, -0.62, -0.58, -0.55, -0.38, -0.15, down])
    y[0] += 0.5 * max(-turn, 0)
    y[-1] += 0.5 * max(turn, 0)
    xs = np.concatenate([[-1.03], crown_x, [1.03], np.clip(x, -1, 1)])
    ys = np.concatenate([y[-1:], crown_y, y[:1], y])
    return closed_curve(head.seen(xs, ys), 90)


def _strands(canvas: Canvas, head: Head, looks: Looks) -> None:
    """A few lighter and darker strands from the parting."""
    if looks.hair_style == "buzz":
        return
    turn = 0.5 * float(np.sin(head.figure.yaw))
    for k, tone in ((-0.75, 1.12), (-0.4, 0.8), (0.25, 0.8), (0.55, 1.14), (0.8, 0.85)):
        x = [turn * 0.8 + 0.1, k * 0.75 + turn * 0.3, k * 1.02]
        strand = head.seen(x, [-1.0, -0.85, -0.45 + 0.25 * abs(k)])
        _stroke(canvas, strand, 0.7 * head.scale, toned(looks.hair, tone))


def _hair_behind(canvas: Canvas, head: Head, looks: Looks) -> None:
    """The back of the head, all hair."""
    low = {"long": 2.5, "bob": 1.25, "ponytail": 0.75, "bun": 0.7}.get(looks.hair_style, 0.62)
    flare = 1.2 if low > 1 else 0.9
    x = np.array([0, 0.7, 1.08, 1.1, flare, 0.8 * flare, 0.4])
    y = np.array([-1.1, -0.9, -0.3, 0.2, 0.6 * low, 0.95 * low, low])
    scale, light = head.scale, toned(looks.hair, 1.08)
    outline = _mirrored(head, x, y)
    canvas.shape(outline, looks.hair, roundness=0.6, softness=3 * scale, shadow=scale)
    if looks.hair_style == "bun":
        knot = ellipse(head.seen(0, -0.55), 4 * scale, 3.6 * scale)
        canvas.shape(knot, light, roundness=0.9, softness=2 * scale)
    if looks.hair_style == "ponytail":
        x, y = np.array([0, 0.3, 0.42, 0.3, 0.1]), np.array([-0.4, -0.1, 0.8, 1.7, 2.3])
        canvas.shape(_mirrored(head, x, y), light, roundness=0.9, softness=2 * scale)
    for k in (-0.7, -0.35, 0.1, 0.5, 0.8):
        strand = head.seen([k * 0.5, k, k * flare], [-0.8, 0.0, 0.85 * low])
        _stroke(canvas, strand, 0.6 * scale, toned(looks.hair, 0.8 if k < 0.2 else 1.15))


def paint_front_hair(canvas: Canvas, figure: Figure, looks: Looks) -> None:
    """Long locks that fall over the shoulders in front of the clothes."""
    if looks.hair_style != "long" or figure.facing < 0 or looks.headless:
        return
    head = Head(figure)
    for side in (-1, 1):
        x = side * np.array([0.93, 1.1, 1.22, 1.25, 1.15, 0.95, 0.85, 0.9, 0.88])
        y = [-0.1, 0.4, 1.0, 1.7, 2.5, 2.62, 1.9, 1.2, 0.5]
        lock, soft = closed_curve(head.seen(x, y), 40), 2 * head.scale
        canvas.shape(lock, looks.hair, roundness=0.7, softness=soft, shadow=head.scale)
        for k, tone in ((1.0, 0.8), (1.1, 1.15)):
            strand = head.seen(side * np.array([0.98, k, k * 1.02]), [0.1, 1.2, 2.4])
            _stroke(canvas, strand, 0.7 * head.scale, toned(looks.hair, tone))
