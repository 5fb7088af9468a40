"""What the multitask model says of garments, in the numbers of a dataset's own attributes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.data.records import PhotoRecords
from engine.description.describer import Describer, Description
from engine.detection.detections import Detections
from engine.detection.duplicates import drop_duplicates

EVERY_VALUE = 1_000_000  # ``top_k`` of a describer that leaves none out
YES = 0.5  # probability from which an attribute that stands by itself is told


class DescribedDetections:
    """What infer.py would tell of a detector's findings: each garment once, named and described.

    Args:
        describer: tells all values of a group, not the likeliest few alone.
        categories: the detector's.
        records: whose attributes are told, as far as the model knows them.
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
        """The garments with names, and attributes if the model knows any of the dataset's.

        Args:
            photo: u8[H,W,3] RGB, upright, as ``Describer.describe`` takes it.
            found: its garments.
        """
        # A second name for the same garment would become the first one's name, and a repetition.
        found = drop_duplicates(found, self.overlap)
        found, descriptions = self.describer.describe(photo, found, self.categories)
        if not self.places:
            return found
        return replace(found, attributes=self.told(descriptions))

    def told(self, descriptions: Sequence[Description]) -> np.ndarray:
        """bool [N, A]: of a question with one answer the likeliest, of others all likely ones."""
        rows = np.zeros((len(descriptions), self.attributes), bool)
        for row, description in zip(rows, descriptions, strict=True):
            for group, place in self.places.items():
                ranked = description.labels[group]
                likely = [value for value, probability in ranked if probability >= YES]
                values = [ranked[0][0]] if self.describer.groups[group] else likely
                known = [place[v.casefold()] for v in values if v.casefold() in place]
                row[known] = True
        return rows
