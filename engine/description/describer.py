"""Runs the multitask model on the garments detected in a photo.

Crops are cut from the photo already decoded for the detector, the same way as in training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.backbones import prepare_for_inference
from engine.config import require
from engine.data.labels import CATEGORY, IS_GARMENT, LabelGroup, LabelSpace, index_by_text
from engine.description.branches import branch_names
from engine.description.category_fusion import category_columns, fuse_categories, recognized_rows
from engine.description.dominant_colors import dominant_colors
from engine.description.multitask import build_multitask_from_checkpoint
from engine.detection.detections import Detections
from engine.pixels.crops import cut_crop
from engine.precision import autocast

BATCH = 32  # crops per forward pass
SURE = 0.6  # a category at least this probable is not replaced by one of another vocabulary
TTA_MARGIN = 0.1  # what --tta adds to the margin for its wider crop

Ranked = list[tuple[str, float]]  # values and their probabilities, best first


@dataclass(frozen=True)
class DescriberSettings:
    """How garments are described.

    Attributes:
        top_k: at most so many values per group of attributes.
        temperature: divides the logits; above 1 probabilities are less extreme.
        tta: average over the crop, its mirror image and a wider crop.
        vocabulary: name of the training set whose values are predicted; None: for each group those
            of the first set that has the group.
        precision: "fp32", "bf16" or "fp16", of the forward pass.

    Raises:
        InputError: a value out of range, named by its flag.
    """

    top_k: int = 3
    temperature: float = 1.0
    tta: bool = False
    vocabulary: str | None = None
    precision: str = "fp32"

    def __post_init__(self) -> None:
        require(self.top_k >= 1, f"--top-k {self.top_k}: must be at least 1")
        sentence = f"--temperature {self.temperature}: must be from 0.001 to 1000"
        require(0.001 <= self.temperature <= 1000, sentence)


@dataclass(slots=True)
class Description:
    """One garment.

    Attributes:
        labels: group -> its most probable values, best first. Probabilities of an exclusive group
            sum to 1 over its vocabulary, those of other groups are independent.
        colors: (name, "#rrggbb", share of the garment), the largest first.
        vectors: aspect -> f32[d], unit length.
    """

    labels: dict[str, Ranked]
    colors: list[tuple[str, str, float]]
    vectors: dict[str, np.ndarray]

    def is_finite(self) -> bool:
        """Whether all of the model's numbers are; in half precision they may overflow."""
        probabilities = [p for ranked in self.labels.values() for _, p in ranked]
        return all(np.isfinite(part).all() for part in (probabilities, *self.vectors.values()))

    def to_plain(self) -> dict[str, Any]:
        """Labels and colors as they are written to JSON, without the vectors."""
        return {
            "labels": {
                group: [{"value": value, "probability": p} for value, p in ranked]
                for group, ranked in self.labels.items()
            },
            "colors": [
                {"name": color, "hex": code, "share": share} for color, code, share in self.colors
            ],
        }


@dataclass(frozen=True)
class CropSettings:
    """How crops are cut (``engine.pixels.crops``); must be as the model was trained.

    Attributes:
        size: side of the crop in pixels.
        margin: context around the box, as a share of the box's longer side.
        background: for a garment without a mask, exclude a plain studio background from its mask.
    """

    size: int
    margin: float
    background: bool = True

    def __str__(self) -> str:
        whole = "" if self.background else ", masks with background"
        return f"{self.size} px, margin {self.margin:g}{whole}"


