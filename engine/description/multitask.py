"""The multitask model: a garment's crop -> category, attributes and aspect vectors.

A shared trunk; linear heads on its pooled last map for category and attributes; aspect heads
(``engine.description.aspect_heads``), each pooling its own levels. Crops are squares
(``engine.pixels.crops``) with the garment's mask, or an all-ones mask where there is none; pooling
is confined to the mask. The losses are in ``engine.description.criterion``.
"""

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.backbones import build_body, uses_channels_last
from engine.checkpoint import NoWeightInit, fill
from engine.data.labels import ASPECTS, LabelGroup, LabelSpace
from engine.description.anchor import Anchor
from engine.description.aspect_heads import HIDDEN, AspectHeads
from engine.description.box_head import BoxHead
from engine.description.branches import BranchedClassifier
from engine.description.pooling import mask_coverage, masked_mean
from engine.detection.detector import PIXEL_MEAN, PIXEL_STD
from engine.errors import InputError
from engine.pretrained import load_weights

ASPECT_DIMS = {"item": 256, "color": 64, "texture": 128, "shape": 128}
TASKS = ("category", "attributes", *ASPECTS, "box")
DEFAULT_TASKS = TASKS[:-1]  # the box head is only for training on whole photos
DROPOUT = 0.2
HELPERS = ("color", "texture")  # aspects whose hidden features also go into classifiers


