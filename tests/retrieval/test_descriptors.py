"""Each descriptor sees its own factor and ignores the others, on drawn and on photo-like crops."""

import itertools
import time

import cv2
import numpy as np
import pytest

from engine.pixels.color import color_matrix, mean_luma, recolor
from retrieval.descriptors import VERSION, describe, dimensions

SIZE = 149
OUTLINES = {  # polygons in shares of the crop
    "top": [(0.3, 0.2), (0.7, 0.2), (0.95, 0.45), (0.8, 0.55), (0.7, 0.45), (0.7, 0.85),
            (0.3, 0.85), (0.3, 0.45), (0.2, 0.55), (0.05, 0.45)],
    "trousers": [(0.35, 0.05), (0.65, 0.05), (0.72, 0.95), (0.56, 0.95), (0.5, 0.35),
                 (0.44, 0.95), (0.28, 0.95)],
    "dress": [(0.4, 0.05), (0.6, 0.05), (0.6, 0.4), (0.85, 0.95), (0.15, 0.95), (0.4, 0.4)],
}  # fmt: skip
COLORS = {
    "red": ((190, 40, 40), (240, 170, 160)),
    "green": ((30, 110, 60), (170, 210, 150)),
    "blue": ((40, 60, 150), (150, 190, 235)),
}
PATTERNS = ("solid", "stripes", "checks", "dots")
ASPECTS = ("shape", "texture", "color")


def pattern(kind: str, size: int, turn: float = 0) -> np.ndarray:
    """bool[size,size]: where the second color goes; ``turn`` in degrees."""
    y, x = np.mgrid[:size, :size] - size / 2
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    u, v = (cos * x + sin * y) % 16, (cos * y - sin * x) % 16
    return {
        "solid": np.zeros((size, size), bool),
        "stripes": v < 5,
        "checks": (u < 6) ^ (v < 6),
        "dots": (u - 8) ** 2 + (v - 8) ** 2 < 12,
    }[kind]


