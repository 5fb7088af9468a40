"""What each view keeps and destroys, measured on a drawn garment."""

import cv2
import numpy as np
import pytest

from engine.pixels.crops import Cutout
from engine.pixels.views import (
    VIEWS,
    _draw_places,
    blend,
    color_view,
    item_view,
    jitter,
    repaint,
    shape_view,
    texture_view,
)

SIZE = 97
RED, BLUE = np.array([200, 30, 40]), np.array([40, 60, 190])


def garment(paint: np.ndarray, *, outlined: bool = True, known: bool = True) -> Cutout:
    """A garment of 60 × 104 pixels, colored as ``painted`` u8[128,128,3], on green noise."""
    mask = np.zeros((128, 128), np.uint8)
    mask[12:116, 34:94] = 255
    noise = np.random.default_rng(0).integers(0, 60, (128, 128, 1), np.uint8)
    photo = np.concatenate([noise, noise + 120, noise], axis=2)
    photo[mask > 0] = paint[mask > 0]
    square = np.array([0.0, 0, 128, 128])
    return Cutout(photo, square, SIZE / 128, mask if known else None, outlined and known)


def flat(color: tuple | np.ndarray = RED) -> np.ndarray:
    return np.full((128, 128, 3), color, np.uint8)


def halves() -> np.ndarray:
    """Left red, right blue."""
    paint = flat(RED)
    paint[:, 64:] = BLUE
    return paint


def stripes(period: float) -> np.ndarray:
    """Gray, upright stripes."""
    wave = 128 + 60 * np.sin(2 * np.pi * np.arange(128) / period)
    return np.broadcast_to(wave[None, :, None], (128, 128, 3)).astype(np.uint8)


def near(picture: np.ndarray, color: np.ndarray, tolerance: int = 25) -> np.ndarray:
    return (np.abs(picture.astype(int) - color) <= tolerance).all(axis=-1)


def views(view, cutout: Cutout, count: int = 20) -> list[tuple[np.ndarray, np.ndarray]]:
    return [view(np.random.default_rng(seed), cutout, SIZE) for seed in range(count)]


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize(("known", "outlined"), [(True, True), (True, False), (False, False)])
def test_views_depend_on_their_generator_only(name: str, known: bool, outlined: bool) -> None:
    cutout = garment(stripes(9), known=known, outlined=outlined)
    before = cutout.pixels.copy()
    first = [VIEWS[name](np.random.default_rng(seed), cutout, SIZE) for seed in (3, 3, 4)]
    assert all(view.shape == (SIZE, SIZE, 3) and view.dtype == np.uint8 for view, _ in first)
    assert all(mask.shape == (SIZE, SIZE) and mask.dtype == np.uint8 for _, mask in first)
    np.testing.assert_array_equal(first[0][0], first[1][0])
    np.testing.assert_array_equal(first[0][1], first[1][1])
    assert (first[0][0] != first[2][0]).any()
    np.testing.assert_array_equal(cutout.pixels, before)


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("box", [(5, 5, 6, 6), (0, 100, 128, 101), (127, 0, 128, 128)])
def test_views_work_for_masks_of_a_few_pixels(name: str, box: tuple[int, int, int, int]) -> None:
    cutout = garment(flat())
    cutout.mask[:] = 0
    cutout.mask[box[1] : box[3], box[0] : box[2]] = 255
    for view, _ in views(VIEWS[name], cutout, 5):
        assert view.shape == (SIZE, SIZE, 3)


def test_color_view_keeps_the_colors_of_the_garment_only() -> None:
    paint = halves()
    paint[:, 34:49] = (230, 220, 60)  # a quarter yellow, a quarter red, half blue
    for view, mask in views(color_view, garment(paint)):
        shares = [near(view, np.array(c)).mean() for c in ((230, 220, 60), RED, BLUE)]
        np.testing.assert_allclose(shares, [0.25, 0.25, 0.5], atol=0.08)
        assert near(view, np.array([30, 150, 30]), 40).mean() < 0.02
        assert (mask == 255).all()


