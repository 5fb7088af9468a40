"""Folds: where cloth creases, and the light and dark they make.

Coordinates on a panel are cm: u from its middle sideways, v from its start.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from tools.wardrobe.textures import periodic_noise

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Crease:
    """A kind of fold, each value drawn from its span.

    u: shares of the panel's half width; v: shares of its length; angle: radians, 0 across the
    panel; reach, width: cm; depth: times the cloth's own. mirrored: one for each side, pointing
    the other way. count: how many. limb: reach is in shares of the panel's half width.
    """

    u: Span
    v: Span
    angle: Span
    reach: Span
    width: Span
    depth: Span = (0.6, 1.2)
    mirrored: bool = False
    count: int = 1
    limb: bool = False


# Where cloth pulls and bunches up: armpits and waist, elbows and cuffs, crotch, knees and hems.
CREASES: dict[str, tuple[Crease, ...]] = {
    "trunk": (
        Crease((0.75, 0.75), (0.2, 0.3), (2.2, 2.6), (8, 8), (1.3, 1.3), (1, 1), mirrored=True),
        Crease((0.5, 0.9), (0.4, 0.75), (-0.7, 0.1), (5, 10), (0.9, 1.6), mirrored=True, count=2),
        Crease((-0.7, 0.7), (0.4, 0.95), (1.2, 1.9), (8, 16), (1.2, 2.2), (0.5, 1.1), count=3),
    ),
    "sleeve": tuple(
        Crease((-0.6, 0.6), (v, v + 0.08), (-0.6, 0.6), (0.7, 1.3), (0.7, 1.2), limb=True)
        for v in (0.06, 0.26, 0.41, 0.48, 0.56, 0.74, 0.88)
    ),
    "leg": (
        *(
            Crease((-0.8, 0.8), (v, v + 0.06), (-0.7, 0.4), (0.6, 1.2), (0.9, 1.5), limb=True)
            for v in (0.13, 0.19, 0.27, 0.47, 0.53, 0.59, 0.87, 0.92)
        ),
        Crease((-0.3, 0.3), (0.7, 0.8), (1.4, 1.7), (18, 18), (1.6, 1.6), (0.7, 0.7)),
    ),
    "skirt": (
        Crease((-0.8, 0.8), (0.15, 0.9), (1.3, 1.8), (8, 18), (1.2, 2.2), (0.4, 0.9), count=5),
    ),
}  # fmt: skip


def draw_folds(rng: np.random.Generator, drape: str, wide: float, length: float) -> np.ndarray:
    """Choose the folds of a panel.

    Args:
        rng: this photo's folds. drape: a key of CREASES.
        wide: half width of the panel; length: of the panel, cm.

    Returns:
        f64[F, 7]: u, v; angle; reach, width; depth; bend.
    """
    rows = []
    for crease in CREASES[drape]:
        for side in (-1, 1) if crease.mirrored else (1,):
            for _ in range(crease.count):
                spans = crease.u, crease.v, crease.angle, crease.reach, crease.width, crease.depth
                u, v, angle, reach, width, depth = (rng.uniform(*span) for span in spans)
                reach *= wide if crease.limb else 1
                bend = rng.uniform(-0.6, 0.6)
                rows.append((side * u * wide, v * length, side * angle, reach, width, depth, bend))
    return np.array(rows)


def shade_folds(
    folds: np.ndarray, light: tuple[float, float], u: np.ndarray, v: np.ndarray
) -> np.ndarray:
    """Light added or taken by folds, f32[h, w], about -0.5 .. 0.5 for folds of depth 1.

    Args:
        folds: of ``draw_folds``. light: where it comes from, (x, y). u, v: f32[h, w].
    """
    total = np.zeros(u.shape, np.float32)
    for u0, v0, angle, reach, width, depth, bend in folds.astype(np.float32):
        c, s = np.cos(angle), np.sin(angle)
        du, dv = u - u0, v - v0
        along = (du * c + dv * s) / reach
        along *= along
        across = (dv * c - du * s) / width + bend * along
        # Lit on the side that faces the light, dark on the other and in the crease.
        slope = (c * (light[1] - 0.35) - s * light[0] * 1.3) * 1.9
        total += depth * np.exp(-0.5 * across * across - along) * (across * slope - 0.35)
    return total


def shade_flutes(flutes: tuple[float, float, float], light: float, s: np.ndarray, fall: np.ndarray):
    """Light f32[h, w] of the folds that fall from a waist and deepen toward the hem.

    Args:
        flutes: number, strength, phase. light: x of where it comes from.
        s: -1..1 across the skirt. fall: 0 at the waist .. 1 at the hem.
    """
    count, strength, phase = flutes
    t = count * np.arcsin(np.clip(s, -1, 1) * 0.98) + phase + 0.5 * np.sin(4 * fall + phase)
    push = -0.8 * np.sin(t) * np.sign(light or 1) - 0.44 * (1 - np.cos(t))
    return 0.5 * strength * fall**1.3 * push


@lru_cache(maxsize=1)
def _crumple_tile() -> np.ndarray:
    """Seamless crumple, as slopes: f32[256, 256], about -1..1."""
    height = periodic_noise(256, 8, 6) + 0.5 * periodic_noise(256, 16, 7)
    height = height + 0.2 * periodic_noise(256, 32, 8)
    return ((height - np.roll(height, (4, 3), (0, 1))) * 1.6).astype(np.float32)


def crumple(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Small uneven wrinkles f32[h, w] about -1..1, from another spot of the cloth each time."""
    x = (u * 9 + rng.uniform(0, 256)).astype(np.float32)
    y = (v * 4 + 2 * u + rng.uniform(0, 256)).astype(np.float32)
    return cv2.remap(_crumple_tile(), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
