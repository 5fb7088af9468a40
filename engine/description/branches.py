"""A category classifier with one branch per garment group (upper, lower, full body).

p(category) = p(group) · p(category | group). A router estimates the group; where it is known
otherwise (the detector found trousers: lower), that replaces the estimate.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BRANCH_FEATURES = 256
CLOSED = -1e4  # log-probability of a group that is ruled out


def branch_names(branches: Sequence[str]) -> tuple[str, ...]:
    """The branches in the order of their numbers, from the branch of each category."""
    return tuple(dict.fromkeys(branches))


class BranchedClassifier(nn.Module):
    """
    Args:
        features: size of the input.
        branches: group of every category, in the order of the categories.
    """

    def __init__(self, features: int, branches: tuple[str, ...]) -> None:
        super().__init__()
        self.names = branch_names(branches)
        members = [[i for i, b in enumerate(branches) if b == name] for name in self.names]
        self.router = nn.Linear(features, len(self.names))
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Linear(features, BRANCH_FEATURES), nn.GELU(), nn.Linear(BRANCH_FEATURES, len(m))
            )
            for m in members
        )
        # Where each category stands among the branches' outputs, one branch after another.
        order = torch.tensor([i for group in members for i in group]).argsort()
        self.register_buffer("order", order, persistent=False)

    def forward(self, features: Tensor, route: Tensor | None = None) -> Tensor:
        """
        Args:
            features: f32[B,features].
            route: i64[B], number of the group in ``names`` where it is known, else -1.

        Returns:
            f32[B,V], log-probabilities (valid logits for a softmax over any subset).
        """
        groups = self.router(features).log_softmax(dim=1)
        if route is not None:
            given = F.one_hot(route.clamp(min=0), len(self.names)).to(groups.dtype)
            groups = torch.where((route >= 0)[:, None], (1 - given) * CLOSED, groups)
        parts = [
            groups[:, i : i + 1] + branch(features).log_softmax(dim=1)
            for i, branch in enumerate(self.branches)
        ]
        return torch.cat(parts, dim=1)[:, self.order]
