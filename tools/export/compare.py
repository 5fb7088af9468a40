"""An exported model's answers against the original's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from engine.description.multitask import Multitask
from engine.onnx_runtime import OnnxDetector, OnnxMultitask
from engine.wording import counted

# A garment with a lower score may come and go with the score's last bit; and on the photo's right
# and bottom border the graph sees regions under a cell wide a little differently.
SURE = 0.1
SAME_IOU = 0.9
CROPS = 16  # each takes about 27 MiB on its way through a ResNet-50


@dataclass
class Differences:
    """The largest ones over all photos.

    Attributes:
        garments: of the original, all scores.
        lost: sure garments of either that the other does not have.
        box_px, score, mask: of sure garments that both have; mask in probability.
        cosine: the smallest between two vectors of one aspect (1 without any).
        probability: of any label, or of any category of a sure garment.
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
        """Whether nobody would notice: arithmetic in another order, nothing more."""
        boxes = self.lost == 0 and self.box_px < 0.5 and self.score < 0.005 and self.mask < 0.02
        return boxes and self.cosine > 0.9999 and self.probability < 0.005


@torch.inference_mode()
def compare_detectors(
    original: Callable[[list[Tensor]], list[dict]], exported: OnnxDetector, photos: Sequence[Tensor]
) -> Differences:
    """Photos u8[3,H,W] through both."""
    found = Differences()
    for photo in photos:
        compare_garments(found, original([photo])[0], exported([photo])[0])
    return found


def compare_garments(found: Differences, mine: dict, theirs: dict) -> None:
    """Add one photo's: garments are the same when labels are and boxes all but are."""
    found.garments += len(mine["boxes"])
    overlap = box_iou(mine["boxes"], theirs["boxes"])
    overlap *= mine["labels"][:, None] == theirs["labels"]
    pairs = overlap >= SAME_IOU
    found.lost += int(((mine["scores"] > SURE) & ~pairs.any(1)).sum())
    found.lost += int(((theirs["scores"] > SURE) & ~pairs.any(0)).sum())
    rows = (pairs.any(1) & (mine["scores"] > SURE)).nonzero()[:, 0]
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
    """Crops u8[B,3,S,S] with masks u8[B,S,S] through both, CROPS at a time."""
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
    """For people."""
    if kind == "multitask":
        boxes = f", boxes within {found.box_px:.2g} px" if found.box_px else ""
        return (
            f"vectors: cosine at least {found.cosine:.7f}; labels' probabilities within "
            f"{found.probability:.2g}{boxes}"
        )
    return (
        f"{counted(found.garments, 'garment')}; of those with a score above {SURE:g} boxes agree "
        f"within {found.box_px:.2g} px, scores within {found.score:.2g}, masks within "
        f"{found.mask:.2g}; {found.lost} are found by one alone"
    )


def as_plain(found: Differences) -> dict[str, Any]:
    """For a JSON report."""
    return vars(found) | {"acceptable": found.acceptable}
