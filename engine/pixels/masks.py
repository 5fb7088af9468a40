"""Masks as RLE and as bitmap crops, conversions, and the pasting of predicted masks.

A *crop* is ``(bitmap[h,w], x0, y0)``: the part of a mask inside its box, and the photo pixel of its
top-left corner. No function here makes a bitmap of the whole photo. Coordinates are pixels with
(0, 0) the photo's corner, so the center of pixel (x, y) is (x + 0.5, y + 0.5). An RLE is COCO's
compressed kind: ``{"size": [height, width], "counts": bytes}``, column by column.

Most functions work on *flips*: the sorted positions in a flattened bitmap at which the value
changes, starting from 0. ``np.repeat`` turns them into pixels at memory speed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from engine.errors import InputError

RLE = dict[str, Any]  # compressed
Crop = tuple[np.ndarray, int, int]


def to_rle(segmentation: Sequence | Mapping, height: int, width: int) -> RLE:
    """Any COCO segmentation -> compressed RLE, exactly as pycocotools does it.

    Args:
        segmentation: polygons (each [K,2] or flat [2K] numbers), whose union is the mask, or an RLE
            whose counts are a list (uncompressed), bytes or str. Polygons of fewer than 3 points
            are ignored.
        height, width: of the photo.

    Raises:
        InputError: an RLE of another size than the photo, or one that cannot be read.
    """
    if not isinstance(segmentation, Mapping):
        rings = [np.asarray(ring, np.float64).ravel().tolist() for ring in segmentation]
        rings = [ring for ring in rings if len(ring) >= 6]
        if not rings:
            nothing = {"size": [height, width], "counts": [height * width]}
            return coco_mask.frPyObjects(nothing, height, width)
        return coco_mask.merge(coco_mask.frPyObjects(rings, height, width))
    counts, size = segmentation["counts"], [int(side) for side in segmentation["size"]]
    if size != [height, width]:
        raise InputError(
            f"RLE mask of {size[1]}×{size[0]} pixels on a photo of {width}×{height}: "
            "annotate the photo at its own size"
        )
    if isinstance(counts, str):
        counts = counts.encode()
    if not isinstance(counts, bytes):
        _check_counts(np.asarray(counts, np.int64), height, width)
        return coco_mask.frPyObjects({"size": size, "counts": list(counts)}, height, width)
    _check_counts(read_counts(counts), height, width)
    return {"size": size, "counts": counts}


def _check_counts(counts: np.ndarray, height: int, width: int) -> None:
    # pycocotools does not check the counts and writes past its buffer if they are too large.
    if (counts < 0).any() or counts.sum() != height * width:
        raise InputError(
            f"RLE mask whose runs do not add up to {width}×{height} pixels: export it again"
        )


def read_counts(counts: bytes) -> np.ndarray:
    """Run lengths of a compressed RLE: int64 [R].

    The encoding of pycocotools' rleToString: 5 bits per character; bit 6 means that more follow;
    bit 5 of the last character is the sign; from the fourth run on, numbers are differences to the
    run before the previous one.

    Raises:
        InputError: the counts are damaged.
    """
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((codes & 32) == 0)
    if len(last) == 0 or last[-1] != len(codes) - 1 or (codes < 0).any() or (codes > 63).any():
        raise InputError("RLE mask that cannot be decoded: its counts are cut off or damaged")
    first = np.concatenate([[0], last[:-1] + 1])
    place = 5 * (np.arange(len(codes)) - np.repeat(first, last - first + 1))
    if place.max() > 30:  # beyond this, pycocotools would overflow and read another number
        raise InputError("RLE mask that cannot be decoded: one of its runs is absurdly long")
    runs = np.add.reduceat((codes & 31) << place, first)
    runs -= np.where(codes[last] & 16, 1 << (place[last] + 5), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def fill_flips(flips: np.ndarray, length: int) -> np.ndarray:
    """The flattened bitmap with these flips: u8[length] of 0 and 1."""
    ends = np.concatenate([[0], flips, [length]])
    runs = ends[1:] - ends[:-1]
    return np.repeat((np.arange(len(runs)) & 1).astype(np.uint8), runs)


def decode_crop(rle: Mapping) -> Crop:
    """Decode a compressed RLE inside the mask's own box; an empty mask has h = w = 0."""
    height = rle["size"][0]
    x, y, w, h = coco_mask.toBbox(rle).astype(int).tolist()
    if w == 0 or h == 0:
        return np.zeros((0, 0), np.uint8), x, y
    flips = np.cumsum(read_counts(rle["counts"]))[:-1] - x * height
    # Before the box there may be an even number of flips, since some encoders write empty runs.
    columns = fill_flips(flips[(flips >= 0) & (flips < w * height)], w * height)
    return cv2.transpose(columns.reshape(-1, height)[:, y : y + h]), x, y


