"""Pooling of feature maps under weight maps, for the heads of the multitask model."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

POWER = 3  # of ``power_mean``


def mask_coverage(mask: Tensor, like: Tensor) -> Tensor:
    """Share of each cell of a map that the mask covers: f32[B,1,S,S] -> f32[B,1,H,W]."""
    return F.adaptive_avg_pool2d(mask, like.shape[-2:])


def masked_mean(features: Tensor, weights: Tensor) -> Tensor:
    """f32[B,C,H,W] averaged with f32[B,1,H,W] -> f32[B,C]."""
    # Not under autocast: sums of cubes over a whole map leave the range of half precision.
    with torch.autocast(features.device.type, enabled=False):
        total = weights.sum(dim=(2, 3)).clamp(min=1e-6)
        return torch.einsum("bchw,bhw->bc", features, weights[:, 0]) / total


def power_mean(features: Tensor, weights: Tensor) -> Tensor:
    """The cube root of the mean cube (GeM, Radenović et al. 2018): as ``masked_mean``.

    Between mean and max pooling: it favors strong activations of a few cells, like those of the
    outline and of small parts of a garment, which hardly depend on its color.
    """
    cubes = features.clamp(min=1e-6).pow(POWER)
    return masked_mean(cubes, weights).pow(1 / POWER)


def pool_under(features: Tensor, look: Tensor, pool: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Pool features under a weight map of another size; the larger of the two is shrunk.

    Args:
        features: f32[B,C,H,W].
        look: f32[B,1,h,w], the weights.
        pool: ``masked_mean`` or ``power_mean``.

    Returns:
        f32[B,C].
    """
    size = features.shape[-2:]
    if size[0] < look.shape[-2]:
        return pool(features, F.adaptive_avg_pool2d(look, size))
    return pool(F.adaptive_avg_pool2d(features, look.shape[-2:]), look)


def mean_and_spread(features: Tensor, look: Tensor) -> Tensor:
    """Mean and standard deviation of each channel under a weight map: f32[B,2C].

    The variation of an edge detector's response over the cloth describes a pattern better than its
    mean.
    """
    size = look.shape[-2:]
    mean = F.adaptive_avg_pool2d(features, size)
    square = F.adaptive_avg_pool2d(features.square(), size)
    mean, square = masked_mean(mean, look), masked_mean(square, look)
    return torch.cat([mean, (square - mean.square()).clamp(min=1e-6).sqrt()], dim=1)
