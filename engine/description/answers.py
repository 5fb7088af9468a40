"""The multitask model's predictions as attributes of a dataset, for its evaluation."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.data.records import PhotoRecords
from engine.description.describer import Describer, Description
from engine.detection.detections import Detections
from engine.detection.duplicates import drop_duplicates

EVERY_VALUE = 1_000_000  # ``top_k`` of a describer that ranks all values
YES = 0.5  # probability from which a non-exclusive attribute is predicted


class DescribedDetections:
    """Turns raw detections into what infer.py reports: no duplicates, fused labels, attributes.

    Args:
        describer: with ``top_k=EVERY_VALUE``, since a dataset may lack the most probable values.
        categories: the detector's.
        records: the dataset; its attributes that the model does not know are never predicted.
        overlap: see ``engine.detection.duplicates.drop_duplicates``.
    """

    def __init__(
        self,
        describer: Describer,
        categories: Sequence[str],
        records: PhotoRecords,
        overlap: float,
    ) -> None:
        self.describer, self.categories, self.overlap = describer, categories, overlap
        self.attributes = len(records.attributes)
        self.places = {
            group.name.lower(): {
                records.attributes[number].casefold(): number
                for number in range(group.start, group.stop)
            }
            for group in records.attribute_groups
            if group.name.lower() in describer.groups
        }

    def __call__(self, photo: np.ndarray, found: Detections) -> Detections:
        """The garments with fused labels, and attributes if the model knows any of the dataset's.

        Args:
            photo: u8[H,W,3] RGB, upright, as ``Describer.describe`` takes it.
            found: its garments.
        """
        # First: fusion would give two detections of one garment the same label.
        found = drop_duplicates(found, self.overlap)
        found, descriptions = self.describer.describe(photo, found, self.categories)
        if not self.places:
            return found
        return replace(found, attributes=self.to_attributes(descriptions))

    def to_attributes(self, descriptions: Sequence[Description]) -> np.ndarray:
        """bool [N, A]: the most probable value of an exclusive group, of others all above YES."""
        rows = np.zeros((len(descriptions), self.attributes), bool)
        for row, description in zip(rows, descriptions, strict=True):
            for group, place in self.places.items():
                ranked = description.labels[group]
                likely = [value for value, probability in ranked if probability >= YES]
                values = [ranked[0][0]] if self.describer.groups[group] else likely
                known = [place[v.casefold()] for v in values if v.casefold() in place]
                row[known] = True
        return rows