def _encode_columns(columns: np.ndarray, x0: int, y0: int, height: int, width: int) -> RLE:
    """RLE of a mask of a (width, height) photo from its crop, given column by column as bool[w,h].

    Byte for byte what pycocotools makes of the full bitmap.
    """
    w, h = columns.shape
    # A background pixel before the crop and after each column ends every run.
    padded = np.zeros(w * (h + 1) + 1, np.bool_)
    padded[1:].reshape(w, h + 1)[:, :h] = columns
    flips = np.flatnonzero(padded[1:] != padded[:-1])
    flips += (x0 + flips // (h + 1)) * height + y0 - flips // (h + 1) * (h + 1)
    # If a column is filled down to the photo's edge and the next one starts filled, two flips
    # coincide: the run continues. Flips never coincide otherwise.
    again = np.flatnonzero(flips[1:] == flips[:-1])
    flips = np.delete(flips, np.concatenate([again, again + 1]))
    ends = np.concatenate([[0], flips, [height * width]])
    counts = ends[1:] - ends[:-1]
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    rle = {"size": [height, width], "counts": counts.tolist()}
    return coco_mask.frPyObjects(rle, height, width)


def paste_to_rles(roi_masks: np.ndarray, boxes: np.ndarray, height: int, width: int) -> list[RLE]:
    """Predicted RoI masks -> RLEs of the whole photo: the pixels above one half.

    The value of a pixel is the mask interpolated at the pixel's center, 0 outside the box. Unlike
    in torchvision, boxes are not rounded to pixels first.

    Args:
        roi_masks: f16 or f32 [N,M,M], probabilities.
        boxes: f32[N,4] xyxy in pixels of the photo.
        height, width: of the photo.
    """
    padded = np.pad(roi_masks, ((0, 0), (1, 1), (1, 1))).astype(np.float32)
    rles = []
    for mask, box in zip(padded, boxes.tolist(), strict=True):
        columns, x0, y0 = _paste_columns(mask, box, height, width)
        rles.append(_encode_columns(columns, x0, y0, height, width))
    return rles


def mask_certainty(roi_masks: np.ndarray) -> np.ndarray:
    """Mean probability of the cells above one half: f32[N] in 0.5..1; 0.5 for empty masks.

    "Maskness" in SOLO (Wang et al. 2020).

    Args:
        roi_masks: f16 or f32 [N,M,M], probabilities.
    """
    cells = roi_masks.astype(np.float32)
    covered = cells > 0.5
    count = covered.sum(axis=(1, 2))
    total = (cells * covered).sum(axis=(1, 2))
    return np.where(count, total / np.maximum(count, 1), 0.5).astype(np.float32)


def _paste_columns(mask: np.ndarray, box: list[float], height: int, width: int) -> Crop:
    """Stretch a mask over a box xyxy, clip it to the photo and threshold it at 0.5.

    ``mask`` is f32[S,S] with a padding of one cell, which lies outside the box. Returns (bool[w,h],
    x0, y0), column by column, the order of RLE.
    """
    x_weights, x0 = _stretch_weights(len(mask), box[0], box[2], width)
    y_weights, y0 = _stretch_weights(len(mask), box[1], box[3], height)
    if len(x_weights) == 0 or len(y_weights) == 0:
        return np.zeros((0, 0), np.bool_), 0, 0
    return x_weights @ mask.T @ y_weights.T > 0.5, x0, y0


def _stretch_weights(size: int, low: float, high: float, end: int) -> tuple[np.ndarray, int]:
    """Bilinear resizing along one axis as a matrix f32[n,size], and the first pixel.

    Row i has the two non-zero weights with which cells make pixel first + i. All cells but the
    outer two (the padding) are stretched over low..high. There are rows for the pixels in 0..end
    whose center is in that range; beyond, interpolating towards the padding gives at most one half.
    """
    first, last = (min(max(math.ceil(side - 0.5), 0), end) for side in (low, high))
    place = (np.arange(first, last) + 0.5 - low) * ((size - 2) / max(high - low, 1e-9)) + 0.5
    cell = np.minimum(place.astype(np.int64), size - 2)
    weights = np.zeros((len(place), size), np.float32)
    rows = np.arange(len(place))
    weights[rows, cell + 1] = place - cell
    weights[rows, cell] = 1 - weights[rows, cell + 1]
    return weights, first
