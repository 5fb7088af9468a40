"""Surfaces that clothes lie on or hang before, and the colors and textures of all places."""

from dataclasses import dataclass

import cv2
import numpy as np

from tools.wardrobe.canvas import shaded
from tools.wardrobe.colors import lab_to_rgb
from tools.wardrobe.textures import periodic_noise


@dataclass(frozen=True, slots=True)
class Place:
    """Size in px of the photo, px per cm, and the row where the floor meets the wall."""

    width: int
    height: int
    scale: float
    horizon: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def half_shape(self) -> tuple[int, int]:
        """Of a place that is painted at half size, since it will be out of focus."""
        return self.height // 2, self.width // 2


def plain(shape: tuple[int, int], rgb: np.ndarray | tuple) -> np.ndarray:
    """One color everywhere: u8[H, W, 3]."""
    canvas = np.empty((*shape, 3), np.uint8)
    canvas[:] = np.clip(rgb, 0, 255).astype(np.uint8)
    return canvas


def pale(rng: np.random.Generator, low: float, high: float, chroma: float) -> np.ndarray:
    """A muted color for large surfaces."""
    angle = rng.uniform(0, 2 * np.pi)
    strength = chroma * rng.uniform(0, 1) ** 1.5
    lab = (rng.uniform(low, high), strength * np.cos(angle), strength * np.sin(angle))
    return lab_to_rgb(lab)


def mottle(rgb: np.ndarray, rng: np.random.Generator, strength: float, cells: int) -> np.ndarray:
    """Uneven tone, as plaster, paper or asphalt have; ``cells`` bumps across."""
    h, w = rgb.shape[:2]
    noise = periodic_noise(256, cells, 20) + 0.6 * periodic_noise(256, min(4 * cells, 128), 21)
    turn = rng.integers(0, 256, 2)
    noise = np.roll(noise, turn, (0, 1))
    side = max(h, w)
    light = cv2.resize(noise, (side, side), interpolation=cv2.INTER_LINEAR)[:h, :w]
    return shaded(rgb, 1 + strength * light)


def _paper(rng: np.random.Generator, place: Place) -> np.ndarray:
    color = np.full(3, rng.uniform(222, 250)) if rng.random() < 0.6 else pale(rng, 65, 95, 22)
    return mottle(plain(place.shape, color), rng, 0.012, 48)


def _wood(rng: np.random.Generator, place: Place) -> np.ndarray:
    """Boards with grain."""
    h, w = place.shape
    color = lab_to_rgb((rng.uniform(38, 82), rng.uniform(4, 14), rng.uniform(10, 28)))
    board = max(int(rng.uniform(11, 20) * place.scale), 8)
    size = (board * 2, h * 4)
    grain = cv2.resize(periodic_noise(256, 128, 9), size, interpolation=cv2.INTER_LINEAR)
    rgb, seam = plain((h, w), color), (color * 0.55).tolist()
    for i, x in enumerate(range(0, w, board)):
        part = rgb[:, x : x + board]
        shift = int(rng.integers(0, h * 3))
        light = rng.uniform(0.88, 1.06) * (1 + 0.07 * grain[shift : shift + h, : part.shape[1]])
        part[:] = shaded(np.ascontiguousarray(part), np.ascontiguousarray(light))
        cv2.line(rgb, (x, 0), (x, h), seam, 1, cv2.LINE_AA)
        y = int(rng.uniform(0, h)) if i % 2 else int(rng.uniform(0, h) * 0.5)
        cv2.line(rgb, (x, y), (x + board, y), seam, 1, cv2.LINE_AA)
    return rgb


def _sheet(rng: np.random.Generator, place: Place) -> np.ndarray:
    """A crumpled bed sheet."""
    h, w = place.half_shape
    height = periodic_noise(256, 8, 12) + 0.6 * periodic_noise(256, 16, 13)
    slope = np.roll(height, (5, 3), (0, 1)) - height
    light = cv2.resize(slope, (max(h, w),) * 2, interpolation=cv2.INTER_CUBIC)[:h, :w]
    return shaded(plain((h, w), pale(rng, 62, 95, 18)), 1 + rng.uniform(0.15, 0.4) * light)


def _marble(rng: np.random.Generator, place: Place) -> np.ndarray:
    """Stone with dark veins."""
    h, w = place.half_shape
    field = periodic_noise(256, 8, 14) + 0.5 * periodic_noise(256, 32, 15)
    field = field + 0.25 * periodic_noise(256, 64, 16)
    field = np.roll(field, rng.integers(0, 256, 2), (0, 1))
    vein = np.exp(-((field / 0.06) ** 2)) * 0.28 + 0.05 * field
    light = cv2.resize(vein.astype(np.float32), (max(h, w),) * 2, interpolation=cv2.INTER_LINEAR)
    return shaded(plain((h, w), pale(rng, 78, 95, 6)), 1 - light[:h, :w])


def _carpet(rng: np.random.Generator, place: Place) -> np.ndarray:
    rgb = mottle(plain(place.shape, pale(rng, 35, 80, 25)), rng, 0.11, 128)
    return mottle(rgb, rng, 0.05, 12)


def _concrete(rng: np.random.Generator, place: Place) -> np.ndarray:
    rgb = mottle(plain(place.shape, pale(rng, 45, 78, 5)), rng, 0.06, 10)
    return mottle(rgb, rng, 0.03, 100)


def _door(rng: np.random.Generator, place: Place) -> np.ndarray:
    """A paneled door close up."""
    h, w = place.shape
    color = pale(rng, 50, 94, 25)
    rgb = mottle(plain((h, w), color), rng, 0.015, 40)
    groove, ridge = (color * 0.82).tolist(), np.minimum(color * 1.06, 255).tolist()
    for x0, x1 in ((0.06, 0.46), (0.54, 0.94)):
        for y0, y1 in ((-0.2, 0.42), (0.5, 1.2)):
            a, b = (int(x0 * w), int(y0 * h)), (int(x1 * w), int(y1 * h))
            cv2.rectangle(rgb, a, b, groove, 3, cv2.LINE_AA)
            inner = (a[0] + 5, a[1] + 5), (b[0] - 5, b[1] - 5)
            cv2.rectangle(rgb, *inner, ridge, 2, cv2.LINE_AA)
    return rgb


SURFACES = {
    "paper": _paper,
    "wood": _wood,
    "sheet": _sheet,
    "marble": _marble,
    "carpet": _carpet,
    "concrete": _concrete,
    "door": _door,
}
