"""Augmentation for the detector: a photo of a dataset in, an (image, target) of training size out.

All geometric steps are composed into one affine map: the photo is resampled once, and mask polygons
are transformed as coordinates and rasterized once, inside their boxes. A sample's randomness is
seeded by (seed, epoch, photo, copy), its size by (seed, epoch, batch), so it does not depend on
which loader process makes it, or when. The multitask model's samples are made in
``engine.pixels.view_transform``.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from engine.config import flag_of, require, setting
from engine.data.records import Photo, PhotoRecords
from engine.errors import InputError
from engine.pixels import geometry, shapes
from engine.pixels.crops import FILL
from engine.pixels.geometry import Size
from engine.pixels.photos import PhotoError, read_photo
from engine.pixels.shapes import Shape
from engine.pixels.view_transform import MultitaskAugmentation, MultitaskTransform
from engine.pixels.views import jitter, repaint
from engine.training.samplers import Draw

__all__ = [
    "DetectorAugmentation",
    "DetectorTransform",
    "MultitaskAugmentation",
    "MultitaskTransform",
]

# Range of a pasted photo's scale, log-uniform; 1 = the whole photo just fits into the sample.
PASTE_SCALE = (0.5, 1.0)

# First entry of every seed, so that the streams of sizes and of samples never coincide.
SIZE_STREAM, SAMPLE_STREAM = 0, 1


@dataclass(frozen=True, kw_only=True)
class DetectorAugmentation:
    """Augmentation of the detector's training samples."""

    short_sides: tuple[int, ...] = setting(
        (640, 672, 704, 736, 768, 800), "the photo's short side in pixels, one drawn per batch"
    )
    max_side: int = setting(1333, "bound on the photo's long side in pixels")
    lsj_size: int = setting(
        0, "large-scale jitter: every sample is a crop of this side, in place of --short-sides; "
        "0 = off",
    )  # fmt: skip
    lsj_scale: tuple[float, ...] = setting(
        (0.1, 2.0), "large-scale jitter: range of the photo's scale, 1 = it just fits the crop"
    )
    flip: float = setting(0.5, "probability of swapping left and right")
    affine: float = setting(0.5, "probability of a random rotation, shear, scale and translation")
    rotation: float = setting(8.0, "affine: largest rotation either way in degrees")
    shear: float = setting(4.0, "affine: largest shear either way in degrees")
    scale: tuple[float, ...] = setting((0.8, 1.25), "affine: range of the scale factor")
    translation: float = setting(
        0.06, "affine: largest shift as a share of the picture's sides; a picture that is scaled "
        "up is first centered on a random point of a garment",
    )  # fmt: skip
    brightness: float = setting(0.25, "largest relative change of brightness")
    contrast: float = setting(0.25, "largest relative change of contrast")
    saturation: float = setting(0.25, "largest relative change of saturation")
    hue: float = setting(0.02, "largest hue shift, as a share of the color circle")
    copy_paste: float = setting(
        0.0, "probability of pasting garments from another photo, rotated by up to --rotation "
        "(every garment must have a mask)",
    )  # fmt: skip
    repaint: float = setting(
        0.0, "probability that a garment is recolored, its pattern kept; against overfitting on "
        "small datasets (every garment must have a mask)",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(bool(self.short_sides), "--short-sides: give at least one size")
        for side in self.short_sides:
            sentence = f"--short-sides {side}: must be between 32 and --max-side {self.max_side}"
            require(32 <= side <= self.max_side, sentence)
        sentence = f"--lsj-size {self.lsj_size}: must be 0 (off) or at least 32"
        require(self.lsj_size == 0 or self.lsj_size >= 32, sentence)
        for name in ("lsj_scale", "scale"):
            flag, values = flag_of(name), getattr(self, name)
            valid = len(values) == 2 and 0 < values[0] <= values[1] <= 10
            require(valid, f"{flag} {values}: give the smallest and the largest factor, up to 10")
        shares = ("flip", "affine", "copy_paste", "repaint", "translation")
        limits = dict.fromkeys((*shares, "brightness", "contrast", "saturation"), 1) | {"hue": 0.5}
        for name, limit in (limits | {"rotation": 180, "shear": 45}).items():
            flag, value = flag_of(name), getattr(self, name)
            require(0 <= value <= limit, f"{flag} {value}: must be between 0 and {limit}")


class DetectorTransform:
    """Makes the training samples of the detector.

    Args:
        records: the photos.
        settings: the augmentations.
        seed: seeds everything random.

    Raises:
        InputError: copy-paste or repainting is on, but some garment has no mask.
    """

    def __init__(self, records: PhotoRecords, settings: DetectorAugmentation, *, seed: int) -> None:
        self.with_masks = records.has_masks  # kept: computing it scans every garment
        for name in ("copy_paste", "repaint"):
            if getattr(settings, name) and not self.with_masks:
                flag = flag_of(name)
                raise InputError(f"{flag}: not every garment of {records.root} has a mask")
        self.records = records
        self.settings = settings
        self.seed = seed

    def __call__(self, draw: Draw) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The sample of one draw.

        Returns:
            image u8[3,H,W] RGB and its target, in pixels of the image: boxes f32[N,4] xyxy, labels
            i64[N] (category + 1), area f32[N], iscrowd i64[N] (always 0: crowds are left out),
            image_id i64[]; with masks also masks u8[N,h,w] and mask_origin i64[N,2] (x, y): each
            mask is cropped to its box plus one pixel on each side, clipped to the image; all are
            zero-padded to the largest crop. N may be 0.

        Raises:
            PhotoError: the photo cannot be read, or is not of the size that was annotated.
        """
        rng = np.random.default_rng([SAMPLE_STREAM, self.seed, draw.epoch, draw.index, draw.copy])
        photo = self.records[draw.index]
        matrix, size = self._draw_map(rng, photo, self._draw_short_side(draw))
        picture = self._picture(rng, photo, matrix, size)
        garments = self._garments(photo, matrix, size)
        if rng.random() < self.settings.copy_paste:
            picture, garments = self._paste(rng, picture, garments)
        if self.settings.repaint:
            self._repaint(rng, picture, garments)
        target = shapes.pack(garments, size, with_masks=self.with_masks)
        return geometry.channels_first(picture), target | {"image_id": torch.tensor(photo.image_id)}

    def _draw_short_side(self, draw: Draw) -> int:
        rng = np.random.default_rng([SIZE_STREAM, self.seed, draw.epoch, draw.batch])
        return int(rng.choice(self.settings.short_sides))

    def _draw_map(
        self, rng: np.random.Generator, photo: Photo, short_side: int
    ) -> tuple[np.ndarray, Size]:
        """The map from the photo to the sample, and the sample's size."""
        settings, full_size = self.settings, (photo.width, photo.height)
        if settings.lsj_size:
            size = (settings.lsj_size, settings.lsj_size)
            matrix = _jitter_scale(rng, full_size, size, settings.lsj_scale)
        else:
            size = geometry.detector_size(*full_size, short_side, settings.max_side)
            matrix = geometry.stretching(full_size, size)
        if rng.random() < settings.flip:
            matrix = geometry.mirroring(size[0]) @ matrix
        if rng.random() < settings.affine:
            boxes = [geometry.move_box(g.box, matrix) for g in photo.garments if not g.crowd]
            matrix = self._draw_affine(rng, boxes, size) @ matrix
        return matrix, size

    def _draw_affine(
        self, rng: np.random.Generator, boxes: list[np.ndarray], size: Size
    ) -> np.ndarray:
        """Rotation, shear and scale about the picture's center, then translation.

        A picture that is scaled up is also moved so that a random point of a random garment, of
        which ``boxes`` f64[4] xyxy are given, comes as close to the center as the picture's edges
        allow. So shoulders and feet are seen close up as often as waists, and backgrounds rarely.
        """
        settings = self.settings
        factor = _draw_factor(rng, settings.scale)
        change = (
            geometry.rotation(rng.uniform(-1, 1) * settings.rotation)
            @ geometry.shearing(rng.uniform(-1, 1) * settings.shear)
            @ geometry.scaling(factor, factor)
        )
        x1, y1, x2, y2 = boxes[rng.integers(len(boxes))] if boxes else (0, 0, *size)
        spare = max(factor - 1, 0) / 2 * np.array(size)
        off_center = rng.uniform((x1, y1), (x2, y2)) - np.array(size) / 2
        shift = (-change[:2, :2] @ off_center).clip(-spare, spare)
        shift += rng.uniform(-1, 1, 2) * settings.translation * size
        return geometry.translation(*shift) @ geometry.about(change, size[0] / 2, size[1] / 2)

    def _picture(
        self, rng: np.random.Generator, photo: Photo, matrix: np.ndarray, size: Size
    ) -> np.ndarray:
        """The photo's pixels, recolored and moved: u8[h,w,3]."""
        full_size = (photo.width, photo.height)
        needed = math.floor(min(full_size) * geometry.map_scale(matrix))
        pixels = read_photo(photo.path, min_short_side=needed)
        factor = geometry.decode_factor(pixels, full_size)
        if pixels.shape[1::-1] != tuple(-(-side // factor) for side in full_size):
            raise PhotoError("unreadable", photo.path, "not of the size that its annotation says")
        return geometry.place(self._recolor(rng, pixels), full_size, matrix, size, FILL)

    def _recolor(self, rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
        names = ("brightness", "contrast", "saturation", "hue")
        return jitter(rng, pixels, np.array([getattr(self.settings, name) for name in names]))

    def _garments(self, photo: Photo, matrix: np.ndarray, size: Size) -> list[Shape]:
        """The photo's garments that can be seen in the sample."""
        masks = self.with_masks
        placed = (shapes.place(g, matrix, size, with_mask=masks) for g in photo.garments)
        return [shape for shape in placed if shape]

    def _repaint(
        self, rng: np.random.Generator, picture: np.ndarray, garments: list[Shape]
    ) -> None:
        """Give some garments another color, in place."""
        for shape in garments:
            if rng.random() < self.settings.repaint:
                x1, y1, x2, y2 = shape.box.astype(int)
                region = picture[y1:y2, x1:x2]
                cv2.copyTo(repaint(rng, region, shape.mask), shape.mask, region)

    def _paste(
        self, rng: np.random.Generator, picture: np.ndarray, garments: list[Shape]
    ) -> tuple[np.ndarray, list[Shape]]:
        """Paste some garments of a random photo over the sample, all moved by one affine map.

        Nothing is pasted if that photo cannot be read. It is decoded at the reduced size that the
        pasted garments need.
        """
        source = self.records[int(rng.integers(len(self.records)))]
        source.garments = [g for g in source.garments if not g.crowd and rng.random() < 0.5]
        if not source.garments:
            return picture, garments
        size = picture.shape[1::-1]
        matrix = self._draw_paste_map(rng, source, size)
        pasted = self._garments(source, matrix, size)
        if not pasted:
            return picture, garments
        boxes = np.array([shape.box for shape in pasted])
        x1, y1 = boxes[:, :2].min(axis=0).astype(int)
        x2, y2 = boxes[:, 2:].max(axis=0).astype(int)
        matrix = geometry.translation(-x1, -y1) @ matrix
        try:
            patch = self._picture(rng, source, matrix, (int(x2 - x1), int(y2 - y1)))
        except PhotoError:
            return picture, garments
        mask = np.zeros(patch.shape[:2], np.uint8)
        for shape in pasted:
            garments = [*shapes.cover(garments, shape), shape]
            left, top, right, bottom = shape.box.astype(int) - (x1, y1, x1, y1)
            mask[top:bottom, left:right] |= shape.mask
        cv2.copyTo(patch, mask, picture[y1:y2, x1:x2])
        return picture, garments

    def _draw_paste_map(self, rng: np.random.Generator, source: Photo, size: Size) -> np.ndarray:
        """A map that fits the photo to PASTE_SCALE of the sample, rotates and maybe mirrors it,
        and centers the garments at a random point of the sample."""
        fit = min(size[0] / source.width, size[1] / source.height)
        factor = fit * _draw_factor(rng, PASTE_SCALE)
        matrix = geometry.rotation(rng.uniform(-1, 1) * self.settings.rotation)
        matrix = matrix @ geometry.scaling(factor, factor)
        if rng.random() < self.settings.flip:
            matrix = matrix @ geometry.mirroring(source.width)
        boxes = [geometry.move_box(garment.box, matrix) for garment in source.garments]
        low = np.min([box[:2] for box in boxes], axis=0)
        high = np.max([box[2:] for box in boxes], axis=0)
        shift = rng.random(2) * size - (low + high) / 2
        return geometry.translation(*shift) @ matrix


def _draw_factor(rng: np.random.Generator, limits: tuple[float, ...]) -> float:
    """A random scale factor, log-uniform between the limits."""
    return math.exp(rng.uniform(*np.log(limits)))


def _jitter_scale(
    rng: np.random.Generator, full_size: Size, size: Size, limits: tuple[float, ...]
) -> np.ndarray:
    """Large-scale jitter: scale the photo to fit a picture times a factor, at a random place.

    A photo larger than the picture is cropped, a smaller one surrounded (Ghiasi et al. 2021, §3).
    """
    fit = min(new / old for new, old in zip(size, full_size, strict=True))
    factor = fit * rng.uniform(*limits)
    scaled = tuple(max(round(side * factor), 1) for side in full_size)
    # Whole pixels, so that the photo is resized rather than warped.
    spare = np.array(size) - scaled
    corner = rng.integers(np.minimum(spare, 0), np.maximum(spare, 0), endpoint=True)
    return geometry.translation(*corner) @ geometry.stretching(full_size, scaled)
