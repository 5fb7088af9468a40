"""Tags: inside the frame, apart from each other, near their garments."""

import numpy as np
import pytest

from engine.pixels.tags import Tag, _ink, draw_tags, place_tags


def square(x: int, y: int, side: int, text: str = "1 top 99%") -> Tag:
    pixels = np.full((side, side), 255, np.uint8)
    return Tag(text, (255, 0, 0), (x + side / 2, y + side / 2), (pixels, x, y))


def overlap(a: tuple, b: tuple) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("count", [1, 2, 7, 25])
def test_tags_are_inside_the_frame_and_do_not_overlap(count: int) -> None:
    rng = np.random.default_rng(count)
    tags = [square(int(x), int(y), 50) for x, y in rng.integers(0, 250, (count, 2))]
    widths = rng.integers(40, 90, count).tolist()
    corners = place_tags(tags, widths, 17, (300, 300))
    boxes = [(x, y, x + w, y + 17) for (x, y), w in zip(corners, widths, strict=True)]
    assert all(b[0] >= 0 and b[1] >= 0 and b[2] <= 300 and b[3] <= 300 for b in boxes)
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_tags_of_the_same_place_are_stacked_around_it() -> None:
    corners = place_tags([square(100, 100, 100)] * 3, [60] * 3, 20, (300, 300))
    assert all(40 <= x <= 200 and 80 <= y <= 200 for x, y in corners)


def test_a_tag_is_placed_on_a_coat_but_beside_a_shoe() -> None:
    ((x, y),) = place_tags([square(50, 50, 200)], [60], 20, (300, 300))
    assert 50 <= x <= 190 and 50 <= y <= 230
    ((x, y),) = place_tags([square(140, 140, 20)], [60], 20, (300, 300))
    assert not overlap((x, y, x + 60, y + 20), (140, 140, 160, 160))
    assert np.hypot(x + 30 - 150, y + 10 - 150) < 60


def test_tags_without_room_are_left_out() -> None:
    corners = place_tags([square(0, 0, 10)] * 9, [50] * 9, 20, (64, 64))
    assert corners[0] is not None
    assert corners[-1] is None
    assert place_tags([square(0, 0, 10)], [50], 20, (10, 10)) == [None]


def test_a_long_text_is_shortened_to_the_frame() -> None:
    canvas = np.zeros((64, 64, 3), np.uint8)
    drawn = draw_tags(canvas, [square(10, 10, 30, "1 " + "very " * 20 + "long name")])
    assert drawn.any()
    assert drawn.shape == canvas.shape
    assert not canvas.any(), "the caller's picture was changed"


@pytest.mark.parametrize(
    ("color", "ink"),
    [
        ((255, 255, 255), (0, 0, 0)),
        ((0, 0, 0), (255, 255, 255)),
        ((255, 255, 0), (0, 0, 0)),
        ((0, 0, 160), (255, 255, 255)),
    ],
)
def test_text_contrasts_with_its_tag(color: tuple, ink: tuple) -> None:
    assert _ink(color) == ink
