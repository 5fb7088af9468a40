"""The detector as one graph of tensor operations for ONNX, for one photo of any size.

The same arithmetic as ``engine.detection.detector.Detector``, without Python control flow:

* The caller pads the photo; its own size is a second input.
* The number of proposals does not depend on their scores: discarded ones stay, with the score
  NOTHING.
* One RoIAlign pools all regions from one atlas, in which all feature maps are stacked vertically.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from engine.detection.boxes import decode_boxes, mirror_boxes
from engine.detection.detector import Detector
from engine.detection.pyramid import SAMPLES
from engine.detection.roi_heads import BOX_POOL, BOX_WEIGHTS, MASK_POOL, MASK_SHIFT
from engine.detection.rpn import UNIT_WEIGHTS

NOTHING = -1e9  # score of a discarded proposal
EDGE = 2  # rows and columns that repeat each map's edge, because RoIAlign clamps samples to it

Atlas = tuple[Tensor, Tensor]  # of ``DetectorGraph._atlas``


class DetectorGraph(nn.Module):
    """Padded photo -> its garments.

    Args:
        detector: in evaluation mode.
        mirror: average the results of the photo and its mirror image.
    """

    def __init__(self, detector: Detector, *, mirror: bool = False) -> None:
        super().__init__()
        self.detector, self.mirror = detector, mirror
        pooled = detector.backbone.strides[: detector.roi_heads.levels]
        self.register_buffer("strides", torch.tensor([float(stride) for stride in pooled]))

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            image: u8[3,H,W] RGB, H and W multiples of 32, the photo at the top left; the padding's
                content has no influence.
            size: i64[2], height and width of the photo.

        Returns:
            boxes f32[D,4] xyxy px, scores f32[D] in descending order, labels i64[D] from 1,
            probabilities f32[D,C], and with a mask head roi_masks f32[D,28,28]. D may be 0.
        """
        limit = size.flip(0).repeat(2).float()
        maps = self.detector.backbone(self._normalized(image, size))
        proposals, real = self._proposals(maps, limit)
        atlases = [self._atlas(maps)]
        if self.mirror:
            mirrored = self._normalized(_mirrored(image, size[1]), size)
            atlases.append(self._atlas(self.detector.backbone(mirrored)))
        found = self._detections(atlases, proposals, real, limit)
        if self.detector.roi_heads.mask_head is None:
            return found
        boxes, _, labels, _ = found
        masks = self._masks(atlases[0], boxes, labels)
        if self.mirror:
            again = self._masks(atlases[1], mirror_boxes(boxes, limit[0]), labels)
            masks = (masks + again.flip(2)) / 2
        return *found, masks

    def _normalized(self, image: Tensor, size: Tensor) -> Tensor:
        y, x = (torch.arange(side, device=image.device) for side in image.shape[1:])
        inside = (y < size[0])[:, None] & (x < size[1])
        pixels = (image.float() - self.detector.pixel_mean) / self.detector.pixel_std
        return torch.where(inside, pixels, 0.0)[None]

    def _proposals(self, maps: list[Tensor], limit: Tensor) -> tuple[Tensor, Tensor]:
        """Proposals f32[R,4], best first, and bool[R], False for discarded ones."""
        rpn = self.detector.rpn
        logits, offsets = rpn.head(maps)
        scores, boxes, levels = [], [], []
        for level, (logit, offset) in enumerate(zip(logits, offsets, strict=True)):
            anchors = rpn._anchors(level, logit.shape[2:])
            score = logit[0].permute(1, 2, 0).flatten()
            offset = offset[0].permute(1, 2, 0).reshape(-1, 4)
            score, index = score.topk(torch.sym_min(rpn.kept_inference, score.shape[0]))
            scores.append(score)
            boxes.append(decode_boxes(offset[index], anchors[index], UNIT_WEIGHTS))
            levels.append(torch.full_like(score, float(level)))
        score, box = torch.cat(scores), torch.minimum(torch.cat(boxes).clamp(min=0), limit)
        real = (box[:, 2:] - box[:, :2] >= rpn.min_side).all(1)
        score = torch.where(real, score, NOTHING)
        kept = nms(_apart(box, torch.cat(levels), limit), score, rpn.nms_iou)
        score = torch.full_like(score, NOTHING).index_put((kept,), score[kept])
        score, index = score.topk(torch.sym_min(rpn.kept_inference, score.shape[0]))
        return box[index], score > NOTHING

    def _atlas(self, maps: list[Tensor]) -> Atlas:
        """The maps stacked vertically, each with its edge repeated.

        Returns:
            (f32[1,C,sum of heights,W], f32[levels]: the row that each begins at).
        """
        width = maps[0].shape[3] + EDGE
        parts, first_row, rows = [], [], 0
        for features in maps[: self.detector.roi_heads.levels]:
            features = F.pad(features, (0, EDGE, 0, EDGE), mode="replicate")
            parts.append(F.pad(features, (0, width - features.shape[3], 0, 0)))
            first_row.append(torch.scalar_tensor(rows, device=features.device))
            rows = rows + features.shape[2]
        return torch.cat(parts, 2), torch.stack(first_row)

    def _pool(self, atlas: Atlas, boxes: Tensor, bins: int) -> Tensor:
        """RoIAlign of boxes f32[R,4] on the level of their size: f32[R,C,bins,bins]."""
        maps, first_row = atlas
        side = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
        stride = 2 ** (4 + (side / 224).log2() + 1e-6).floor()
        level = (stride[:, None] >= self.strides[1:]).sum(1)
        down = first_row[level]
        nowhere = torch.zeros_like(down)
        shift = torch.stack((nowhere, down, nowhere, down), 1)
        placed = boxes / self.strides[level][:, None] + shift
        regions = torch.cat((nowhere[:, None], placed), 1)
        return roi_align(maps, regions, bins, 1.0, SAMPLES, aligned=False)

    def _detections(
        self, atlases: list[Atlas], proposals: Tensor, real: Tensor, limit: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes, scores, labels and probabilities."""
        heads = self.detector.roi_heads
        boxes, scores = self._predict(atlases[0], proposals)
        if self.mirror:
            again, other_scores = self._predict(atlases[1], mirror_boxes(proposals, limit[0]))
            boxes = (boxes + mirror_boxes(again, limit[0])) / 2
            scores = (scores + other_scores) / 2
        boxes = torch.minimum(boxes.clamp(min=0), limit)[:, 1:]
        scores = scores[:, 1:]  # without the background
        large = (boxes[..., 2:] - boxes[..., :2] > heads.min_side).all(-1)
        rows, labels = ((scores > heads.score_threshold) & large & real[:, None]).nonzero(
            as_tuple=True
        )
        boxes, probabilities, scores = boxes[rows, labels], scores[rows], scores[rows, labels]
        kept = nms(_apart(boxes, labels.float(), limit), scores, heads.nms_threshold)
        few = torch.arange(kept.shape[0], device=kept.device) < heads.detections_per_image
        kept = kept[few]
        return boxes[kept], scores[kept], labels[kept] + 1, probabilities[kept]

    def _predict(self, atlas: Atlas, proposals: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes f32[R,1+C,4] and scores f32[R,1+C] of proposals f32[R,4]."""
        heads = self.detector.roi_heads
        features = heads.box_head(self._pool(atlas, proposals, BOX_POOL))
        logits, offsets = heads.box_predictor(features)
        offsets = offsets.view(len(offsets), -1, 4)
        return decode_boxes(offsets, proposals[:, None], BOX_WEIGHTS), logits.softmax(1)

    def _masks(self, atlas: Atlas, boxes: Tensor, labels: Tensor) -> Tensor:
        heads = self.detector.roi_heads
        # One extra region, removed below: runtimes fail at convolutions of empty batches.
        boxes = torch.cat((boxes, boxes.new_tensor([[0.0, 0.0, 32.0, 32.0]])))
        labels = torch.cat((labels, labels.new_zeros(1)))
        logits = heads.mask_predictor(
            heads.mask_head(self._pool(atlas, boxes - MASK_SHIFT, MASK_POOL))
        )
        chosen = logits.gather(1, labels[:, None, None, None].expand(-1, 1, *logits.shape[2:]))
        return chosen[:-1, 0].sigmoid()


def _mirrored(image: Tensor, width: Tensor) -> Tensor:
    """u8[3,H,W] with its leftmost ``width`` columns, the photo, mirrored in place."""
    x = torch.arange(image.shape[2], device=image.device)
    return image.index_select(2, torch.where(x < width, width - 1 - x, x))


def _apart(boxes: Tensor, group: Tensor, limit: Tensor) -> Tensor:
    """Boxes within ``limit``, shifted by group so that boxes of different groups cannot overlap."""
    return boxes + (group * (limit.max() + 1))[:, None]
