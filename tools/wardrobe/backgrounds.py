"""Places to photograph clothes in: studios, rooms, walls, streets, parks, shops, and surfaces.

Every place is painted from a generator alone, at a size, as u8[H, W, 3] sRGB.
"""

import cv2
import numpy as np

from tools.wardrobe.canvas import shaded
from tools.wardrobe.colors import lab_to_rgb
from tools.wardrobe.surfaces import SURFACES, Place, mottle, pale, plain


def paint_place(rng: np.random.Generator, kind: str, place: Place) -> np.ndarray:
    """The background u8[H, W, 3] of a kind, lit unevenly as places are."""
    rgb = _PAINTERS[kind](rng, place)
    if rgb.shape[:2] != place.shape:
        rgb = cv2.resize(rgb, (place.width, place.height), interpolation=cv2.INTER_LINEAR)
    return shaded(rgb, _glow(rng, place))


def _glow(rng: np.random.Generator, place: Place) -> np.ndarray:
    """Uneven light f32[H, W]: brighter around one spot, darker toward the corners."""
    x = np.linspace(-1, 1, 24, dtype=np.float32)[None, :] - rng.uniform(-0.7, 0.7)
    y = np.linspace(-1, 1, 32, dtype=np.float32)[:, None] - rng.uniform(-0.7, 0.3)
    fall = rng.uniform(0.03, 0.14)
    small = 1.04 - fall * (x * x + y * y)
    return cv2.resize(small, (place.width, place.height), interpolation=cv2.INTER_LINEAR)


