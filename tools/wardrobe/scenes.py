"""Planning photos: which garments, worn by whom, where, seen how; all from (seed, split, number).

Four photos in a row show one outfit: two from the shop (odd numbers) and two from its buyers.
"""

from dataclasses import dataclass, replace

import numpy as np

from tools.wardrobe import backgrounds
from tools.wardrobe.bottoms import waist_height
from tools.wardrobe.canvas import Light
from tools.wardrobe.figures import Camera, Figure
from tools.wardrobe.garments import BOTTOMS, DRESSES, OUTERWEAR, TOPS, Garment, draw_garment
from tools.wardrobe.lens import Lens, draw_lens
from tools.wardrobe.people import Looks, draw_looks, mannequin_looks
from tools.wardrobe.tops import Wear

SPLITS = ("train", "validation")
PHOTOS_PER_OUTFIT = 4
# Keeps the identities of the splits apart, however many photos each has.
FIRST_PAIR = {"train": 1, "validation": 1_000_001}

NOT_WORN, FRONT, SIDE_OR_BACK = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything decided about a photo before it is painted; sizes relative to its long side."""

    source: str
    pair_id: int
    kind: str  # worn, mannequin, flat, hanger
    aspect: float  # width / height
    garments: list[tuple[Garment, Wear]]  # innermost first
    figure: Figure  # its camera's scale and position are for a photo of height 1
    looks: Looks
    place: str
    light: Light
    lens: Lens
    extras: dict[str, bool | str]
    seed: tuple[int, ...]

    @property
    def viewpoint(self) -> int:
        """DeepFashion2's viewpoint of every item."""
        if self.kind != "worn":
            return NOT_WORN
        return FRONT if np.cos(self.figure.yaw) > np.cos(0.6) else SIDE_OR_BACK


