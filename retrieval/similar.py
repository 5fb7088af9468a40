"""Similar items of a database for the garments that infer.py finds, and their pictures."""

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.description.describer import Describer, Description
from engine.detection.detections import Detections
from engine.errors import InputError
from engine.outputs.results import write_jpeg
from engine.pixels.find_photos import SIMILAR
from retrieval.embedders import embedder_for
from retrieval.pictures import ROOT, item_picture, photo_path
from retrieval.search import Query, find_similar, matching_categories
from retrieval.store import Hit, Item, Store

PICTURE_SIDE = 320  # px


class SimilarItems:
    """Searches a database for items similar to detected garments.

    Args:
        store: open for reading.
        describer: the multitask model, if there is one.
        k: items per garment.
        weights: per aspect.
        categories: the detector's, to restrict items to a garment's category; None: no restriction.

    Raises:
        InputError: a database of other features, or without items of any of the categories.
    """

    def __init__(
        self,
        store: Store,
        describer: Describer | None,
        *,
        k: int,
        weights: Mapping[str, float],
        categories: Sequence[str] | None,
    ) -> None:
        self.store, self.k, self.weights, self.categories = store, k, weights, categories
        self.category_spellings = None
        if categories is not None:
            self.category_spellings = matching_categories(store, categories)
        self.embedder = embedder_for(store.schema, describer, store.name)

    def basis(self) -> dict[str, Any]:
        """Everything that the results depend on besides the photos searched with, for JSON."""
        states = hashlib.sha256()
        for name, state in sorted(self.store.photos().items()):
            states.update(f"{name}\0{state.size}\0{state.mtime_ns}\n".encode())
        return {"database": self.store.name, "photos": states.hexdigest(),
                "labels": self.store.labels(),
                "features": self.store.schema.to_plain(), "about": self.store.about,
                "k": self.k, "weights": self.weights,
                "same_category": self.categories is not None}  # fmt: skip

    def find(
        self,
        path: Path,
        photo: np.ndarray,
        found: Detections,
        descriptions: Sequence[Description] | None,
    ) -> list[list[Hit]]:
        """Each garment's most similar items, best first, excluding those on the same photo.

        Args:
            path: of the photo.
            photo, found: as for ``Describer.describe``.
            descriptions: the describer's, one per garment; None without a describer.
        """
        vectors = self.embedder.vectors(photo, found, descriptions or ())
        names = [self.categories[label - 1] if self.categories else None for label in found.labels]
        queries = [
            Query(path.name, vector, path, category=name)
            for vector, name in zip(vectors, names, strict=True)
        ]
        return find_similar(
            self.store,
            queries,
            weights=self.weights,
            k=self.k,
            exclude_same_photo=True,
            category_spellings=self.category_spellings,
        )

    def entries(self, hits: Sequence[Hit], output: Path | None) -> list[dict[str, Any]]:
        """Hits in the form of garments.json; with ``output``, writes their pictures there."""
        entries = []
        for hit in hits:
            entry = {"key": hit.item.key, "score": round(hit.score, 4),
                     "aspects": {name: round(value, 4) for name, value in hit.aspects.items()},
                     "category": hit.item.category}  # fmt: skip
            picture = self._write_picture(hit.item, output) if output else None
            entries.append(entry | ({"picture": picture} if picture else {}))
        return entries

    def _write_picture(self, item: Item, output: Path) -> str | None:
        """Write an item's picture; returns its path relative to ``output``, None if it has none."""
        root = self.store.about.get(ROOT)
        try:
            changed = photo_path(root, item.photo).stat().st_mtime_ns
        except (InputError, OSError, TypeError):
            return None
        digest = hashlib.sha256(f"{item.key}\0{item.box}\0{changed}".encode()).hexdigest()[:24]
        name = f"{SIMILAR}/{digest}.jpg"
        if not (output / name).exists():
            picture = item_picture(root, item, PICTURE_SIDE)
            if picture is None:
                return None
            # Written under a temporary name and moved: other ranks and threads may write the same.
            # The next run removes what a killed one leaves (engine.files.remove_leftovers).
            own = f".{digest}.{os.getpid()}.{threading.get_ident()}.tmp"
            temporary = output / SIMILAR / own
            write_jpeg(temporary, picture)
            temporary.replace(output / name)
        return name
