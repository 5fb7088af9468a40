"""Text tags on a picture: each near its garment, inside the frame, never over another tag."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

# Hiding a whole garment costs as much as being this many tag heights away from one's own.
COVER_COST = 6.0


@dataclass(slots=True)
class Tag:
    """A text and the garment it belongs to."""

    text: str
    color: Color
    anchor: tuple[float, float]  # (x, y) of a point well inside the garment
    shape: tuple[np.ndarray, int, int]  # u8[h,w] the garment's pixels (> 0), x0, y0


def draw_tags(canvas: np.ndarray, tags: Sequence[Tag]) -> np.ndarray:
    """Write the tags on u8[H,W,3] RGB and return the new picture.

    If there is no free place left (dozens of garments in a small picture), the last tags are left
    out.
    """
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    font, padding = _font_for(canvas.shape, len(tags))
    texts = [_shorten(tag.text, font, canvas.shape[1] - 2 * padding) for tag in tags]
    height = int(font.size * 1.2) + padding
    widths = [int(np.ceil(font.getlength(text))) + 2 * padding for text in texts]
    corners = place_tags(tags, widths, height, canvas.shape[:2])
    placed = [item for item in zip(tags, texts, widths, corners, strict=True) if item[3]]
    for tag, _, width, (x, y) in placed:
        _draw_leader(pen, tag, (x, y, x + width, y + height))
    for tag, text, width, (x, y) in placed:
        frame = (x, y, x + width - 1, y + height - 1)
        pen.rounded_rectangle(frame, radius=height // 5, fill=tag.color)
        middle = (x + padding, y + height / 2)
        pen.text(middle, text, font=font, fill=_ink(tag.color), anchor="lm", stroke_width=0.25)
    return np.asarray(picture)


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _font_for(shape: tuple[int, ...], count: int) -> tuple[ImageFont.FreeTypeFont, int]:
    """The font, 13 to 28 pixels, smaller if there are many tags, and the padding around text."""
    size = np.sqrt(shape[0] * shape[1]) / 45 * np.sqrt(min(1, 12 / max(count, 1)))
    size = int(np.clip(size, 13, 28))
    return _font(size), size // 3


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def place_tags(
    tags: Sequence[Tag], widths: Sequence[int], height: int, frame: tuple[int, int]
) -> list[tuple[int, int] | None]:
    """Choose each tag's top-left corner on a grid over the frame, one tag after the other.

    The best place is the cheapest free one: its distance to the garment's anchor in tag heights,
    plus ``COVER_COST`` times the share of each garment it would hide. So a tag sits in the middle
    of a coat, but beside a shoe.

    Args:
        tags: placed in this order.
        widths: of each tag in pixels; height: of all of them.
        frame: (height, width) of the picture.

    Returns:
        (x, y) per tag, or None where every place is taken.
    """
    cover = _cover_table(tags, frame)
    taken = np.empty((0, 4))
    corners: list[tuple[int, int] | None] = []
    for tag, width in zip(tags, widths, strict=True):
        places = _grid(width, height, frame)
        free = places[~_hits(places, taken, gap=2)]
        if len(free) == 0:
            corners.append(None)
            continue
        cost = _distance(free, tag.anchor) / height + COVER_COST * _cover(cover, free)
        best = free[int(cost.argmin())]
        taken = np.vstack([taken, best])
        corners.append((int(best[0]), int(best[1])))
    return corners


def _grid(width: int, height: int, frame: tuple[int, int]) -> np.ndarray:
    """Candidate places of a tag in the frame, half a tag height apart: i64[N,4] xyxy."""
    step = max(height // 2, 1)
    xs = np.unique(np.append(np.arange(0, frame[1] - width + 1, step), frame[1] - width))
    ys = np.unique(np.append(np.arange(0, frame[0] - height + 1, step), frame[0] - height))
    x, y = (axis.ravel() for axis in np.meshgrid(xs[xs >= 0], ys[ys >= 0]))
    return np.stack([x, y, x + width, y + height], axis=1)


def _hits(places: np.ndarray, taken: np.ndarray, gap: int) -> np.ndarray:
    """Which places are closer than ``gap`` pixels to a taken one: bool[N]."""
    a, b = places[:, None], taken[None]
    apart = (a[..., 0] >= b[..., 2] + gap) | (b[..., 0] >= a[..., 2] + gap)
    apart |= (a[..., 1] >= b[..., 3] + gap) | (b[..., 1] >= a[..., 3] + gap)
    return (~apart).any(axis=1)


def _distance(places: np.ndarray, anchor: tuple[float, float]) -> np.ndarray:
    """From each place's center line to the anchor, in pixels: f64[N]."""
    middle = (places[:, :2] + places[:, 2:]) / 2
    # Horizontally the distance to the nearest part of the tag counts, so that wide tags are not
    # penalized.
    half = (places[:, 2] - places[:, 0]) / 2
    dx = np.abs(middle[:, 0] - anchor[0])
    dx = np.where(dx > half, dx - half * 0.5, dx * 0.5)
    return np.hypot(dx, middle[:, 1] - anchor[1])


def _cover_table(tags: Sequence[Tag], frame: tuple[int, int]) -> np.ndarray:
    """Integral image in which the pixels of each garment sum up to 1: f64[H+1,W+1]."""
    weight = np.zeros(frame, np.float32)
    for tag in tags:
        pixels, x0, y0 = tag.shape
        share = np.float32(1 / max(cv2.countNonZero(pixels), 1))
        window = weight[y0 : y0 + pixels.shape[0], x0 : x0 + pixels.shape[1]]
        window += (pixels > 0) * share
    return cv2.integral(weight, sdepth=cv2.CV_64F)


def _cover(table: np.ndarray, places: np.ndarray) -> np.ndarray:
    """For each place the sum of the shares of garments that it would hide: f64[N]."""
    x1, y1, x2, y2 = places.T
    return table[y2, x2] - table[y1, x2] - table[y2, x1] + table[y1, x1]


def _draw_leader(pen: ImageDraw.ImageDraw, tag: Tag, box: tuple[int, int, int, int]) -> None:
    """Draw a line from a tag to its garment if they are apart."""
    x, y = tag.anchor
    near = (min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3]))
    if np.hypot(near[0] - x, near[1] - y) < box[3] - box[1]:
        return
    pen.line([near, (x, y)], fill=(0, 0, 0), width=4)
    pen.line([near, (x, y)], fill=tag.color, width=2)
    pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=tag.color, outline=(0, 0, 0))


def _ink(color: Color) -> Color:
    """Black or white, whichever has more contrast to the color (WCAG relative luminance)."""
    unit = np.asarray(color) / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)
