"""The photo under construction: shapes painted over each other, and what each pixel shows."""

from dataclasses import dataclass

import cv2
import numpy as np

from tools.wardrobe.shapes import SHIFT, Region, coverage, fixed, region_of

WHOLE: Region = (0, 0, 0, 0)  # coordinates relative to the photo's own corner
NOBODY = 0  # owner of pixels that show no garment


def owner_code(garment: int, part: int) -> int:
    """One number for a garment of the photo (1..30) and one of its parts (0..7)."""
    return garment * 8 + part


def garment_of(code: np.ndarray | int) -> np.ndarray | int:
    """The garment number of owner codes."""
    return code >> 3


def shaded(color: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """Color u8[h, w, 3] times light f32[h, w] (0..1.59).

    In 8 bits throughout: OpenCV's product of mixed types is a hundred times slower, and steps of
    1/160 of light are finer than the photo's noise.
    """
    light = cv2.convertScaleAbs(shade, alpha=160)
    return cv2.multiply(color, cv2.merge([light] * 3), scale=1 / 160)


@dataclass(frozen=True, slots=True)
class Light:
    """One soft light. (x, y): where it comes from, -1..1 to the right and down; contrast: of lit
    to shaded sides; shadow: darkness of cast shadows, 0..1."""

    x: float = -0.3
    y: float = -0.5
    contrast: float = 1.0
    shadow: float = 0.4


class Canvas:
    """Photo under construction.

    rgb: u8[H, W, 3]. owner: u8[H, W], the ``owner_code`` of what each pixel shows.
    covered: per garment number, u8[H, W] of every pixel it was painted on, hidden later or not.
    """

    def __init__(self, rgb: np.ndarray, light: Light) -> None:
        self.rgb = rgb
        self.light = light
        self.height, self.width = rgb.shape[:2]
        self.owner = np.zeros((self.height, self.width), np.uint8)
        self.covered: dict[int, np.ndarray] = {}

    def region(self, points: np.ndarray, margin: float = 2.0) -> Region | None:
        """Pixels around the points, clipped to the photo; None when they lie outside it."""
        return region_of(points, margin, self.width, self.height)

    def paint(
        self,
        region: Region,
        alpha: np.ndarray,
        color: np.ndarray,
        owner: int,
        *,
        counts: bool = True,
    ) -> None:
        """Lay color u8[h, w, 3] over the region where alpha u8[h, w] covers it.

        Args:
            region: where. alpha: 255 covers fully. color: what.
            owner: ``owner_code`` of what is painted, or ``NOBODY``.
            counts: whether to record the pixels in ``covered``; False for linings, which a body
                always hides, so that this is no occlusion.
        """
        x0, y0, x1, y1 = region
        weight = alpha.astype(np.float32) * (1 / 255)
        below = self.rgb[y0:y1, x0:x1]
        below[:] = cv2.blendLinear(color, np.ascontiguousarray(below), weight, 1 - weight)
        solid = alpha > 127
        self.owner[y0:y1, x0:x1][solid] = owner
        if owner and counts:
            whole = self.covered.setdefault(garment_of(owner), np.zeros_like(self.owner))
            whole[y0:y1, x0:x1][solid] = 1

    def shadow(self, outlines: list[np.ndarray], reach: float, strength: float) -> None:
        """Darken what lies under a shape that is about to be painted.

        Args:
            outlines: the shape. reach: px the soft shadow extends and shifts away from the light.
            strength: 0..1, times the light's own shadow.
        """
        offset = np.array([-self.light.x, -self.light.y]) * reach
        fallen = [outline + offset for outline in outlines]
        region = self.region(np.concatenate(fallen), 2 * reach + 2)
        if region is None:
            return
        self.darken(region, coverage(fallen, region), reach, strength * self.light.shadow)

    def darken(self, region: Region, mask: np.ndarray, blur: float, strength: float) -> None:
        """Darken the region by a blurred mask u8[h, w]; blurred at reduced size, for speed."""
        x0, y0, x1, y1 = region
        h, w = mask.shape
        step = max(1, min(4, int(blur / 1.5)))
        small = cv2.resize(
            mask, (max(1, w // step), max(1, h // step)), interpolation=cv2.INTER_AREA
        )
        small = cv2.GaussianBlur(small, (0, 0), max(blur / step, 0.6))
        factor = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        factor = 1 - factor * (strength / 255)
        below = self.rgb[y0:y1, x0:x1]
        below[:] = shaded(below, factor)

    def shape(
        self,
        outline: np.ndarray,
        rgb: tuple | np.ndarray,
        *,
        roundness: float = 0.0,
        softness: float = 6.0,
        shadow: float = 0.0,
    ) -> None:
        """Paint one outline that is no garment's in one color, shaded as if inflated.

        Args:
            outline: f64[N, 2] px. rgb: 0..255. roundness: 0 flat .. 1 ball.
            softness: px over which the shape rounds off.
            shadow: px reach of the shadow it casts; 0 casts none.
        """
        if shadow:
            self.shadow([outline], shadow, 0.9)
        if not roundness:
            points, color = [fixed(outline, WHOLE)], [float(value) for value in rgb]
            cv2.fillPoly(self.rgb, points, color, cv2.LINE_AA, SHIFT)
            cv2.fillPoly(self.owner, points, NOBODY, cv2.LINE_8, SHIFT)
            return
        region = self.region(outline)
        if region is None:
            return
        alpha = coverage([outline], region)
        color = np.empty((*alpha.shape, 3), np.uint8)
        color[:] = np.clip(np.asarray(rgb), 0, 255).astype(np.uint8)
        shade = 1 + roundness * self.light.contrast * self.inflated(alpha, softness)
        self.paint(region, alpha, shaded(color, shade), NOBODY)

    def inflated(self, alpha: np.ndarray, softness: float) -> np.ndarray:
        """Shading f32[h, w] (about -0.5..0.3) of a mask puffed up like a cushion."""
        step = max(1, min(4, int(softness / 2)))
        h, w = alpha.shape
        padded = cv2.copyMakeBorder(alpha, 8, 8, 8, 8, cv2.BORDER_REPLICATE)
        size = (max(2, padded.shape[1] // step), max(2, padded.shape[0] // step))
        small = cv2.resize(padded, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        soft = cv2.GaussianBlur(small, (0, 0), max(softness / step, 0.6))
        gain = softness / step * 1.2
        gx = cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=gain / 8)
        gy = cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=gain / 8)
        shade = -gx * self.light.x - gy * self.light.y - 0.55 * np.hypot(gx, gy)
        whole = cv2.resize(shade, padded.shape[::-1], interpolation=cv2.INTER_LINEAR)
        return whole[8 : 8 + h, 8 : 8 + w]