def outfit_of(seed: int, pair_id: int) -> list[Garment]:
    """The garments of one identity, the main one first; styles count from 1."""
    rng = np.random.default_rng([seed, 1, pair_id])
    # Thirteen outfits in a row are led by the thirteen categories, in an order of their own.
    order = np.random.default_rng([seed, 2, (pair_id - 1) // 13]).permutation(13)
    main = int(order[(pair_id - 1) % 13]) + 1
    categories = [main, *_companions(rng, main)]
    return [
        draw_garment(np.random.default_rng([seed, 3, pair_id, style]), category, pair_id, style)
        for style, category in enumerate(categories, start=1)
    ]


def _companions(rng: np.random.Generator, main: int) -> list[int]:
    """What is worn with the main garment so that the body is clothed."""
    pick = lambda options: int(options[rng.integers(len(options))])  # noqa: E731
    if main in BOTTOMS:
        return [pick(TOPS), *([pick(OUTERWEAR)] if rng.random() < 0.3 else [])]
    if main in DRESSES:
        return [pick(OUTERWEAR)] if rng.random() < 0.25 else []
    if main in OUTERWEAR and rng.random() < 0.2:
        return [pick(DRESSES)]
    inner = [pick(TOPS)] if main in OUTERWEAR else []
    outer = [pick(OUTERWEAR)] if main in TOPS and rng.random() < 0.25 else []
    return [*inner, pick(BOTTOMS), *outer]


def plan_photo(seed: int, split: str, number: int) -> Plan:
    """Decide everything about photo ``number`` (from 1) of a split."""
    key = (seed, 4, SPLITS.index(split), number)
    rng = np.random.default_rng(key)
    pair_id = FIRST_PAIR[split] + (number - 1) // PHOTOS_PER_OUTFIT
    source = "shop" if number % 2 else "user"
    outfit = outfit_of(seed, pair_id)
    kinds, odds = ("worn", "mannequin", "flat", "hanger"), (0.42, 0.14, 0.29, 0.15)
    if source == "user":
        odds = (0.86, 0.0, 0.08, 0.06)
    kind = kinds[rng.choice(4, p=odds)]
    worn = kind in ("worn", "mannequin")
    garments = _choose(rng, outfit, source, kind)
    aspect = float(
        rng.choice(
            (0.75, 0.75, 0.667, 0.667, 0.5625, 1.0) if worn else (0.75, 0.75, 1.0, 1.0, 1.333)
        )
    )
    figure = _pose(rng, garments, kind)
    looks = mannequin_looks(rng) if kind == "mannequin" else draw_looks(rng, figure.masculine)
    dressed = _wear(rng, garments, figure, kind)
    figure = replace(figure, camera=_aim(rng, figure, outfit[0], aspect, kind, dressed))
    return Plan(
        source, pair_id, kind, aspect, dressed, figure, looks, _choose_place(rng, source, kind),
        _draw_light(rng), draw_lens(rng, careful=source == "shop"), _extras(rng, source, kind),
        (*key, 5),
    )  # fmt: skip


def _choose(
    rng: np.random.Generator, outfit: list[Garment], source: str, kind: str
) -> list[Garment]:
    """The garments in the photo, innermost first; buyers wear other things with the main one."""
    main, others = outfit[0], outfit[1:]
    if kind in ("flat", "hanger"):
        together = main.category not in OUTERWEAR and kind == "flat" and rng.random() < 0.4
        others = [g for g in others if together and g.category not in OUTERWEAR]
    elif main.category not in OUTERWEAR and rng.random() < 0.3:
        others = [g for g in others if g.category not in OUTERWEAR]
    if source == "user":
        others = [
            draw_garment(rng, g.category, g.pair_id, 0) if rng.random() < 0.35 else g
            for g in others
        ]
    rank = {
        **dict.fromkeys(BOTTOMS, 0),
        **dict.fromkeys((*TOPS, *DRESSES), 1),
        **dict.fromkeys(OUTERWEAR, 2),
    }
    return sorted([main, *others], key=lambda garment: rank[garment.category])


def _pose(rng: np.random.Generator, garments: list[Garment], kind: str) -> Figure:
    """A body for the clothes, posed; its camera is aimed later."""
    camera = Camera(1.0, 0.0, 0.0, 0.0)
    feminine = any(g.category in (6, 9, *DRESSES) for g in garments)
    masculine = 0.0 if feminine else float(rng.integers(2))
    stature = float(rng.normal(166 + 11 * masculine, 5))
    build = float(np.clip(rng.normal(1.02, 0.07), 0.9, 1.22))
    sway = {side: tuple(rng.normal(0, 0.05, 3)) for side in (-1, 1)}
    if kind in ("flat", "hanger"):
        arm = "flat" if kind == "flat" else "hang"
        spread = float(rng.uniform(-0.25, 0.3)) if kind == "flat" else 0.0
        sway = {side: (spread, float(rng.normal(0, 0.05)), 0.0) for side in (-1, 1)}
        foot = float(rng.uniform(9, 17))
        return Figure(
            camera,
            stature,
            masculine,
            build,
            0.0,
            {-1: arm, 1: arm},
            sway,
            (-foot, foot),
            flatness=1.0,
        )
    poses = (
        "down",
        "down",
        "out",
        "hip",
        "pocket",
        "front",
        "across",
        "behind",
        "phone",
        "raised",
        "wide",
    )
    odds = np.array([4, 4, 3, 2, 2, 1.5, 0.8, 1, 1, 0.7, 0.6])
    if kind == "mannequin":
        poses, odds = ("down", "down", "out", "hip"), np.array([3, 3, 2, 1.0])
    arms = {side: poses[rng.choice(len(poses), p=odds / odds.sum())] for side in (-1, 1)}
    foot = rng.uniform(5, 14, 2)
    bent = rng.random(2) < 0.3
    return Figure(
        camera, stature, masculine, build, _yaw(rng), arms, sway,
        (-float(foot[0]), float(foot[1])),
        (float(bent[0] * rng.uniform(0, 6)), float(bent[1] * rng.uniform(0, 6))),
        float(rng.normal(0, 2)), float(rng.normal(0, 0.025)), float(rng.normal(0, 0.04)),
    )  # fmt: skip


def _yaw(rng: np.random.Generator) -> float:
    """Mostly from the front, sometimes from the side or the back."""
    chance = rng.random()
    if chance < 0.78:
        return float(np.clip(rng.normal(0, 0.22), -0.55, 0.55))
    if chance < 0.89:
        return float(rng.choice((-1, 1)) * rng.uniform(0.62, 0.95))
    return float(np.pi + rng.uniform(-0.45, 0.45))


def _wear(
    rng: np.random.Generator, garments: list[Garment], figure: Figure, kind: str
) -> list[tuple[Garment, Wear]]:
    """How each garment is worn: what lies beneath, tucked in, buttoned or open."""
    dressed: list[tuple[Garment, Wear]] = []
    bottom = next((g for g in garments if g.category in BOTTOMS), None)
    covered = any(g.category in OUTERWEAR for g in garments)
    for garment in garments:
        if garment.category in OUTERWEAR:
            inner = [g for g in garments if g.category in (*TOPS, *DRESSES)]
            width = max((g.measures["width"] + 1.0 for g in inner), default=0.0)
            under = max(width - garment.measures["width"], 1.0 if inner else 0.0)
            closed = rng.random() < (0.5 if kind in ("flat", "hanger") else 0.25)
            dressed.append(
                (garment, Wear(under, opening=0.0 if closed else float(rng.uniform(0.2, 1))))
            )
        elif garment.category in TOPS and bottom is not None:
            tucked = None
            if kind != "flat" and rng.random() < 0.35:
                tucked = waist_height(figure, bottom)
            dressed.append((garment, Wear(0.3, covered, tucked=tucked)))
        else:
            dressed.append((garment, Wear(under=covered)))
    # A tucked top is put on before what it is tucked into.
    return sorted(dressed, key=lambda item: 0 if item[1].tucked is not None else 1)


def _extent(figure: Figure, garment: Garment) -> tuple[float, float]:
    """Upper and lower end of a garment, cm below the crown."""
    unit = figure.stature / 170
    top = waist_height(figure, garment) if garment.category in BOTTOMS else figure.y(0.163)
    return top, top + garment.measures["length"] * unit


def _aim(
    rng: np.random.Generator, figure: Figure, main: Garment, aspect: float, kind: str, dressed: list
) -> Camera:
    """A camera that frames the figure, its upper or lower half, or the main garment."""
    top, low = _extent(figure, main)
    if kind in ("flat", "hanger"):
        extents = [_extent(figure, garment) for garment, _ in dressed]
        top, low = min(e[0] for e in extents) - 8, max(e[1] for e in extents) + 6
        if kind == "hanger" or main.category in OUTERWEAR:
            top -= 14
        across = 60 if main.category in BOTTOMS and len(dressed) == 1 else 120
        if all(g.category in (5, 6, 12, 13, *BOTTOMS) for g, _ in dressed):
            across = 75
    else:
        across = 66.0
        choice = rng.random()
        if choice < 0.45:
            top, low = -9.0, figure.stature + 8
        elif main.category in BOTTOMS:
            top, low = top - rng.uniform(5, 40), figure.stature + 6
        else:
            top, low = float(rng.choice((-8.0, 9.0))), max(low + rng.uniform(4, 30), 95)
    span = max(low - top, across / aspect)
    zoom = rng.uniform(0.82, 1.0)
    if rng.random() < 0.13:
        zoom = rng.uniform(1.3, 2.0)
    elif kind == "worn" and rng.random() < 0.1:
        zoom = rng.uniform(0.5, 0.75)
    scale = zoom / span
    middle = 0.5 * (top + low)
    if zoom > 1.2:
        a, b = _extent(figure, main)
        middle = rng.uniform(a + 0.3 * (b - a), a + 0.7 * (b - a))
    drift = 0.06 if zoom > 0.8 else 0.16
    lying = kind == "flat"
    roll = rng.normal(0, 0.12) if lying else rng.normal(0, 0.015 if kind != "worn" else 0.03)
    pitch = 0.0 if kind in ("flat", "hanger") else rng.normal(0.05, 0.06)
    x, y = aspect * (0.5 + rng.normal(0, drift)), 0.5 + rng.normal(0, 0.4 * drift)
    return Camera(
        float(scale),
        float(x),
        float(y),
        float(middle),
        float(pitch),
        float(roll),
        float(rng.uniform(300, 600)),
    )


def _choose_place(rng: np.random.Generator, source: str, kind: str) -> str:
    if kind == "flat":
        options = (
            backgrounds.FLAT if source == "user" else ("paper", "paper", "paper", *backgrounds.FLAT)
        )
    elif kind == "hanger":
        options = (
            backgrounds.HANGING if source == "user" else ("paper", "paper", *backgrounds.HANGING)
        )
    elif source == "shop":
        options = backgrounds.SHOP_WORN
    else:
        options = backgrounds.WORN
    return str(options[rng.integers(len(options))])


def _draw_light(rng: np.random.Generator) -> Light:
    x = float(rng.choice((-1, 1)) * rng.uniform(0.15, 0.6))
    return Light(
        x,
        float(rng.uniform(-0.65, -0.3)),
        float(rng.uniform(0.6, 1.3)),
        float(rng.uniform(0.25, 0.5)),
    )


def _extras(rng: np.random.Generator, source: str, kind: str) -> dict[str, bool | str]:
    """Bags, phones and things in front, mostly in buyers' photos."""
    user = source == "user"
    if kind != "worn":
        return {
            "bag": "",
            "phone": False,
            "foreground": user and rng.random() < 0.06,
            "rail": rng.random() < 0.4,
        }
    bag = (
        ("crossbody", "shoulder", "hand")[rng.integers(3)]
        if rng.random() < (0.25 if user else 0.12)
        else ""
    )
    return {
        "bag": bag,
        "phone": rng.random() < 0.8,
        "foreground": user and rng.random() < 0.08,
        "rail": False,
    }
