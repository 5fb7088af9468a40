"""The multitask model's losses: labels that may be unknown, and metric learning across ranks.

Every loss here is the mean over what is labeled in the *global* batch: sums and counts are taken
over all ranks, so labels that are spread unevenly over the ranks weigh the same on one process and
on many. Embeddings are gathered with their gradient, so each rank's anchors see every rank's
negatives. All ranks must call the same losses in the same order.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from engine.distributed import rank, world_size

IMPOSSIBLE = -1e4  # a logit that no softmax notices; infinite ones would make 0 x inf


def global_mean(values: Tensor, counts: Tensor) -> Tensor:
    """sum(values · counts) / sum(counts) over all ranks, scaled so that DDP's averaging fits.

    DDP divides the summed gradients by the number of ranks; multiplying the local share of the mean
    by that number cancels it.

    Args:
        values: f32[N], one loss per sample, differentiable.
        counts: f32[N] or bool[N], the weight of each sample; 0 leaves it out.

    Returns:
        f32 scalar; 0 (with a gradient of 0) where nothing on any rank counts.
    """
    counts = counts.to(values.dtype)
    total = counts.sum().detach()
    if world_size() > 1:
        dist.all_reduce(total)
    # values of samples that don't count may be anything, also infinite
    local = torch.where(counts > 0, values, values.new_zeros(())).mul(counts).sum()
    return local * world_size() / total.clamp(min=1e-6)


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    known: Tensor,
    *,
    class_weights: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Softmax cross-entropy over the values that each sample's own set knows.

    Args:
        logits: f32[B,V].
        targets: i64[B], negative = unknown.
        known: bool[B,V], the vocabulary of each sample's set.
        class_weights: f32[V] weight of samples by their value; None = 1.
        smoothing: share of the target spread evenly over the known values (label smoothing).

    Returns:
        f32 scalar.
    """
    log_p = logits.float().masked_fill(~known, IMPOSSIBLE).log_softmax(dim=1)
    safe = targets.clamp(min=0)
    loss = -log_p.gather(1, safe[:, None]).squeeze(1)
    if smoothing:
        spread = -(log_p * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
        loss = (1 - smoothing) * loss + smoothing * spread
    weights = (targets >= 0).float()
    if class_weights is not None:
        weights = weights * class_weights[safe]
    return global_mean(loss, weights)


def multilabel_loss(
    logits: Tensor, targets: Tensor, *, kind: str = "bce", pos_weight: Tensor | None = None
) -> Tensor:
    """Loss of independent attributes, unknown ones left out.

    Args:
        logits: f32[B,A].
        targets: i8[B,A], 1 yes, -1 no, 0 unknown.
        kind: "bce"; "focal" (gamma 2; Lin et al. 2017); "hinge" (margin 1).
        pos_weight: f32[A], weight of a "yes"; clamp it (``positive_weights``). None = 1.

    Returns:
        f32 scalar: the mean over everything known.
    """
    sign = targets.float()
    agreement = logits.float() * sign  # positive where the model is right
    if kind == "hinge":
        loss = F.relu(1 - agreement)
    else:
        loss = F.softplus(-agreement)
        if kind == "focal":
            loss = loss * torch.sigmoid(-agreement).square()
    if pos_weight is not None:
        loss = torch.where(targets > 0, loss * pos_weight, loss)
    return global_mean(loss.flatten(), (targets != 0).flatten())


def positive_weights(positives: Tensor, negatives: Tensor, limit: float = 20.0) -> Tensor:
    """negatives / positives per attribute, kept within 1/limit..limit.

    Unclamped, an attribute seen once in 200,000 photos would drown all others.
    """
    return (negatives / positives.clamp(min=1)).clamp(1 / limit, limit)


class _GatherWithGradient(torch.autograd.Function):
    """All ranks' rows, in order of rank; backward sums what every rank wants of ours."""

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[rank() * ctx.count : (rank() + 1) * ctx.count]


def gather_rows(rows: Tensor) -> Tensor:
    """[B,...] on each rank -> [world · B,...] on all, differentiable. B must be equal."""
    if world_size() == 1:
        return rows
    if rows.requires_grad:
        return _GatherWithGradient.apply(rows)
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def _own_columns(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of this rank's rows, here and in what ``gather_rows`` makes of them: i64[B] each."""
    row = torch.arange(len(rows), device=rows.device)
    return row, row + rank() * len(rows)


def view_contrast(
    anchors: Tensor, keys: Tensor, chosen: Tensor, same: Tensor, temperature: float
) -> Tensor:
    """Each anchor must find the other view of its own crop among the keys (InfoNCE).

    van den Oord et al. 2018, eq. 4, with the negatives of all ranks.

    Args:
        anchors: f32[B,d] unit vectors, this rank's views.
        keys: f32[B,d] unit vectors, this rank's crops; the positive of anchor i is key i.
        chosen: bool[B], which anchors take part.
        same: bool[B, world · B], pairs that are known to be alike, so no negatives.
        temperature: divides the cosines.

    Returns:
        f32 scalar.
    """
    everyone = gather_rows(keys)
    logits = anchors @ everyone.T / temperature
    row, own = _own_columns(anchors)
    same = same.clone()
    same[row, own] = False
    logits = logits.masked_fill(same, IMPOSSIBLE)
    return global_mean(F.cross_entropy(logits, own, reduction="none"), chosen)


def supervised_contrast(vectors: Tensor, identities: Tensor, temperature: float) -> Tensor:
    """Vectors of one identity together, others apart (SupCon; Khosla et al. 2020, L_out).

    Args:
        vectors: f32[B,d] unit vectors of this rank.
        identities: i64[B], negative = unknown, left out altogether.
        temperature: divides the cosines.

    Returns:
        f32 scalar, the mean over anchors that have a positive anywhere.
    """
    everyone, theirs = gather_rows(vectors), gather_rows(identities)
    row, own = _own_columns(vectors)
    not_self = torch.ones(len(row), len(everyone), dtype=torch.bool, device=vectors.device)
    not_self[row, own] = False
    logits = (vectors @ everyone.T / temperature).masked_fill(
        ~(not_self & (theirs >= 0)), IMPOSSIBLE
    )
    log_p = logits.log_softmax(dim=1)
    positive = not_self & (identities[:, None] == theirs) & (identities >= 0)[:, None]
    per_anchor = -(log_p * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
    return global_mean(per_anchor, positive.any(dim=1))


def batch_hard_triplet(vectors: Tensor, identities: Tensor, margin: float) -> Tensor:
    """Each anchor's farthest positive closer than its nearest negative.

    Hermans et al. 2017, eq. 5, with the positives and negatives of all ranks.

    Args:
        vectors: f32[B,d] unit vectors of this rank.
        identities: i64[B], negative = unknown.
        margin: how much closer, as a difference of cosines.

    Returns:
        f32 scalar, the mean over anchors that have a positive and a negative anywhere.
    """
    everyone, theirs = gather_rows(vectors), gather_rows(identities)
    cosine = vectors @ everyone.T
    row, own = _own_columns(vectors)
    labeled = (identities >= 0)[:, None] & (theirs >= 0)
    alike = identities[:, None] == theirs
    positive, negative = labeled & alike, labeled & ~alike
    positive[row, own] = False
    hardest_positive = cosine.masked_fill(~positive, 2).amin(dim=1)
    hardest_negative = cosine.masked_fill(~negative, -2).amax(dim=1)
    loss = F.relu(hardest_negative - hardest_positive + margin)
    return global_mean(loss, positive.any(dim=1) & negative.any(dim=1))


class LearnedTaskWeights(nn.Module):
    """Weighs losses by learned uncertainties: Σ exp(-s)·L + s (Kendall et al. 2018, §3.2).

    Args:
        names: the losses that will be given.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.log_variance = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(())) for name in names}
        )

    def forward(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted losses, under the same names."""
        weighted = {}
        for name, loss in losses.items():
            s = self.log_variance[name]
            weighted[name] = torch.exp(-s) * loss + s
        return weighted
