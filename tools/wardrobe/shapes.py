"""Curves and ribbons: the geometry that bodies and clothes share.

Points are f64[..., 2] in pixels of the photo, pixel centers at whole numbers (as OpenCV draws).
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

Region = tuple[int, int, int, int]  # x0, y0, x1, y1: pixel columns and rows, end excluded

# cv2 takes fixed-point coordinates with this many fraction bits.
SHIFT = 4


def curve(points: np.ndarray | list, count: int) -> np.ndarray:
    """A smooth curve f64[count, D] through the points f64[N, D] (Catmull-Rom, even in length)."""
    p = np.asarray(points, np.float64)
    if len(p) < 3:
        return p[0] + np.linspace(0, 1, count)[:, None] * (p[-1] - p[0])
    return resample(_spline(len(p)) @ p, count)


def closed_curve(points: np.ndarray, count: int) -> np.ndarray:
    """A smooth outline f64[count - 1, 2] through the points and back to the first."""
    return curve(np.concatenate([points, points[:1]]), count)[:-1]


@lru_cache(maxsize=64)
def _spline(count: int) -> np.ndarray:
    """Catmull-Rom's weights f64[8 * count, count]: fine points from control points."""
    t = np.linspace(0, count - 1 - 1e-9, 8 * count)
    i, f = t.astype(int), t % 1
    cubic = np.stack(
        [2 * f**2 - f - f**3, 2 - 5 * f**2 + 3 * f**3, f + 4 * f**2 - 3 * f**3, f**3 - f**2]
    )
    padded = np.zeros((8 * count, count + 2))
    for k in range(4):
        padded[np.arange(8 * count), i + k] = cubic[k] / 2
    weights = padded[:, 1:-1].copy()
    # Beyond its ends the curve goes on straight: the outer points mirror the inner ones.
    weights[:, 0] += 2 * padded[:, 0]
    weights[:, 1] -= padded[:, 0]
    weights[:, -1] += 2 * padded[:, -1]
    weights[:, -2] -= padded[:, -1]
    return weights


def resample(points: np.ndarray, count: int) -> np.ndarray:
    """Points at equal steps of arc length along a polyline f64[N, D] -> f64[count, D]."""
    along = np.zeros(len(points))
    np.cumsum(np.sqrt(np.square(np.diff(points, axis=0)).sum(axis=1)), out=along[1:])
    wanted = np.linspace(0, along[-1], count)
    even = np.empty((count, points.shape[1]))
    for k in range(points.shape[1]):
        even[:, k] = np.interp(wanted, along, points[:, k])
    return even


def moved(points: np.ndarray, x: float, y: float) -> np.ndarray:
    """Points f64[..., 2] shifted by px to the right and down."""
    return points + np.array([x, y])


def ellipse(center: np.ndarray, rx: float, ry: float, turn: float = 0.0, n: int = 28) -> np.ndarray:
    """An ellipse's outline f64[n, 2]; ``turn`` in radians."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    x, y = rx * np.cos(t), ry * np.sin(t)
    c, s = np.cos(turn), np.sin(turn)
    return np.asarray(center) + np.stack([c * x - s * y, s * x + c * y], axis=1)


def normals(line: np.ndarray) -> np.ndarray:
    """Unit normals f64[N, 2] of a polyline f64[N, 2], to the left of its direction."""
    tangent = np.gradient(line, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    return np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)


def region_of(points: np.ndarray, margin: float, width: int, height: int) -> Region | None:
    """The pixels around the points, clipped to the photo; None if none are in it."""
    low = np.floor(points.min(axis=0) - margin).astype(int)
    high = np.ceil(points.max(axis=0) + margin).astype(int) + 1
    x0, y0 = max(low[0], 0), max(low[1], 0)
    x1, y1 = min(high[0], width), min(high[1], height)
    return (x0, y0, x1, y1) if x1 - x0 > 1 and y1 - y0 > 1 else None


def fixed(points: np.ndarray, region: Region) -> np.ndarray:
    """Pixel points -> cv2's fixed-point i32[N, 1, 2] inside the region."""
    corner = np.array([region[0], region[1]])
    return np.rint((points - corner) * (1 << SHIFT)).astype(np.int32).reshape(-1, 1, 2)


def coverage(outlines: list[np.ndarray], region: Region) -> np.ndarray:
    """Anti-aliased filled outlines as u8[h, w] (255 inside) over the region."""
    mask = np.zeros((region[3] - region[1], region[2] - region[0]), np.uint8)
    for outline in outlines:
        cv2.fillPoly(mask, [fixed(outline, region)], 255, cv2.LINE_AA, SHIFT)
    return mask