def _studio(rng: np.random.Generator, place: Place) -> np.ndarray:
    """Seamless paper: the wall curves into the floor."""
    color = pale(rng, 60, 98, 14) if rng.random() < 0.7 else np.full(3, rng.uniform(225, 252))
    rows = np.arange(place.height // 2, dtype=np.float32) * 2
    t = np.clip((rows - place.horizon) / max(0.35 * place.height, 1) + 0.5, 0, 1)
    light = 1.0 - 0.10 * t * t * (3 - 2 * t) * rng.uniform(0.3, 1.4)
    column = np.clip(light[:, None] * color, 0, 255)
    return np.repeat(column[:, None], place.width // 2, axis=1).astype(np.uint8)


def _floor(rgb: np.ndarray, rng: np.random.Generator, horizon: int) -> None:
    """A floor below the horizon row: boards, tiles, or plain, in perspective."""
    h, w = rgb.shape[:2]
    if horizon >= h:
        return
    horizon = max(horizon, 0)
    color = lab_to_rgb((rng.uniform(35, 80), rng.uniform(0, 12), rng.uniform(2, 24)))
    rgb[horizon:] = color.astype(np.uint8)
    rgb[horizon:] = mottle(rgb[horizon:], rng, 0.06, 16)
    center, spread = rng.uniform(0.2, 0.8) * w, rng.uniform(0.05, 0.12) * w
    line = (color * 0.78).tolist()
    kind = rng.integers(3)
    if kind < 2:
        for k in range(-14, 15):
            top, low = center + k * spread, center + k * spread * 3.2
            a, b = (int(top), horizon), (int(low), h)
            cv2.line(rgb, a, b, line, 1, cv2.LINE_AA)
    if kind == 1:
        y, step = float(horizon), 4.0
        while y < h:
            cv2.line(rgb, (0, int(y)), (w, int(y)), line, 1, cv2.LINE_AA)
            y, step = y + step, step * 1.35
    skirting = max(2, h // 60)
    cv2.rectangle(rgb, (0, horizon - skirting), (w, horizon), (232, 228, 222), -1)
    cv2.line(rgb, (0, horizon), (w, horizon), (color * 0.5).tolist(), 1, cv2.LINE_AA)


def _wall(rng: np.random.Generator, place: Place) -> np.ndarray:
    """A painted wall with something on it or before it."""
    rgb = mottle(plain(place.shape, pale(rng, 55, 93, 22)), rng, 0.025, 32)
    h, w = place.shape
    for _ in range(rng.integers(0, 3)):
        x = int(rng.choice((rng.uniform(-0.05, 0.2), rng.uniform(0.72, 0.95))) * w)
        (_picture, _open_door, _window, _shelf)[rng.integers(4)](rgb, rng, x, place)
    _floor(rgb, rng, place.horizon)
    if rng.random() < 0.5:
        x = int(rng.choice((0.08, 0.92)) * w)
        _plant(rgb, rng, x, min(place.horizon + 10, h + 30), place.scale)
    blur = rng.uniform(0.4, 1.6) * place.scale / 3
    return cv2.GaussianBlur(rgb, (0, 0), max(blur, 0.3))


def _box(rgb: np.ndarray, x: int, y: int, w: int, h: int, color: np.ndarray | tuple) -> None:
    """A filled rectangle."""
    cv2.rectangle(rgb, (x, y), (x + w, y + h), [float(c) for c in color], -1)


def _picture(rgb: np.ndarray, rng: np.random.Generator, x: int, place: Place) -> None:
    h, w = rgb.shape[:2]
    y, pw, ph = (int(v) for v in rng.uniform((0.05, 0.12, 0.12), (0.35, 0.3, 0.28)) * (h, w, h))
    _box(rgb, x + 3, y + 4, pw, ph, rgb[0, 0] * 0.75)
    _box(rgb, x, y, pw, ph, np.full(3, rng.uniform(20, 240)))
    _box(rgb, x + 4, y + 4, pw - 8, ph - 8, pale(rng, 40, 95, 40))
    color = pale(rng, 30, 80, 50).tolist()
    cv2.circle(rgb, (x + pw // 2, y + ph // 2), pw // 4, color, -1, cv2.LINE_AA)


def _open_door(rgb: np.ndarray, rng: np.random.Generator, x: int, place: Place) -> None:
    top, wide = int(place.horizon - 205 * place.scale), int(85 * place.scale)
    tall, color = place.horizon - top, pale(rng, 45, 95, 25)
    _box(rgb, x - 5, top - 5, wide + 10, tall + 5, color * 0.8)
    _box(rgb, x, top, wide, tall, color)
    for k in (0.12, 0.55):
        a = (x + wide // 6, int(top + k * tall))
        b = (x + wide * 5 // 6, int(top + (k + 0.35) * tall))
        cv2.rectangle(rgb, a, b, (color * 0.86).tolist(), 2, cv2.LINE_AA)
    cv2.circle(rgb, (x + wide - 8, top + tall // 2), 4, (170, 150, 110), -1, cv2.LINE_AA)


def _window(rgb: np.ndarray, rng: np.random.Generator, x: int, place: Place) -> None:
    h, w = rgb.shape[:2]
    y, pw, ph = (int(v) for v in rng.uniform((0.02, 0.2, 0.25), (0.2, 0.35, 0.45)) * (h, w, h))
    frame = (236, 234, 230)
    _box(rgb, x - 6, y - 6, pw + 12, ph + 12, frame)
    _box(rgb, x, y, pw, ph, pale(rng, 80, 97, 14))
    cv2.line(rgb, (x + pw // 2, y), (x + pw // 2, y + ph), frame, 5)
    cv2.line(rgb, (x, y + ph // 2), (x + pw, y + ph // 2), frame, 4)


def _shelf(rgb: np.ndarray, rng: np.random.Generator, x: int, place: Place) -> None:
    """A bookcase with rows of colored backs."""
    h, w = rgb.shape[:2]
    wide, board = int(rng.uniform(0.2, 0.32) * w), int(max(30 * place.scale, 12))
    wood = lab_to_rgb((rng.uniform(30, 80), 10, 22))
    top = int(rng.uniform(0.0, 0.2) * h)
    cv2.rectangle(rgb, (x, top), (x + wide, place.horizon), (wood * 0.6).tolist(), -1)
    for y in range(top + board, place.horizon, board):
        at = x + 4
        while at < x + wide - 6:
            thick, tall = int(rng.uniform(0.1, 0.3) * board) + 1, rng.uniform(0.5, 0.85) * board
            color = pale(rng, 25, 85, 45).tolist()
            cv2.rectangle(rgb, (at, int(y - tall)), (at + thick, y), color, -1)
            at += thick + 1
        cv2.rectangle(rgb, (x, y), (x + wide, y + 4), wood.tolist(), -1)


def _plant(rgb: np.ndarray, rng: np.random.Generator, x: int, floor: int, scale: float) -> None:
    """A pot with arching leaves."""
    unit = max(scale, 0.8)
    green = lab_to_rgb((rng.uniform(30, 50), -22, 22))
    for _ in range(14):
        angle, length = rng.uniform(-2.6, -0.55), rng.uniform(25, 60) * unit
        root = np.array([x, floor - 30 * unit])
        tip = root + length * np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-np.sin(angle), np.cos(angle)]) * rng.uniform(2.5, 5) * unit
        leaf = np.array([root, (root + tip) / 2 + across, tip, (root + tip) / 2 - across])
        color = np.clip(green * rng.uniform(0.7, 1.3), 0, 255).tolist()
        cv2.fillConvexPoly(rgb, leaf.astype(np.int32), color, cv2.LINE_AA)
    pot = np.array([(-13, -32), (13, -32), (9, 0), (-9, 0)]) * unit + (x, floor)
    color = pale(rng, 40, 90, 30).tolist()
    cv2.fillConvexPoly(rgb, pot.astype(np.int32), color, cv2.LINE_AA)


def _brick(rng: np.random.Generator, place: Place) -> np.ndarray:
    """Tiles, or bricks, row shifted against row."""
    h, w = place.shape
    if rng.random() < 0.35:
        base = pale(rng, 75, 95, 14)
        joint, cm, shift, tones, roughness = base * 0.92, (15, 15), 0, (0.97, 1.02), 0.012
    else:
        base = lab_to_rgb((rng.uniform(35, 70), rng.uniform(5, 25), rng.uniform(8, 24)))
        joint, cm, shift, tones, roughness = base * 0.78 + 20, (7.5, 22), 0.5, (0.82, 1.14), 0.05
    rgb = mottle(plain((h, w), joint), rng, 0.03, 32)
    bh, bw = max(cm[0] * place.scale, 5), max(cm[1] * place.scale, 8)
    rows, columns = int(h / bh) + 1, int(w / bw) + 2
    tones = rng.uniform(*tones, (rows, columns))
    for r in range(rows):
        for c in range(columns):
            x = (c - shift * (r % 2)) * bw
            a, b = (int(x + 1), int(r * bh + 1)), (int(x + bw - 1), int((r + 1) * bh - 1))
            cv2.rectangle(rgb, a, b, np.clip(base * tones[r, c], 0, 255).tolist(), -1)
    rgb = mottle(rgb, rng, roughness, 64)
    _floor(rgb, rng, place.horizon)
    return cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.5, 1.6))


def _street(rng: np.random.Generator, place: Place) -> np.ndarray:
    """Houses with windows, a pavement, out of focus."""
    h, w = place.half_shape
    rgb = plain((h, w), pale(rng, 85, 97, 12))
    horizon = int(np.clip(place.horizon / 2, 0.35 * h, h * 1.2))
    x = -int(rng.uniform(0, 0.2) * w)
    while x < w:
        wide = int(rng.uniform(0.2, 0.55) * w)
        _house(rgb, rng, x, x + wide, int(rng.uniform(-0.3, 0.25) * h), horizon)
        x += wide
    if horizon < h:
        rgb[horizon:] = lab_to_rgb((rng.uniform(45, 72), 0, rng.uniform(-2, 5))).astype(np.uint8)
        rgb[horizon:] = mottle(rgb[horizon:], rng, 0.05, 64)
        cv2.line(rgb, (0, horizon + 6), (w, horizon + 6), (196, 194, 190), 3)
    for _ in range(rng.integers(0, 4)):
        cx, rx = rng.uniform(0, 1) * w, rng.uniform(0.1, 0.22) * w
        middle, radii = (int(cx), horizon - int(rx * 0.3)), (int(rx), int(rx * 0.32))
        cv2.ellipse(rgb, middle, radii, 0, 0, 360, pale(rng, 25, 85, 50).tolist(), -1)
    return cv2.GaussianBlur(rgb, (0, 0), rng.uniform(1.2, 4.5) * w / 240)


def _house(rgb: np.ndarray, rng: np.random.Generator, x0: int, x1: int, top: int, low: int) -> None:
    """A facade with rows of windows and a shop front."""
    wall = pale(rng, 40, 88, 26)
    cv2.rectangle(rgb, (x0, top), (x1, low), wall.tolist(), -1)
    columns, storey = int(rng.integers(2, 5)), max(int(rng.uniform(0.13, 0.22) * rgb.shape[0]), 8)
    glass = pale(rng, 20, 70, 12)
    step = (x1 - x0) / columns
    for y in range(top + storey // 3, low - storey, storey):
        for c in range(columns):
            a = (int(x0 + (c + 0.25) * step), y)
            b = (int(x0 + (c + 0.75) * step), y + int(storey * 0.6))
            cv2.rectangle(rgb, a, b, np.clip(glass * rng.uniform(0.7, 1.4), 0, 255).tolist(), -1)
            cv2.rectangle(rgb, a, b, (225, 222, 216), 1)
    front = pale(rng, 20, 90, 40).tolist()
    cv2.rectangle(rgb, (x0 + 3, low - int(storey * 0.9)), (x1 - 3, low), front, -1)
    cv2.rectangle(rgb, (x0 + 8, low - int(storey * 0.62)), (x1 - 8, low), (70, 74, 80), -1)


def _park(rng: np.random.Generator, place: Place) -> np.ndarray:
    """Grass, trees and spots of light, far out of focus."""
    h, w = place.half_shape
    rgb = plain((h, w), lab_to_rgb((rng.uniform(60, 88), rng.uniform(-14, -4), rng.uniform(0, 22))))
    horizon = int(np.clip(place.horizon / 2, 0.3 * h, h * 1.1))
    for _ in range(26):
        green = lab_to_rgb((rng.uniform(28, 72), rng.uniform(-28, -8), rng.uniform(14, 40)))
        center = (int(rng.uniform(0, w)), int(rng.uniform(-0.1, 1) * horizon))
        cv2.circle(rgb, center, int(rng.uniform(0.06, 0.2) * w), green.tolist(), -1)
    if horizon < h:
        rgb[horizon:] = lab_to_rgb((rng.uniform(48, 66), -20, 30)).astype(np.uint8)
        rgb[horizon:] = mottle(rgb[horizon:], rng, 0.12, 64)
    rgb = cv2.GaussianBlur(rgb, (0, 0), 5 * w / 240)
    light = rgb.copy()
    for _ in range(rng.integers(4, 16)):
        center = (int(rng.uniform(0, w)), int(rng.uniform(0, 0.7) * h))
        radius = int(rng.uniform(0.015, 0.05) * w)
        cv2.circle(light, center, radius, (250, 246, 214), -1, cv2.LINE_AA)
    return cv2.addWeighted(light, 0.35, rgb, 0.65, 0)


def _shop(rng: np.random.Generator, place: Place) -> np.ndarray:
    """A shop with full rails behind, out of focus."""
    h, w = place.half_shape
    rgb = plain((h, w), pale(rng, 70, 95, 10))
    horizon = int(np.clip(place.horizon / 2, 0.4 * h, h * 1.2))
    for top in (0.08, 0.48):
        y0 = int(top * h)
        x = 0
        while x < w:
            thick = int(rng.uniform(0.02, 0.07) * w) + 1
            low = min(int(y0 + rng.uniform(0.2, 0.33) * h), horizon - 4)
            if rng.random() < 0.85:
                color = pale(rng, 18, 92, 45).tolist()
                cv2.rectangle(rgb, (x, y0 + 5), (x + thick, low), color, -1)
            x += thick + 1
        cv2.line(rgb, (0, y0), (w, y0), (120, 120, 122), 3)
    _floor(rgb, rng, horizon)
    return cv2.GaussianBlur(rgb, (0, 0), rng.uniform(2.5, 5) * w / 240)


def _curtain(rng: np.random.Generator, place: Place) -> np.ndarray:
    """Hanging cloth in soft vertical folds."""
    h, w = place.shape
    x = np.linspace(0, 1, w, dtype=np.float32)
    wave = np.zeros(w, np.float32)
    for count in (rng.uniform(5, 9), rng.uniform(11, 17)):
        wave += np.sin(2 * np.pi * count * x + rng.uniform(0, 6.28) + np.sin(5 * x))
    light = np.repeat((1 + 0.06 * wave)[None], h, axis=0)
    rgb = shaded(plain((h, w), pale(rng, 45, 92, 30)), light)
    _floor(rgb, rng, place.horizon)
    return rgb


_PAINTERS = {
    "studio": _studio,
    "wall": _wall,
    "brick": _brick,
    "street": _street,
    "park": _park,
    "shop": _shop,
    "curtain": _curtain,
    **SURFACES,
}
