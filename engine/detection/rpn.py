"""The region proposal network: boxes in the photo that may contain a garment.

Head, matching, sampling and losses are those of torchvision, with less computation. The head runs
over all maps without gradients. The losses depend on only a few hundred sampled anchors, so the
head runs again, with gradients, on the small patches that determine those anchors. The gradients
are the same, without a backward pass over the full maps, which would be mostly zeros. Likewise only
the best-scored anchors are decoded, and only the suppression synchronizes with the accelerator.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import batched_nms, clip_boxes_to_image

from engine.detection.boxes import decode_boxes, encode_boxes, match, sample_balanced
from engine.detection.pyramid import Pyramid

ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width
UNIT_WEIGHTS = (1.0, 1.0)
SMOOTH_L1_BETA = 1 / 9


class ProposalNetwork(nn.Module):
    """Scores anchors on every map of the pyramid and turns the best into proposals."""

    fg_iou, bg_iou = 0.7, 0.3
    anchors_per_image, positive_fraction = 256, 0.5
    nms_iou = 0.7
    kept_training, kept_inference = 2000, 1000  # per level before suppression, per image after it
    min_side = 1e-3

    def __init__(
        self,
        channels: int,
        strides: tuple[int, ...],
        anchor_sizes: tuple[tuple[float, ...], ...],
        conv_depth: int,
    ) -> None:
        """Build the head and the anchors.

        Args:
            channels: number of channels of every map.
            strides: pixels per cell of each map.
            anchor_sizes: for each map the square roots of its anchors' areas, in pixels.
            conv_depth: number of 3x3 convolutions in the head.
        """
        super().__init__()
        self.strides = strides
        self.head = RPNHead(channels, len(anchor_sizes[0]) * len(ASPECT_RATIOS), conv_depth)
        for level, sizes in enumerate(anchor_sizes):
            self.register_buffer(f"cell{level}", cell_anchors(sizes), persistent=False)

    def forward(
        self,
        maps: list[Tensor],
        pyramid: Pyramid,
        image_sizes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals of each image and, with targets, the losses.

        Args:
            maps: f32[B,C,H/s,W/s] per stride.
            pyramid: of the same maps.
            image_sizes: (height, width) of each image inside its padding.
            targets: in training, each with ``boxes`` f32[N,4].

        Returns:
            (proposals f32[P,4] of each image, best first; losses, empty without targets).
        """
        anchors = [self._anchors(i, m.shape[-2:]) for i, m in enumerate(maps)]
        # Losses first: autocast caches the first half-precision copy of each filter, and a copy
        # made without gradients would disconnect the filters from the losses.
        losses = {} if targets is None else self._losses(pyramid, torch.cat(anchors), targets)
        return self._propose(maps, anchors, image_sizes), losses

    def _anchors(self, level: int, grid: tuple[int, int]) -> Tensor:
        """The anchors at every cell of a level: f32[H*W*A,4]."""
        cells: Tensor = getattr(self, f"cell{level}")
        ys, xs = (
            torch.arange(0, n * self.strides[level], self.strides[level], device=cells.device)
            for n in grid
        )
        y, x = torch.meshgrid(ys, xs, indexing="ij")
        corners = torch.stack((x, y, x, y), -1).view(-1, 1, 4)
        return (corners + cells).view(-1, 4)

    @property
    def _kept(self) -> int:
        return self.kept_training if self.training else self.kept_inference

    @torch.no_grad()
    def _propose(
        self, maps: list[Tensor], anchors: list[Tensor], image_sizes: list[tuple[int, int]]
    ) -> list[Tensor]:
        logits, offsets = self.head(maps)
        # Box arithmetic in half precision would be off by pixels.
        logits = [_per_anchor(level, 1).float().squeeze(-1) for level in logits]
        offsets = [_per_anchor(level, 4).float() for level in offsets]
        scores, boxes, levels = [], [], []
        for level, (score, offset, anchor) in enumerate(zip(logits, offsets, anchors, strict=True)):
            score, index = score.topk(min(self._kept, score.shape[1]), 1)
            offset = offset.gather(1, index[..., None].expand(-1, -1, 4))
            scores.append(score)
            boxes.append(decode_boxes(offset, anchor[index], UNIT_WEIGHTS))
            levels.append(torch.full_like(index[0], level))
        per_image = zip(torch.cat(boxes, 1), torch.cat(scores, 1), image_sizes, strict=True)
        return [self._suppress(*image, torch.cat(levels)) for image in per_image]

    def _suppress(
        self, boxes: Tensor, scores: Tensor, image_size: tuple[int, int], levels: Tensor
    ) -> Tensor:
        boxes = clip_boxes_to_image(boxes, image_size)
        kept = ((boxes[:, 2:] - boxes[:, :2]) >= self.min_side).all(1).nonzero().squeeze(1)
        boxes = boxes[kept]
        kept = batched_nms(boxes, scores[kept], levels[kept], self.nms_iou)
        return boxes[kept[: self._kept]]

    def _losses(
        self, pyramid: Pyramid, anchors: Tensor, targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Objectness and box loss on a random balanced sample of the anchors f32[M,4]."""
        matches = [
            match(t["boxes"], anchors, low=self.bg_iou, high=self.fg_iou, keep_best=True)
            for t in targets
        ]
        positives = int(self.anchors_per_image * self.positive_fraction)
        state = torch.stack([state for _, state in matches])
        sample, valid, _ = sample_balanced(state, self.anchors_per_image, positives)
        logits, offsets = self._score(pyramid, sample)
        wanted = state.gather(1, sample).float()
        objectness = F.binary_cross_entropy_with_logits(
            logits, wanted, valid.float(), reduction="sum"
        )

        picked = sample[:, :positives]  # positives come first
        truth = torch.stack([
            _rows(t["boxes"], index[p], anchors[p])
            for t, (index, _), p in zip(targets, matches, picked, strict=True)
        ])  # fmt: skip
        difference = F.smooth_l1_loss(
            offsets[:, :positives],
            encode_boxes(truth, anchors[picked], UNIT_WEIGHTS),
            beta=SMOOTH_L1_BETA,
            reduction="none",
        )
        is_positive = (wanted[:, :positives] > 0) & valid[:, :positives]
        box = torch.where(is_positive[..., None], difference, 0).sum()
        count = valid.sum()
        return {"loss_objectness": objectness / count, "loss_rpn_box_reg": box / count}

    def _score(self, pyramid: Pyramid, sample: Tensor) -> tuple[Tensor, Tensor]:
        """The head's logits f32[B,S] and offsets f32[B,S,4] for the anchors i64[B,S] only."""
        per_cell = self.head.cls_logits.out_channels
        image = torch.arange(len(sample), device=sample.device)[:, None].expand_as(sample)
        cell, anchor = (sample // per_cell).flatten(), (sample % per_cell).flatten()
        depth = len(self.head.conv)
        x, inside = pyramid.patches(image.flatten(), cell, depth)
        for layer, (conv, _) in enumerate(self.head.conv, start=1):
            x = F.relu(F.conv2d(x, conv.weight, conv.bias))
            # The head pads each layer with zeros outside the map.
            x = x * inside[:, :, layer:-layer, layer:-layer]
        every = torch.arange(len(x), device=x.device)
        logits = self.head.cls_logits(x).flatten(1)[every, anchor]
        offsets = self.head.bbox_pred(x).view(len(x), per_cell, 4)[every, anchor]
        return logits.float().view_as(sample), offsets.float().view(*sample.shape, 4)


def cell_anchors(sizes: tuple[float, ...]) -> Tensor:
    """Boxes of every size and ratio around the origin, in whole pixels: f32[len(sizes)*3,4]."""
    heights = torch.tensor(ASPECT_RATIOS).sqrt()
    extent = torch.stack((1 / heights, heights), 1)[:, None] * torch.tensor(sizes)[:, None]
    extent = extent.view(-1, 2)
    return (torch.cat((-extent, extent), 1) / 2).round()


def _per_anchor(level: Tensor, values: int) -> Tensor:
    """[B,A*values,H,W] -> [B,H*W*A,values], the order of the anchors."""
    return level.permute(0, 2, 3, 1).reshape(len(level), -1, values)


def _rows(boxes: Tensor, index: Tensor, otherwise: Tensor) -> Tensor:
    """``boxes[index]``, or ``otherwise`` where there are no boxes."""
    return boxes[index] if len(boxes) else otherwise
