"""The detector as one graph of tensor operations, which ONNX can hold: one photo of any size.

Same arithmetic as ``engine.detection.detector.Detector``, arranged for a graph without Python:

* The photo is padded by the caller; its own size is an input, too.
* How many proposals there are does not depend on what they say; those that are none get a score of
  nothing.
* Regions are pooled by one RoIAlign from one picture in which all maps lie below each other.
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

NOTHING = -1e9  # score of a proposal that there is not
EDGE = 2  # rows and columns by which each map goes on past its end, as the sampler does

Picture = tuple[Tensor, Tensor]  # of ``DetectorGraph._picture``


class DetectorGraph(nn.Module):
    """Padded photo -> its garments.

    Args:
        detector: in evaluation mode.
        mirror: average what is seen in the photo and in its mirror image.
    """

    def __init__(self, detector: Detector, *, mirror: bool = False) -> None:
        super().__init__()
        self.detector, self.mirror = detector, mirror
        pooled = detector.backbone.strides[: detector.roi_heads.levels]
        self.register_buffer("strides", torch.tensor([float(stride) for stride in pooled]))

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            image: u8[3,H,W] RGB, H and W multiples of 32, the photo at the top left; what is right
                of and below it has no influence.
            size: i64[2], height and width of the photo.

        Returns:
            boxes f32[D,4] xyxy px, scores f32[D] in descending order, labels i64[D] from 1,
            probabilities f32[D,C], and with a mask head roi_masks f32[D,28,28]. D may be 0.
        """
        limit = size.flip(0).repeat(2).float()
        maps = self.detector.backbone(self._normalized(image, size))
        proposals, real = self._proposals(maps, limit)
        pictures = [self._picture(maps)]
        if self.mirror:
            mirrored = self._normalized(_mirrored(image, size[1]), size)
            pictures.append(self._picture(self.detector.backbone(mirrored)))
        found = self._detections(pictures, proposals, real, limit)
        if self.detector.roi_heads.mask_head is None:
            return found
        boxes, _, labels, _ = found
        masks = self._masks(pictures[0], boxes, labels)
        if self.mirror:
            again = self._masks(pictures[1], mirror_boxes(boxes, limit[0]), labels)
            masks = (masks + again.flip(2)) / 2
        return *found, masks

    def _normalized(self, image: Tensor, size: Tensor) -> Tensor:
        y, x = (torch.arange(side, device=image.device) for side in image.shape[1:])
        inside = (y < size[0])[:, None] & (x < size[1])
        pixels = (image.float() - self.detector.pixel_mean) / self.detector.pixel_std
        return torch.where(inside, pixels, 0.0)[None]

    def _proposals(self, maps: list[Tensor], limit: Tensor) -> tuple[Tensor, Tensor]:
        """f32[R,4], best first, and bool[R]: which of them there are."""
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

    def _picture(self, maps: list[Tensor]) -> Picture:
        """The maps below each other, each with its edge repeated.

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

    def _pool(self, picture: Picture, boxes: Tensor, bins: int) -> Tensor:
        """RoIAlign of boxes f32[R,4] on the level of their size: f32[R,C,bins,bins]."""
        maps, first_row = picture
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
        self, pictures: list[Picture], proposals: Tensor, real: Tensor, limit: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes, scores, labels and probabilities."""
        heads = self.detector.roi_heads
        boxes, scores = self._predict(pictures[0], proposals)
        if self.mirror:
            again, other_scores = self._predict(pictures[1], mirror_boxes(proposals, limit[0]))
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

    def _predict(self, picture: Picture, proposals: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes f32[R,1+C,4] and scores f32[R,1+C] of proposals f32[R,4]."""
        heads = self.detector.roi_heads
        features = heads.box_head(self._pool(picture, proposals, BOX_POOL))
        logits, offsets = heads.box_predictor(features)
        offsets = offsets.view(len(offsets), -1, 4)
        return decode_boxes(offsets, proposals[:, None], BOX_WEIGHTS), logits.softmax(1)

    def _masks(self, picture: Picture, boxes: Tensor, labels: Tensor) -> Tensor:
        heads = self.detector.roi_heads
        # One region more, taken off again: runtimes stumble over convolutions of nothing.
        boxes = torch.cat((boxes, boxes.new_tensor([[0.0, 0.0, 32.0, 32.0]])))
        labels = torch.cat((labels, labels.new_zeros(1)))
        logits = heads.mask_predictor(
            heads.mask_head(self._pool(picture, boxes - MASK_SHIFT, MASK_POOL))
        )
        chosen = logits.gather(1, labels[:, None, None, None].expand(-1, 1, *logits.shape[2:]))
        return chosen[:-1, 0].sigmoid()


def _mirrored(image: Tensor, width: Tensor) -> Tensor:
    """The photo at the left of u8[3,H,W] mirrored where it lies."""
    x = torch.arange(image.shape[2], device=image.device)
    return image.index_select(2, torch.where(x < width, width - 1 - x, x))


def _apart(boxes: Tensor, group: Tensor, limit: Tensor) -> Tensor:
    """Boxes, none beyond the limit, moved so far that those of different groups cannot overlap."""
    return boxes + (group * (limit.max() + 1))[:, None]
