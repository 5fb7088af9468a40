"""Detects the large garments of a close-up in the photo at half its size.

A detector trained on whole persons overlooks what fills a photo: the jacket in a portrait, whose
details are as large as the bags and shoes that it has learned. At half the size that jacket is as
large as others were in training. So in a close-up each garment is taken from the size of the photo
that suits it, as in Singh and Davis 2018, "An analysis of scale invariance in object detection -
SNIP". Other photos gain nothing from that, and their outlines would become coarser.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

LIKELY = 0.5  # score in the half of a garment that makes the photo a close-up
SAME = 0.5  # box IoU above which two detections of one category are one, at both sides of the limit


def half_size(image: Tensor) -> Tensor:
    """u8[3,H,W] -> u8[3,ceil(H/2),ceil(W/2)], the means of 2x2 pixels."""
    mean = F.avg_pool2d(image[None].float(), 2, ceil_mode=True, count_include_pad=False)
    return mean[0].round().to(torch.uint8)


def combine(
    whole: dict[str, Tensor], half: dict[str, Tensor], size: tuple[int, int], close_up: float
) -> dict[str, Tensor]:
    """The garments of ``whole``; in a close-up the large ones of ``half`` in place of its own.

    A garment's size is the square root of its box's area as a share of the photo's short side.

    Args:
        whole: a detector's output for a photo (``engine.detection.detector.Detector.forward``).
        half: its output for the ``half_size`` of that photo.
        size: (height, width) of the photo.
        close_up: the photo is a close-up if ``half`` has a likely garment of at least this size;
            then garments are large from half of this size on.

    Returns:
        The same tensors, in pixels of the photo, best score first.
    """
    half = half | {"boxes": clip_boxes_to_image(half["boxes"] * 2, size)}
    sizes = _sizes(half, size)
    if not ((sizes >= close_up) & (half["scores"] >= LIKELY)).any():
        return whole
    small = torch.nonzero(_sizes(whole, size) < close_up / 2).flatten()
    large = torch.nonzero(sizes >= close_up / 2).flatten()
    joined = {name: torch.cat([whole[name][small], half[name][large]]) for name in whole}
    kept = batched_nms(joined["boxes"], joined["scores"], joined["labels"], SAME)
    return {name: values[kept] for name, values in joined.items()}


def _sizes(output: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
    boxes = output["boxes"]
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt() / min(size)
