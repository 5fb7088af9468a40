"""A garment's properties: category, color, texture, measures, identity.

Lengths are cm on a body of 170 cm. Color, texture and every measure are drawn independently, so
that none can be predicted from the others.
"""

from dataclasses import dataclass, field

import numpy as np

from tools.wardrobe.colors import draw_named
from tools.wardrobe.textures import Texture, draw_texture

CATEGORIES = (
    "short sleeve top", "long sleeve top", "short sleeve outwear", "long sleeve outwear", "vest",
    "sling", "shorts", "trousers", "skirt", "short sleeve dress", "long sleeve dress",
    "vest dress", "sling dress",
)  # fmt: skip

TOPS, OUTERWEAR, BOTTOMS, DRESSES = (1, 2, 5, 6), (3, 4), (7, 8, 9), (10, 11, 12, 13)
SLEEVELESS, SLINGS, LONG_SLEEVES = (5, 6, 12, 13), (6, 13), (2, 4, 11)

# Category -> (shortest, longest) sleeve, as a share of the arm.
_SLEEVES = {
    1: (0.20, 0.50), 2: (0.80, 1.02), 3: (0.24, 0.52), 4: (0.86, 1.04), 10: (0.20, 0.50),
    11: (0.8, 1.02),
}  # fmt: skip
# Measure -> (smallest, largest), by kind of garment.
_MEASURES = {
    "top": {"length": (44, 74), "width": (0.6, 6.5), "waist": (0, 1), "flare": (-1.5, 6)},
    "outerwear": {"length": (46, 108), "width": (2.0, 7.0), "waist": (0, 0.9), "flare": (-1, 8)},
    "dress": {
        "length": (74, 128), "width": (0.6, 4.5), "waist": (0.1, 1), "waist_height": (-6, 4),
        "flare": (0, 22), "fullness": (0, 1),
    },
    "trousers": {"length": (80, 104), "rise": (0, 14), "width": (0.8, 7), "hem": (0.5, 9)},
    "shorts": {"length": (30, 56), "rise": (0, 12), "width": (1.0, 6), "hem": (0.8, 5)},
    "skirt": {"length": (36, 92), "rise": (2, 15), "flare": (-2, 26), "fullness": (0, 1)},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Garment:
    """One garment: category 1..13, measures in cm or shares, styles as named choices."""

    category: int
    pair_id: int
    style: int
    color: str
    second_color: str
    texture: Texture
    measures: dict[str, float] = field(hash=False)
    styles: dict[str, str] = field(hash=False)

    @property
    def name(self) -> str:
        """DeepFashion2's category name."""
        return CATEGORIES[self.category - 1]

    @property
    def identity(self) -> str:
        """Key of the garment across photos; empty if it appears in one photo only."""
        return f"{self.pair_id}_{self.style}" if self.style else ""

    def factors(self) -> dict[str, str | float]:
        """Everything known about the garment's look, flat, for factors.csv."""
        texture = self.texture
        known: dict[str, str | float] = {"identity": self.identity, "color": self.color}
        known |= {f"color_{c}": v for c, v in zip("Lab", texture.first, strict=True)}
        known |= {
            "texture": texture.name,
            "texture_scale_cm": texture.scale,
            "texture_angle": texture.angle,
            "texture_fill": texture.fill,
            "second_color": self.second_color,
        }
        known |= {f"second_color_{c}": v for c, v in zip("Lab", texture.second, strict=True)}
        return known | self.styles | self.measures


MEASURE_COLUMNS = (
    "length", "width", "waist", "waist_height", "flare", "fullness", "rise", "hem",
    "sleeve_length", "sleeve_width", "neck_width", "neck_depth", "strap_width",
)  # fmt: skip
STYLE_COLUMNS = ("neckline", "collar", "closure", "pocket")


def kind_of(category: int) -> str:
    """The family of measures a category takes."""
    if category in TOPS:
        return "top"
    if category in OUTERWEAR:
        return "outerwear"
    if category in DRESSES:
        return "dress"
    return {7: "shorts", 8: "trousers", 9: "skirt"}[category]


def draw_garment(rng: np.random.Generator, category: int, pair_id: int, style: int) -> Garment:
    """A garment of the category, everything about it from the generator."""
    color, first = draw_named(rng)
    second_color, second = draw_named(rng, away_from=first)
    texture = draw_texture(rng, first, second)
    ranges = dict(_MEASURES[kind_of(category)])
    if category in _SLEEVES:
        ranges |= {"sleeve_length": _SLEEVES[category], "sleeve_width": (0.6, 5.0)}
    if category not in BOTTOMS:
        ranges |= {"neck_width": (6.6, 10.5), "neck_depth": (0.0, 1.0)}
    if category in SLEEVELESS:
        ranges["strap_width"] = (0.6, 1.8) if category in SLINGS else (3.0, 8.0)
    measures = {name: round(float(rng.uniform(*span)), 3) for name, span in ranges.items()}
    styles = _styles(rng, category)
    return Garment(category, pair_id, style, color, second_color, texture, measures, styles)


# Named choices by category; a choice listed twice is drawn twice as often.
_NECKLINES = ("crew", "crew", "v", "scoop", "boat", "square", "collar", "collar")
_STYLES: dict[str, dict[str, tuple[str, ...]]] = {
    "sleeved": {
        "neckline": _NECKLINES,
        "closure": ("none", "none", "none", "half buttons"),
        "pocket": ("none", "none", "chest", "kangaroo"),
    },
    "vest": {
        "neckline": ("crew", "v", "scoop", "square"),
        "closure": ("none", "none", "buttons"),
        "pocket": ("none",),
    },
    "sling": {
        "neckline": ("straight", "sweetheart", "v", "scoop"),
        "closure": ("none",),
        "pocket": ("none",),
    },
    "outerwear": {
        "neckline": ("v",),
        "collar": ("lapel", "lapel", "shirt", "none", "hood", "stand"),
        "closure": ("buttons", "zip"),
        "pocket": ("patch", "flap", "none"),
    },
    "skirt": {"closure": ("none", "buttons", "pleats", "pleats"), "pocket": ("none", "patch")},
    "legs": {"closure": ("fly", "drawstring"), "pocket": ("slant", "patch", "cargo")},
}


def _styles(rng: np.random.Generator, category: int) -> dict[str, str]:
    """Draw the named choices of a category, so that they are compatible."""
    families = {5: "vest", 12: "vest", 6: "sling", 13: "sling", 7: "legs", 8: "legs", 9: "skirt"}
    families |= dict.fromkeys(OUTERWEAR, "outerwear")
    options = _STYLES[families.get(category, "sleeved")]
    if category in (2, 11):
        options = options | {"neckline": (*_NECKLINES, "turtle")}
    chosen = {name: str(rng.choice(choices)) for name, choices in options.items()}
    if category not in BOTTOMS:
        chosen.setdefault("collar", "none")
    if chosen.get("neckline") == "collar":
        chosen |= {"collar": "shirt", "closure": str(rng.choice(("buttons", "half buttons")))}
    if chosen.get("collar") in ("lapel", "none") and category in OUTERWEAR:
        chosen["closure"] = "buttons"
    if chosen["pocket"] == "kangaroo" and (category != 2 or chosen["closure"] == "buttons"):
        chosen["pocket"] = "none"
    return chosen
