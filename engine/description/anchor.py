"""Anchors: pooled trunk features, projected to few dimensions; item and shape add to them.

A head trained on some thousands of garments overfits to them; plain pretrained features also
separate garments unlike any in the training data.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.description.pooling import pool_under, power_mean


class Anchor(nn.Module):
    """Pooled maps, linearly projected to the dimension of the aspect's vector.

    A random projection keeps cosines within about 1/sqrt(dim) (Johnson and Lindenstrauss 1984),
    whatever the photos. That suffices to separate shirts from skirts, but is as large as many of
    the differences between two skirts. Principal directions, fitted to other garments, lose less of
    those, but more of the similarity of recolored garments. So item uses principal directions,
    shape random ones. R@1 of a catalog's 120 back and close-up photos: all 3072 dimensions of an
    ImageNet trunk 54 % at 384 px, 256 principal directions 54, 256 random ones 44 ± 3; at 288 px
    51, 47 and 44 ± 2.

    Args:
        sizes: channels of the maps.
        dim: of the vectors.
        principal: ``fit`` will replace the initial random projection by principal directions.
        learned: norm of the residual that a head adds to the anchor, which has norm 1. The 27
            queries for unseen products were too few to tell which value is best.
    """

    def __init__(
        self, sizes: tuple[int, ...], dim: int, *, principal: bool, learned: float
    ) -> None:
        super().__init__()
        self.learned = learned
        projection = torch.empty(sum(sizes), dim)
        nn.init.orthogonal_(projection, generator=torch.Generator().manual_seed(0))
        self.register_buffer("projection", projection)
        self.register_buffer("fitted", torch.tensor(not principal))
        self.levels = len(sizes)

    def forward(self, maps: Sequence[Tensor], covered: Tensor) -> Tensor:
        """Maps f32[B,C,H,W], fine to coarse, and f32[B,1,h,w] -> unit vectors f32[B,dim]."""
        return F.normalize(self.pool(maps, covered) @ self.projection, dim=1)

    def pool(self, maps: Sequence[Tensor], covered: Tensor) -> Tensor:
        """The features that are projected: f32[B, sum of sizes], of norm sqrt(levels)."""
        last = maps[-self.levels :]
        pooled = [F.normalize(pool_under(m, covered, power_mean), dim=1) for m in last]
        return torch.cat(pooled, dim=1)

    def fit(self, pooled: Tensor) -> None:
        """Project to the principal directions of ``pooled``.

        Uncentered, unlike PCA: the mean is a direction like others. If N < dim, random directions
        fill up the rest.

        Args:
            pooled: f32[N, sum of sizes], outputs of ``pool``.
        """
        dim = self.projection.shape[1]
        directions = torch.linalg.svd(pooled.double(), full_matrices=False).Vh.T[:, :dim]
        basis = torch.linalg.qr(torch.cat([directions, self.projection.double()], dim=1)).Q
        self.projection.copy_(basis[:, :dim])
        self.fitted.fill_(True)