def garment(
    outline: str,
    kind: str,
    color: str,
    *,
    turn: float = 0,
    scale: float = 1,
    shift: tuple[float, float] = (0, 0),
    photo: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Crop u8[S,S,3] on a pale backdrop and mask u8[S,S]; with ``photo`` light, blur and noise."""
    corners = ((np.array(OUTLINES[outline]) - 0.5) * scale + 0.5 + shift) * SIZE
    mask = cv2.fillPoly(np.zeros((SIZE, SIZE), np.uint8), [corners.round().astype(np.int32)], 255)
    plain, second = (np.array(c, np.uint8) for c in COLORS[color])
    cloth = np.where(pattern(kind, SIZE, turn)[..., None], second, plain)
    crop = np.where(mask[..., None] > 0, cloth, np.uint8(244))
    return (crop if photo is None else photographed(crop, photo)), mask


def photographed(crop: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    light = np.linspace(*rng.uniform(0.9, 1.05, 2), SIZE)[:, None, None]
    noisy = cv2.GaussianBlur(crop, (0, 0), 0.7) * light + rng.normal(0, 3, crop.shape)
    _, file = cv2.imencode(".jpg", np.clip(noisy, 0, 255).astype(np.uint8))
    return cv2.imdecode(file, cv2.IMREAD_COLOR)


def similarity(aspect: str, first: tuple, second: tuple) -> float:
    return float(describe(*first)[aspect] @ describe(*second)[aspect])


@pytest.mark.parametrize("real", [False, True], ids=["drawn", "photo-like"])
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "studio"])
def test_nearest_neighbor_shares_the_aspects_own_factor(real: bool, masked: bool) -> None:
    """The nearest garment has the aspect's own factor in common, though both others differ."""
    names = list(itertools.product(OUTLINES, PATTERNS, COLORS))
    crops = [garment(*name, photo=i if real else None) for i, name in enumerate(names)]
    found = [describe(crop, mask if masked else None) for crop, mask in crops]
    for own, aspect in enumerate(ASPECTS):
        vectors = np.stack([features[aspect] for features in found])
        scores = vectors @ vectors.T
        hits = []
        for i, name in enumerate(names):
            others = [
                j
                for j, other in enumerate(names)
                if all(name[f] != other[f] for f in range(3) if f != own)
            ]
            best = max(others, key=lambda j, i=i: scores[i, j])
            hits.append(names[best][own] == name[own])
        assert np.mean(hits) > 0.95, aspect


def test_color_ignores_flip_crop_and_blur() -> None:
    crop, mask = garment("dress", "checks", "red", photo=1)
    before = (crop, mask)
    assert similarity("color", before, (crop[:, ::-1].copy(), mask[:, ::-1].copy())) > 0.99
    half = (slice(30, 105), slice(37, 112))
    assert similarity("color", before, (crop[half].copy(), mask[half].copy())) > 0.98
    assert similarity("color", before, (cv2.GaussianBlur(crop, (0, 0), 1.5), mask)) > 0.95
    assert similarity("color", before, garment("dress", "checks", "blue", photo=1)) < 0.5


def test_shape_ignores_hue_texture_scale_and_place() -> None:
    before = garment("top", "solid", "red")
    other = garment("dress", "solid", "red")
    for mask_of in (lambda mask: mask, lambda _: None):
        crop, mask = before
        before = crop, mask_of(mask)
        limit = similarity("shape", before, (other[0], mask_of(other[1]))) + 0.3
        for change in (
            {"kind": "checks"},
            {"color": "green"},
            {"scale": 0.6},
            {"scale": 0.7, "shift": (0.1, -0.07)},
        ):
            crop, mask = garment(**({"outline": "top", "kind": "solid", "color": "red"} | change))
            same = similarity("shape", before, (crop, mask_of(mask)))
            assert same > max(0.93, limit), change


def test_texture_ignores_hue_and_small_rotation() -> None:
    for kind in PATTERNS:
        crop, mask = garment("top", kind, "red", photo=2)
        turned_hue = recolor(crop, color_matrix(mean_luma(crop), hue=0.3))
        turned = garment("top", kind, "red", photo=2, turn=8)
        others = [garment("top", k, "red", photo=3) for k in PATTERNS if k != kind]
        limit = max(similarity("texture", (crop, mask), other) for other in others)
        for changed in ((turned_hue, mask), turned):
            assert similarity("texture", (crop, mask), changed) > max(0.95, limit), kind


def test_any_crop_has_unit_vectors_of_the_same_length() -> None:
    flat = np.full((32, 32, 3), 200, np.uint8)
    one = np.zeros((32, 32), np.uint8)
    one[7, 5] = 255
    crops = [
        (flat, None),
        (flat, np.zeros((32, 32), np.uint8)),
        (flat, np.full((32, 32), 255, np.uint8)),
        (flat, one),
        (flat[:1, :1], None),
        (np.random.default_rng(0).integers(0, 256, (61, 61, 3), dtype=np.uint8), None),
    ]
    for crop, mask in crops:
        found = describe(crop, mask)
        assert {name: len(vector) for name, vector in found.items()} == dimensions()
        for vector in found.values():
            assert vector.dtype == np.float32
            assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_fast_enough_to_run_beside_a_network() -> None:
    crop, mask = garment("top", "checks", "blue", photo=4)
    crop, mask = cv2.resize(crop, (192, 192)), cv2.resize(mask, (192, 192))
    describe(crop, mask)
    took = []
    for _ in range(7):
        started = time.process_time()
        describe(crop, mask)
        took.append(time.process_time() - started)
    assert min(took) < 0.03  # 4 ms on a quiet core


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("masked", (-0.6229, 0.5419, 0.0812)),
        ("studio", (-0.6273, 0.5743, 0.2022)),
        ("thread", (-0.3581, 0.4193, 0.1202)),
        ("filled", (-0.0899, 0.8574, 0.7073)),
    ],
)
def test_numbers_change_only_with_the_version(kind: str, expected: tuple) -> None:
    """Else databases of older numbers would be searched with new ones."""
    assert VERSION == 1
    crop, mask = garment("trousers", "checks", "red", turn=8, shift=(0.05, 0.02))
    noise = np.random.default_rng(0).integers(-9, 10, crop.shape)
    crop = (crop + noise * (mask > 0)[..., None]).clip(0, 255).astype(np.uint8)
    mask = cv2.blur(mask, (5, 5))
    if kind == "thread":  # too thin to have an inside
        mask[:70] = mask[73:] = 0
    if kind == "filled":  # no background, hence no outline
        crop = (40 + 60 * pattern("dots", SIZE)[..., None] + crop // 4 + noise).astype(np.uint8)
    found = describe(crop, mask if kind in ("masked", "thread") else None)
    sums = [found[name] @ np.cos(np.arange(len(found[name])) ** 1.5) for name in ASPECTS]
    assert sums == pytest.approx(expected, abs=1e-3)
