"""What the trunk's maps say by themselves, kept in few numbers; item and shape vectors add to it.

What a head learns from some thousands of garments fits those it has seen; the plain maps tell apart
also what nobody trained for.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.description.pooling import pool_under, power_mean


class Anchor(nn.Module):
    """Pooled maps, projected to so many numbers as the aspect's vector has.

    A random projection keeps cosines within about 1/sqrt(dim) (Johnson and Lindenstrauss 1984),
    whatever the photos. That is enough to tell a shirt from a skirt, but much of what tells two
    skirts apart. The main directions of other garments' maps lose less of it, but also forget more
    of how recolored garments agree; so item takes these, shape those. Of the products on a
    catalog's 120 back and close-up photos, all 3072 numbers of an ImageNet trunk found 54 % at 384
    px, 256 main directions 54, 256 random ones 44 ± 3; at 288 px 51, 47 and 44 ± 2.

    Args:
        sizes: channels of the maps.
        dim: of the vectors.
        principal: keep the main directions of the garments that ``fit`` is shown; until then, and
            without it always, random ones.
        learned: length of what a head adds to the anchor, which has length 1. How much is
            best, 27 queries for products that no training saw could not tell.
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
        """What is projected: f32[B, sum of sizes], of length sqrt(levels)."""
        last = maps[-self.levels :]
        pooled = [F.normalize(pool_under(m, covered, power_mean), dim=1) for m in last]
        return torch.cat(pooled, dim=1)

    def fit(self, pooled: Tensor) -> None:
        """Keep the main directions of f32[N, sum of sizes], as ``pool`` gives them.

        Not centered: the mean is a direction like others. Where N is less than ``dim``, random
        directions fill up.
        """
        dim = self.projection.shape[1]
        directions = torch.linalg.svd(pooled.double(), full_matrices=False).Vh.T[:, :dim]
        basis = torch.linalg.qr(torch.cat([directions, self.projection.double()], dim=1)).Q
        self.projection.copy_(basis[:, :dim])
        self.fitted.fill_(True)
