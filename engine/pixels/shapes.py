"""Garments of a training sample: maps them into the picture and packs them as its target."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from engine.data.records import Garment
from engine.pixels import outlines
from engine.pixels.geometry import Size, move_box, whole_pixels

# Smallest visible share of a garment; below, it is dropped (cropped or pasted over) ...
MIN_VISIBLE = 0.1
# ... unless its box fills this share of the picture, as a coat does in a portrait.
LARGE = 0.05


@dataclass(slots=True)
class Shape:
    """A garment in the picture: its visible pixels, or only its box."""

    label: int
    box: np.ndarray  # f64[4] xyxy; around the visible pixels where there is a mask
    mask: np.ndarray | None = None  # u8[h,w] of 0 and 1, the pixels in the box
    whole: int = 0  # pixels of the mask before other garments were pasted over it

    @property
    def area(self) -> float:
        """Visible pixels, or the area of the box."""
        if self.mask is None:
            return float(np.prod(self.box[2:] - self.box[:2]))
        return float(np.count_nonzero(self.mask))


def place(garment: Garment, matrix: np.ndarray, size: Size, *, with_mask: bool) -> Shape | None:
    """Map a garment into a picture.

    Args:
        garment: as annotated.
        matrix: f64[3,3] from its photo to the picture.
        size: (width, height) of the picture.
        with_mask: rasterize its segmentation and take the box from that; else map its box.

    Returns:
        The shape; None for a crowd, or if less than ``MIN_VISIBLE`` of it is inside the picture
        and fills less than ``LARGE`` of that.
    """
    if garment.crowd:
        return None
    label = garment.category + 1
    if not with_mask:
        reach = move_box(garment.box, matrix)
        box = reach.clip(0, (*size, *size))
        seen = _can_be_seen(reach, box, size) and (box[2:] - box[:2] >= 1).all()
        return Shape(label, box) if seen else None
    outline = outlines.move(outlines.outline_of(garment.segmentation), matrix)
    if sum(part.size for part in outline) == 0:
        return None
    reach = outlines.bounds(outline)
    if not _can_be_seen(reach, reach.clip(0, (*size, *size)), size):
        return None
    x1, y1, x2, y2 = whole_pixels(reach, size)
    mask = outlines.rasterize(outline, (x1, y1, x2, y2))
    return _trimmed(label, mask, x1, y1, int(np.count_nonzero(mask)))


def _can_be_seen(reach: np.ndarray, inside: np.ndarray, size: Size) -> bool:
    area = np.prod(reach[2:] - reach[:2])
    return area > 0 and np.prod(inside[2:] - inside[:2]) >= min(
        MIN_VISIBLE * area, LARGE * np.prod(size)
    )


def _trimmed(label: int, mask: np.ndarray, x0: int, y0: int, whole: int) -> Shape | None:
    """The shape of a mask u8[h,w] at (x0, y0), trimmed to its pixels; None if it is empty."""
    x, y, w, h = cv2.boundingRect(mask)
    if w == 0:
        return None
    box = np.array([x0 + x, y0 + y, x0 + x + w, y0 + y + h], np.float64)
    return Shape(label, box, mask[y : y + h, x : x + w], whole)


def cover(shapes: Sequence[Shape], top: Shape) -> list[Shape]:
    """Remove the pixels of a new garment, ``top``, from the garments under it.

    Returns:
        The shapes with reduced masks and boxes, without those that are (nearly) hidden.
    """
    return [shape for shape in (_under(shape, top) for shape in shapes) if shape]


def _under(shape: Shape, top: Shape) -> Shape | None:
    (x1, y1), (x2, y2) = _overlap(shape.box, top.box)
    if x1 >= x2 or y1 >= y2:
        return shape
    mask = shape.mask.copy()
    left, upper = shape.box[:2].astype(int)
    top_left, top_upper = top.box[:2].astype(int)
    over = top.mask[y1 - top_upper : y2 - top_upper, x1 - top_left : x2 - top_left]
    mask[y1 - upper : y2 - upper, x1 - left : x2 - left] &= 1 - over
    if np.count_nonzero(mask) < MIN_VISIBLE * shape.whole:
        return None
    return _trimmed(shape.label, mask, left, upper, shape.whole)


def _overlap(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(a[:2], b[:2]).astype(int), np.minimum(a[2:], b[2:]).astype(int)


def pack(shapes: Sequence[Shape], size: Size, *, with_masks: bool) -> dict[str, torch.Tensor]:
    """Target tensors of the shapes, as ``data_aug.DetectorTransform`` describes them."""
    count = len(shapes)
    boxes = np.array([shape.box for shape in shapes], np.float32).reshape(count, 4)
    target = {
        "boxes": torch.from_numpy(boxes),
        "labels": torch.tensor([shape.label for shape in shapes], dtype=torch.int64),
        "area": torch.tensor([shape.area for shape in shapes], dtype=torch.float32),
        "iscrowd": torch.zeros(count, dtype=torch.int64),
    }
    if with_masks:
        masks, origins = _pack_masks(shapes, size)
        target |= {"masks": torch.from_numpy(masks), "mask_origin": torch.from_numpy(origins)}
    return target


def _pack_masks(shapes: Sequence[Shape], size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Masks u8[N,h,w] and the pixel (x, y) of their top-left corners, i64[N,2].

    They include one pixel of context around the box, so that interpolating at the box's border
    gives the same values as in a mask of the whole picture.
    """
    boxes = np.array([shape.box for shape in shapes]).reshape(-1, 4).astype(np.int64)
    origins = (boxes[:, :2] - 1).clip(0)
    extents = (boxes[:, 2:] + 1).clip(max=size) - origins
    width, height = extents.max(axis=0, initial=0).tolist()
    masks = np.zeros((len(shapes), height, width), np.uint8)
    for mask, shape, (x, y) in zip(masks, shapes, boxes[:, :2] - origins, strict=True):
        h, w = shape.mask.shape
        mask[y : y + h, x : x + w] = shape.mask
    return masks, origins
