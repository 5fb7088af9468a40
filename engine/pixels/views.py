"""Views: a second picture of a garment that shares one aspect with the first and little else.

A feature trained to be equal for both pictures becomes invariant to everything that differs. So
each view changes the other aspects as much as possible, most thoroughly if there is a mask of the
garment:

    item      a zoomed part of the garment, possibly recolored: what identifies the product
    color     a mosaic of shuffled patches of the garment: no outline, no pattern
    texture   a patch of the garment at the scale of the first picture, in other colors: no outline
    shape     the whole garment in another color and pattern, on another background

Every view function takes a random generator, a ``crops.Cutout`` and the size S, and returns the
picture u8[S,S,3] RGB and the garment's mask in it, u8[S,S] of 0..255.
"""

import cv2
import numpy as np

from engine.pixels import geometry
from engine.pixels.color import LUMA, color_matrix, mean_luma, recolor
from engine.pixels.crops import Cutout, render, square_map
from engine.training.samplers import systematic_sample

Picture = tuple[np.ndarray, np.ndarray]

# Probability of recoloring in item_view. Benchmarks count a product's colorways as one product, but
# most products have only one, so the color is kept half of the time.
OTHER_COLORWAY = 0.5

# color_view: range of patches per row, and the least share of a patch that the garment covers.
PATCHES_ACROSS = (12, 48)
PATCH_COVERAGE = 0.95

# texture_view: side of the patch as a share of the view's side; reduced without an outline, since
# the wearer's head or hands may be near.
PATCH_SHARE = (0.35, 0.8)

# texture_view: range of the scale relative to the first picture.
TEXTURE_ZOOM = (0.8, 1.25)

# Without an outline, positions on the garment are drawn from a Gaussian around the center; its
# standard deviation as a share of the square's side.
CENTER_SPREAD = 0.2


def item_view(rng: np.random.Generator, cutout: Cutout, size: int) -> Picture:
    """Zoom in on a random place of the garment, showing 10 to 100 % of the square's area."""
    square = _draw_square(rng, cutout, np.sqrt(rng.uniform(0.1, 1)))
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    change = geometry.shearing(rng.uniform(-8, 8)) @ geometry.scaling(stretch, 1 / stretch)
    change = change @ geometry.rotation(rng.uniform(-8, 8))
    picture, mask = render(cutout, _draw_flip(rng, change, size) @ square_map(square, size), size)
    picture = jitter(rng, picture, np.array([0.2, 0.2, 0.2, 0.02]))
    if rng.random() < OTHER_COLORWAY and mask.any():
        picture = blend(repaint(rng, picture, mask), picture, mask)
    return picture, mask


