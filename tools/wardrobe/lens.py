"""The camera's effects: white balance, exposure, contrast, blur, noise, JPEG quality."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np


@dataclass(frozen=True, slots=True)
class Lens:
    """balance: gain of red and blue; exposure, gamma: of all; blur: px at 640; shake: px of
    motion at 640 and its direction; noise: standard deviation; quality: of the JPEG."""

    balance: tuple[float, float]
    exposure: float
    gamma: float
    blur: float
    shake: tuple[float, float]
    noise: float
    quality: int


def draw_lens(rng: np.random.Generator, *, careful: bool) -> Lens:
    """A shop's camera if ``careful``, else a phone's."""
    spread = 0.012 if careful else 0.035
    warmth = rng.normal(0, spread)
    shaky = not careful and rng.random() < 0.12
    return Lens(
        balance=(float(1 + warmth), float(1 - warmth)),
        exposure=float(np.clip(rng.normal(1.0, 0.03 if careful else 0.09), 0.78, 1.18)),
        gamma=float(rng.uniform(0.94, 1.06)),
        blur=float(rng.uniform(0.2, 0.6) if careful else rng.uniform(0.3, 1.1)),
        shake=(float(rng.uniform(2, 5) if shaky else 0), float(rng.uniform(0, np.pi))),
        noise=float(rng.uniform(0.5, 2.0) if careful else rng.uniform(1.5, 6.5)),
        quality=int(rng.integers(86, 96) if careful else rng.integers(68, 94)),
    )


def expose(rgb: np.ndarray, lens: Lens, rng: np.random.Generator) -> np.ndarray:
    """The scene u8[H, W, 3] as this camera records it."""
    size = max(rgb.shape[:2])
    blur = lens.blur * size / 640
    if lens.shake[0] * size / 640 >= 1:
        rgb = cv2.filter2D(rgb, -1, _shake_kernel(lens.shake[0] * size / 640, lens.shake[1]))
    elif blur > 0.25:
        rgb = cv2.GaussianBlur(rgb, (0, 0), blur)
    rgb = cv2.LUT(rgb, _tone_table(lens))
    grain = _grain(size)
    x, y = rng.integers(0, 64, 2)
    patch = grain[y : y + rgb.shape[0], x : x + rgb.shape[1]]
    share = lens.noise / 32
    return cv2.addWeighted(rgb, 1.0, patch, share, -128 * share)


def _shake_kernel(length: float, angle: float) -> np.ndarray:
    side = int(length) + 3
    kernel = np.zeros((side, side), np.float32)
    step = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    middle = (side - 1) / 2
    a, b = (middle - step) * 16, (middle + step) * 16
    cv2.line(kernel, a.astype(int).tolist(), b.astype(int).tolist(), 1.0, 1, cv2.LINE_AA, 4)
    return kernel / max(float(kernel.sum()), 1e-6)


def _tone_table(lens: Lens) -> np.ndarray:
    """Lookup u8[1, 256, 3] for balance, exposure and gamma."""
    level = (np.arange(256) / 255.0)[:, None] ** lens.gamma * 255
    gains = lens.exposure * np.array([lens.balance[0], 1.0, lens.balance[1]])
    return np.clip(level * gains + 0.5, 0, 255).astype(np.uint8)[None]


@lru_cache(maxsize=2)
def _grain(size: int) -> np.ndarray:
    """Gray-heavy noise u8[size + 64, size + 64, 3], mean 128, deviation about 32."""
    rng = np.random.default_rng(77)
    shape = (size + 64, size + 64)
    gray = rng.normal(0, 27, shape)[..., None]
    return np.clip(128 + gray + rng.normal(0, 17, (*shape, 3)), 0, 255).astype(np.uint8)
