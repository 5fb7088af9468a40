"""The region heads: class, box and mask of each proposal.

Masks never exist at the size of the photo: training samples its 28x28 targets from box-sized crops,
inference returns 28x28 probabilities for the caller to paste where a picture or an RLE is written.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, clip_boxes_to_image, nms, roi_align

from engine.boxes import decode_boxes, encode_boxes, match, sample_balanced
from engine.rpn import SMOOTH_L1_BETA

BOX_WEIGHTS = (10.0, 5.0)
BOX_POOL, MASK_POOL, MASK_SIZE = 7, 14, 28


class RegionHeads(nn.Module):
    """Box head on every proposal, mask head on the garments among them."""

    fg_iou = 0.5
    positive_fraction = 0.25
    min_side = 1e-2

    def __init__(
        self,
        *,
        strides: tuple[int, ...],
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_head: nn.Module | None,
        mask_predictor: nn.Module | None,
        rois_per_image: int,
        score_threshold: float,
        nms_threshold: float,
        cross_class_nms: float | None,
        detections_per_image: int,
    ) -> None:
        """
        Args:
            strides: pixels per cell of the maps that regions are pooled from.
            box_head, box_predictor: [R,256,7,7] -> [R,F] -> (class logits [R,1+C], offsets
                [R,4*(1+C)]).
            mask_head, mask_predictor: [R,256,14,14] -> same -> logits [R,1+C,28,28], or None.
            rois_per_image: proposals sampled from each image in training.
            score_threshold, nms_threshold, cross_class_nms, detections_per_image: see
                ``engine.detector.build_detector``.
        """
        super().__init__()
        self.strides = strides
        self.box_head, self.box_predictor = box_head, box_predictor
        self.mask_head, self.mask_predictor = mask_head, mask_predictor
        self.rois_per_image = rois_per_image
        self.score_threshold, self.nms_threshold = score_threshold, nms_threshold
        self.cross_class_nms, self.detections_per_image = cross_class_nms, detections_per_image

    def losses(
        self,
        maps: list[Tensor],
        proposals: list[Tensor],
        image_sizes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Losses of a random balanced sample of the proposals (f32[P,4] of each image)."""
        samples = [self._sample(p, t) for p, t in zip(proposals, targets, strict=True)]
        boxes, labels, truth_index, counts = zip(*samples, strict=True)
        # The step's one wait for the accelerator outside the suppression.
        counts = torch.stack(counts).tolist()
        logits, offsets = self._classify(maps, list(boxes))
        all_labels = torch.cat(labels)
        positive = _first_rows([len(b) for b in boxes], counts, all_labels.device)
        losses = {
            "loss_classifier": F.cross_entropy(logits, all_labels, ignore_index=-1),
            "loss_box_reg": _box_loss(
                offsets, boxes, all_labels, truth_index, counts, positive, targets
            ),
        }
        if self.mask_head is not None:
            losses["loss_mask"] = self._mask_loss(
                maps, boxes, all_labels[positive], truth_index, counts, image_sizes, targets
            )
        return losses

    @torch.no_grad()
    def _sample(
        self, proposals: Tensor, target: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes, labels (0 background, -1 unused slot), true-box indices and positives' count."""
        truth = target["boxes"]
        proposals = torch.cat((proposals, truth))
        index, verdict = match(truth, proposals, low=self.fg_iou, high=self.fg_iou)
        positives = int(self.rois_per_image * self.positive_fraction)
        rows, valid, count = sample_balanced(verdict, self.rois_per_image, positives)
        index = index[rows]
        labels = target["labels"][index] if len(truth) else torch.zeros_like(index)
        labels = torch.where(verdict[rows] > 0, labels, 0)
        return proposals[rows], torch.where(valid, labels, -1), index, count

    def _classify(self, maps: list[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        features = pool_regions(maps, self.strides, boxes, BOX_POOL)
        logits, offsets = self.box_predictor(self.box_head(features))
        return logits.float(), offsets.float().view(len(offsets), -1, 4)

    def _mask_logits(self, maps: list[Tensor], boxes: list[Tensor], labels: Tensor) -> Tensor:
        """f32[R,28,28]: each region's logits for its own class."""
        features = pool_regions(maps, self.strides, boxes, MASK_POOL)
        logits = self.mask_predictor(self.mask_head(features))
        return logits[torch.arange(len(logits), device=logits.device), labels].float()

    def _mask_loss(
        self,
        maps: list[Tensor],
        boxes: tuple[Tensor, ...],
        labels: Tensor,
        truth_index: tuple[Tensor, ...],
        counts: list[int],
        image_sizes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> Tensor:
        if sum(counts) == 0:
            # A background region with weight 0 keeps every parameter in the graph (DDP waits for
            # their gradients) and the batch norms of the mask head away from empty input.
            regions = [b[: int(i == 0)] for i, b in enumerate(boxes)]
            rows = sum(len(region) for region in regions)
            return self._mask_logits(maps, regions, labels.new_zeros(rows)).sum() * 0
        regions = [b[:n] for b, n in zip(boxes, counts, strict=True)]
        wanted = [
            mask_targets(t["masks"], t["mask_origin"], region, i[:n], size)
            for t, region, i, n, size in zip(
                targets, regions, truth_index, counts, image_sizes, strict=True
            )
            if n
        ]
        logits = self._mask_logits(maps, regions, labels)
        return F.binary_cross_entropy_with_logits(logits, torch.cat(wanted))

    def detect(
        self, maps: list[Tensor], proposals: list[Tensor], image_sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Per image ``boxes``, ``scores``, ``labels`` and ``roi_masks``, best score first."""
        logits, offsets = self._classify(maps, proposals)
        sizes = [len(p) for p in proposals]
        boxes = decode_boxes(offsets, torch.cat(proposals)[:, None], BOX_WEIGHTS)
        per_image = zip(
            boxes.split(sizes), logits.softmax(-1).split(sizes), image_sizes, strict=True
        )
        results = [self._select(*image) for image in per_image]
        if self.mask_head is not None:
            regions = [r["boxes"] for r in results]
            labels = torch.cat([r["labels"] for r in results])
            masks = self._mask_logits(maps, regions, labels).sigmoid().half()
            for result, part in zip(results, masks.split([len(r) for r in regions]), strict=True):
                result["roi_masks"] = part
        return results

    def _select(
        self, boxes: Tensor, scores: Tensor, image_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Keep the best of boxes [P,1+C,4] with scores [P,1+C]; class 0 is the background."""
        boxes = clip_boxes_to_image(boxes, image_size)
        kept = (scores > self.score_threshold) & (boxes[..., 2:] - boxes[..., :2]).gt(
            self.min_side
        ).all(-1)
        kept[:, 0] = False
        rows, labels = kept.nonzero(as_tuple=True)
        boxes, scores = boxes[rows, labels], scores[rows, labels]
        kept = batched_nms(boxes, scores, labels, self.nms_threshold)
        if self.cross_class_nms is not None:
            kept = kept[nms(boxes[kept], scores[kept], self.cross_class_nms)]
        kept = kept[: self.detections_per_image]
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def pool_regions(
    maps: list[Tensor], strides: tuple[int, ...], boxes: list[Tensor], size: int
) -> Tensor:
    """RoIAlign with each region on the pyramid level of its size: [R,C,size,size].

    Level by equation 1 of Feature Pyramid Networks (Lin et al., 2017): a region of 224 x 224 px
    belongs to stride 16.

    Args:
        maps: [B,C,H/s,W/s] for each of ``strides``; further maps are not used.
        boxes: f32[R_i,4] of each of the B images.
    """
    flat = torch.cat(boxes)
    image = torch.cat([torch.full_like(b[:, :1], i) for i, b in enumerate(boxes)])
    regions = torch.cat((image, flat), 1)
    area = (flat[:, 2:] - flat[:, :2]).prod(1)
    stride = 2 ** (4 + (area.sqrt() / 224).log2() + 1e-6).floor()
    stride = stride.clamp(strides[0], strides[-1])
    pooled = regions.new_zeros(len(regions), maps[0].shape[1], size, size, dtype=maps[0].dtype)
    for level, s in zip(maps, strides, strict=False):
        rows = (stride == s).nonzero().squeeze(1)
        pooled[rows] = roi_align(level, regions[rows].to(level.dtype), size, 1 / s, 2)
    return pooled


def mask_targets(
    crops: Tensor, origins: Tensor, regions: Tensor, index: Tensor, image_size: tuple[int, int]
) -> Tensor:
    """Sample 28x28 targets for regions from box-cropped masks: f32[R,28,28] in [0,1].

    Equal to sampling from the full-size masks: the crops hold a pixel of context on each side, so
    everything that interpolation can touch is there. Only the image's right and bottom border is
    special: beyond it the sampler repeats the last pixel, while a crop goes on with its padding.
    Hence that pixel is repeated here once, which is as far as a region inside the image can reach.

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


def _first_rows(lengths: list[int], counts: list[int], device: torch.device) -> Tensor:
    """Indices of the first ``counts[i]`` rows of each of several concatenated parts."""
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    rows = [torch.arange(a, a + n) for a, n in zip(starts, counts, strict=True)]
    return torch.cat(rows).to(device, non_blocking=True)


def _box_loss(
    offsets: Tensor,
    boxes: tuple[Tensor, ...],
    labels: Tensor,
    truth_index: tuple[Tensor, ...],
    counts: list[int],
    positive: Tensor,
    targets: list[dict[str, Tensor]],
) -> Tensor:
    """Smooth L1 of the positives' offsets, over the number of all sampled regions."""
    regions = torch.cat([b[:n] for b, n in zip(boxes, counts, strict=True)])
    truth = [t["boxes"][i[:n]] for t, i, n in zip(targets, truth_index, counts, strict=True) if n]
    truth = torch.cat(truth) if truth else regions
    wanted = encode_boxes(truth, regions, BOX_WEIGHTS)
    given = offsets[positive, labels[positive]]
    loss = F.smooth_l1_loss(given, wanted, beta=SMOOTH_L1_BETA, reduction="sum")
    return loss / (labels >= 0).sum()