class Trunk(nn.Module):
    """Wraps a backbone's body as ``.body``, the prefix that pretrained weights and the optimizer's
    parameter groups expect."""

    pyramid_channels = None  # it has no pyramid

    def __init__(self, name: str, body: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.body = body

    def forward(self, images: Tensor) -> list[Tensor]:
        """f32[B,3,S,S], normalized -> the body's maps, fine to coarse."""
        return self.body(images)


class Multitask(nn.Module):
    """Crops -> losses (training, with a criterion) or descriptions (evaluation).

    Attributes:
        labels: what the logits mean.
        aspects: names of the aspect vectors it gives, in the order of ``ASPECTS``.
    """

    def __init__(
        self, trunk: Trunk, labels: LabelSpace, tasks: tuple[str, ...], dims: dict[str, int]
    ) -> None:
        super().__init__()
        self.backbone, self.labels, self.tasks = trunk, labels, tasks
        self.aspects = tuple(a for a in ASPECTS if a in tasks)
        channels = trunk.body.channels
        wanted = {aspect: dims[aspect] for aspect in self.aspects}
        self.aspect_heads = AspectHeads(channels, wanted) if wanted else None
        self.groups = labels.groups_of_tasks(tasks)
        self.dropout = nn.Dropout(DROPOUT)
        self.box_head = BoxHead(channels[-1], channels[-2], HIDDEN) if "box" in tasks else None
        base = channels[-1] + (HIDDEN if self.box_head else 0)
        # Color and pattern classifiers also see the hidden features of that aspect's head.
        self.helpers = [
            g.aspect if g.aspect in HELPERS and g.aspect in self.aspects else None
            for g in self.groups
        ]
        self.classifiers = nn.ModuleList(
            _classifier(group, base + (HIDDEN if helper else 0))
            for group, helper in zip(self.groups, self.helpers, strict=True)
        )
        self.criterion: nn.Module | None = None
        for name, values in (("pixel_mean", PIXEL_MEAN), ("pixel_std", PIXEL_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def dims(self) -> dict[str, int]:
        """Size of each aspect's vector."""
        return {name: self.aspect_heads.heads[name].vector.out_features for name in self.aspects}

    def digest(self) -> str:
        """Short hash of every weight that the vectors depend on."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            if name.startswith(("backbone.", "aspect_heads.")) and "num_batches" not in name:
                digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
                digest.update(np.ascontiguousarray(tensor.float().cpu().numpy()))
        return digest.hexdigest()[:16]

    def forward(self, images: Tensor, targets: dict[str, Any] | None = None) -> dict[str, Any]:
        """
        Args:
            images: u8[B,3,S,S] RGB, S a multiple of 32.
            targets: in training, as collated by ``engine.data.crop_dataset.collate_crops``.

        Returns:
            In training {loss name: scalar}; in evaluation what ``describe`` returns, of crops
            that are all garment.
        """
        if not self.training:
            return self.describe(images)
        masks = targets["mask"]
        if "view" in targets:  # crops and views in one pass through the trunk
            images = torch.cat([images, targets["view"]])
            masks = torch.cat([masks, targets["view_mask"]])
        found = self._read(images, masks, None)
        # Not under autocast: in half precision a cosine has three digits, and a temperature of 0.1
        # takes one of them.
        with torch.autocast(images.device.type, enabled=False):
            return self.criterion(found, targets)

    def describe(
        self, images: Tensor, masks: Tensor | None = None, route: Tensor | None = None
    ) -> dict[str, Any]:
        """Logits and aspect vectors of crops.

        Args:
            images: u8[B,3,S,S] RGB.
            masks: u8[B,S,S], 255 where the garment is; None = everywhere. A mask without any
                pixel counts as everywhere.
            route: i64[B], number of the garment's group in the category head's ``names`` where it
                is known, else -1; None = unknown. Without effect on a head without branches.

        Returns:
            {"logits": {group: f32[B,V]}, "aspects": {aspect: f32[B,d] unit vectors}} and, with a
            box head, "boxes": f32[B,4] xyxy as shares of the crop.
        """
        if masks is None:
            masks = images.new_full((len(images), *images.shape[-2:]), 255)
        return self._read(images, masks, route)

    def pool_for(self, anchor: Anchor, images: Tensor, masks: Tensor) -> Tensor:
        """The pooled features that ``anchor`` projects: f32[B, sum of its sizes].

        Args:
            anchor: of one of the aspect heads.
            images, masks: as for ``describe``.
        """
        maps = [m.float() for m in self.backbone(self._normalize(images))]
        return anchor.pool(maps, mask_coverage(_full_where_empty(masks), maps[-2]))

    def _read(self, images: Tensor, masks: Tensor, route: Tensor | None) -> dict[str, Any]:
        mask = _full_where_empty(masks)
        maps = self.backbone(self._normalize(images))
        deepest = maps[-1].float()
        pooled = masked_mean(deepest, mask_coverage(mask, deepest))
        found = {}
        if self.box_head:
            found["boxes"], local = self.box_head(pooled, maps[-2].float())
            pooled = torch.cat([pooled, local], dim=1)
        hidden, found["aspects"] = {}, {}
        if self.aspect_heads:
            hidden, found["aspects"] = self.aspect_heads(images, maps, mask)
        found["logits"] = {}
        for group, helper, classifier in zip(
            self.groups, self.helpers, self.classifiers, strict=True
        ):
            features = torch.cat([pooled, hidden[helper]], dim=1) if helper else pooled
            features = self.dropout(features)
            branched = isinstance(classifier, BranchedClassifier)
            answer = classifier(features, route) if branched else classifier(features)
            found["logits"][group.name] = answer.float()
        return found

    def _normalize(self, images: Tensor) -> Tensor:
        pixels = images.float()
        if uses_channels_last(self.backbone):
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        return pixels.sub_(self.pixel_mean).div_(self.pixel_std)


def _full_where_empty(masks: Tensor) -> Tensor:
    """u8[B,S,S], 0..255 -> f32[B,1,S,S], 0..1; an empty mask becomes all ones."""
    mask = masks[:, None].float() / 255
    return torch.where(mask.amax(dim=(2, 3), keepdim=True) > 0, mask, torch.ones_like(mask))


def _classifier(group: LabelGroup, features: int) -> nn.Module:
    if group.branches:
        return BranchedClassifier(features, group.branches)
    return nn.Linear(features, len(group.values))


def build_multitask(
    labels: LabelSpace,
    *,
    trunk: str = "resnet50",
    weights: str = "imagenet",
    load: bool = True,
    trainable_layers: int = 3,
    stride_in_1x1: bool = False,
    tasks: tuple[str, ...] = DEFAULT_TASKS,
    dims: dict[str, int] | None = None,
) -> Multitask:
    """Build a model and fill in its starting weights.

    Args:
        labels: the questions it answers.
        trunk: one of ``engine.backbones.BACKBONES``.
        weights: "imagenet" (downloaded once by torchvision), "none", or a file: see
            ``engine.pretrained.load_weights``.
        load: False builds the same modules and leaves them random, for a run that resumes.
        trainable_layers: trunk stages that learn, from the top.
        stride_in_1x1: ResNet layout, see ``engine.backbones.build_body``.
        tasks: which of ``TASKS`` to learn; the others' heads are not built.
        dims: sizes of the aspect vectors; None = ``ASPECT_DIMS``.

    Raises:
        InputError: an unknown name, or weights that cannot be read or do not fit.
    """
    body = build_body(
        trunk,
        trainable_layers=trainable_layers,
        frozen_norm=weights != "none",
        stride_in_1x1=stride_in_1x1,
    )
    model = Multitask(Trunk(trunk, body), labels, tuple(tasks), dims or ASPECT_DIMS)
    if load and weights != "none":
        load_weights(model, weights)
    return model


def build_multitask_from_checkpoint(checkpoint: dict[str, Any]) -> Multitask:
    """The model of a checkpoint or weights file, ready for inference.

    In evaluation mode, in channels-last layout (faster), with the averaged weights if it has any.

    Raises:
        InputError: when config, labels and weights contradict each other.
    """
    try:
        config, labels = checkpoint["config"], LabelSpace.from_plain(checkpoint["labels"])
        trunk, tasks = config["trunk"], tuple(config["tasks"])
    except KeyError as error:
        raise InputError(
            f"the checkpoint lacks {error}: it does not hold a multitask model"
        ) from None
    with NoWeightInit():
        model = build_multitask(
            labels,
            trunk=trunk,
            tasks=tasks,
            stride_in_1x1=config.get("stride_in_1x1", False),
            load=False,
        )
    fill(model, checkpoint)
    return model.eval().to(memory_format=torch.channels_last)
