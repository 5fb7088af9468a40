"""Names that shops give to colors: CIE Lab (D65) -> "navy", "beige", "olive" ...

A color gets the name of the nearest center. Names have several centers, since a name such as "gray"
or "brown" covers more than a ball in Lab space.
"""

import cv2
import numpy as np

# (L 0..100, a, b) of garments in photos, and some blues and violets that occur only in drawings.
CENTERS = {
    "black": ((8, 0, 0), (16, 0, -1), (21, 1, -3)),
    "charcoal": ((29, 0, -3), (35, 0, -2)),
    "gray": ((46, 0, -2), (56, 0, -2), (66, 0, -2)),
    "light gray": ((75, 0, -2), (81, 0, -2)),
    "white": ((91, 0, 0), (97, 0, 1), (90, 1, -5)),
    "cream": ((91, 0, 13), (88, 2, 9)),
    "beige": ((80, 4, 15), (72, 5, 13)),
    "khaki": ((61, 2, 19), (54, 3, 15), (69, 2, 24)),
    "taupe": ((52, 6, 7), (60, 5, 8), (43, 6, 7)),
    "tan": ((63, 12, 27), (56, 13, 26)),
    "brown": ((36, 13, 19), (27, 9, 11), (43, 14, 16), (20, 8, 8)),
    "rust": ((43, 33, 35), (51, 36, 43)),
    "burgundy": ((25, 34, 12), (30, 41, 17), (20, 23, 6)),
    "red": ((45, 63, 42), (39, 54, 31), (52, 62, 38), (46, 48, 20)),
    "coral": ((66, 43, 26), (62, 48, 22)),
    "peach": ((82, 16, 20), (78, 22, 24), (72, 16, 17)),
    "pink": ((81, 22, 2), (70, 36, 0), (65, 28, 5)),
    "magenta": ((48, 64, -9), (43, 58, 2), (57, 60, -6)),
    "purple": (
        (36, 34, -36),
        (28, 24, -24),
        (32, 27, -14),
        (45, 28, -27),
        (20, 18, -15),
        (40, 74, -72),
        (31, 64, -67),
        (20, 51, -53),
    ),
    "lavender": ((75, 13, -20), (64, 14, -19), (85, 7, -11)),
    "navy": ((20, 6, -24), (15, 4, -15), (27, 3, -20), (13, 47, -64)),
    "blue": (
        (42, 10, -45),
        (33, 14, -44),
        (46, -2, -30),
        (55, -4, -40),
        (38, -1, -22),
        (54, -3, -18),
        (32, 79, -108),
        (28, 50, -80),
    ),
    "light blue": ((74, -7, -20), (65, -6, -20), (83, -5, -11)),
    "teal": ((44, -27, -9), (34, -18, -9), (50, -25, -15), (24, -12, -9)),
    "turquoise": ((72, -35, -8), (66, -32, -16), (91, -48, -14)),
    "mint": ((87, -20, 8), (79, -22, 8)),
    "green": ((46, -40, 28), (55, -40, 40), (60, -30, 25), (40, -30, 14)),
    "forest green": ((29, -19, 12), (22, -10, 5), (35, -17, 12)),
    "olive": ((44, -6, 28), (35, -3, 18), (52, -7, 24)),
    "lime": ((80, -30, 62), (72, -28, 55)),
    "yellow": ((87, -2, 68), (85, 2, 50)),
    "mustard": ((66, 12, 55), (58, 12, 48)),
    "orange": ((66, 43, 60), (60, 52, 56), (72, 32, 58)),
}

NAMES = tuple(name for name, centers in CENTERS.items() for _ in centers)
LAB = np.array([center for centers in CENTERS.values() for center in centers], np.float64)


def name_color(lab: np.ndarray | tuple[float, float, float]) -> str:
    """The name of a Lab color, f[3]."""
    return NAMES[int(difference(LAB, lab).argmin())]


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Perceived difference of Lab colors, f[...,3] each, by CIE94 (graphic arts) -> f[...].

    Unlike the Euclidean distance it grows more slowly among saturated colors, which eyes
    distinguish less well. CIE94 uses the chroma of a reference color; here it is the geometric mean
    of both, so that the order does not matter.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    delta = first - second
    chromas = np.hypot(first[..., 1], first[..., 2]), np.hypot(second[..., 1], second[..., 2])
    chroma = np.sqrt(chromas[0] * chromas[1])
    along = chromas[0] - chromas[1]
    around = np.maximum(delta[..., 1] ** 2 + delta[..., 2] ** 2 - along**2, 0)
    shares = (along / (1 + 0.045 * chroma)) ** 2 + around / (1 + 0.015 * chroma) ** 2
    return np.sqrt(delta[..., 0] ** 2 + shares)


def to_hex(lab: np.ndarray) -> str:
    """Lab f[3] -> "#rrggbb", clipped to the sRGB gamut."""
    pixel = np.asarray(lab, np.float32).reshape(1, 1, 3)
    rgb = np.clip(cv2.cvtColor(pixel, cv2.COLOR_Lab2RGB).ravel() * 255, 0, 255).round()
    return "#{:02x}{:02x}{:02x}".format(*rgb.astype(int))
