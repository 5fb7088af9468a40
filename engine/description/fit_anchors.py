"""Fits the anchors' principal directions to training garments, before the training starts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from engine import distributed
from engine.data.crop_dataset import CropDataset
from engine.data.records import PhotoRecords
from engine.description.anchor import Anchor
from engine.description.describe import DescribeSettings, describe_shard, gather_descriptions
from engine.description.multitask import Multitask
from engine.pixels.view_transform import MultitaskAugmentation, MultitaskTransform
from engine.training.samplers import Draw

GARMENTS = 2048  # to fit to; several times the number of directions


def fit_anchors(
    model: Multitask,
    train: Sequence[PhotoRecords],
    augmentation: MultitaskAugmentation,
    settings: DescribeSettings,
    device: torch.device,
) -> None:
    """Fit every principal anchor that has not been fitted yet, to garments of all datasets.

    All ranks call it; all get the same directions.

    Args:
        model: with its starting weights; left in evaluation mode.
        train: the training datasets.
        augmentation: how crops are cut.
        settings, device: how and where to run the model.
    """
    heads = model.aspect_heads.heads.values() if model.aspect_heads else ()
    anchors = [head.anchor for head in heads if head.anchor and not head.anchor.fitted]
    if not anchors:
        return
    cropping = MultitaskTransform(augmentation, seed=0, train=False, aspects=())
    dataset = _Subsample(CropDataset([(records, {}) for records in train], cropping), GARMENTS)
    for anchor in anchors:
        pooling = _Pooling(model, anchor).to(device).eval()
        shard = describe_shard(pooling, dataset, settings, device, progress=True)
        found = gather_descriptions(shard, len(dataset))
        pooled = distributed.broadcast_object(found and found.aspects["pooled"])
        anchor.fit(torch.from_numpy(pooled).to(device))


class _Subsample(Dataset):
    """At most ``count`` samples of a dataset, evenly spaced."""

    def __init__(self, dataset: CropDataset, count: int) -> None:
        self.dataset = dataset
        self.chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, draw: Draw) -> Any:
        return self.dataset[draw._replace(index=int(self.chosen[draw.index]))]


class _Pooling(nn.Module):
    """Makes ``describe_shard`` collect an anchor's pooled features, as if they were an aspect."""

    def __init__(self, model: Multitask, anchor: Anchor) -> None:
        super().__init__()
        self.model, self.anchor = model, anchor

    def describe(self, images: Tensor, masks: Tensor) -> dict[str, Any]:
        pooled = self.model.pool_for(self.anchor, images, masks)
        return {"logits": {}, "aspects": {"pooled": pooled}}
