"""Box arithmetic shared by the proposal network and the region heads: coding, matching, sampling.

Boxes are f32[...,4] xyxy in pixels of the training image. Shapes never depend on values, so nothing
here synchronizes with the accelerator.
"""

import math

import torch
from torch import Tensor
from torchvision.ops import box_iou

# Largest log-scale of a regression: exp(4.1) = 62.5 times the box.
MAX_LOG_SCALE = math.log(1000 / 16)

# Factors of (shift, log-scale): the spread of each, so that regression targets have unit variance.
Weights = tuple[float, float]


def encode_boxes(targets: Tensor, anchors: Tensor, weights: Weights) -> Tensor:
    """Offsets that turn ``anchors`` into ``targets``: (dx, dy, dw, dh) of R-CNN, times weights.

    Girshick et al., Rich feature hierarchies, 2014, appendix C. All f32[...,4].
    """
    size = anchors[..., 2:] - anchors[..., :2]
    doubled_shift = targets[..., :2] + targets[..., 2:] - anchors[..., :2] - anchors[..., 2:]
    scale = ((targets[..., 2:] - targets[..., :2]) / size).log()
    return torch.cat((doubled_shift / size * (weights[0] / 2), scale * weights[1]), -1)


def decode_boxes(offsets: Tensor, anchors: Tensor, weights: Weights) -> Tensor:
    """The boxes that ``offsets`` describe: the inverse of ``encode_boxes``. All f32[...,4]."""
    size = anchors[..., 2:] - anchors[..., :2]
    center = anchors[..., :2] + size / 2 + offsets[..., :2] / weights[0] * size
    half = (offsets[..., 2:] / weights[1]).clamp(max=MAX_LOG_SCALE).exp() * size / 2
    return torch.cat((center - half, center + half), -1)


def mirror_boxes(boxes: Tensor, width: int | Tensor) -> Tensor:
    """Boxes f32[...,4] in the mirror image of a picture of that width."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((width - x2, y1, width - x1, y2), -1)


def match(
    truth: Tensor, boxes: Tensor, *, low: float, high: float, keep_best: bool = False
) -> tuple[Tensor, Tensor]:
    """Assign each box the true box it overlaps most.

    Args:
        truth: f32[N,4], N may be 0.
        boxes: f32[M,4].
        low, high: a box with IoU >= high is positive, with IoU < low negative, else ignored.
        keep_best: boxes that overlap some true box best, including ties, are positive as well.

    Returns:
        (i64[M] index into truth, 0 if there is none; i8[M] state: 1 positive, 0 negative, -1
        ignored).
    """
    if len(truth) == 0:
        nothing = boxes.new_zeros(len(boxes))
        return nothing.long(), nothing.to(torch.int8)
    overlap = box_iou(truth, boxes)
    best, index = overlap.max(0)
    positive = best >= high
    if keep_best:
        # A true box that no box touches must not match all of them.
        best_per_truth = overlap.amax(1, keepdim=True).clamp(min=1e-6)
        positive |= (overlap == best_per_truth).any(0)
    ignored = (best >= low) & ~positive
    return index, positive.to(torch.int8) - ignored.to(torch.int8)


def sample_balanced(state: Tensor, size: int, positives: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw up to ``positives`` random positives and fill up to ``size`` with random negatives.

    Args:
        state: i8[...,M] as ``match`` returns it.
        size, positives: number of entries to draw, and the largest number of positives.

    Returns:
        (index i64[...,K] into M, positives first, K = min(size, M); valid bool[...,K], False in
        empty slots; count i64[...] of positives drawn).
    """
    noise = torch.rand(state.shape, device=state.device)
    chosen = torch.where(state > 0, noise, -1).topk(min(positives, state.shape[-1]), -1)
    # Sort key: drawn positives in [2,3], negatives in [0,1], everything else -1.
    key = torch.where(state == 0, noise, -1)
    drawn = torch.where(chosen.values >= 0, chosen.values + 2, key.gather(-1, chosen.indices))
    key = key.scatter(-1, chosen.indices, drawn)
    values, index = key.topk(min(size, state.shape[-1]), -1)
    return index, values >= 0, (values >= 2).sum(-1)