def color_view(rng: np.random.Generator, cutout: Cutout, size: int) -> Picture:
    """A mosaic of randomly ordered and mirrored patches of the garment, repeated as needed."""
    picture, mask = render(cutout, square_map(cutout.square, size), size)
    side = max(round(size / np.exp(rng.uniform(*np.log(PATCHES_ACROSS)))), 2)
    patches, coverage = _to_patches(picture, side), _patch_means(mask, side)
    chosen = np.flatnonzero(coverage >= min(PATCH_COVERAGE * 255, coverage.max()))
    rows, columns = np.divmod(chosen, size // side)
    step = side / size * (cutout.square[2] - cutout.square[0])
    places = cutout.square[:2] + (np.stack([columns, rows], axis=1) + 0.5) * step
    across = -(-size // side)
    drawn = chosen[_draw_places(rng, cutout, places, across * across)]
    mosaic = _mirror_some(rng, patches[drawn])
    mosaic = mosaic.reshape(across, across, side, side, 3).swapaxes(1, 2)
    mosaic = mosaic.reshape(across * side, across * side, 3)[:size, :size]
    return np.ascontiguousarray(mosaic), np.full((size, size), 255, np.uint8)


def texture_view(rng: np.random.Generator, cutout: Cutout, size: int) -> Picture:
    """A patch from inside the garment, rotated, recolored, and mirror-tiled to fill the view."""
    scale = cutout.scale * np.exp(rng.uniform(*np.log(TEXTURE_ZOOM)))
    share = rng.uniform(*PATCH_SHARE) * (1 if cutout.outlined else 0.6)
    patch = _draw_patch(rng, cutout, share * size / scale)
    patch = repaint(rng, patch)
    if scale < 1:
        wanted = [max(round(side * scale), 1) for side in patch.shape[1::-1]]
        patch, scale = cv2.resize(patch, wanted, interpolation=cv2.INTER_AREA), 1
    center = np.array(patch.shape[1::-1]) / 2
    turn = geometry.rotation(rng.uniform(-45, 45)) @ geometry.scaling(scale, scale)
    # From centers of pixels to centers of pixels, as OpenCV counts.
    matrix = geometry.translation(size / 2 - 0.5, size / 2 - 0.5) @ turn
    matrix = matrix @ geometry.translation(*(0.5 - center))
    view = cv2.warpAffine(patch, matrix[:2], (size, size), borderMode=cv2.BORDER_REFLECT)
    return view, np.full((size, size), 255, np.uint8)


def shape_view(rng: np.random.Generator, cutout: Cutout, size: int) -> Picture:
    """The whole garment, recolored; with a mask, mostly in another cloth on another background."""
    zoom = np.exp(rng.uniform(-0.1, 0.1))
    change = geometry.rotation(rng.uniform(-10, 10)) @ geometry.scaling(zoom, zoom)
    shift = geometry.translation(*rng.uniform(-0.05, 0.05, 2) * size)
    matrix = shift @ _draw_flip(rng, change, size) @ square_map(cutout.square, size)
    picture, mask = render(cutout, matrix, size)
    if cutout.mask is None:
        return _change_appearance(rng, picture), mask
    if rng.random() < 0.35:
        garment = repaint(rng, picture, mask)
    else:
        garment = _shade(rng, draw_cloth(rng, size), picture, mask)
    background = repaint(rng, picture) if rng.random() < 0.25 else draw_cloth(rng, size)
    return blend(garment, background, mask), mask


VIEWS = {"item": item_view, "color": color_view, "texture": texture_view, "shape": shape_view}


def jitter(rng: np.random.Generator, picture: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Change brightness, contrast, saturation and hue at random.

    Args:
        rng: source of randomness.
        picture: u8[H,W,3] RGB.
        limits: f[4], the largest change of each (``color.color_matrix``).
    """
    if not limits.any():
        return picture
    brightness, contrast, saturation, hue = rng.uniform(-limits, limits) + np.array([1, 1, 1, 0])
    matrix = color_matrix(
        mean_luma(picture),
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        hue=hue,
    )
    return recolor(picture, matrix)


def repaint(
    rng: np.random.Generator, picture: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """Give a picture another mean color and rotate the hues around it; the pattern stays.

    A hue rotation alone would not change black, white and gray.

    Args:
        rng: source of randomness.
        picture: u8[H,W,3] RGB.
        mask: u8[H,W], the pixels whose mean color is replaced, default all. The change is applied
            to all pixels.

    Returns:
        u8[H,W,3].
    """
    mean, spread = cv2.meanStdDev(picture, mask=mask)
    matrix = color_matrix(
        0, brightness=rng.uniform(0.8, 1.2), saturation=rng.uniform(0, 1.5), hue=rng.random()
    )
    room = min(1.5 * float(spread.max()), 100)  # so that a bold pattern is not clipped away
    matrix[:, 3:] = rng.uniform(room, 255 - room, (3, 1)) - matrix[:, :3] @ mean
    return recolor(picture, matrix)


def draw_cloth(rng: np.random.Generator, size: int) -> np.ndarray:
    """A plain, striped, checked or blotchy cloth in two random colors: u8[S,S,3]."""
    colors = rng.uniform(0, 255, (2, 3))
    steps = np.linspace(0, 1, 256)[:, None]
    palette = np.rint(colors[0] * (1 - steps) + colors[1] * steps).astype(np.uint8)
    kind = rng.integers(4)
    if kind == 0:
        return np.full((size, size, 3), palette[0], np.uint8)
    if kind == 1:
        cells = int(rng.integers(4, size // 4))
        weave = cv2.resize(rng.integers(0, 256, (cells, cells), np.uint8), (size, size))
    else:
        weave = _draw_stripes(rng, size)
        if kind == 3:
            weave = weave // 2 + weave.T // 2
    return cv2.applyColorMap(weave, palette[:, None])


def _draw_stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    """Soft or hard stripes of any width and direction: u8[S,S]."""
    period = size * np.exp(rng.uniform(np.log(1 / 32), np.log(1 / 4)))
    angle, hardness = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 3))
    places = np.arange(size) * 2 * np.pi / period + rng.uniform(0, 2 * np.pi)
    across, down = np.exp(1j * places * [[np.cos(angle)], [np.sin(angle)]]).astype(np.complex64)
    # sin(a + b) = sin a cos b + cos a sin b
    wave = np.outer(down.imag, across.real) + np.outer(down.real, across.imag)
    return (127.5 + 127.5 * np.clip(wave * np.float32(hardness), -1, 1)).astype(np.uint8)


def blend(top: np.ndarray, bottom: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``top`` where the mask is 255, ``bottom`` where it is 0: u8[S,S,3]."""
    weight = mask.astype(np.float32) * np.float32(1 / 255)
    return cv2.blendLinear(top, bottom, weight, 1 - weight)


def _shade(
    rng: np.random.Generator, cloth: np.ndarray, picture: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Transfer the shading (folds) of the garment in ``picture`` to another cloth."""
    small = (len(mask) // 4,) * 2  # at this resolution folds survive and the weave does not
    luma = cv2.transform(picture, LUMA[None])
    weight = mask.astype(np.float32) + np.float32(1e-3)
    inside = cv2.resize(weight, small, interpolation=cv2.INTER_AREA)
    light = cv2.resize(luma * weight, small, interpolation=cv2.INTER_AREA) / inside
    mean = max((light * inside).sum() / inside.sum(), 1)
    light = 128 * np.clip(1 + rng.uniform(0.3, 1) * (light / mean - 1), 0.4, 1.6)
    light = cv2.resize(light.astype(np.uint8), mask.shape)
    return cv2.multiply(cloth, cv2.merge([light] * 3), scale=1 / 128)


def _change_appearance(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """``shape_view`` without a mask: recolor, and weaken the texture by blurring and overlaying."""
    picture = repaint(rng, picture)
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), len(picture) * rng.uniform(1 / 200, 1 / 90))
    strength = rng.uniform(0, 0.4)
    return cv2.addWeighted(picture, 1 - strength, draw_cloth(rng, len(picture)), strength, 0)


def _draw_places(
    rng: np.random.Generator, cutout: Cutout, places: np.ndarray, count: int
) -> np.ndarray:
    """Draw ``count`` of the candidate positions (x, y) f[N,2] of a cutout: indices i64[count].

    Uniformly if the mask is the garment's outline; otherwise preferring the center, since the
    wearer and the surroundings are towards the edges. Systematic sampling: each candidate is drawn
    the floor or ceiling of its expected number of times. The indices are ascending.
    """
    weights = np.ones(len(places))
    if not cutout.outlined:
        low, high = cutout.square[:2], cutout.square[2:]
        distance = (places - (low + high) / 2) / (CENTER_SPREAD * (high - low))
        weights = np.exp(-0.5 * (distance**2).sum(axis=1))
    return systematic_sample(rng, weights, count)


def _coarse_mask(cutout: Cutout) -> tuple[np.ndarray, int]:
    """Every n-th pixel of the mask (never all 0; all 255 without a mask), and n."""
    step = max(max(cutout.pixels.shape[:2]) // 64, 1)
    if cutout.mask is None:
        return np.full(cutout.pixels[::step, ::step].shape[:2], 255, np.uint8), step
    coarse = cutout.mask[::step, ::step]
    return (coarse, step) if coarse.any() else (cutout.mask, 1)


def _draw_square(rng: np.random.Generator, cutout: Cutout, share: float) -> np.ndarray:
    """A random square around a pixel of the garment, ``share`` of the cutout's square: f64[4]."""
    coarse, step = _coarse_mask(cutout)
    places = np.argwhere(coarse)[:, ::-1] * step + step / 2
    center = places[_draw_places(rng, cutout, places, 1)[0]]
    low, high = cutout.square[:2], cutout.square[2:]
    half = share * (high - low) / 2
    center = np.clip(center, low + half, high - half)
    return np.concatenate([center - half, center + half])


def _draw_flip(rng: np.random.Generator, change: np.ndarray, size: int) -> np.ndarray:
    """A change about the picture's center, mirrored with probability 0.5: f64[3,3]."""
    matrix = geometry.about(change, size / 2, size / 2)
    return geometry.mirroring(size) @ matrix if rng.random() < 0.5 else matrix


def _to_patches(picture: np.ndarray, side: int) -> np.ndarray:
    """The complete patches of a picture, row by row: u8[N,side,side,3]."""
    across = len(picture) // side
    rows = picture[: across * side, : across * side].reshape(across, side, across, side, 3)
    return rows.swapaxes(1, 2).reshape(-1, side, side, 3)


def _patch_means(mask: np.ndarray, side: int) -> np.ndarray:
    """Mean of each patch of a mask: u8[N]."""
    across = len(mask) // side
    whole = mask[: across * side, : across * side]
    return cv2.resize(whole, (across, across), interpolation=cv2.INTER_AREA).ravel()


def _mirror_some(rng: np.random.Generator, patches: np.ndarray) -> np.ndarray:
    """Shuffle the patches, each mirrored at random."""
    half = len(patches) // 2
    patches[:half] = patches[:half, ::-1]
    patches = rng.permutation(patches)
    patches[:half] = patches[:half, :, ::-1]
    return patches if rng.random() < 0.5 else patches.swapaxes(1, 2)


def _draw_patch(rng: np.random.Generator, cutout: Cutout, side: float) -> np.ndarray:
    """A random square inside the garment, of ``side`` pixels if there is room: u8[h,w,3]."""
    coarse, step = _coarse_mask(cutout)
    framed = cv2.copyMakeBorder(coarse, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(framed, cv2.DIST_C, 3)[1:-1, 1:-1]
    rows, columns = np.nonzero(depth >= max(min(side / 2 / step, 0.8 * depth.max()), 1))
    places = np.stack([columns, rows], axis=1) * step + step / 2
    pick = _draw_places(rng, cutout, places, 1)[0]
    half = min(side / 2, max(depth[rows[pick], columns[pick]] * step - step / 2, 1))
    x1, y1 = np.maximum(np.rint(places[pick] - half).astype(int), 0)
    x2, y2 = np.rint(places[pick] + half).astype(int)
    return cutout.pixels[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