def test_color_view_destroys_the_layout() -> None:
    """Each side of the garment has one color; each side of the view has both."""
    for view, _ in views(color_view, garment(halves())):
        for side in (view[:, :48], view[:, 49:]):
            assert 0.3 < near(side, RED).mean() < 0.7


def test_color_view_destroys_the_pattern() -> None:
    """Along a stripe all pixels are equal; in the view they are not."""
    original = garment(stripes(12)).pixels[20:110, 40:90, 0].astype(float)
    assert original.std(axis=0).max() < 1e-6
    for view, _ in views(color_view, garment(stripes(12))):
        assert view[..., 0].astype(float).std(axis=0).min() > 15
        assert view[..., 0].astype(float).std(axis=1).min() > 15


@pytest.mark.parametrize("known", [False, True])
def test_without_an_outline_the_colors_come_from_the_middle(known: bool) -> None:
    cutout = garment(flat(), known=known, outlined=False)
    cutout.mask = np.full((128, 128), 255, np.uint8) if known else None
    photo_share = 60 * 104 / 128**2
    shares = [near(view, RED).mean() for view, _ in views(color_view, cutout)]
    assert min(shares) > 1.5 * photo_share


def peak_period(view: np.ndarray) -> float:
    """Period of the strongest frequency of a picture, in pixels."""
    gray = view.astype(float).mean(axis=2)
    window = np.hanning(SIZE)[:, None] * np.hanning(SIZE)
    power = np.abs(np.fft.fft2((gray - gray.mean()) * window, (256, 256)))
    y, x = np.unravel_index(power.argmax(), power.shape)
    frequency = np.hypot(min(y, 256 - y), min(x, 256 - x)) / 256
    return 1 / frequency


def test_texture_view_keeps_the_scale() -> None:
    cutout = garment(stripes(8))
    cutout.scale = 1.0  # the sample's picture shows the stripes every 8 pixels
    periods = [peak_period(view) for view, _ in views(texture_view, cutout, 40)]
    assert 0.75 * 8 < min(periods) < 0.9 * 8 < 1.1 * 8 < max(periods) < 1.33 * 8
    cutout.scale = 0.75
    periods = [peak_period(view) for view, _ in views(texture_view, cutout, 20)]
    assert min(periods) > 0.75 * 6 and max(periods) < 1.33 * 6


def test_texture_view_of_a_large_photo_does_not_alias() -> None:
    """Stripes of two pixels reduced to a quarter become gray."""
    cutout = garment(np.tile(np.array([[[0], [255]]], np.uint8), (128, 64, 3)).reshape(128, 128, 3))
    cutout.scale = 0.25
    for view, _ in views(texture_view, cutout):
        assert view.astype(float).std(axis=(0, 1)).max() < 40


def test_texture_view_shows_the_garment_only() -> None:
    for view, mask in views(texture_view, garment(flat())):
        assert view.astype(float).std(axis=(0, 1)).max() < 2  # the background is noise
        assert (mask == 255).all()


@pytest.mark.parametrize("color", [(128, 128, 128), (8, 8, 8), (250, 250, 250), RED])
def test_texture_and_shape_views_destroy_the_color(color) -> None:
    for view in (texture_view, shape_view):
        pictures = views(view, garment(flat(color)), 40)
        means = np.array([picture[mask > 250].mean(axis=0) for picture, mask in pictures])
        assert means.std(axis=0).min() > 35
        saturation = means.max(axis=1) - means.min(axis=1)
        assert np.median(saturation) > 40


def test_shape_view_keeps_the_outline() -> None:
    """The moments of the mask are those of an upright rectangle of 60 × 104."""
    for _, mask in views(shape_view, garment(stripes(9)), 40):
        points = cv2.findNonZero((mask > 127).astype(np.uint8))
        (_, _), sides, _ = cv2.minAreaRect(points)
        short, long = sorted(sides)
        assert np.ptp(points[..., 1]) > 1.2 * np.ptp(points[..., 0])
        assert 60 / 104 - 0.06 < short / long < 60 / 104 + 0.06
        assert 0.87 < long / (104 * SIZE / 128) < 1.13
        assert len(points) > 0.9 * short * long


