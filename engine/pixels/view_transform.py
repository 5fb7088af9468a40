"""Training samples of the multitask model: a crop of a garment and a view that shares one aspect.

The photo is decoded once, at a sufficient fraction of its size, and the crop and the view are each
resampled from it once. All randomness of a sample follows from (seed, epoch, garment, copy).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engine.config import require, setting
from engine.data.labels import ASPECTS
from engine.data.records import Garment
from engine.pixels import crops, geometry
from engine.pixels.crops import Cutout
from engine.pixels.geometry import Size
from engine.pixels.photos import photo_size, read_photo
from engine.pixels.views import VIEWS, jitter
from engine.training.samplers import Draw

# Resolution of the decoded photo / that of the plain crop in training, so that views can zoom in.
DETAIL = 1.5


@dataclass(frozen=True, kw_only=True)
class MultitaskAugmentation:
    """Crops and augmentation of the multitask model."""

    crop_size: int = setting(224, "side of the square that the model sees, in pixels")
    margin: float = setting(0.1, "context around the box, as a share of its longer side")
    background: bool = setting(
        True, "for garments without a mask: exclude a uniform studio background from the mask"
    )
    whole_photo: bool = setting(
        False, "crops show the whole photo, and the target holds the garment's box in it"
    )
    crop_scale: tuple[float, ...] = setting(
        (0.5, 1.0), "smallest and largest share of the crop's area that a training sample shows"
    )
    flip: float = setting(0.5, "probability of swapping left and right")
    rotation: float = setting(5.0, "largest rotation either way in degrees")
    brightness: float = setting(0.15, "largest relative change of brightness")
    contrast: float = setting(0.15, "largest relative change of contrast")
    saturation: float = setting(0.1, "largest relative change of saturation")
    hue: float = setting(0.01, "largest hue shift, as a share of the color circle")
    erasing: float = setting(0.1, "probability of erasing a random rectangle")
    view_every: int = setting(
        1, "add views, which cost as much as the crops, to every Nth batch only"
    )

    def __post_init__(self) -> None:
        size, scale = self.crop_size, self.crop_scale
        require(32 <= size <= 1024, f"--crop-size {size}: must be between 32 and 1024")
        valid = len(scale) == 2 and 0.05 <= scale[0] <= scale[1] <= 1
        sentence = f"--crop-scale {scale}: give the smallest and the largest share, 0.05 to 1"
        require(valid, sentence)
        every = self.view_every
        require(every >= 1, f"--view-every {every}: must be at least 1")
        limits = dict.fromkeys(("margin", "flip", "brightness", "contrast", "saturation"), 1)
        for flag, limit in (limits | {"hue": 0.5, "erasing": 1, "rotation": 180}).items():
            value = getattr(self, flag)
            require(0 <= value <= limit, f"--{flag} {value}: must be between 0 and {limit}")


class MultitaskTransform:
    """Makes the samples of the multitask model.

    Args:
        settings: sizes and augmentation.
        seed: seed of all randomness.
        train: augment and add views; otherwise make the plain crop, as in inference.
        aspects: the aspects to draw views of; if empty, there are no views.
    """

    def __init__(
        self, settings: MultitaskAugmentation, *, seed: int, train: bool, aspects: tuple[str, ...]
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.train = train
        self.aspects = aspects

    def __call__(
        self, path: Path, garment: Garment, draw: Draw
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The sample of one draw.

        Returns:
            The image u8[3,S,S] RGB and its target: "mask" u8[S,S] of 0..255, the garment or, if
            unknown, the photo; when training with aspects, in every ``view_every``th batch also
            "view" u8[3,S,S], "view_mask" u8[S,S] and "view_aspect" i64[], the aspect that both
            pictures share, as an index into ASPECTS; with ``whole_photo`` also "box" f32[4], the
            garment's box xyxy in units of S, NaN if it is the whole photo.

        Raises:
            PhotoError: the photo cannot be read.
        """
        settings, size = self.settings, self.settings.crop_size
        rng = np.random.default_rng([self.seed, draw.epoch, draw.index, draw.copy])
        full_size = photo_size(path)
        cutout, to_cutout = self._cut_out(path, garment, full_size)
        matrix = crops.square_map(cutout.square, size)
        if self.train:
            matrix = self._draw_map(rng, matrix)
            cutout.scale = geometry.map_scale(matrix)
        image, mask = crops.render(cutout, matrix, size)
        if self.train:
            image, mask = self._jitter(rng, image, mask)
        target = {"mask": torch.from_numpy(mask)}
        if settings.whole_photo:
            target["box"] = _box_target(garment.box, full_size, matrix @ to_cutout, size)
        # By batch, not by sample: the samples of a batch are stacked.
        if self.train and self.aspects and draw.batch % settings.view_every == 0:
            target |= self._view(rng, cutout)
        return geometry.channels_first(image), target

    def _cut_out(self, path: Path, garment: Garment, full_size: Size) -> tuple[Cutout, np.ndarray]:
        """The cutout for the sample, and the map f64[3,3] from the full photo to it."""
        settings = self.settings
        box = np.array([0, 0, *full_size]) if settings.whole_photo else garment.box
        square = crops.crop_square(box, full_size, settings.margin)
        size = settings.crop_size * (DETAIL if self.train else 1)
        scale = min(size / (square[2] - square[0]), 1)
        photo = read_photo(path, min_short_side=math.floor(min(full_size) * scale))
        factor = geometry.decode_factor(photo, full_size)
        cutout = crops.cut_out(
            photo,
            full_size,
            square,
            settings.crop_size,
            garment.segmentation,
            background=settings.background,
        )
        corner = cutout.square[:2] - square[:2] / factor
        return cutout, geometry.translation(*corner) @ geometry.scaling(1 / factor, 1 / factor)

    def _draw_map(self, rng: np.random.Generator, matrix: np.ndarray) -> np.ndarray:
        """The map f64[3,3] to a random part of the plain crop, rotated and mirrored."""
        settings, size = self.settings, self.settings.crop_size
        share = math.sqrt(rng.uniform(*settings.crop_scale))
        corner = rng.random(2) * (1 - share) * size
        matrix = geometry.scaling(1 / share, 1 / share) @ geometry.translation(*-corner) @ matrix
        turn = geometry.rotation(rng.uniform(-1, 1) * settings.rotation)
        matrix = geometry.about(turn, size / 2, size / 2) @ matrix
        return geometry.mirroring(size) @ matrix if rng.random() < settings.flip else matrix

    def _jitter(
        self, rng: np.random.Generator, image: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        settings = self.settings
        names = ("brightness", "contrast", "saturation", "hue")
        image = jitter(rng, image, np.array([getattr(settings, name) for name in names]))
        if rng.random() < settings.erasing:
            width, height = (settings.crop_size * rng.uniform(0.1, 0.4, 2)).astype(int)
            x = rng.integers(settings.crop_size - width)
            y = rng.integers(settings.crop_size - height)
            image[y : y + height, x : x + width] = crops.FILL
            mask[y : y + height, x : x + width] = 0
        return image, mask

    def _view(self, rng: np.random.Generator, cutout: Cutout) -> dict[str, torch.Tensor]:
        aspect = self.aspects[rng.integers(len(self.aspects))]
        view, mask = VIEWS[aspect](rng, cutout, self.settings.crop_size)
        return {
            "view": geometry.channels_first(view),
            "view_mask": torch.from_numpy(mask),
            "view_aspect": torch.tensor(ASPECTS.index(aspect)),
        }


def _box_target(box: np.ndarray, full_size: Size, matrix: np.ndarray, size: int) -> torch.Tensor:
    """A box of the photo in units of the picture's side, clipped to the picture: f32[4] xyxy.

    NaN if the box is the whole photo (no information) or outside the picture.
    """
    moved = geometry.move_box(box, matrix).clip(0, size) / size
    known = not np.array_equal(box, [0, 0, *full_size]) and (moved[2:] > moved[:2]).all()
    return torch.from_numpy(moved if known else np.full(4, np.nan)).float()
