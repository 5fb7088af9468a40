"""Samples of the multitask model: one crop per garment, from several datasets at once.

The garments of all datasets share one index: those of dataset 0 come first, then those of dataset
1, and so on. A sample holds the number of its dataset and the labels that this dataset has.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data.records import Garment, PhotoRecords
from engine.data.substituting_dataset import SubstitutingDataset
from engine.training.samplers import Draw

Sample = tuple[Tensor, dict[str, Tensor | dict[str, Tensor]]]


class CropDataset(SubstitutingDataset):
    """Crops with their labels; ``dataset[draw]`` is the crop of garment ``draw.index``.

    Args:
        parts: for each dataset its records and labels (``engine.data.labels.encode_labels``: for
            each group int64 [G] or int8 [G, V]).
        transform: (path, garment, draw) -> (image, target), as
            ``engine.pixels.view_transform.MultitaskTransform``; raises PhotoError if the photo
            cannot be read.
        strict: raise PhotoError for an unreadable photo instead of using the next garment.
    """

    def __init__(
        self,
        parts: Sequence[tuple[PhotoRecords, Mapping[str, np.ndarray]]],
        transform: Callable[[Path, Garment, Draw], tuple[Tensor, dict[str, Tensor]]],
        *,
        strict: bool = False,
    ) -> None:
        places = ", ".join(str(records.root) for records, _ in parts)
        super().__init__(places, strict=strict)
        self.parts = list(parts)
        self.transform = transform
        counts = [len(records.garment_category) for records, _ in self.parts]
        self.starts = np.cumsum([0, *counts])
        self.identities = number_identities([records for records, _ in self.parts])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """Number of the dataset that garment ``index`` belongs to, and its row there."""
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return part, index - int(self.starts[part])

    def _sample(self, draw: Draw) -> Sample:
        """The image, uint8 [3, S, S], and its target.

        The target is that of the transform plus "source" int64 [], the number of the dataset;
        "identity" int64 [], unique over all datasets, -1 unknown; "labels", {group: int64 [] or
        int8 [V]}.
        """
        part, row = self.locate(draw.index)
        records, labels = self.parts[part]
        photo, garment = records.garment(row)
        image, target = self.transform(records.path(photo), garment, draw)
        target["source"] = torch.tensor(part)
        target["identity"] = torch.tensor(int(self.identities[draw.index]))
        target["labels"] = {name: torch.tensor(values[row]) for name, values in labels.items()}
        return image, target


def number_identities(parts: Sequence[PhotoRecords]) -> np.ndarray:
    """Identities numbered without collisions between datasets: int64 [all garments], -1 unknown."""
    numbers, used = [np.zeros(0, np.int64)], 0
    for records in parts:
        known = records.garment_identity >= 0
        distinct, compact = np.unique(records.garment_identity[known], return_inverse=True)
        own = np.full(len(known), -1, np.int64)
        own[known] = used + compact
        used += len(distinct)
        numbers.append(own)
    return np.concatenate(numbers)


def collate_crops(samples: Sequence[Sample]) -> Sample:
    """Stack samples: images uint8 [B, 3, S, S], and every tensor of the targets along axis 0."""
    images, targets = zip(*samples, strict=True)
    return torch.stack(images), _stack(targets)


def _stack(targets: Sequence[dict]) -> dict:
    stacked = {}
    for key, value in targets[0].items():
        values = [target[key] for target in targets]
        stacked[key] = _stack(values) if isinstance(value, dict) else torch.stack(values)
    return stacked
