"""Fabric swatches: one seamless tile per garment, drawn at the density of the photo.

A swatch repeats every ``period`` cm in both directions; clothes look their color up in it with
coordinates in cm, so a pattern keeps its real size whatever the garment or the zoom.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import cv2
import numpy as np

from tools.wardrobe.colors import lab_to_rgb

# Oversampling of a tile before it is averaged down: patterns finer than a pixel turn into the
# mixed tone a camera would see instead of moiré.
OVERSAMPLING = 3
LARGEST_TILE = 256


@dataclass(frozen=True, slots=True)
class Texture:
    """A fabric's appearance.

    name: a key of ``PAINTERS``. scale: size of the motif in cm. angle: turn of the pattern in
    degrees. fill: share of the second color or strength of the relief, 0..1. first, second: Lab.
    """

    name: str
    scale: float
    angle: float
    fill: float
    first: tuple[float, float, float]
    second: tuple[float, float, float]


# Motif size in cm each texture is drawn with, and the turns that make sense for it.
RANGES: dict[str, tuple[tuple[float, float], tuple[float, ...]]] = {
    "solid": ((1.0, 1.0), (0.0,)),
    "stripe": ((2.0, 9.0), (0.0, 90.0, 45.0, 0.0, 90.0)),
    "check": ((2.5, 8.0), (0.0, 0.0, 45.0)),
    "plaid": ((8.0, 20.0), (0.0, 0.0, 0.0, 45.0)),
    "dots": ((2.5, 8.0), (0.0, 45.0)),
    "floral": ((5.0, 12.0), (0.0, 30.0, 60.0)),
    "denim": ((1.0, 1.6), (0.0,)),
    "knit": ((1.6, 4.0), (0.0,)),
    "herringbone": ((3.0, 7.0), (0.0,)),
    "houndstooth": ((3.0, 8.0), (0.0,)),
    "camouflage": ((10.0, 22.0), (0.0,)),
    "leopard": ((3.5, 7.0), (0.0,)),
}
NAMES = tuple(RANGES)


def draw_texture(rng: np.random.Generator, first: tuple, second: tuple) -> Texture:
    """Choose a texture and its parameters, independently of color and shape."""
    # Plain cloth is what most people wear: one garment in four.
    name = "solid" if rng.random() < 0.18 else NAMES[rng.integers(len(NAMES))]
    (low, high), angles = RANGES[name]
    scale = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    angle = angles[rng.integers(len(angles))] + rng.uniform(-2, 2) * (name != "solid")
    fill = rng.uniform(0.15, 0.85)
    return Texture(name, round(scale, 2), round(float(angle), 1), round(fill, 3), first, second)


def paint_tile(texture: Texture, density: float) -> tuple[np.ndarray, float]:
    """Draw the seamless swatch of a texture.

    Args:
        texture: the fabric.
        density: pixels per cm of the photo it will be seen in.

    Returns:
        u8[T, T, 3] sRGB and the tile's length in cm (a pattern repeats a whole number of times).
    """
    repeats = {"floral": 3, "leopard": 5, "denim": 24, "knit": 4, "solid": 24, "camouflage": 3}
    period = texture.scale * repeats.get(texture.name, 1)
    side = int(np.clip(period * density, 6, LARGEST_TILE))
    fine = side * OVERSAMPLING
    share = PAINTERS[texture.name](fine, texture)
    first, second = lab_to_rgb(texture.first), lab_to_rgb(texture.second)
    small = cv2.resize(share.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return _mix(small, first, second), period


def _mix(share: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Shares of ink [T, T] or [T, T, 3] (second color, light, dark) -> u8 colors."""
    if share.ndim == 2:
        share = share[..., None]
    tile = first + (second - first) * share[..., :1]
    if share.shape[2] == 3:
        tile = tile + (250 - tile) * share[..., 1:2]
        tile = tile * (1 - share[..., 2:3])
    return np.clip(tile + 0.5, 0, 255).astype(np.uint8)


def _relief(value: np.ndarray) -> np.ndarray:
    """A tone map [T, T] in -1..1 -> shares (no second color, light, dark)."""
    return np.stack([np.zeros_like(value), np.maximum(value, 0), np.maximum(-value, 0)], axis=-1)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centers of the tile as x[1, side], y[side, 1] in 0..1."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side
    return axis[None, :], axis[:, None]


