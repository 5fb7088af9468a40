"""Compares an exported model's outputs with the original's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from engine.description.multitask import Multitask
from engine.onnx_runtime import OnnxDetector, OnnxMultitask
from engine.wording import counted

# Detections with lower scores are not compared: rounding may add or remove them, and the graph
# pools regions less than a cell wide at the photo's right and bottom border slightly differently.
MIN_SCORE = 0.1
SAME_IOU = 0.9
CROPS = 16  # per pass; each takes about 27 MiB in a ResNet-50


@dataclass
class Differences:
    """The largest differences over all photos, of garments that score above MIN_SCORE.

    Attributes:
        garments: how many the original detects, at any score.
        lost: garments that only one of the two models detects.
        box_px, score, mask: of garments that both detect; mask in probability.
        cosine: the smallest between two vectors of one aspect (1 without any).
        probability: of any label or category.
    """

    garments: int = 0
    lost: int = 0
    box_px: float = 0.0
    score: float = 0.0
    mask: float = 0.0
    cosine: float = 1.0
    probability: float = 0.0

    @property
    def acceptable(self) -> bool:
        """Whether the differences are no larger than rounding explains."""
        boxes = self.lost == 0 and self.box_px < 0.5 and self.score < 0.005 and self.mask < 0.02
        return boxes and self.cosine > 0.9999 and self.probability < 0.005


@torch.inference_mode()
def compare_detectors(
    original: Callable[[list[Tensor]], list[dict]], exported: OnnxDetector, photos: Sequence[Tensor]
) -> Differences:
    """Run photos u8[3,H,W] through both."""
    found = Differences()
    for photo in photos:
        compare_garments(found, original([photo])[0], exported([photo])[0])
    return found


def compare_garments(found: Differences, mine: dict, theirs: dict) -> None:
    """Add one photo's differences to ``found``.

    Detections of both models are the same garment if labels agree and boxes overlap by SAME_IOU.
    """
    found.garments += len(mine["boxes"])
    overlap = box_iou(mine["boxes"], theirs["boxes"])
    overlap *= mine["labels"][:, None] == theirs["labels"]
    pairs = overlap >= SAME_IOU
    found.lost += int(((mine["scores"] > MIN_SCORE) & ~pairs.any(1)).sum())
    found.lost += int(((theirs["scores"] > MIN_SCORE) & ~pairs.any(0)).sum())
    rows = (pairs.any(1) & (mine["scores"] > MIN_SCORE)).nonzero()[:, 0]
    if not len(rows):
        return
    columns = overlap[rows].argmax(1)
    found.box_px = max(found.box_px, _largest(mine["boxes"][rows], theirs["boxes"][columns]))
    found.score = max(found.score, _largest(mine["scores"][rows], theirs["scores"][columns]))
    shares = (mine["probabilities"][rows], theirs["probabilities"][columns])
    found.probability = max(found.probability, _largest(*shares))
    if "roi_masks" in mine:
        masks = mine["roi_masks"][rows].float(), theirs["roi_masks"][columns].float()
        found.mask = max(found.mask, _largest(*masks))


@torch.inference_mode()
def compare_multitask(
    original: Multitask, exported: OnnxMultitask, crops: Tensor, masks: Tensor
) -> Differences:
    """Run crops u8[B,3,S,S] with masks u8[B,S,S] through both, CROPS at a time."""
    found = Differences()
    for images, outlines in zip(crops.split(CROPS), masks.split(CROPS), strict=True):
        mine, theirs = original.describe(images, outlines), exported.describe(images, outlines)
        for name, vectors in mine["aspects"].items():
            cosine = (vectors * theirs["aspects"][name]).sum(1)
            found.cosine = min(found.cosine, float(cosine.min()))
        for group in original.groups:
            both = mine["logits"][group.name], theirs["logits"][group.name]
            shares = [x.softmax(1) if group.exclusive else x.sigmoid() for x in both]
            found.probability = max(found.probability, _largest(*shares))
        if "boxes" in mine:
            scale = max(crops.shape[-2:])
            found.box_px = max(found.box_px, _largest(mine["boxes"], theirs["boxes"]) * scale)
    return found


def _largest(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def sentence(found: Differences, kind: str) -> str:
    """The differences as text."""
    if kind == "multitask":
        boxes = f", boxes within {found.box_px:.2g} px" if found.box_px else ""
        return (
            f"vectors: cosine at least {found.cosine:.7f}; labels' probabilities within "
            f"{found.probability:.2g}{boxes}"
        )
    return (
        f"{counted(found.garments, 'garment')}; of those with a score above {MIN_SCORE:g} boxes "
        f"agree within {found.box_px:.2g} px, scores within {found.score:.2g}, masks within "
        f"{found.mask:.2g}; {found.lost} are detected by only one of the models"
    )


def as_plain(found: Differences) -> dict[str, Any]:
    """For a JSON report."""
    return vars(found) | {"acceptable": found.acceptable}
