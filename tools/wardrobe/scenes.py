"""Planning photos from (seed, split, number): garments, person, place and camera.

Four photos in a row show one outfit: two from the shop (odd numbers) and two from its buyers.
"""

from dataclasses import dataclass, replace

import numpy as np

from tools.wardrobe.accessories import BAGS
from tools.wardrobe.canvas import Light
from tools.wardrobe.figures import Figure
from tools.wardrobe.framing import aim_camera, pose_figure
from tools.wardrobe.garments import BOTTOMS, DRESSES, OUTERWEAR, TOPS, Garment, draw_garment
from tools.wardrobe.lens import Lens, draw_lens
from tools.wardrobe.people import Looks, draw_looks, mannequin_looks
from tools.wardrobe.tops import Wear
from tools.wardrobe.waists import waist_height

SPLITS = ("train", "validation")
PHOTOS_PER_OUTFIT = 4
# Keeps the identities of the splits apart, however many photos each has.
FIRST_PAIR = {"train": 1, "validation": 1_000_001}

NOT_WORN, FRONT, SIDE_OR_BACK = 1, 2, 3

# Of 100 photos of a source, how many show the clothes worn, on a mannequin, lying, on a hanger.
KINDS = {
    "shop": {"worn": 42, "mannequin": 14, "flat": 29, "hanger": 15},
    "user": {"worn": 86, "flat": 8, "hanger": 6},
}
ASPECTS = {"worn": (0.75, 0.75, 0.667, 0.667, 0.5625, 1.0), "flat": (0.75, 0.75, 1.0, 1.0, 1.333)}
ASPECTS |= {"mannequin": ASPECTS["worn"], "hanger": ASPECTS["flat"]}

# Where photos are taken; a place listed twice is drawn twice as often.
_LYING = ("paper", "wood", "sheet", "marble", "carpet", "concrete")
_HANGING = ("paper", "wall", "door", "brick", "concrete")
_SHOP_WORN = ("studio", "studio", "studio", "studio", "wall", "street", "shop")
_USER_WORN = ("studio", "wall", "wall", "brick", "street", "street", "park", "shop", "curtain")
PLACES = {
    "shop": {
        "worn": _SHOP_WORN,
        "mannequin": _SHOP_WORN,
        "flat": ("paper", "paper", "paper", *_LYING),
        "hanger": ("paper", "paper", *_HANGING),
    },
    "user": {"worn": _USER_WORN, "flat": _LYING, "hanger": _HANGING},
}


@dataclass(frozen=True, slots=True)
class Extras:
    """What is in the photo besides clothes. bag: its kind, or "" for none; phone: in a hand
    raised to the face; foreground: something out of focus in front; rail: behind a hanger."""

    bag: str
    phone: bool
    foreground: bool
    rail: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """All decisions about a photo before it is painted; sizes are relative to its long side."""

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
    extras: Extras
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
    """Garments worn with the main one, so that the body is clothed."""

    def pick(options: tuple[int, ...]) -> int:
        return int(options[rng.integers(len(options))])

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
    kinds = KINDS[source]
    kind = str(rng.choice(list(kinds), p=np.array(list(kinds.values())) / 100))
    garments = _choose(rng, outfit, source, kind)
    aspect = float(rng.choice(ASPECTS[kind]))
    figure = pose_figure(rng, garments, kind)
    camera = aim_camera(rng, figure, garments, outfit[0], aspect, kind)
    return Plan(
        source=source,
        pair_id=pair_id,
        kind=kind,
        aspect=aspect,
        garments=_wear(rng, garments, figure, kind),
        figure=replace(figure, camera=camera),
        looks=mannequin_looks(rng) if kind == "mannequin" else draw_looks(rng, figure.masculine),
        place=str(rng.choice(PLACES[source][kind])),
        light=_draw_light(rng),
        lens=draw_lens(rng, careful=source == "shop"),
        extras=_draw_extras(rng, source, kind),
        seed=(*key, 5),
    )


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
    layers = (BOTTOMS, (*TOPS, *DRESSES), OUTERWEAR)
    garments = [main, *others]
    return [garment for layer in layers for garment in garments if garment.category in layer]


def _wear(
    rng: np.random.Generator, garments: list[Garment], figure: Figure, kind: str
) -> list[tuple[Garment, Wear]]:
    """How each garment is worn: over what, tucked in, buttoned or open."""
    bottom = next((g for g in garments if g.category in BOTTOMS), None)
    covered = any(g.category in OUTERWEAR for g in garments)
    dressed: list[tuple[Garment, Wear]] = []
    for garment in garments:
        wear = Wear(under=covered)
        if garment.category in OUTERWEAR:
            closed = rng.random() < (0.5 if kind in ("flat", "hanger") else 0.25)
            opening = 0.0 if closed else float(rng.uniform(0.2, 1))
            wear = Wear(_room_for(garment, garments), opening=opening)
        elif garment.category in TOPS and bottom is not None:
            tucked = kind != "flat" and rng.random() < 0.35
            height = waist_height(figure, bottom) if tucked else None
            wear = Wear(0.3, under=covered, tucked=height)
        dressed.append((garment, wear))
    # A tucked top is put on before what it is tucked into.
    return sorted(dressed, key=lambda item: item[1].tucked is None)


def _room_for(outer: Garment, garments: list[Garment]) -> float:
    """The cm by which outerwear is widened to fit over what is worn beneath."""
    inner = [g.measures["width"] for g in garments if g.category in (*TOPS, *DRESSES)]
    return max(max(inner) + 1 - outer.measures["width"], 1.0) if inner else 0.0


def _draw_light(rng: np.random.Generator) -> Light:
    return Light(
        x=float(rng.choice((-1, 1)) * rng.uniform(0.15, 0.6)),
        y=float(rng.uniform(-0.65, -0.3)),
        contrast=float(rng.uniform(0.6, 1.3)),
        shadow=float(rng.uniform(0.25, 0.5)),
    )


def _draw_extras(rng: np.random.Generator, source: str, kind: str) -> Extras:
    """Bags, phones and things in front, mostly in buyers' photos."""
    user, worn = source == "user", kind == "worn"
    with_bag = worn and rng.random() < (0.25 if user else 0.12)
    return Extras(
        bag=str(rng.choice(BAGS)) if with_bag else "",
        phone=bool(worn and rng.random() < 0.8),
        foreground=bool(user and rng.random() < 0.08),
        rail=bool(rng.random() < 0.4),
    )
