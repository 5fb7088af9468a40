"""The garment detector: Mask R-CNN on a feature pyramid, built from torchvision's parts.

Photos already have their final size; the model only normalizes, pads and stacks them. In training
it returns the losses, in evaluation boxes with 28x28 masks.

Two architectures: "maskrcnn" is the classic one; "maskrcnn_v2" adds batch norm to pyramid and
heads, a deeper proposal head and a convolutional box head (torchvision's v2, twice the work). The
v2 norms are trained even with small batches, since they average over whole maps and hundreds of
regions; those of the pretrained body stay frozen.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from engine.backbones import PYRAMID_CHANNELS, Backbone, build_body, uses_channels_last
from engine.checkpoint import NoWeightInit, fill
from engine.detection.pyramid import Pyramid
from engine.detection.roi_heads import BOX_POOL, RegionHeads
from engine.detection.rpn import ProposalNetwork
from engine.errors import InputError
from engine.pretrained import load_weights

ARCHITECTURES = ("maskrcnn", "maskrcnn_v2")
PIXEL_MEAN = (123.675, 116.28, 103.53)  # ImageNet's, RGB, 0-255
PIXEL_STD = (58.395, 57.12, 57.375)
SIZE_DIVISOR = 32  # the coarsest stride of the body

Target = dict[str, Tensor]


class Detector(nn.Module):
    """Photos -> losses (training) or garments (evaluation)."""

    def __init__(
        self, arch: str, backbone: Backbone, rpn: ProposalNetwork, roi_heads: RegionHeads
    ) -> None:
        super().__init__()
        self.arch = arch
        self.backbone, self.rpn, self.roi_heads = backbone, rpn, roi_heads
        for name, values in (("pixel_mean", PIXEL_MEAN), ("pixel_std", PIXEL_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(
        self,
        images: list[Tensor],
        targets: list[Target] | None = None,
        *,
        mirror: bool = False,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """The losses in training, the detections in evaluation.

        Args:
            images: u8[3,H,W] RGB each, sizes may differ; on any device.
            targets: in training one dict per image: boxes f32[N,4] xyxy px with positive width
                and height, labels i64[N] 1..C, and for masks: masks u8[N,h,w] crops with
                mask_origin i64[N,2]. N may be 0.
            mirror: in evaluation, average the outputs for the photo and its mirror image.

        Returns:
            In training {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness",
            "loss_rpn_box_reg"}: scalars. In evaluation, per image, best first: boxes f32[N,4]
            xyxy px inside the image, scores f32[N], labels i64[N] 1..C, probabilities f32[N,C] of
            each category, and roi_masks f16[N,28,28], probabilities, if there is a mask head.
        """
        if not images:
            return []
        image_sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        maps, pyramid = self._pyramid(images)
        if not self.training:
            proposals, _ = self.rpn(maps, pyramid, image_sizes)
            mirrored = self._pyramid([image.flip(-1) for image in images])[1] if mirror else None
            return self.roi_heads.detect(pyramid, proposals, image_sizes, mirrored)
        proposals, losses = self.rpn(maps, pyramid, image_sizes, targets)
        return losses | self.roi_heads.losses(pyramid, proposals, image_sizes, targets)

    def _pyramid(self, images: list[Tensor]) -> tuple[list[Tensor], Pyramid]:
        maps = self.backbone(self._stack(images))
        return maps, Pyramid(maps, self.backbone.strides)

    def _stack(self, images: list[Tensor]) -> Tensor:
        """Normalize and pad, at the right and bottom with the mean color: f32[B,3,H,W]."""
        height, width = (
            math.ceil(max(image.shape[axis] for image in images) / SIZE_DIVISOR) * SIZE_DIVISOR
            for axis in (-2, -1)
        )
        batch = self.pixel_mean.new_zeros(len(images), 3, height, width)
        if uses_channels_last(self.backbone):
            batch = batch.to(memory_format=torch.channels_last)
        for slot, image in zip(batch, images, strict=True):
            region = slot[:, : image.shape[-2], : image.shape[-1]]
            # To the device first, since a converting copy would transfer four times the bytes.
            pixels = image.to(batch.device, non_blocking=True)
            region.copy_(pixels).sub_(self.pixel_mean).div_(self.pixel_std)
        return batch


def build_detector(
    *,
    num_classes: int,
    categories: Sequence[str] = (),
    arch: str = "maskrcnn",
    backbone: str = "resnet50",
    weights: str = "imagenet",
    load: bool = True,
    trainable_backbone_layers: int = 3,
    stride_in_1x1: bool = False,
    pyramid_channels: int = PYRAMID_CHANNELS,
    masks: bool = True,
    rois_per_image: int = 512,
    box_dropout: float = 0.0,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    detections_per_image: int = 100,
) -> Detector:
    """Build a detector and load its starting weights.

    Args:
        num_classes: number of categories, without the background.
        categories: their names; weights trained on other categories are carried over by name.
        arch: "maskrcnn" or "maskrcnn_v2".
        backbone: one of ``engine.backbones.BACKBONES``.
        weights: "imagenet" or "coco" (downloaded once by torchvision), "none", or a file: see
            ``engine.pretrained.load_weights``. With "none" the body gets real batch norm instead
            of frozen statistics.
        load: False leaves the same modules random, for a run that resumes.
        trainable_backbone_layers: number of trainable body stages, from the top (ResNet 0-5,
            MobileNet 0-6), with any weights.
        stride_in_1x1: body layout of the original ResNet (see ``engine.backbones.build_body``).
        pyramid_channels: depth of the pyramid, the proposal head and the mask head; the box head
            is four times as wide. Published weights have 256; with 128 the same body costs half
            the work.
        masks: False leaves the mask head out (Faster R-CNN).
        rois_per_image: proposals sampled per image in training.
        box_dropout: share of the box head's inputs and features zeroed in training.
        score_threshold: detections at or below it are dropped.
        nms_threshold: of two detections of one class with a larger IoU only the better stays.
        detections_per_image: largest number of detections per image.

    Raises:
        InputError: an unknown name, or weights that cannot be read or do not fit.
    """
    if arch not in ARCHITECTURES:
        raise InputError(f"architecture {arch}: choose one of {', '.join(ARCHITECTURES)}")
    v2 = arch == "maskrcnn_v2"
    norm = nn.BatchNorm2d if v2 else None
    body = build_body(
        backbone,
        trainable_layers=trainable_backbone_layers,
        frozen_norm=weights != "none",
        stride_in_1x1=stride_in_1x1,
    )
    channels = pyramid_channels
    extractor = Backbone(backbone, body, norm, channels)
    strides = extractor.strides
    rpn = ProposalNetwork(channels, strides, _anchor_sizes(len(strides)), 2 if v2 else 1)
    box_head, features = _box_head(v2, channels)
    heads = RegionHeads(
        levels=len(strides) - 1,
        box_head=box_head,
        box_predictor=FastRCNNPredictor(features, num_classes + 1),
        mask_head=MaskRCNNHeads(channels, [channels] * 4, 1, norm) if masks else None,
        mask_predictor=MaskRCNNPredictor(channels, channels, num_classes + 1) if masks else None,
        rois_per_image=rois_per_image,
        box_dropout=box_dropout,
        score_threshold=score_threshold,
        nms_threshold=nms_threshold,
        detections_per_image=detections_per_image,
    )
    detector = Detector(arch, extractor, rpn, heads)
    if load and weights != "none":
        load_weights(detector, weights, categories)
    return detector


def _anchor_sizes(levels: int) -> tuple[tuple[float, ...], ...]:
    """32 to 512 px: one size for each of five levels, two for each of four (MobileNet)."""
    if levels == 5:
        return ((32,), (64,), (128,), (256,), (512,))
    return ((32, 48), (71, 105), (156, 232), (345, 512))


def _box_head(v2: bool, channels: int) -> tuple[nn.Module, int]:
    """The box head and the number of its features."""
    shape, features = (channels, BOX_POOL, BOX_POOL), 4 * channels
    if v2:
        return FastRCNNConvFCHead(shape, [channels] * 4, [features], nn.BatchNorm2d), features
    return TwoMLPHead(math.prod(shape), features), features


def build_from_checkpoint(checkpoint: dict[str, Any]) -> Detector:
    """The detector of a checkpoint or weights file, ready for inference.

    It is in evaluation mode and channels-last layout (faster), with the averaged weights if there
    are any. Of the config, arch, backbone, pyramid_channels, masks and stride_in_1x1 are used.

    Raises:
        InputError: config, categories and weights contradict each other.
    """
    try:
        config, categories = checkpoint["config"], checkpoint["categories"]
        arch, backbone, masks = config["arch"], config["backbone"], config["masks"]
    except KeyError as error:
        raise InputError(f"the checkpoint lacks {error}: it does not hold a detector") from None
    with NoWeightInit():
        detector = build_detector(
            num_classes=len(categories),
            arch=arch,
            backbone=backbone,
            masks=masks,
            stride_in_1x1=config.get("stride_in_1x1", False),
            pyramid_channels=config.get("pyramid_channels", PYRAMID_CHANNELS),
            load=False,
        )
    fill(detector, checkpoint)
    return detector.eval().to(memory_format=torch.channels_last)
