"""What the multitask model says about the garments that the detector found in a photo.

Crops are cut from the photo that was decoded for the detector, as they are in training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.backbones import settle
from engine.config import require
from engine.data.labels import CATEGORY, IS_GARMENT, LabelGroup, LabelSpace
from engine.description.branches import branch_names
from engine.description.dominant_colors import dominant_colors
from engine.description.multitask import build_multitask_from_checkpoint
from engine.description.second_opinion import answers_in, recognized, reconsidered
from engine.detection.detections import Detections
from engine.pixels.crops import cut_crop
from engine.precision import autocast

BATCH = 32  # crops per forward pass
SURE = 0.6  # probability of a category that no other set's word replaces
TTA_MARGIN = 0.1  # --tta also looks at the crop with this much more around it

Ranked = list[tuple[str, float]]  # values and their probabilities, best first


@dataclass(frozen=True)
class DescriberSettings:
    """How garments are described.

    Attributes:
        top_k: at most so many values per group of attributes.
        temperature: divides the logits; above 1 probabilities are less extreme.
        tta: average over the crop, its mirror image and a wider crop.
        vocabulary: name of the training set whose words are used; None: for each group those of the
            first set that knows it.
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
        labels: group -> its likeliest values, best first. Probabilities of an exclusive group's
            values sum to 1 over its vocabulary, those of other groups stand each for itself.
        colors: (name, "#rrggbb", share of the garment), the largest first.
        vectors: aspect -> f32[d], unit length.
    """

    labels: dict[str, Ranked]
    colors: list[tuple[str, str, float]]
    vectors: dict[str, np.ndarray]

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
    """How crops are cut (``engine.pixels.crops``); a model must see them as it was trained to.

    Attributes:
        size: side of the crop in pixels.
        margin: what it shows around the box, as a share of the box's longer side.
        background: take a studio's background off the mask of a garment that has no mask.
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
        InputError: the checkpoint's parts contradict each other, or it has no such vocabulary.
    """

    def __init__(
        self, checkpoint: dict[str, Any], device: torch.device, settings: DescriberSettings
    ) -> None:
        network = checkpoint.get("network") or build_multitask_from_checkpoint(checkpoint)
        self.model = settle(network, device, settings.precision)
        self.device, self.settings = device, settings
        config = checkpoint["config"]
        self.cut = CropSettings(
            config["crop_size"], config["margin"], background=config.get("background", True)
        )
        self.vocabulary = choose_vocabulary(self.model.labels, settings.vocabulary)

    @property
    def aspects(self) -> tuple[str, ...]:
        """Of the vectors it gives."""
        return self.model.aspects

    @property
    def groups(self) -> dict[str, bool]:
        """Group of labels it gives -> whether its values exclude each other."""
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
            categories: the detector's, [] where garments are given; where the category head has
                branches they choose the branch, and where the model is unsure they help to choose
                the word.

        Returns:
            The garments that both networks see, under the names that they agree on
            (``engine.description.second_opinion``), and one description of each.
        """
        if len(found) == 0:
            return found, []
        cut = cut_garments(photo, found, self.cut)
        colors = [dominant_colors(crop, mask) for crop, mask in zip(*cut, strict=True)]
        crops, masks = self._on_device(*cut)
        looks = [(crops, masks)]
        if self.settings.tta:
            looks.append((crops.flip(-1), masks.flip(-1)))
            wider = replace(self.cut, margin=self.cut.margin + TTA_MARGIN)
            looks.append(self._on_device(*cut_garments(photo, found, wider)))
        route = self._route(found, categories)
        answers = [self._run(crops, masks, route) for crops, masks in looks]
        logits = {
            group.name: _mean([a["logits"][group.name] for a in answers])
            for group in self.model.groups
        }
        found = self._reconsidered(found, categories, logits)
        seen = self._recognized(found, categories, logits)
        words = [categories[label - 1] if categories else "" for label in found.labels]
        labels = self._rank(logits, words)
        vectors = {
            aspect: F.normalize(_mean([a["aspects"][aspect] for a in answers]), dim=1).cpu().numpy()
            for aspect in self.aspects
        }
        return found.only(seen), [
            Description(labels[i], colors[i], {a: rows[i] for a, rows in vectors.items()})
            for i in seen
        ]

    def _on_device(self, crops: np.ndarray, masks: np.ndarray) -> tuple[Tensor, Tensor]:
        """u8[N,S,S,3], u8[N,S,S] -> u8[N,3,S,S], u8[N,S,S]."""
        pixels = torch.from_numpy(crops).to(self.device)
        return pixels.permute(0, 3, 1, 2), torch.from_numpy(masks).to(self.device)

    def _reconsidered(
        self, found: Detections, categories: Sequence[str], logits: dict[str, Tensor]
    ) -> Detections:
        """The garments under the names that both networks agree on."""
        answers = answers_in(self.model.labels, categories)
        if answers is None or CATEGORY not in logits:
            return found
        opinions = (logits[CATEGORY][:, answers] / self.settings.temperature).softmax(dim=1)
        return reconsidered(found, opinions.cpu().numpy())

    def _recognized(
        self, found: Detections, categories: Sequence[str], logits: dict[str, Tensor]
    ) -> Sequence[int]:
        """Which of a detector's finds this model, too, takes for garments."""
        if not categories or IS_GARMENT not in logits:
            return range(len(found))
        return recognized(logits[IS_GARMENT], self.model.labels.group(IS_GARMENT))

    def _route(self, found: Detections, categories: Sequence[str]) -> Tensor | None:
        """i64[N]: the branch of each garment's detected category, -1 where that is unknown."""
        for group in self.model.groups:
            if group.branches and categories:
                branch = dict(zip(group.values, group.branches, strict=True))
                names = [branch.get(categories[label - 1], "") for label in found.labels]
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

    def _rank(self, logits: dict[str, Tensor], words: Sequence[str]) -> list[dict[str, Ranked]]:
        """Per garment, called by one of ``words``, its groups' likeliest values."""
        ranked: list[dict[str, Ranked]] = [{} for _ in words]
        for name in self.groups:
            group, rows = self.model.labels.group(name), logits[name]
            chosen = _probabilities(rows, group, self.vocabulary[name], self.settings)
            if name == CATEGORY and not self.settings.vocabulary:
                chosen = [
                    self._surer(row, group, word, values)
                    for row, word, values in zip(rows.split(1), words, chosen, strict=True)
                ]
            for entry, values in zip(ranked, chosen, strict=True):
                entry[name] = values
        return ranked

    def _surer(self, row: Tensor, group: LabelGroup, word: str, ranked: Ranked) -> Ranked:
        """``ranked``, unless it is unsure and a set that has the garment's word is surer of it.

        A vocabulary that lacks a kind of garment has no right word for it.
        """
        if ranked[0][1] < SURE:
            for vocabulary in self._vocabularies_with(group, word):
                (other,) = _probabilities(row, group, vocabulary, self.settings)
                if other[0][0] == word and other[0][1] > ranked[0][1]:
                    return other
        return ranked

    def _vocabularies_with(self, group: LabelGroup, word: str) -> list[tuple[int, ...]]:
        """Those of the sets that know a category by just this word."""
        if word not in group.values:
            return []
        number = group.values.index(word)
        known = [source.vocabulary.get(group.name, ()) for source in self.model.labels.sources]
        return [values for values in known if number in values]


def choose_vocabulary(labels: LabelSpace, name: str | None) -> dict[str, tuple[int, ...]]:
    """Group -> the values to choose from: those of the set ``name``, else of the first that knows.

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
