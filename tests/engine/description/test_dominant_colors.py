"""Named colors: centers name themselves, shares are areas, backgrounds don't count."""

import cv2
import numpy as np
import pytest

from engine.description.dominant_colors import dominant_colors
from engine.pixels.color_names import CENTERS, LAB, NAMES, difference, name_color, to_hex
from tools.wardrobe.colors import NAMED

PALETTE = {
    "navy": (24, 30, 66),
    "white": (245, 245, 244),
    "red": (185, 30, 40),
    "olive": (98, 100, 55),
    "beige": (215, 196, 168),
    "black": (18, 18, 20),
    "gray": (128, 129, 131),
    "burgundy": (92, 22, 38),
    "teal": (20, 110, 118),
    "khaki": (158, 146, 112),
    "mustard": (205, 150, 40),
    "lavender": (186, 176, 222),
}


@pytest.mark.parametrize("name", CENTERS)
def test_every_center_has_its_own_name(name: str) -> None:
    for center in CENTERS[name]:
        assert name_color(center) == name
    assert len(set(map(tuple, LAB.tolist()))) == len(NAMES)


def test_the_colors_of_a_rendered_wardrobe_keep_their_names() -> None:
    other_words = {"sky blue": "light blue"}
    for name, lab in NAMED.items():
        assert name_color(lab) == other_words.get(name, name)


@pytest.mark.parametrize(
    ("code", "name"),
    [("0000ff", "blue"), ("00008b", "navy"), ("000080", "navy"), ("800080", "purple"),
     ("4b0082", "purple"), ("00ffff", "turquoise"), ("ff0000", "red"), ("ffff00", "yellow"),
     ("ff00ff", "magenta"), ("008000", "green"), ("ffa500", "orange"), ("ffffff", "white")],
)  # fmt: skip
def test_pure_colors_of_screens_have_their_names(code: str, name: str) -> None:
    pixel = np.frombuffer(bytes.fromhex(code), np.uint8).reshape(1, 1, 3) / np.float32(255)
    assert name_color(cv2.cvtColor(pixel, cv2.COLOR_RGB2Lab).ravel()) == name


def test_difference_is_lightness_for_grays_and_the_same_both_ways() -> None:
    assert difference((50, 0, 0), (61, 0, 0)) == pytest.approx(11)
    rng = np.random.default_rng(0)
    first, second = rng.uniform((0, -60, -60), (100, 60, 60), (2, 23, 3))
    np.testing.assert_allclose(difference(first, second), difference(second, first))
    # CIE94 by hand: chromas 40 and 10, same hue: 30 / (1 + 0.045 * 20)
    assert difference((50, 40, 0), (50, 10, 0)) == pytest.approx(30 / 1.9)


@pytest.mark.parametrize("name", PALETTE)
def test_a_plain_garment_has_one_color(name: str) -> None:
    crop = np.full((67, 67, 3), 240, np.uint8)
    mask = np.zeros((67, 67), np.uint8)
    cv2.circle(mask, (33, 33), 21, 255, -1)
    crop[mask > 0] = PALETTE[name]
    ((found, hex_code, share),) = dominant_colors(crop, mask)
    assert (found, share) == (name, 1)
    shown = [int(hex_code[i : i + 2], 16) for i in (1, 3, 5)]
    assert np.abs(np.subtract(shown, PALETTE[name])).max() <= 2


def test_shares_are_areas_and_sorted() -> None:
    crop = np.zeros((101, 101, 3), np.uint8)
    crop[:, :60], crop[:, 60:90], crop[:, 90:] = (PALETTE[n] for n in ("navy", "white", "red"))
    mask = np.zeros((101, 101), np.uint8)
    mask[1:-1, 1:] = 255
    mask[:30, :20] = 0  # no rectangle, which would be taken for the photo's frame
    found = {name: share for name, _, share in dominant_colors(crop, mask)}
    assert list(found) == ["navy", "white", "red"]
    area = (mask > 0).sum()
    columns = {"navy": slice(0, 60), "white": slice(60, 90), "red": slice(90, 101)}
    for name, where in columns.items():
        assert found[name] == pytest.approx((mask[:, where] > 0).sum() / area, abs=0.04)
    assert sum(found.values()) <= 1.001
    assert [name for name, _, _ in dominant_colors(crop, mask, k=1)] == ["navy"]


def test_shadows_of_folds_are_not_reported_as_colors() -> None:
    rng = np.random.default_rng(1)
    light = 1 - 0.25 * np.abs(np.sin(np.arange(96) / 7))[None, :, None]
    crop = np.clip(np.array(PALETTE["red"]) * light + rng.normal(0, 4, (96, 96, 3)), 0, 255)
    mask = np.full((96, 96), 255, np.uint8)
    mask[:9, :40] = 0
    found = dominant_colors(crop.astype(np.uint8), mask)
    assert found[0][0] == "red"
    assert found[0][2] > 0.9


def test_repeats_itself_and_takes_any_crop() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (53, 53, 3), dtype=np.uint8)
    assert dominant_colors(noise) == dominant_colors(noise.copy())
    assert len(dominant_colors(noise)) <= 5
    one = np.zeros((53, 53), np.uint8)
    one[3, 4] = 200
    for crop, mask in ((noise[:1, :1], None), (noise, one), (noise, np.zeros_like(one))):
        assert dominant_colors(crop, mask)


def test_hex_is_clipped_to_what_a_screen_shows() -> None:
    assert to_hex(np.array([100, 0, 0])) == "#ffffff"
    assert to_hex(np.array([50, 200, 200])).startswith("#ff")