def cut_garments(
    photo: np.ndarray, found: Detections, cut: CropSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Crops u8[N,S,S,3] and masks u8[N,S,S] of a photo's garments.

    Args:
        photo: u8[H,W,3], possibly decoded at 1/2, 1/4 or 1/8 of the size ``found`` refers to.
        found: its garments.
        cut: how.
    """
    crops = np.empty((len(found), cut.size, cut.size, 3), np.uint8)
    masks = np.empty(crops.shape[:3], np.uint8)
    for i, box in enumerate(found.boxes):
        crops[i], masks[i] = cut_crop(
            photo,
            box,
            cut.size,
            margin=cut.margin,
            segmentation=found.masks[i] if found.masks else None,
            full_size=(found.width, found.height),
            background=cut.background,
        )
    return crops, masks


class Describer:
    """The multitask model of a checkpoint, ready for photos.

    Args:
        checkpoint: as ``engine.checkpoint.load_checkpoint`` reads it, or an exported model as
            ``engine.onnx_runtime.load_exported`` does.
        device: where to run.
        settings: how.

    Raises:
        InputError: the checkpoint is inconsistent, or has no such vocabulary.
    """

    def __init__(
        self, checkpoint: dict[str, Any], device: torch.device, settings: DescriberSettings
    ) -> None:
        network = checkpoint.get("network") or build_multitask_from_checkpoint(checkpoint)
        self.model = prepare_for_inference(network, device, settings.precision)
        self.device, self.settings = device, settings
        config = checkpoint["config"]
        self.cut = CropSettings(
            config["crop_size"], config["margin"], background=config.get("background", True)
        )
        self.vocabulary = choose_vocabulary(self.model.labels, settings.vocabulary)

    @property
    def aspects(self) -> tuple[str, ...]:
        """The aspects it computes vectors for."""
        return self.model.aspects

    @property
    def groups(self) -> dict[str, bool]:
        """Label group it predicts -> whether its values are mutually exclusive."""
        return {
            group.name: group.exclusive
            for group in self.model.groups
            if group.name in self.vocabulary and group.name != IS_GARMENT
        }

    def describe(
        self, photo: np.ndarray, found: Detections, categories: Sequence[str] = ()
    ) -> tuple[Detections, list[Description]]:
        """Describe the garments of one photo.

        Args:
            photo: u8[H,W,3] RGB, upright; possibly decoded at 1/2, 1/4 or 1/8 of the size that the
                detections refer to.
            found: its garments.
            categories: the detector's; empty if no detector labeled the garments. They select the
                branch of a branched category head, are fused with the model's own prediction
                (``engine.description.category_fusion``) and help to choose a vocabulary.

        Returns:
            The garments that the model recognizes, with fused labels, and a description of each.
        """
        if len(found) == 0:
            return found, []
        cut = cut_garments(photo, found, self.cut)
        crops, masks = self._on_device(*cut)
        variants = [(crops, masks)]
        if self.settings.tta:
            variants.append((crops.flip(-1), masks.flip(-1)))
            wider = replace(self.cut, margin=self.cut.margin + TTA_MARGIN)
            variants.append(self._on_device(*cut_garments(photo, found, wider)))
        route = self._route(found, categories)
        outputs = [self._run(crops, masks, route) for crops, masks in variants]
        logits = {
            group.name: _mean([o["logits"][group.name] for o in outputs])
            for group in self.model.groups
        }
        found = self._fuse_categories(found, categories, logits)
        kept = self._recognized_rows(found, categories, logits)
        names = [categories[label - 1] if categories else "" for label in found.labels]
        labels = self._rank(logits, names)
        vectors = {
            aspect: F.normalize(_mean([o["aspects"][aspect] for o in outputs]), dim=1).cpu().numpy()
            for aspect in self.aspects
        }
        colors = {i: dominant_colors(cut[0][i], cut[1][i]) for i in kept}
        dropped = len(found) - len(kept)
        return replace(found.only(kept), dropped=dropped), [
            Description(labels[i], colors[i], {a: rows[i] for a, rows in vectors.items()})
            for i in kept
        ]

    def _on_device(self, crops: np.ndarray, masks: np.ndarray) -> tuple[Tensor, Tensor]:
        """u8[N,S,S,3], u8[N,S,S] -> u8[N,3,S,S], u8[N,S,S]."""
        pixels = torch.from_numpy(crops).to(self.device)
        return pixels.permute(0, 3, 1, 2), torch.from_numpy(masks).to(self.device)

    def _fuse_categories(
        self, found: Detections, categories: Sequence[str], logits: dict[str, Tensor]
    ) -> Detections:
        """The garments with fused labels, where both networks know the same categories."""
        columns = category_columns(self.model.labels, categories)
        if columns is None or CATEGORY not in logits:
            return found
        opinions = (logits[CATEGORY][:, columns] / self.settings.temperature).softmax(dim=1)
        return fuse_categories(found, opinions.cpu().numpy())

    def _recognized_rows(
        self, found: Detections, categories: Sequence[str], logits: dict[str, Tensor]
    ) -> Sequence[int]:
        """Rows of the garments, without a detector's false detections as far as the model knows."""
        if not categories or IS_GARMENT not in logits:
            return range(len(found))
        return recognized_rows(logits[IS_GARMENT], self.model.labels.group(IS_GARMENT))

    def _route(self, found: Detections, categories: Sequence[str]) -> Tensor | None:
        """i64[N]: the branch of each garment's detected category, -1 where that is unknown."""
        for group in self.model.groups:
            if group.branches and categories:
                values = [value.casefold() for value in group.values]
                branch = dict(zip(values, group.branches, strict=True))
                names = [branch.get(categories[label - 1].casefold(), "") for label in found.labels]
                order = branch_names(group.branches)
                numbers = [order.index(name) if name else -1 for name in names]
                return torch.tensor(numbers, device=self.device)
        return None

    @torch.inference_mode()
    def _run(self, crops: Tensor, masks: Tensor, route: Tensor | None) -> dict[str, Any]:
        parts = []
        with autocast(self.device, self.settings.precision):
            for start in range(0, len(crops), BATCH):
                rows = slice(start, start + BATCH)
                own = None if route is None else route[rows]
                parts.append(self.model.describe(crops[rows], masks[rows], own))
        return {
            kind: {n: torch.cat([part[kind][n] for part in parts]).float() for n in parts[0][kind]}
            for kind in ("logits", "aspects")
        }

    def _rank(self, logits: dict[str, Tensor], names: Sequence[str]) -> list[dict[str, Ranked]]:
        """Each group's most probable values for every garment.

        Args:
            logits: group -> f32[N,V].
            names: the garments' fused categories, "" where unknown.
        """
        ranked: list[dict[str, Ranked]] = [{} for _ in names]
        for group_name in self.groups:
            group, rows = self.model.labels.group(group_name), logits[group_name]
            chosen = _probabilities(rows, group, self.vocabulary[group_name], self.settings)
            if group_name == CATEGORY and not self.settings.vocabulary:
                chosen = [
                    self._prefer_fused(row, group, name, values)
                    for row, name, values in zip(rows.split(1), names, chosen, strict=True)
                ]
            for entry, values in zip(ranked, chosen, strict=True):
                entry[group_name] = values
        return ranked

    def _prefer_fused(self, row: Tensor, group: LabelGroup, name: str, ranked: Ranked) -> Ranked:
        """``ranked``, or if that is unsure, the ranking by another training set's vocabulary in
        which the fused category ``name`` comes first, with a higher probability.

        The default vocabulary may have no category for this kind of garment at all.
        """
        if ranked[0][1] < SURE:
            for vocabulary in self._vocabularies_with(group, name):
                (other,) = _probabilities(row, group, vocabulary, self.settings)
                same = other[0][0].casefold() == name.casefold()
                if same and other[0][1] > ranked[0][1]:
                    return other
        return ranked

    def _vocabularies_with(self, group: LabelGroup, name: str) -> list[tuple[int, ...]]:
        """The training sets' vocabularies that contain the category ``name``."""
        number = index_by_text(group.values).get(name.casefold())
        known = [source.vocabulary.get(group.name, ()) for source in self.model.labels.sources]
        return [values for values in known if number in values]


def choose_vocabulary(labels: LabelSpace, name: str | None) -> dict[str, tuple[int, ...]]:
    """Group -> numbers of the values to choose from: those of the training set ``name`` if it has
    the group, else of the first set that has it.

    Raises:
        InputError: no set has that name.
    """
    preferred = labels.source_named(name)
    chosen = {}
    for group in labels.groups:
        for source in (preferred, *labels.sources):
            if group.name in source.vocabulary:
                chosen[group.name] = source.vocabulary[group.name]
                break
    return chosen


def _probabilities(
    logits: Tensor, group: LabelGroup, values: tuple[int, ...], settings: DescriberSettings
) -> list[Ranked]:
    known = logits[:, list(values)] / settings.temperature
    p = known.softmax(dim=1) if group.exclusive else known.sigmoid()
    top, places = p.topk(min(settings.top_k, len(values)), dim=1)
    return [
        [(group.values[values[i]], round(x, 4)) for x, i in zip(*row, strict=True)]
        for row in zip(top.tolist(), places.tolist(), strict=True)
    ]


def _mean(answers: list[Tensor]) -> Tensor:
    return torch.stack(answers).mean(dim=0)
