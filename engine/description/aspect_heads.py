"""From feature maps to one vector per aspect: spatial attention, pooling and the heads.

Where to attend is decided by the deep maps, which separate garment from skin and floor; what to
pool depends on the aspect: color is in the pixels, texture in the middle of the trunk, shape at its
end. So a small attention network reads the two deepest maps and gives one weight map per aspect,
and every aspect pools its own levels under its own weights, confined to the garment's mask. Item
and shape must generalize to unseen products, so they learn a residual to an anchor
(``engine.description.anchor``): projected, plainly pooled trunk features.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.description.anchor import Anchor
from engine.description.lab_histogram import STRIDE, LabHistogram
from engine.description.pooling import (
    mask_coverage,
    masked_mean,
    mean_and_spread,
    pool_under,
    power_mean,
)

HIDDEN = 256
OUTSIDE = -12.0  # lower bound of what the mask adds to attention logits: log of the covered share
COLORED = {"item", "color"}  # aspects that use the color histogram of the pixels


class Attention(nn.Module):
    """Spatial attention weights from the two deepest maps.

    Args:
        deep, deepest: channels of the last two maps of the trunk.
        readers: how many weight maps to make, one per aspect.
    """

    def __init__(self, deep: int, deepest: int, readers: int) -> None:
        super().__init__()
        self.deep = nn.Conv2d(deep, 64, 1)
        self.deepest = nn.Conv2d(deepest, 64, 1)
        self.look = nn.Conv2d(64, readers, 1)
        nn.init.zeros_(self.look.weight)  # starts as the mean over the mask
        nn.init.zeros_(self.look.bias)

    def forward(self, deep: Tensor, deepest: Tensor, covered: Tensor) -> Tensor:
        """
        Args:
            deep, deepest: the trunk's last two maps, f32[B,C,H,W].
            covered: f32[B,1,H,W], share of each cell of ``deep`` that the mask covers.

        Returns:
            f32[B,readers,H,W] of ``deep``'s size; each map sums to 1.
        """
        context = F.interpolate(self.deepest(deepest), size=deep.shape[-2:], mode="nearest")
        logits = self.look(F.gelu(self.deep(deep) + context))
        logits = logits + covered.clamp(min=1e-6).log().clamp(min=OUTSIDE)
        return logits.flatten(2).softmax(dim=2).view_as(logits)


class ColorReader(nn.Module):
    """The share of each Lab color, and the mean Lab color, under a weight map."""

    def __init__(self) -> None:
        super().__init__()
        self.histogram = LabHistogram()
        self.features = len(self.histogram.centers) + 3

    def forward(self, colors: tuple[Tensor, Tensor], weights: Tensor, mask: Tensor) -> Tensor:
        """
        Args:
            colors: ``self.histogram(images)``.
            weights: attention, f32[B,1,h,w].
            mask: f32[B,1,S,S] in 0..1.

        Returns:
            f32[B, features].
        """
        memberships, lab = colors
        size = [side // STRIDE for side in mask.shape[-2:]]
        fine = F.interpolate(weights, size=size, mode="bilinear", align_corners=False)
        fine = (fine * F.avg_pool2d(mask, STRIDE)).flatten(2)
        fine = fine / fine.sum(dim=2, keepdim=True).clamp(min=1e-8)
        shares = (fine @ memberships).squeeze(1)
        mean = (fine @ lab).squeeze(1) / 100
        # Square roots (Hellinger distance), so that small shares count as well.
        return torch.cat([(shares + 1e-6).sqrt(), mean], dim=1)


class AspectHead(nn.Module):
    """Pooled features -> a hidden vector (for attributes) and the aspect's unit vector.

    Args:
        sizes: of the pooled features.
        dim: of the vector.
        anchor: the vector is its output plus a learned residual; None for a purely learned vector.
    """

    def __init__(self, sizes: tuple[int, ...], dim: int, anchor: Anchor | None) -> None:
        super().__init__()
        # Levels differ in scale by an order of magnitude; all should matter from the start.
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes)
        self.hidden = nn.Linear(sum(sizes), HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN)
        self.vector = nn.Linear(HIDDEN, dim)
        self.anchor = anchor

    def forward(
        self, parts: list[Tensor], maps: tuple[Tensor, ...], covered: Tensor
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            parts: pooled features, f32[B,size] each.
            maps: the trunk's last, f32[B,C,H,W], fine to coarse.
            covered: f32[B,1,h,w], share of each cell that the mask covers.

        Returns:
            hidden f32[B,HIDDEN], unit vectors f32[B,dim].
        """
        together = torch.cat([n(p) for n, p in zip(self.norms, parts, strict=True)], dim=1)
        hidden = F.gelu(self.norm(self.hidden(together)))
        vector = F.normalize(self.vector(hidden).float(), dim=1)
        if self.anchor is not None:
            vector = F.normalize(self.anchor(maps, covered) + self.anchor.learned * vector, dim=1)
        return hidden, vector


