"""Cloth seen by the camera: the swatch wrapped over a panel, folds, seams, and soft light."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from tools.wardrobe.canvas import Canvas, owner_code, shaded
from tools.wardrobe.colors import lab_to_rgb
from tools.wardrobe.folds import crumple, draw_folds, shade_flutes, shade_folds
from tools.wardrobe.shapes import SHIFT, Region, Ribbon, coverage, fixed
from tools.wardrobe.textures import Texture, paint_tile


@dataclass(slots=True)
class Panel:
    """A cut piece of cloth in place.

    outline: f64[N, 2] px. ribbon: where on the cloth each pixel lies.
    part: small number that tells the garment's pieces apart in ``Canvas.owner``.
    drape: which folds form: trunk, sleeve, leg, skirt, none.
    seams: (line f64[K, 2] px, width px, darkness 0..1). marks: (outline px, rgb).
    turn: degrees the cloth is cut off the straight grain. tone: brightness.
    shift: cm (u, v) by which the pattern is displaced. flutes: (count, strength, phase) of the
    vertical folds of a skirt. cast: cm the piece's shadow reaches. lining: behind the body.
    folds: how deep they are, times the cloth's own. strip: the rows to fill in a piece that may
    fold back over itself.
    """

    outline: np.ndarray
    ribbon: Ribbon
    part: int = 0
    drape: str = "trunk"
    seams: list[tuple[np.ndarray, float, float]] = field(default_factory=list)
    marks: list[tuple[np.ndarray, tuple]] = field(default_factory=list)
    turn: float = 0.0
    tone: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    flutes: tuple[float, float, float] | None = None
    cast: float = 1.6
    lining: bool = False
    folds: float = 1.0
    strip: Ribbon | None = None


class Cloth:
    """One garment's fabric in one photo.

    Args:
        texture: the fabric. density: px per cm of the photo. owner: the garment's number there.
        rng: this photo's folds. flat: lying flat, hence without the roundness of a body.
        looseness: 0 tight .. 1 loose, how deep the folds go.
    """

    def __init__(
        self,
        texture: Texture,
        density: float,
        owner: int,
        rng: np.random.Generator,
        *,
        flat: bool,
        looseness: float,
    ) -> None:
        self.texture = texture
        self.density = density
        self.owner = owner
        self.rng = rng
        self.flat = flat
        self.looseness = looseness
        self.rgb = lab_to_rgb(texture.first)
        self.crumple = rng.uniform(0.02, 0.11)
        self._tile: tuple[np.ndarray, float] | None = None

    def paint(self, canvas: Canvas, panel: Panel) -> None:
        """Paint one panel: its shadow first, then cloth, marks and seams under its light."""
        region = canvas.region(panel.outline)
        if region is None:
            return
        if not panel.lining:
            canvas.shadow([panel.outline], panel.cast * self.density, 0.8)
        alpha = coverage([panel.outline], region)
        if panel.strip is not None:
            _fill_bends(alpha, panel.strip, region)
        step = int(np.clip(round(self.density * 0.9), 2, 5))
        s, row = panel.ribbon.locate(region, step)
        rows = np.arange(len(panel.ribbon.along))
        half = np.interp(row, rows, panel.ribbon.half).astype(np.float32)
        along = np.interp(row, rows, panel.ribbon.along).astype(np.float32)
        along -= panel.ribbon.bow * (1 - np.clip(s * s, 0, 1))
        color = self._color(panel, region, s, half, along, step)
        for outline, rgb in panel.marks:
            ink = [float(value) for value in rgb]
            cv2.fillPoly(color, [fixed(outline, region)], ink, cv2.LINE_AA, SHIFT)
        light = _enlarged(self._light(panel, canvas, s, half, along), region, step)
        if panel.seams:
            light *= self._seams(panel, region)
        np.maximum(color, 18, out=color)  # even black cloth shows its folds in light
        code = owner_code(self.owner, panel.part)
        canvas.paint(region, alpha, shaded(color, light), code, counts=not panel.lining)

    def _color(
        self,
        panel: Panel,
        region: Region,
        s: np.ndarray,
        half: np.ndarray,
        along: np.ndarray,
        step: int,
    ) -> np.ndarray:
        """The swatch looked up at every pixel: u8[h, w, 3]."""
        if self.texture.name == "solid":
            color = np.empty((region[3] - region[1], region[2] - region[0], 3), np.uint8)
            color[:] = (self.rgb + 0.5).astype(np.uint8)
            return color
        if self._tile is None:
            self._tile = paint_tile(self.texture, self.density)
        tile, period = self._tile
        # On a round body the cloth turns away toward its edges: more cm per pixel there.
        u = half * s * (1 + (0 if self.flat else 0.16) * s * s) + panel.shift[0]
        v = along + panel.shift[1]
        turn = np.radians(self.texture.angle + panel.turn)
        c, sn = np.cos(turn), np.sin(turn)
        factor = tile.shape[0] / period
        x = _enlarged((c * u + sn * v) * factor, region, step)
        y = _enlarged((c * v - sn * u) * factor, region, step)
        return cv2.remap(tile, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)

    def _light(
        self, panel: Panel, canvas: Canvas, s: np.ndarray, half: np.ndarray, along: np.ndarray
    ) -> np.ndarray:
        """Light f32[h, w] on the coarse grid; about 1 on average."""
        lit = canvas.light
        edge = np.clip(np.abs(s), 0, 1)
        if self.flat:
            light = 1.0 - 0.16 * edge**6
        else:
            side = lit.x * np.clip(s, -1, 1)
            light = 1.04 + 0.10 * lit.contrast * side - 0.25 * lit.contrast * edge**3.2
        length = max(float(panel.ribbon.along[-1]), 1.0)
        if panel.drape != "none":
            u = s * half
            wrinkles = crumple(u, along, self.rng)
            folds = draw_folds(self.rng, panel.drape, float(np.median(panel.ribbon.half)), length)
            folds[:, 5] *= (0.10 + 0.20 * self.looseness) * panel.folds * lit.contrast
            light = light + 1.3 * self.crumple * lit.contrast * wrinkles
            light += shade_folds(folds, (lit.x, lit.y), u + 2.2 * wrinkles, along)
        if panel.flutes:
            fall = np.clip(along / length, 0, 1)
            light = light + lit.contrast * shade_flutes(panel.flutes, lit.x, s, fall)
        return (np.clip(light, 0.42, 1.3) * panel.tone).astype(np.float32)

    def _seams(self, panel: Panel, region: Region) -> np.ndarray:
        """Light factor f32[h, w] of stitched lines and edges."""
        dark = np.zeros((region[3] - region[1], region[2] - region[0]), np.uint8)
        for line, width, darkness in panel.seams:
            level = int(255 * min(darkness * min(width, 1.0) ** 0.5, 1.0))
            thick, points = max(1, round(width)), [fixed(line, region)]
            cv2.polylines(dark, points, False, level, thick, cv2.LINE_AA, SHIFT)
        return 1 - dark.astype(np.float32) * (1 / 255)


def _fill_bends(alpha: np.ndarray, ribbon: Ribbon, region: Region) -> None:
    """Fill a strip row by row: where an arm folds back, its outline crosses itself."""
    inset = 0.04 * (ribbon.right - ribbon.left)
    left, right = ribbon.left + inset, ribbon.right - inset
    for i in range(len(left) - 1):
        quad = np.stack([left[i], right[i], right[i + 1], left[i + 1]])
        cv2.fillConvexPoly(alpha, fixed(quad, region), 255, cv2.LINE_8, SHIFT)


def _enlarged(coarse: np.ndarray, region: Region, step: int) -> np.ndarray:
    """A coarse grid back to one value a pixel of the region."""
    h, w = region[3] - region[1], region[2] - region[0]
    size = (coarse.shape[1] * step, coarse.shape[0] * step)
    fine = cv2.resize(coarse.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(fine[:h, :w])
