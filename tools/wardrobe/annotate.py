"""Makes DeepFashion2 annotations from the painted scene: polygons, boxes, landmarks, flags.

Coordinates in annotations count from the photo's corner: pixel i covers i .. i + 1.
"""

import cv2
import numpy as np

from tools.wardrobe.canvas import Canvas, garment_of, owner_code
from tools.wardrobe.garments import Garment
from tools.wardrobe.patterns import Cut

# A garment with less than this visible is not annotated, since its outline is unclear.
SMALLEST_SHARE, SMALLEST_AREA = 0.04, 40


def annotate_item(
    canvas: Canvas, owner: int, garment: Garment, cut: Cut, viewpoint: int
) -> dict | None:
    """One ``itemN`` entry, or None if too little of the garment is visible.

    Args:
        canvas: the finished painting. owner: the garment's number in it.
        garment: what it is. cut: how it was made up.
        viewpoint: 1 not worn, 2 from the front, 3 from the side or back.
    """
    visible = (garment_of(canvas.owner) == owner).astype(np.uint8)
    area = cv2.countNonZero(visible)
    covered = canvas.covered.get(owner)
    whole = max(area, 0 if covered is None else cv2.countNonZero(covered))
    if area < max(SMALLEST_AREA, SMALLEST_SHARE * whole):
        return None
    polygons = outline_mask(visible)
    if not polygons:
        return None
    points = np.concatenate(polygons)
    box = [*np.floor(points.min(axis=0)).astype(int), *np.ceil(points.max(axis=0)).astype(int)]
    landmarks, outside = _landmarks(_kept(canvas.owner, polygons), owner, cut)
    share = (box[2] - box[0]) * (box[3] - box[1]) / (canvas.width * canvas.height)
    return {
        "segmentation": [[round(float(v), 2) for v in polygon.ravel()] for polygon in polygons],
        "scale": 1 + int(share >= 0.10) + int(share >= 0.40),
        "viewpoint": viewpoint,
        "zoom_in": 1 + int(outside > 0.05) + int(outside > 0.40),
        "landmarks": landmarks,
        "style": garment.style,
        "bounding_box": [int(value) for value in box],
        "category_id": garment.category,
        "occlusion": 1 + int(area < 0.8 * whole) + int(area < 0.5 * whole),
        "category_name": garment.name,
        "factors": garment.factors(),
    }


def _kept(codes: np.ndarray, polygons: list[np.ndarray]) -> np.ndarray:
    """The owner codes u8[H, W] inside the polygons, 0 outside: what they leave out is hidden."""
    inside = np.zeros_like(codes)
    cv2.fillPoly(inside, [np.round(polygon - 0.5).astype(np.int32) for polygon in polygons], 1)
    return codes * inside


def _landmarks(codes: np.ndarray, owner: int, cut: Cut) -> tuple[list[int], float]:
    """Flat x, y, visibility; and the share of points outside the photo.

    2: the part of the garment that the point belongs to is in sight there. 1: hidden.
    0 (at 0, 0): outside the photo.
    """
    flat: list[int] = []
    height, width = codes.shape
    reach = max(2, round(height / 160))
    for point, parts in cut.landmarks:
        x, y = int(np.floor(point[0] + 0.5)), int(np.floor(point[1] + 0.5))
        if not (0 <= x < width and 0 <= y < height):
            flat += [0, 0, 0]
            continue
        around = codes[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        seen = any((around == owner_code(owner, part)).any() for part in parts)
        flat += [x, y, 2 if seen else 1]
    return flat, flat[2::3].count(0) / len(cut.landmarks)


def outline_mask(mask: np.ndarray) -> list[np.ndarray]:
    """Polygons f64[K, 2] around a mask u8[H, W]; specks are left out.

    A polygon cannot have a hole, so a piece with one is cut in two through it, as an annotator
    would.
    """
    x, y, w, h = cv2.boundingRect(mask)
    if w == 0:
        return []
    smallest = max(9.0, 0.0007 * w * h)
    # At double size the outline of pixel centers lies a quarter pixel inside the mask's edge.
    double = cv2.resize(mask[y : y + h, x : x + w], (2 * w, 2 * h), interpolation=cv2.INTER_NEAREST)
    double = cv2.copyMakeBorder(double, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    return [(p - 0.5) / 2 + (x, y) for p in _outlines(double, 4 * smallest, depth=4)]


def _outlines(mask: np.ndarray, smallest: float, depth: int) -> list[np.ndarray]:
    contours, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return []
    for contour, (_, _, _, parent) in zip(contours, tree[0], strict=True):
        if parent >= 0 and depth and cv2.contourArea(contour) >= smallest:
            x = int(contour[:, 0, 0].mean())
            left, right = mask.copy(), mask.copy()
            left[:, x:] = 0
            right[:, :x] = 0
            return _outlines(left, smallest, depth - 1) + _outlines(right, smallest, depth - 1)
    polygons = []
    for contour, (_, _, _, parent) in zip(contours, tree[0], strict=True):
        if parent < 0 and cv2.contourArea(contour) >= smallest:
            simple = cv2.approxPolyDP(contour, 1.1, True).reshape(-1, 2)
            if len(simple) >= 3:
                polygons.append(simple.astype(np.float64))
    return polygons
