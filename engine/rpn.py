"""The region proposal network: where in the photo something might be worn.

Same head, matching, sampling and losses as torchvision's, arranged to do less: only the anchors
that survive the ranking are decoded, only the sampled ones are encoded, and nothing but the
suppression waits for the accelerator.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import batched_nms, clip_boxes_to_image

from engine.boxes import decode_boxes, encode_boxes, match, sample_balanced

ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width
UNIT_WEIGHTS = (1.0, 1.0)
SMOOTH_L1_BETA = 1 / 9


class ProposalNetwork(nn.Module):
    """Scores anchors on every map of the pyramid and turns the best into proposals."""

    fg_iou, bg_iou = 0.7, 0.3
    anchors_per_image, positive_fraction = 256, 0.5
    nms_iou = 0.7
    kept_training, kept_inference = 2000, 1000  # per level before the suppression, per image after
    min_side = 1e-3

    def __init__(
        self,
        channels: int,
        strides: tuple[int, ...],
        anchor_sizes: tuple[tuple[float, ...], ...],
        conv_depth: int,
    ) -> None:
        """
        Args:
            channels: of every map.
            strides: pixels per cell of each map.
            anchor_sizes: for each map the square roots of its anchors' areas, in pixels.
            conv_depth: 3x3 convolutions of the head.
        """
        super().__init__()
        self.strides = strides
        self.head = RPNHead(channels, len(anchor_sizes[0]) * len(ASPECT_RATIOS), conv_depth)
        for level, sizes in enumerate(anchor_sizes):
            self.register_buffer(f"cell{level}", cell_anchors(sizes), persistent=False)

    def forward(
        self,
        maps: list[Tensor],
        image_sizes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """
        Args:
            maps: f32[B,C,H/s,W/s] per stride.
            image_sizes: (height, width) of each image inside its padding.
            targets: in training, each with ``boxes`` f32[N,4].

        Returns:
            (proposals f32[P,4] of each image, best first; losses, empty without targets).
        """
        logits, offsets = self.head(maps)
        # Box arithmetic in half precision would be off by pixels.
        logits = [_per_anchor(level, 1).float().squeeze(-1) for level in logits]
        offsets = [_per_anchor(level, 4).float() for level in offsets]
        anchors = [self._anchors(i, level.shape[-2:]) for i, level in enumerate(maps)]
        proposals = self._propose(logits, offsets, anchors, image_sizes)
        if targets is None:
            return proposals, {}
        losses = self._losses(torch.cat(logits, 1), torch.cat(offsets, 1), anchors, targets)
        return proposals, losses

    def _anchors(self, level: int, grid: tuple[int, int]) -> Tensor:
        """f32[H*W*A,4]: the cell anchors of a level, moved to every cell."""
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
        self,
        logits: list[Tensor],
        offsets: list[Tensor],
        anchors: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Tensor]:
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
        self,
        logits: Tensor,
        offsets: Tensor,
        anchors: list[Tensor],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Objectness and box loss on a random balanced sample: logits f32[B,M], offsets [B,M,4]."""
        anchors = torch.cat(anchors)
        matches = [
            match(t["boxes"], anchors, low=self.bg_iou, high=self.fg_iou, keep_best=True)
            for t in targets
        ]
        positives = int(self.anchors_per_image * self.positive_fraction)
        verdict = torch.stack([verdict for _, verdict in matches])
        sample, valid, _ = sample_balanced(verdict, self.anchors_per_image, positives)
        wanted = verdict.gather(1, sample).float()
        count = valid.sum()

        objectness = F.binary_cross_entropy_with_logits(
            logits.gather(1, sample), wanted, valid.float(), reduction="sum"
        )
        picked = sample[:, :positives]  # positives come first
        truth = torch.stack([
            _rows(t["boxes"], index[p], anchors[p])
            for t, (index, _), p in zip(targets, matches, picked, strict=True)
        ])  # fmt: skip
        difference = F.smooth_l1_loss(
            offsets.gather(1, picked[..., None].expand(-1, -1, 4)),
            encode_boxes(truth, anchors[picked], UNIT_WEIGHTS),
            beta=SMOOTH_L1_BETA,
            reduction="none",
        )
        is_positive = (wanted[:, :positives] > 0) & valid[:, :positives]
        box = torch.where(is_positive[..., None], difference, 0).sum()
        return {"loss_objectness": objectness / count, "loss_rpn_box_reg": box / count}


def cell_anchors(sizes: tuple[float, ...]) -> Tensor:
    """f32[len(sizes)*3,4]: boxes around the origin, every size at every ratio, whole pixels."""
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
