"""Colors of a batch as soft histograms in CIE Lab, on the device the batch is on."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# sRGB (linear) to XYZ under D65, IEC 61966-2-1; rows divided by the white point.
RGB_TO_XYZ = (
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)
STEPS = (20.0, 24.0, 24.0)  # between colors, in L, a and b
STRIDE = 4  # pixels averaged before the histogram: finer patterns mix as they do for the eye


def rgb_to_lab(rgb: Tensor, rgb_to_xyz: Tensor) -> Tensor:
    """f32[...,3] sRGB in 0..1 -> CIE L*a*b* under D65 (L 0..100, a and b about -110..110).

    ``rgb_to_xyz`` is RGB_TO_XYZ as f32[3,3] on the same device.
    """
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ rgb_to_xyz.T
    cube = torch.where(xyz > 216 / 24389, xyz.clamp(min=1e-8) ** (1 / 3), xyz * 841 / 108 + 4 / 29)
    x, y, z = cube.unbind(dim=-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


class LabHistogram(nn.Module):
    """Photos -> how much each pixel belongs to each of a fixed set of colors.

    The colors are a grid over Lab, as far as sRGB reaches; a pixel belongs to them with Gaussian
    weights of its distance, so that a little change of light moves a little weight.

    Attributes:
        centers: f32[K,3], Lab.
    """

    def __init__(self) -> None:
        super().__init__()
        # Buffers: numbers sent to an accelerator in every step would make it wait in every step.
        constants = {
            "rgb_to_xyz": torch.tensor(RGB_TO_XYZ),
            "scale": torch.tensor(STEPS),
            "centers": _centers_in_srgb(),
        }
        for name, values in constants.items():
            self.register_buffer(name, values, persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """u8[B,3,S,S] RGB -> memberships f32[B,P,K] (rows sum to 1) and Lab f32[B,P,3].

        P runs over the pixels of the image averaged by STRIDE, row by row. Always in full
        precision: half of it moves dark colors by more than the eye overlooks.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self._memberships(images)

    def _memberships(self, images: Tensor) -> tuple[Tensor, Tensor]:
        small = F.avg_pool2d(images.float() / 255, STRIDE)
        lab = rgb_to_lab(small.flatten(2).transpose(1, 2), self.rgb_to_xyz)
        pixels, centers = lab / self.scale, self.centers / self.scale
        # -|x - c|² up to a term that softmax cancels
        closeness = 2 * pixels @ centers.T - centers.square().sum(dim=1)
        return (2 * closeness).softmax(dim=-1), lab


def _centers_in_srgb() -> Tensor:
    """The grid points of Lab nearest to some sRGB color."""
    steps = torch.linspace(0, 1, 33)
    colors = rgb_to_lab(torch.cartesian_prod(steps, steps, steps), torch.tensor(RGB_TO_XYZ))
    scale = torch.tensor(STEPS)
    cells = (colors / scale).round()
    # By a number each: rows are compared twenty times as long.
    _, first = np.unique((cells + 8) @ torch.tensor([256.0, 16.0, 1.0]), return_index=True)
    return cells[first] * scale