@lru_cache(maxsize=8)
def periodic_noise(side: int, cells: int, salt: int = 0) -> np.ndarray:
    """Smooth seamless noise f32[side, side], mean 0, about -1..1, with ``cells`` bumps across."""
    rng = np.random.default_rng([1905, cells, salt])
    coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    wrapped = np.pad(coarse, 4, mode="wrap")
    whole = cv2.resize(
        wrapped, None, fx=side / cells, fy=side / cells, interpolation=cv2.INTER_CUBIC
    )
    start = round(4 * side / cells)
    return np.ascontiguousarray(whole[start : start + side, start : start + side])


def _solid(side: int, texture: Texture) -> np.ndarray:
    return _relief(0.018 * periodic_noise(side, min(side // 2, 120)))


def _stripe(side: int, texture: Texture) -> np.ndarray:
    _, y = _grid(side)
    width = 0.18 + 0.45 * texture.fill
    band = (np.abs(y - 0.5) < width / 2).astype(np.float32)
    return np.repeat(band, side, axis=1)


def _check(side: int, texture: Texture) -> np.ndarray:
    """Gingham; thin lines (a windowpane) when the second color has little share."""
    x, y = _grid(side)
    if texture.fill < 0.4:
        line = 0.05 + 0.2 * texture.fill
        return ((np.abs(x - 0.5) < line) | (np.abs(y - 0.5) < line)).astype(np.float32)
    return 0.5 * (x < 0.5) + 0.5 * (y < 0.5)


def _plaid(side: int, texture: Texture) -> np.ndarray:
    x, y = _grid(side)
    shares = []
    for axis in (x, y):
        broad = (np.abs(axis - 0.3) < 0.10 + 0.12 * texture.fill) * 0.48
        pair = (np.abs(np.abs(axis - 0.78) - 0.05) < 0.016) * 0.8
        light = (np.abs(axis - 0.3) < 0.014) * 0.6
        dark = (np.abs(axis - 0.56) < 0.03) * 0.42
        shares.append((np.maximum(broad, pair), light, dark))
    both = [
        np.broadcast_to(1 - (1 - a) * (1 - b), (side, side)) for a, b in zip(*shares, strict=True)
    ]
    return np.stack(both, axis=-1)


def _dots(side: int, texture: Texture) -> np.ndarray:
    x, y = _grid(side)
    radius = 0.12 + 0.13 * texture.fill
    middle = np.hypot(x - 0.5, y - 0.5)
    corner = np.hypot(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    return (np.minimum(middle, corner) < radius).astype(np.float32)


def _stamp(canvas: np.ndarray, draw: Callable, x: float, y: float, reach: float) -> None:
    """Draw at (x, y) in 0..1 and again across the edges it reaches over, so that tiles join."""
    side = canvas.shape[0]
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            px, py = (x + dx) * side, (y + dy) * side
            if -reach < px < side + reach and -reach < py < side + reach:
                draw(canvas, px, py)


def _scattered(rng: np.random.Generator, cells: int) -> list[tuple[float, float]]:
    """One jittered point in each cell of a grid over the tile, alternate rows shifted."""
    points = []
    for row in range(cells):
        for column in range(cells):
            x = (column + 0.5 * (row % 2) + rng.uniform(0.1, 0.9)) / cells
            points.append((x % 1.0, (row + rng.uniform(0.1, 0.9)) / cells))
    return points


def _floral(side: int, texture: Texture) -> np.ndarray:
    """Five-petaled flowers of the second color, dark leaves, light centers."""
    rng = np.random.default_rng([7, int(texture.scale * 100)])
    canvas = np.zeros((side, side, 3), np.float32)
    for x, y in _scattered(rng, 3):
        size = side / 3 * (0.24 + 0.2 * texture.fill) * rng.uniform(0.65, 1.15)
        turn = rng.uniform(0, 6.28)
        _stamp(canvas, partial(_leaves, size=size, turn=turn), x, y, 2 * size)
        _stamp(canvas, partial(_flower, size=size, turn=turn), x, y, 2 * size)
    return canvas


def _leaves(canvas: np.ndarray, x: float, y: float, size: float, turn: float) -> None:
    for angle in (turn + 0.6, turn + 3.4):
        center = (int(x + 1.15 * size * np.cos(angle)), int(y + 1.15 * size * np.sin(angle)))
        axes = (max(1, int(0.6 * size)), max(1, int(0.2 * size)))
        cv2.ellipse(canvas, center, axes, np.degrees(angle), 0, 360, (0.45, 0.0, 0.42), -1)


def _flower(canvas: np.ndarray, x: float, y: float, size: float, turn: float) -> None:
    for petal in range(5):
        angle = turn + petal * 2 * np.pi / 5
        center = (int(x + 0.55 * size * np.cos(angle)), int(y + 0.55 * size * np.sin(angle)))
        axes = (max(1, int(0.48 * size)), max(1, int(0.33 * size)))
        cv2.ellipse(canvas, center, axes, np.degrees(angle), 0, 360, (1.0, 0.12, 0.0), -1)
    cv2.circle(canvas, (int(x), int(y)), max(1, int(0.24 * size)), (0.2, 0.75, 0.0), -1)


def _denim(side: int, texture: Texture) -> np.ndarray:
    """Twill: fine diagonal ridges with pale, uneven threads."""
    x, y = _grid(side)
    count = 60
    diagonal = np.sin(2 * np.pi * count * (x + y))
    slub = periodic_noise(side, 120) + 0.35 * periodic_noise(side, 30, 1)
    strength = 0.08 + 0.14 * texture.fill
    pale = np.clip(0.09 + strength * (0.7 * diagonal + 0.7 * slub), 0, 1)
    dark = np.clip(-0.8 * strength * (slub + 0.5 * diagonal), 0, 1)
    return np.stack([np.zeros_like(pale), pale, dark], axis=-1)


def _knit(side: int, texture: Texture) -> np.ndarray:
    """Columns of V stitches, every fourth column a deep rib."""
    x, y = _grid(side)
    column = (x * 4) % 1.0
    slope = np.abs(column - 0.5) * 1.3
    stitch = np.abs(((y * 6 + slope) % 1.0) - 0.5) * 2
    groove = np.exp(-((np.minimum(column, 1 - column) / 0.11) ** 2))
    rib = np.exp(-((np.minimum(x, 1 - x) / 0.07) ** 2))
    depth = 0.16 + 0.2 * texture.fill
    return _relief(depth * (0.55 * stitch - 0.35 - 1.1 * groove - 0.8 * rib))


def _herringbone(side: int, texture: Texture) -> np.ndarray:
    x, y = _grid(side)
    zigzag = np.abs(x - 0.5) * 2
    line = np.abs(((y * 2 + zigzag) % 1.0) - 0.5) * 2
    return (line < 0.25 + 0.4 * texture.fill).astype(np.float32) * 0.8


def _houndstooth(side: int, texture: Texture) -> np.ndarray:
    """The 8-thread twill: four dark and four light threads each way, color of the upper thread."""
    index = (np.arange(side) * 8) // side
    row, column = index[:, None], index[None, :]
    warp_up = ((row + column) % 4) < 2
    return np.where(warp_up, column < 4, row < 4).astype(np.float32)


def _camouflage(side: int, texture: Texture) -> np.ndarray:
    large = periodic_noise(side, 7, 2) + 0.5 * periodic_noise(side, 16, 3)
    other = periodic_noise(side, 8, 4) + 0.5 * periodic_noise(side, 18, 5)
    second = (large > 0.12).astype(np.float32)
    dark = ((other > 0.25) & (second < 1)) * 0.45
    light = ((other < -0.4) & (second > 0)) * 0.3
    return np.stack([second, light, dark], axis=-1)


def _leopard(side: int, texture: Texture) -> np.ndarray:
    """Broken dark rings around spots half way to the second color."""
    rng = np.random.default_rng([11, int(texture.scale * 100)])
    canvas = np.zeros((side, side, 3), np.float32)
    for x, y in _scattered(rng, 5):
        size = side / 5 * rng.uniform(0.26, 0.38)
        turn = rng.uniform(0, 360)
        _stamp(canvas, partial(_rosette, size=size, turn=turn), x, y, 2 * size)
    return canvas


def _rosette(canvas: np.ndarray, x: float, y: float, size: float, turn: float) -> None:
    center, axes = (int(x), int(y)), (max(1, int(size)), max(1, int(0.75 * size)))
    cv2.ellipse(canvas, center, axes, turn, 0, 360, (0.45, 0.0, 0.0), -1)
    for start, end in ((10, 120), (150, 230), (265, 340)):
        thick = max(1, int(0.42 * size))
        cv2.ellipse(canvas, center, axes, turn, start, end, (1.0, 0.0, 0.55), thick)


PAINTERS: dict[str, Callable[[int, Texture], np.ndarray]] = {
    "solid": _solid,
    "stripe": _stripe,
    "check": _check,
    "plaid": _plaid,
    "dots": _dots,
    "floral": _floral,
    "denim": _denim,
    "knit": _knit,
    "herringbone": _herringbone,
    "houndstooth": _houndstooth,
    "camouflage": _camouflage,
    "leopard": _leopard,
}