def test_shape_view_shows_the_garment_where_its_mask_is() -> None:
    """On average the picture has its strongest edges at the mask's border."""
    ratios = []
    for view, mask in views(shape_view, garment(flat()), 40):
        gray = view.astype(np.float32).mean(axis=2)
        steps = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
        border = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 127
        ratios.append(steps[border].mean() / steps[~border].mean())
    assert np.median(ratios) > 2


def test_shape_view_changes_the_background_and_often_the_cloth() -> None:
    greenish, patterned, plain = [], [], []
    for view, mask in views(shape_view, garment(flat()), 60):
        greenish.append(near(view, np.array([30, 150, 30]), 40)[mask == 0].mean())
        patterned.append(view[mask > 250].astype(float).std(axis=0).max() > 10)
        plain.append(view[mask == 0].astype(float).std(axis=0).max() < 1)
    assert np.mean(np.array(greenish) < 0.2) > 0.9
    assert np.mean(plain) > 0.05  # where it was noise
    assert 0.25 < np.mean(patterned) < 0.75


def test_shape_view_without_a_mask_keeps_edges_in_other_colors() -> None:
    cutout = garment(flat(), known=False)
    inside, outside = (slice(30, 70), slice(40, 58)), (slice(30, 70), slice(4, 16))
    contrast, means = [], []
    for view, mask in views(shape_view, cutout, 40):
        assert mask[48, 48] == 255
        difference = view[inside].mean(axis=(0, 1)) - view[outside].mean(axis=(0, 1))
        contrast.append(np.abs(difference).max())
        means.append(view[inside].mean(axis=(0, 1)))
    assert np.median(contrast) > 40
    assert np.std(means, axis=0).min() > 30


def test_item_view_shows_the_garment_and_keeps_its_color_half_of_the_time() -> None:
    sizes, kept = [], []
    for view, mask in views(item_view, garment(flat()), 60):
        sizes.append((mask > 127).mean())
        assert sizes[-1] > 0.1
        mean = view[mask > 250].mean(axis=0)
        kept.append(mean[0] > 1.8 * mean[1] and mean[0] > 1.8 * mean[2])
    assert min(sizes) < 0.5 < 0.9 < max(sizes)
    assert 0.35 < np.mean(kept) < 0.75


def test_repaint_keeps_the_pattern_and_changes_the_color() -> None:
    paint = stripes(10)
    for seed in range(10):
        view = repaint(np.random.default_rng(seed), paint)
        for channel in range(3):
            similar = np.corrcoef(view[..., channel].ravel(), paint[..., 0].ravel())[0, 1]
            assert similar > 0.98


def test_jitter_of_brightness_alone_by_hand() -> None:
    view = jitter(np.random.default_rng(4), flat((100, 60, 20)), np.array([0.5, 0, 0, 0]))
    factor = 1 + np.random.default_rng(4).uniform(-0.5, 0.5)
    np.testing.assert_allclose(view[0, 0], np.array([100, 60, 20]) * factor, atol=1)


def test_blend_follows_the_mask() -> None:
    mask = np.array([[0, 128, 255]], np.uint8)
    top, bottom = np.full((1, 3, 3), 200, np.uint8), np.full((1, 3, 3), 100, np.uint8)
    np.testing.assert_allclose(blend(top, bottom, mask)[0, :, 0], [100, 150, 200], atol=1)


def test_places_are_drawn_evenly() -> None:
    cutout = garment(flat())
    places = np.random.default_rng(0).uniform(0, 128, (7, 2))
    drawn = _draw_places(np.random.default_rng(1), cutout, places, 14)
    np.testing.assert_array_equal(np.bincount(drawn), [2] * 7)
    cutout.outlined = False
    cutout.square = np.array([8.0, 30, 136, 158])
    places = np.array([[72.0, 94], [72 + 0.2 * 128, 94]])  # one standard deviation away
    drawn = _draw_places(np.random.default_rng(1), cutout, places, 1000)
    share = 1 / (1 + np.exp(-0.5))
    assert abs((drawn == 0).mean() - share) < 2e-3
