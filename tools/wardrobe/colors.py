"""Named garment colors, skin and hair colors, and conversions between CIE Lab and sRGB.

Lab is CIE L*a*b* (D65): L 0..100, a and b about -100..100. RGB is sRGB, 0..255.
"""

import cv2
import numpy as np

NAMED = {
    "white": (95.0, 0.0, 1.0),
    "cream": (91.0, 1.0, 13.0),
    "beige": (80.0, 4.0, 16.0),
    "tan": (66.0, 10.0, 26.0),
    "brown": (36.0, 15.0, 20.0),
    "black": (13.0, 0.0, -1.0),
    "charcoal": (29.0, 0.0, -3.0),
    "gray": (56.0, 0.0, -1.0),
    "light gray": (78.0, 0.0, -2.0),
    "navy": (20.0, 6.0, -27.0),
    "blue": (42.0, 10.0, -50.0),
    "sky blue": (74.0, -8.0, -24.0),
    "teal": (44.0, -27.0, -9.0),
    "turquoise": (72.0, -35.0, -8.0),
    "green": (46.0, -40.0, 28.0),
    "forest green": (29.0, -19.0, 12.0),
    "olive": (44.0, -6.0, 30.0),
    "mint": (87.0, -20.0, 8.0),
    "yellow": (87.0, -2.0, 68.0),
    "mustard": (66.0, 12.0, 58.0),
    "orange": (66.0, 43.0, 60.0),
    "coral": (68.0, 42.0, 28.0),
    "red": (45.0, 63.0, 42.0),
    "burgundy": (25.0, 34.0, 11.0),
    "pink": (81.0, 22.0, 2.0),
    "magenta": (48.0, 64.0, -9.0),
    "purple": (36.0, 34.0, -36.0),
    "lavender": (75.0, 13.0, -20.0),
}

SKIN_LAB = (
    (84.0, 7.0, 14.0),
    (78.0, 10.0, 19.0),
    (71.0, 12.0, 22.0),
    (61.0, 15.0, 25.0),
    (50.0, 16.0, 25.0),
    (39.0, 14.0, 20.0),
    (30.0, 11.0, 14.0),
)

HAIR_LAB = (
    (12.0, 1.0, 1.0),
    (17.0, 4.0, 5.0),
    (26.0, 9.0, 12.0),
    (37.0, 13.0, 20.0),
    (55.0, 10.0, 28.0),
    (71.0, 6.0, 29.0),
    (38.0, 28.0, 27.0),
    (62.0, 0.0, 2.0),
)

# How far one garment's color may lie from the center of its name: small enough to keep the name.
JITTER = np.array([2.5, 2.0, 2.5])


def lab_to_rgb(lab: np.ndarray | tuple) -> np.ndarray:
    """Lab [..., 3] -> sRGB f32[..., 3] in 0..255, clipped to what a screen shows."""
    array = np.asarray(lab, np.float32)
    rgb = cv2.cvtColor(array.reshape(-1, 1, 3), cv2.COLOR_Lab2RGB)
    return np.clip(rgb * 255.0, 0, 255).reshape(array.shape)


def rgb_to_lab(rgb: np.ndarray | tuple) -> np.ndarray:
    """The sRGB values [..., 3] in 0..255 -> Lab f32[..., 3]."""
    array = np.asarray(rgb, np.float32) / 255.0
    return cv2.cvtColor(array.reshape(-1, 1, 3), cv2.COLOR_RGB2Lab).reshape(array.shape)


def draw_named(rng: np.random.Generator, *, away_from: tuple | None = None) -> tuple[str, tuple]:
    """A named color with a little jitter.

    Args:
        rng: source of the choice.
        away_from: a Lab color; the choice lies at least 28 Lab units from it, so that a pattern
            of the two can be seen.

    Returns:
        The name and the Lab color, rounded to what an sRGB screen can show.
    """
    names = list(NAMED)
    if away_from is not None:
        names = [n for n in names if np.linalg.norm(np.subtract(NAMED[n], away_from)) > 32]
    name = names[rng.integers(len(names))]
    lab = np.array(NAMED[name]) + rng.uniform(-1, 1, 3) * JITTER
    shown = rgb_to_lab(lab_to_rgb(lab))
    return name, tuple(round(float(value), 2) for value in shown)


def toned(rgb: np.ndarray, factor: float) -> tuple[int, int, int]:
    """A darker (factor < 1) or lighter (> 1, toward white) shade, as a color for cv2."""
    base = np.asarray(rgb, np.float64)
    shade = base * factor if factor <= 1 else base + (255 - base) * (factor - 1)
    return tuple(int(value) for value in np.clip(shade, 0, 255))
