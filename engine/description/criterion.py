"""The losses of the multitask model and their weights.

Each sample trains only what it has labels for. An aspect learns from three sources:

* views (``engine.pixels.views``): two pictures of a crop that share this aspect and little else;
  contrastively, each view must match its own crop among all crops of the global batch. No labels
  are needed; crops known to share the aspect by a label are not used as negatives.
* labels of the aspect (color names, patterns, category): softmax over cosines to a learned
  prototype per value.
* identities, for ``item``: metric learning on photos of the same product.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.data.labels import ASPECTS, CATEGORY, LabelSpace
from engine.description.box_head import box_loss
from engine.description.losses import (
    LearnedTaskWeights,
    batch_hard_triplet,
    cross_entropy,
    gather_rows,
    global_mean,
    multilabel_loss,
    supervised_contrast,
    view_contrast,
)
from engine.distributed import world_size

TEMPERATURE = 0.1
TRIPLET_MARGIN = 0.2
ITEM_LOSSES = ("supcon", "triplet")
ATTRIBUTE_LOSSES = ("bce", "focal", "hinge")


class Criterion(nn.Module):
    """Model outputs and targets -> named losses, already weighted.

    Args:
        labels: the model's label space.
        tasks: the model's tasks, a loss for each.
        dims: aspect -> size of its vector, for the aspects among the tasks.
        task_weights: task -> factor (missing = 1), or "learned".
        smoothing: label smoothing of the softmaxes.
        attribute_loss: one of ``ATTRIBUTE_LOSSES``, for multi-label groups.
        item_loss: one of ``ITEM_LOSSES``.
        class_weights: group -> f32[V] weight of each value (or "yes" of a multi-label group).
    """

    def __init__(
        self,
        labels: LabelSpace,
        tasks: tuple[str, ...],
        dims: dict[str, int],
        *,
        task_weights: dict[str, float] | str | None = None,
        smoothing: float = 0.0,
        attribute_loss: str = "bce",
        item_loss: str = "supcon",
        class_weights: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.labels, self.tasks = labels, tasks
        self.aspects = tuple(a for a in ASPECTS if a in tasks)
        self.smoothing, self.attribute_loss, self.item_loss = smoothing, attribute_loss, item_loss
        self.number = {group.name: str(i) for i, group in enumerate(labels.groups)}
        self.prototypes = nn.ParameterDict()
        for group in labels.groups:
            number = self.number[group.name]
            known = labels.known_values(group.name)
            self.register_buffer(f"known_{number}", known, persistent=False)
            weights = (class_weights or {}).get(group.name)
            self.register_buffer(f"weights_{number}", weights, persistent=False)
            if group.exclusive and group.aspect in self.aspects:
                start = torch.randn(len(group.values), dims[group.aspect])
                self.prototypes[number] = nn.Parameter(F.normalize(start, dim=1))
        self.learned = LearnedTaskWeights(tasks) if task_weights == "learned" else None
        self.fixed = task_weights if isinstance(task_weights, dict) else {}

    def forward(self, found: dict[str, Any], targets: dict[str, Any]) -> dict[str, Tensor]:
        """
        Args:
            found: as ``Multitask.describe`` returns, of B crops or of B crops and their B views.
            targets: a collated batch.

        Returns:
            {"loss_<task>": scalar} for every task.
        """
        count = len(targets["source"])
        logits, losses = found["logits"], {}
        if "category" in self.tasks:
            losses["category"] = self._classify(CATEGORY, logits, targets)
        if "attributes" in self.tasks:
            names = [g.name for g in self.labels.groups if g.name != CATEGORY]
            losses["attributes"] = sum(self._classify(name, logits, targets) for name in names)
        for aspect in self.aspects:
            losses[aspect] = self._aspect(aspect, found["aspects"][aspect], count, targets)
        if "box" in self.tasks:
            losses["box"] = self._box(found["boxes"][:count], targets["box"])
        if self.learned is not None:
            losses = self.learned(losses)
        return {f"loss_{n}": loss * self.fixed.get(n, 1.0) for n, loss in losses.items()}

    def _classify(self, name: str, logits: dict[str, Tensor], targets: dict[str, Any]) -> Tensor:
        given = targets["labels"][name]
        answers = logits[name][: len(given)]
        weights = getattr(self, f"weights_{self.number[name]}")
        if self.labels.group(name).exclusive:
            known = self._known(name, targets)
            return cross_entropy(
                answers, given, known, class_weights=weights, smoothing=self.smoothing
            )
        return multilabel_loss(answers, given, kind=self.attribute_loss, pos_weight=weights)

    def _aspect(self, aspect: str, vectors: Tensor, count: int, targets: dict[str, Any]) -> Tensor:
        crops = vectors[:count]
        loss = sum(
            (self._to_prototypes(name, crops, targets) for name in self._names(aspect)),
            start=crops.sum() * 0,  # DDP needs a gradient for every parameter on every rank
        )
        if "view" in targets:
            chosen = targets["view_aspect"] == ASPECTS.index(aspect)
            same = self._alike(aspect, targets)
            loss = loss + view_contrast(vectors[count:], crops, chosen, same, TEMPERATURE)
        if aspect == "item":
            identities = targets["identity"]
            if self.item_loss == "triplet":
                loss = loss + batch_hard_triplet(crops, identities, TRIPLET_MARGIN)
            else:
                loss = loss + supervised_contrast(crops, identities, TEMPERATURE)
        return loss

    def _box(self, boxes: Tensor, given: Tensor) -> Tensor:
        known = ~given.isnan().any(dim=1)
        return global_mean(box_loss(boxes, torch.where(known[:, None], given, boxes)), known)

    def _names(self, aspect: str) -> list[str]:
        """Groups whose labels the aspect learns from."""
        groups = self.labels.groups
        return [
            g.name for g in groups if g.aspect == aspect and self.number[g.name] in self.prototypes
        ]

    def _to_prototypes(self, name: str, vectors: Tensor, targets: dict[str, Any]) -> Tensor:
        prototypes = F.normalize(self.prototypes[self.number[name]], dim=1)
        cosines = vectors @ prototypes.T
        return cross_entropy(
            cosines / TEMPERATURE, targets["labels"][name], self._known(name, targets)
        )

    def _known(self, name: str, targets: dict[str, Any]) -> Tensor:
        """bool[B,V]: the vocabulary of each sample's set."""
        return getattr(self, f"known_{self.number[name]}")[targets["source"]]

    def _alike(self, aspect: str, targets: dict[str, Any]) -> Tensor:
        """bool[B, world · B]: pairs that are known to share the aspect, and are no negatives."""
        # Labels like "blue" or "striped" all but determine color and texture; a category does not
        # determine the shape, so only the same product counts there.
        if aspect in ("item", "shape"):
            kinds = [targets["identity"]]
        else:
            kinds = [targets["labels"][name] for name in self._names(aspect)]
        count = len(targets["source"])
        alike = targets["source"].new_zeros(count, count * world_size(), dtype=torch.bool)
        for kind in kinds:
            alike |= (kind[:, None] == gather_rows(kind)) & (kind >= 0)[:, None]
        return alike
