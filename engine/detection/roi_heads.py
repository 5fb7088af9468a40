"""The region heads: class, box and mask of each proposal.

No full-size masks are made: training samples 28x28 targets from box-sized crops, and inference
returns 28x28 probabilities that are pasted later.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, clip_boxes_to_image, roi_align

from engine.detection.boxes import (
    decode_boxes,
    encode_boxes,
    match,
    mirror_boxes,
    sample_balanced,
)
from engine.detection.pyramid import Pyramid
from engine.detection.rpn import SMOOTH_L1_BETA

BOX_WEIGHTS = (10.0, 5.0)
BOX_POOL, MASK_POOL, MASK_SIZE = 7, 14, 28

# Mask targets are sampled by torchvision's unaligned RoIAlign, which has pixel centers at integer
# coordinates. So predicted masks are half a pixel too far to the right and down, and inference
# shifts regions back. Without this, shoes of 20 pixels would lose seven percent of IoU.
MASK_SHIFT = 0.5


class Sample(NamedTuple):
    """The sampled training regions of one image, positives first."""

    boxes: Tensor  # f32[K,4]
    labels: Tensor  # i64[K]: 0 background, -1 an empty slot
    truth: Tensor  # i64[K]: index of the true box that each overlaps most
    count: Tensor  # i64[]: positives


class Matched(NamedTuple):
    """The positive samples of one image with their ground truth."""

    boxes: Tensor  # f32[P,4]
    truth: Tensor  # i64[P] into the target
    target: dict[str, Tensor]
    image_size: tuple[int, int]


class RegionHeads(nn.Module):
    """The box head for all proposals and the mask head for the garments among them."""

    fg_iou = 0.5
    positive_fraction = 0.25
    min_side = 1e-2

    def __init__(
        self,
        *,
        levels: int,
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_head: nn.Module | None,
        mask_predictor: nn.Module | None,
        rois_per_image: int,
        box_dropout: float,
        score_threshold: float,
        nms_threshold: float,
        detections_per_image: int,
    ) -> None:
        """Assemble the heads.

        Args:
            levels: number of pyramid levels that regions are pooled from, from the finest.
            box_head, box_predictor: [R,P,7,7] -> [R,F] -> (class logits [R,1+C], offsets
                [R,4*(1+C)]).
            mask_head, mask_predictor: [R,P,14,14] -> same -> logits [R,1+C,28,28], or None.
            rois_per_image: proposals sampled from each image in training.
            box_dropout: share of the box head's input channels and output features that are zeroed
                in training (Srivastava et al. 2014; Tompson et al. 2015).
            score_threshold, nms_threshold, detections_per_image: see
                ``engine.detection.detector.build_detector``.
        """
        super().__init__()
        self.levels = levels
        self.box_head, self.box_predictor = box_head, box_predictor
        self.mask_head, self.mask_predictor = mask_head, mask_predictor
        self.rois_per_image = rois_per_image
        self.box_dropout = box_dropout
        self.score_threshold, self.nms_threshold = score_threshold, nms_threshold
        self.detections_per_image = detections_per_image

    def losses(
        self,
        pyramid: Pyramid,
        proposals: list[Tensor],
        image_sizes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Losses of a random balanced sample of the proposals (f32[P,4] of each image)."""
        samples = [self._sample(p, t) for p, t in zip(proposals, targets, strict=True)]
        # The only host-device synchronization of the step besides NMS.
        counts = torch.stack([sample.count for sample in samples]).tolist()
        boxes = [sample.boxes for sample in samples]
        labels = torch.cat([sample.labels for sample in samples])
        positive = _first_rows([len(b) for b in boxes], counts).to(labels.device, non_blocking=True)
        labels_positive = labels[positive]
        matched = [
            Matched(sample.boxes[:n], sample.truth[:n], target, size)
            for sample, n, target, size in zip(samples, counts, targets, image_sizes, strict=True)
        ]

        logits, offsets = self._classify(pyramid, boxes)
        box_loss = _box_loss(offsets[positive, labels_positive], matched) / (labels >= 0).sum()
        losses = {
            "loss_classifier": F.cross_entropy(logits, labels, ignore_index=-1),
            "loss_box_reg": box_loss,
        }
        if self.mask_head is not None and len(positive):
            losses["loss_mask"] = self._mask_loss(pyramid, matched, labels_positive)
        elif self.mask_head is not None:
            losses["loss_mask"] = self._no_mask_loss(pyramid, boxes)
        return losses

    @torch.no_grad()
    def _sample(self, proposals: Tensor, target: dict[str, Tensor]) -> Sample:
        truth = target["boxes"]
        proposals = torch.cat((proposals, truth))
        index, state = match(truth, proposals, low=self.fg_iou, high=self.fg_iou)
        positives = int(self.rois_per_image * self.positive_fraction)
        rows, valid, count = sample_balanced(state, self.rois_per_image, positives)
        index = index[rows]
        labels = target["labels"][index] if len(truth) else torch.zeros_like(index)
        labels = torch.where(state[rows] > 0, labels, 0)
        return Sample(proposals[rows], torch.where(valid, labels, -1), index, count)

    def _classify(self, pyramid: Pyramid, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        features = pyramid.pool(boxes, self.levels, BOX_POOL)
        if self.training and self.box_dropout:
            seen = F.dropout2d(features, self.box_dropout)
            features = F.dropout(self.box_head(seen), self.box_dropout)
        else:
            features = self.box_head(features)
        logits, offsets = self.box_predictor(features)
        return logits.float(), offsets.float().view(len(offsets), offsets.shape[1] // 4, 4)

    def _mask_logits(self, pyramid: Pyramid, boxes: list[Tensor], labels: Tensor) -> Tensor:
        """Each region's mask logits for its own class: f32[R,28,28]."""
        features = pyramid.pool(boxes, self.levels, MASK_POOL)
        logits = self.mask_predictor(self.mask_head(features))
        return logits[torch.arange(len(logits), device=logits.device), labels].float()

    def _mask_loss(self, pyramid: Pyramid, matched: list[Matched], labels: Tensor) -> Tensor:
        wanted = [
            mask_targets(m.target["masks"], m.target["mask_origin"], m.boxes, m.truth, m.image_size)
            for m in matched
            if len(m.boxes)
        ]
        logits = self._mask_logits(pyramid, [m.boxes for m in matched], labels)
        return F.binary_cross_entropy_with_logits(logits, torch.cat(wanted))

    def _no_mask_loss(self, pyramid: Pyramid, boxes: list[Tensor]) -> Tensor:
        """A mask loss of 0 for a batch without garments.

        It runs the mask head on a background region with weight 0, since DDP waits for the gradient
        of every parameter and batch norm in the mask head fails on an empty batch.
        """
        region = [b[: int(i == 0)] for i, b in enumerate(boxes)]
        return (
            self._mask_logits(pyramid, region, region[0].new_zeros(len(region[0])).long()).sum() * 0
        )

    def detect(
        self,
        pyramid: Pyramid,
        proposals: list[Tensor],
        image_sizes: list[tuple[int, int]],
        mirrored: Pyramid | None = None,
    ) -> list[dict[str, Tensor]]:
        """The detections of each image as ``Detector.forward`` returns them, best score first.

        With ``mirrored``, the pyramid of the mirrored images, the boxes, scores and masks of every
        proposal are averaged over both.
        """
        widths = [width for _, width in image_sizes]
        predicted = self._predict(pyramid, proposals)
        if mirrored:
            again = self._predict(mirrored, list(map(mirror_boxes, proposals, widths)))
            predicted = [
                ((boxes + mirror_boxes(other_boxes, width)) / 2, (scores + other_scores) / 2)
                for (boxes, scores), (other_boxes, other_scores), width in zip(
                    predicted, again, widths, strict=True
                )
            ]
        results = [self._select(*p, size) for p, size in zip(predicted, image_sizes, strict=True)]
        if self.mask_head is not None:
            regions = [r["boxes"] for r in results]
            labels = torch.cat([r["labels"] for r in results])
            masks = self._masks(pyramid, regions, labels)
            if mirrored:
                flipped = list(map(mirror_boxes, regions, widths))
                masks = (masks + self._masks(mirrored, flipped, labels).flip(-1)) / 2
            parts = masks.half().split([len(r) for r in regions])
            for result, part in zip(results, parts, strict=True):
                result["roi_masks"] = part
        return results

    def _masks(self, pyramid: Pyramid, regions: list[Tensor], labels: Tensor) -> Tensor:
        """Mask probabilities, aligned with the regions (see MASK_SHIFT): f32[R,28,28]."""
        shifted = [region - MASK_SHIFT for region in regions]
        return self._mask_logits(pyramid, shifted, labels).sigmoid()

    def _predict(self, pyramid: Pyramid, proposals: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """For each image, from its proposals f32[P,4]: boxes f32[P,1+C,4], scores f32[P,1+C]."""
        logits, offsets = self._classify(pyramid, proposals)
        sizes = [len(p) for p in proposals]
        boxes = decode_boxes(offsets, torch.cat(proposals)[:, None], BOX_WEIGHTS)
        return list(zip(boxes.split(sizes), logits.softmax(-1).split(sizes), strict=True))

    def _select(
        self, boxes: Tensor, scores: Tensor, image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """The best of one image's boxes [P,1+C,4] by scores [P,1+C]; class 0 is the background."""
        boxes = clip_boxes_to_image(boxes, image_size)
        kept = (scores > self.score_threshold) & (boxes[..., 2:] - boxes[..., :2]).gt(
            self.min_side
        ).all(-1)
        kept[:, 0] = False
        rows, labels = kept.nonzero(as_tuple=True)
        boxes, probabilities, scores = boxes[rows, labels], scores[rows, 1:], scores[rows, labels]
        kept = batched_nms(boxes, scores, labels, self.nms_threshold)
        kept = kept[: self.detections_per_image]
        return {
            "boxes": boxes[kept],
            "scores": scores[kept],
            "labels": labels[kept],
            "probabilities": probabilities[kept],
        }


def mask_targets(
    crops: Tensor, origins: Tensor, regions: Tensor, index: Tensor, image_size: tuple[int, int]
) -> Tensor:
    """Sample 28x28 targets for regions from box-cropped masks: f32[R,28,28] in [0,1].

    The result equals sampling from full-size masks: the crops have one pixel of context on each
    side, which is enough for bilinear interpolation. Beyond the image's right and bottom borders
    RoIAlign repeats the last pixel of a full-size mask, while a crop has zero padding there, so
    that pixel is repeated once, which is enough for regions inside the image.

    Args:
        crops: u8[N,h,w], padded to the largest.
        origins: i64[N,2], (x, y) of each crop's first pixel in the image.
        regions: f32[R,4] xyxy pixels, inside the image.
        index: i64[R] into the crops.
        image_size: (height, width).
    """
    count, height, width = crops.shape
    masks = regions.new_zeros(count, 1, height + 1, width + 1)
    masks[:, 0, :height, :width] = crops
    every = torch.arange(count, device=crops.device)
    right = (image_size[1] - origins[:, 0]).clamp(max=width)
    masks[every, 0, :, right] = masks[every, 0, :, right - 1]
    bottom = (image_size[0] - origins[:, 1]).clamp(max=height)
    masks[every, 0, bottom] = masks[every, 0, bottom - 1]
    shifted = regions - origins[index].repeat(1, 2)
    rois = torch.cat((index[:, None].to(shifted), shifted), 1)
    return roi_align(masks, rois, MASK_SIZE, 1.0)[:, 0]


def _first_rows(lengths: list[int], counts: list[int]) -> Tensor:
    """Row indices i64 of the first ``counts[i]`` rows of each of several concatenated parts."""
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    return torch.cat([torch.arange(a, a + n) for a, n in zip(starts, counts, strict=True)])


def _box_loss(offsets: Tensor, matched: list[Matched]) -> Tensor:
    """Summed smooth L1 loss of the positives' offsets f32[P,4]."""
    truth = torch.cat([m.target["boxes"][m.truth] for m in matched])
    wanted = encode_boxes(truth, torch.cat([m.boxes for m in matched]), BOX_WEIGHTS)
    return F.smooth_l1_loss(offsets, wanted, beta=SMOOTH_L1_BETA, reduction="sum")
