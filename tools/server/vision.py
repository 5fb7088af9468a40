"""The garments of an uploaded photo, described with the code that builds databases."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.description.describer import Description
from engine.detection.detections import Detections
from engine.detection.finder import GarmentFinder, whole_photo
from engine.detection.predict import KEPT_SHORT_SIDE
from retrieval.embedders import GarmentEmbedder
from tools.server.limits import Limits
from tools.server.uploads import open_upload

MOST_GARMENTS = 30


@dataclass(slots=True)
class DescribedPhoto:
    """The garments of a photo.

    Attributes:
        found: the garments; the whole photo as one if none was recognized.
        categories: of each garment; empty for the whole photo.
        descriptions: of each garment.
        vectors: f32[N,D].
    """

    found: Detections
    categories: list[str]
    descriptions: Sequence[Description]
    vectors: np.ndarray


class Vision:
    """The networks, ready for photos; for one thread at a time.

    Args:
        finder: the detector; None: every photo is one garment.
        embedder: of the database's features.
        limits: on photos.
    """

    def __init__(
        self, finder: GarmentFinder | None, embedder: GarmentEmbedder, limits: Limits
    ) -> None:
        self.finder, self.embedder, self.limits = finder, embedder, limits

    def describe(self, data: bytes) -> DescribedPhoto:
        """Detect and describe the garments in a photo.

        Args:
            data: the content of the photo's file.

        Raises:
            Refusal: it is too large, or not a photo.
        """
        upload = open_upload(data, self.limits, self._short_side)
        full_size, photo = (upload.width, upload.height), upload.photo
        found, names = whole_photo(None, full_size), []
        if self.finder:
            garments, photo = self.finder.find_in(photo, full_size, upload.read)
            garments = garments.only(range(min(len(garments), MOST_GARMENTS)))
            if len(garments):
                found, names = garments, self.finder.categories
        found, descriptions, vectors = self.embedder.describe(photo, found, names)
        if not len(found):  # the multitask model recognized none of the detections
            found, names = whole_photo(None, full_size), []
            found, descriptions, vectors = self.embedder.describe(photo, found, names)
        own = [names[label - 1] for label in found.labels] if names else []
        return DescribedPhoto(found, own, descriptions, vectors)

    def _short_side(self, width: int, height: int) -> int:
        if self.finder is None:
            return KEPT_SHORT_SIDE
        return max(min(self.finder.settings.size_of((width, height))), KEPT_SHORT_SIDE)