class AspectHeads(nn.Module):
    """All aspects of a model.

    Args:
        channels: of the trunk's maps, fine to coarse; the last three are read.
        dims: aspect -> size of its vector.
    """

    def __init__(self, channels: list[int], dims: dict[str, int]) -> None:
        super().__init__()
        middle, deep, deepest = channels[-3:]
        self.aspects = tuple(dims)
        self.attention = Attention(deep, deepest, len(dims))
        self.colors = ColorReader()
        color, texture = self.colors.features, 2 * middle
        sizes = {
            "item": (deepest, deep, texture, color),
            "color": (color, middle),
            "texture": (texture, deep),
            "shape": (deepest, deep),
        }
        anchors = {
            "item": partial(Anchor, (deep, deepest), principal=True, learned=0.35),
            "shape": partial(Anchor, (deepest,), principal=False, learned=0.7),
        }
        self.heads = nn.ModuleDict(
            {
                name: AspectHead(sizes[name], dim, anchors[name](dim) if name in anchors else None)
                for name, dim in dims.items()
            }
        )

    def forward(
        self, images: Tensor, maps: list[Tensor], mask: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """
        Args:
            images: u8[B,3,S,S], as they went into the trunk.
            maps: the trunk's, f32[B,C,H,W], fine to coarse.
            mask: f32[B,1,S,S] in 0..1.

        Returns:
            hidden f32[B,HIDDEN] and unit vectors f32[B,dim], by aspect.
        """
        _, deep, deepest = last = tuple(m.float() for m in maps[-3:])
        covered = mask_coverage(mask, deep)
        looks = self.attention(deep, deepest, covered)
        colors = self.colors.histogram(images) if COLORED & {*self.aspects} else None
        hidden, vectors = {}, {}
        for number, name in enumerate(self.aspects):
            look = looks[:, number : number + 1]
            parts = self._parts(name, colors, last, look, mask)
            hidden[name], vectors[name] = self.heads[name](parts, last, covered)
        return hidden, vectors

    def _parts(
        self,
        name: str,
        colors: tuple[Tensor, Tensor] | None,
        maps: tuple[Tensor, ...],
        look: Tensor,
        mask: Tensor,
    ) -> list[Tensor]:
        """The features an aspect pools, in the order of its head's ``sizes``."""
        middle, deep, deepest = maps
        if name == "shape":
            return [pool_under(deepest, look, power_mean), power_mean(deep, look)]
        if name == "color":
            return [self.colors(colors, look, mask), pool_under(middle, look, masked_mean)]
        texture = mean_and_spread(middle, look)
        if name == "texture":
            return [texture, masked_mean(deep, look)]
        seen = self.colors(colors, look, mask)
        return [pool_under(deepest, look, power_mean), power_mean(deep, look), texture, seen]