@dataclass(slots=True)
class Ribbon:
    """A strip of cloth or skin between two edges, which maps pixels to places on the cloth.

    left, right: f64[N, 2] the edges, row by row from start to end.
    along: f64[N] cm of cloth from the start at each row.
    half: f64[N] cm of cloth from the middle to an edge at each row.
    bow: cm that the middle of a row hangs below the straight line between its edges.
    """

    left: np.ndarray
    right: np.ndarray
    along: np.ndarray
    half: np.ndarray
    bow: float = 0.0

    def at(self, s: np.ndarray | float, along: np.ndarray | float) -> np.ndarray:
        """Pixel position f64[..., 2] of the cloth at s (-1 left edge .. 1 right edge) and cm."""
        along = np.clip(along, self.along[0], self.along[-1])
        row = np.interp(along, self.along, np.arange(len(self.along)))
        left, right = self._edge(self.left, row), self._edge(self.right, row)
        mix = (np.asarray(s, np.float64)[..., None] + 1) / 2
        return left + (right - left) * mix

    @staticmethod
    def _edge(edge: np.ndarray, row: np.ndarray) -> np.ndarray:
        i = np.minimum(np.asarray(row).astype(int), len(edge) - 2)
        f = (row - i)[..., None]
        return edge[i] * (1 - f) + edge[i + 1] * f

    def after(self, row: int) -> "Ribbon":
        """The ribbon without its first rows."""
        row = min(row, len(self.left) - 3)
        return Ribbon(
            self.left[row:], self.right[row:], self.along[row:], self.half[row:], self.bow
        )

    def outline(self, end_bow: float = 0.0) -> np.ndarray:
        """The closed outline, its last row bulging by so many pixels along the strip."""
        inner = (self.left[-2] + self.right[-2]) / 2
        return np.concatenate(
            [self.left, _bulged(self.left[-1], self.right[-1], inner, end_bow), self.right[::-1]]
        )

    def locate(self, region: Region, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Where on the strip each pixel of a coarse grid over the region lies.

        Args:
            region: pixels to cover. step: pixels between samples.

        Returns:
            s f32[h, w] (-1..1 between the edges, beyond outside) and row f32[h, w]
            (0..N-1, fractional), h = ceil(height / step), w = ceil(width / step).
        """
        x0, y0, x1, y1 = region
        h, w = -(-(y1 - y0) // step), -(-(x1 - x0) // step)
        px = (np.arange(w, dtype=np.float32) + 0.5) * step - 0.5
        py = ((np.arange(h, dtype=np.float32) + 0.5) * step - 0.5)[:, None]
        index = self._rows_of(region, step, h, w)
        rows = self._row_table(np.array([x0, y0]))[:, index]
        near = rows[0] * px + rows[1] * py - rows[2]
        far = rows[5] - rows[3] * px - rows[4] * py
        f = np.clip(near / np.maximum(near + far, 1e-3), -1.5, 2.5)
        ux, uy = rows[10] + rows[12] * f, rows[11] + rows[13] * f
        dx, dy = px - rows[6] - rows[8] * f, py - rows[7] - rows[9] * f
        s = 2 * (dx * ux + dy * uy) / np.maximum(ux * ux + uy * uy, 1e-3) - 1
        return np.clip(s, -1.6, 1.6), index + f

    def _row_table(self, corner: np.ndarray) -> np.ndarray:
        """What ``locate`` needs of each interval between rows, f32[14, N - 1].

        Normal and offset of the line across its first row (0..2) and its last (3..5), both
        pointing onward; left edge (6, 7) and its change to the next row (8, 9); the same of the
        vector from the left edge to the right (10..13).
        """
        left, across = self.left - corner, self.right - self.left
        length = np.maximum(np.sqrt(np.square(across).sum(axis=1)), 1e-3)
        normal = np.stack([-across[:, 1], across[:, 0]], axis=1) / length[:, None]
        onward = np.gradient(left + across / 2, axis=0)
        normal *= np.where((normal * onward).sum(axis=1) < 0, -1, 1)[:, None]
        line = np.column_stack([normal, (normal * left).sum(axis=1)])
        columns = [line[:-1], line[1:], left[:-1], np.diff(left, axis=0)]
        columns += [across[:-1], np.diff(across, axis=0)]
        return np.concatenate(columns, axis=1).T.astype(np.float32)

    def _rows_of(self, region: Region, step: int, h: int, w: int) -> np.ndarray:
        """The number of the row interval each coarse pixel lies in, i32[h, w]."""
        # Wider than the strip: pixels just outside it are looked up too.
        extra = (self.right - self.left) * 0.35
        scale = 16 / step
        a = ((self.left - extra - region[:2]) * scale).astype(np.int32)
        b = ((self.right + extra - region[:2]) * scale).astype(np.int32)
        index = np.zeros((h, w), np.int32)
        for i in range(len(a) - 1):
            cv2.fillConvexPoly(index, np.stack([a[i], b[i], b[i + 1], a[i + 1]]), i, shift=4)
        beyond = np.stack([a[-1], b[-1], 3 * b[-1] - 2 * b[-2], 3 * a[-1] - 2 * a[-2]])
        cv2.fillConvexPoly(index, beyond, len(a) - 2, shift=4)
        return index


def _bulged(a: np.ndarray, b: np.ndarray, inside: np.ndarray, bow: float) -> np.ndarray:
    """Points from a to b (ends excluded) pushed away from the point inside by ``bow`` px."""
    out = (a + b) / 2 - inside
    out = out / max(float(np.linalg.norm(out)), 1e-6)
    t = np.linspace(-1, 1, 9)[1:-1, None]
    return (a + b) / 2 + (b - a) / 2 * t + out * bow * np.sqrt(1 - t**2)
