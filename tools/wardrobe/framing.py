"""Poses a body for its clothes, and positions the camera."""

import numpy as np

from tools.wardrobe.figures import Camera, Figure
from tools.wardrobe.garments import BOTTOMS, DRESSES, OUTERWEAR, SLEEVELESS, Garment
from tools.wardrobe.waists import waist_height

# How often an arm takes each pose; a mannequin's arms have fewer.
ARMS = {
    "down": 8.0, "out": 3.0, "hip": 2.0, "pocket": 2.0, "front": 1.5, "across": 0.8,
    "behind": 1.0, "phone": 1.0, "raised": 0.7, "wide": 0.6,
}  # fmt: skip
STIFF_ARMS = {"down": 6.0, "out": 2.0, "hip": 1.0}
NARROW = (*SLEEVELESS, *BOTTOMS)  # no sleeves to spread


def pose_figure(rng: np.random.Generator, garments: list[Garment], kind: str) -> Figure:
    """A body for the clothes, in a pose; its camera is aimed later."""
    feminine = any(garment.category in (6, 9, *DRESSES) for garment in garments)
    masculine = 0.0 if feminine else float(rng.integers(2))
    figure = Figure(
        Camera(1.0, 0.0, 0.0, 0.0),
        stature=float(rng.normal(166 + 11 * masculine, 5)),
        masculine=masculine,
        build=float(np.clip(rng.normal(1.02, 0.07), 0.9, 1.22)),
    )
    if kind in ("flat", "hanger"):
        _lay(rng, figure, kind)
    else:
        _stand(rng, figure, STIFF_ARMS if kind == "mannequin" else ARMS)
    return figure


def _lay(rng: np.random.Generator, figure: Figure, kind: str) -> None:
    """Clothes without a body: sleeves spread on a surface, or hanging."""
    arm = "flat" if kind == "flat" else "hang"
    spread = float(rng.uniform(-0.25, 0.3)) if kind == "flat" else 0.0
    foot = float(rng.uniform(9, 17))
    figure.flatness = 1.0
    figure.arms = {-1: arm, 1: arm}
    figure.arm_sway = {side: (spread, float(rng.normal(0, 0.05)), 0.0) for side in (-1, 1)}
    figure.feet = (-foot, foot)


def _stand(rng: np.random.Generator, figure: Figure, arms: dict[str, float]) -> None:
    """A person standing, turned a little, with its weight on one leg."""
    names, odds = list(arms), np.array(list(arms.values()))
    figure.yaw = _draw_yaw(rng)
    figure.arms = {side: names[rng.choice(len(names), p=odds / odds.sum())] for side in (-1, 1)}
    figure.arm_sway = {side: tuple(rng.normal(0, 0.05, 3)) for side in (-1, 1)}
    figure.feet = (-float(rng.uniform(5, 14)), float(rng.uniform(5, 14)))
    figure.knees = tuple(float(bend) for bend in (rng.random(2) < 0.3) * rng.uniform(0, 6, 2))
    figure.hip_shift = float(rng.normal(0, 2))
    figure.shoulder_tilt = float(rng.normal(0, 0.025))
    figure.hip_tilt = float(rng.normal(0, 0.04))


def _draw_yaw(rng: np.random.Generator) -> float:
    """Mostly from the front, sometimes from the side or the back."""
    chance = rng.random()
    if chance < 0.78:
        return float(np.clip(rng.normal(0, 0.22), -0.55, 0.55))
    if chance < 0.89:
        return float(rng.choice((-1, 1)) * rng.uniform(0.62, 0.95))
    return float(np.pi + rng.uniform(-0.45, 0.45))


def aim_camera(
    rng: np.random.Generator,
    figure: Figure,
    garments: list[Garment],
    main: Garment,
    aspect: float,
    kind: str,
) -> Camera:
    """A camera that frames the figure, its upper or lower half, or the main garment.

    Args:
        garments: all in the photo. main: the one the photo is taken for.
        aspect: the photo's width / height. kind: worn, mannequin, flat or hanger.

    Returns:
        The camera of a photo 1 high: its scale is in photo heights per cm.
    """
    lying = kind in ("flat", "hanger")
    if lying:
        top, low, across = _frame_lying(figure, garments, kind)
    else:
        top, low, across = _frame_worn(rng, figure, main)
    zoom = _draw_zoom(rng, kind)
    middle, drift = 0.5 * (top + low), 0.06 if zoom > 0.8 else 0.16
    if zoom > 1.2:
        start, end = extent(figure, main)
        middle = start + rng.uniform(0.3, 0.7) * (end - start)
    return Camera(
        scale=float(zoom / max(low - top, across / aspect)),
        x=float(aspect * (0.5 + rng.normal(0, drift))),
        y=float(0.5 + rng.normal(0, 0.4 * drift)),
        height=float(middle),
        pitch=0.0 if lying else float(rng.normal(0.05, 0.06)),
        roll=float(rng.normal(0, {"flat": 0.12, "worn": 0.03}.get(kind, 0.015))),
        distance=float(rng.uniform(300, 600)),
    )


def extent(figure: Figure, garment: Garment) -> tuple[float, float]:
    """Upper and lower end of a garment, cm below the crown."""
    unit = figure.stature / 170
    bottom = garment.category in BOTTOMS
    top = waist_height(figure, garment) if bottom else figure.y(0.163)
    return top, top + garment.measures["length"] * unit


def _frame_lying(figure: Figure, garments: list[Garment], kind: str) -> tuple[float, float, float]:
    """Upper and lower end and width in cm of clothes without a body."""
    extents = [extent(figure, garment) for garment in garments]
    top, low = min(top for top, _ in extents) - 8, max(low for _, low in extents) + 6
    if kind == "hanger" or any(garment.category in OUTERWEAR for garment in garments):
        top -= 14  # the hook, or a hood
    if all(garment.category in NARROW for garment in garments):
        return top, low, 60.0 if garments[0].category in BOTTOMS and len(garments) == 1 else 75.0
    return top, low, 120.0


def _frame_worn(
    rng: np.random.Generator, figure: Figure, main: Garment
) -> tuple[float, float, float]:
    """Upper and lower end and width in cm of what to show of a dressed body."""
    top, low = extent(figure, main)
    if rng.random() < 0.45:
        return -9.0, figure.stature + 8, 66.0
    if main.category in BOTTOMS:
        return top - rng.uniform(5, 40), figure.stature + 6, 66.0
    return float(rng.choice((-8.0, 9.0))), max(low + rng.uniform(4, 30), 95), 66.0


def _draw_zoom(rng: np.random.Generator, kind: str) -> float:
    """Mostly filling the photo; sometimes a detail, sometimes a person far away."""
    chance = rng.random()
    if chance < 0.13:
        return float(rng.uniform(1.3, 2.0))
    if chance < 0.22 and kind == "worn":
        return float(rng.uniform(0.5, 0.75))
    return float(rng.uniform(0.82, 1.0))
