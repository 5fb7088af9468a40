"""Box-guided local features: the model finds the garment in a whole photo and reads it there.

For sets of whole photos with one box each, where no detector ran. The head predicts the box from
the pooled last map, samples a grid of features inside it and hands them to the classifiers, so
that category and attribute losses also teach the box.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss

GRID = 4  # samples per side inside the box


def soft_roi_align(features: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Bilinear samples on a regular grid inside one box per image, differentiable in the boxes.

    torchvision's ``roi_align`` with one sample per bin gives the same values but no gradient to
    the boxes.

    Args:
        features: f32[B,C,H,W].
        boxes: f32[B,4] xyxy as shares of the image's width and height.
        size: cells per side.

    Returns:
        f32[B,C,size,size]: samples at the centers of the box's size x size cells.
    """
    ticks = (torch.arange(size, device=boxes.device, dtype=boxes.dtype) + 0.5) / size
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    x = x1[:, None] + ticks * (x2 - x1)[:, None]
    y = y1[:, None] + ticks * (y2 - y1)[:, None]
    grid = torch.stack(
        [x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1
    )
    # align_corners=False puts -1 and 1 on the image's outer edges, as shares of it do
    return F.grid_sample(features, grid * 2 - 1, padding_mode="border", align_corners=False)


def box_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Per sample: L1 distance of the sides plus 1 - GIoU (Rezatofighi et al. 2019): f32[B]."""
    overlap = generalized_box_iou_loss(boxes, targets, reduction="none")
    return (boxes - targets).abs().sum(dim=1) + overlap


class BoxHead(nn.Module):
    """Pooled features and a map -> the garment's box and what is inside it.

    Args:
        pooled: size of the pooled features.
        channels: of the map that is sampled.
        features: size of the local features it gives.
    """

    def __init__(self, pooled: int, channels: int, features: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(pooled, features)
        self.box = nn.Linear(features, 4)
        self.local = nn.Linear(channels * GRID**2, features)
        nn.init.zeros_(self.box.weight)  # starts at the middle, half the size
        nn.init.zeros_(self.box.bias)

    def forward(self, pooled: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """f32[B,pooled], f32[B,channels,H,W] -> f32[B,4] xyxy shares, local f32[B,features]."""
        # Half precision would move a side by a pixel.
        sides = self.box(F.gelu(self.hidden(pooled))).float().sigmoid()
        center, size = sides.chunk(2, dim=1)
        boxes = torch.cat([center - size / 2, center + size / 2], dim=1)
        inside = soft_roi_align(features, boxes, GRID).flatten(1)
        return boxes, F.gelu(self.local(inside))
