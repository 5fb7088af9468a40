"""Computes descriptions and vectors of garments: the model's, classical descriptors, or both.

    embedder = GarmentEmbedder(describer, "both")
    found, descriptions, vectors = embedder.describe(photo, found)   # f32[N,D], for a database

A garment goes through the network once, for its description and its vectors. Databases and queries
use this same code, so that a photo gives the same vectors in both.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from engine.config import require
from engine.data.labels import ASPECTS
from engine.description.describer import CropSettings, Describer, Description, cut_garments
from engine.description.dominant_colors import dominant_colors
from engine.detection.detections import Detections
from engine.errors import InputError
from retrieval import descriptors
from retrieval.features import SCHEMA_VERSION, FeatureSchema, stack

FEATURES = ("multitask", "descriptors", "both")
DESCRIPTOR_CUT = CropSettings(size=192, margin=0.1)

# Shares of the classical descriptors in the cosine of their item vector.
ITEM_SHARES = {"color": 0.5, "texture": 0.25, "shape": 0.25}
# With "both": the model's share in an aspect's cosine; the rest is the descriptor's.
MODEL_SHARES = {"item": 0.8, "color": 0.5, "texture": 0.7, "shape": 0.7}

Vectors = dict[str, np.ndarray]


class GarmentEmbedder:
    """Makes the vectors of one schema.

    Args:
        describer: the multitask model, if there is one.
        features: "multitask", "descriptors" (which need no model) or "both": concatenated in every
            aspect, weighted by MODEL_SHARES; an aspect that the model lacks is the descriptor
            alone.

    Attributes:
        schema: of the vectors.
        cut: how the garments' crops are cut.

    Raises:
        InputError: these features need a model, and there is none or it has learned no aspect.
    """

    def __init__(self, describer: Describer | None, features: str) -> None:
        require(
            describer is not None or features == "descriptors",
            f"features {features}: need a multitask model; give --multitask-weights FILE, or "
            "--features descriptors, which need none",
        )
        self.describer, self.features = describer, features
        uses_model = features != "descriptors"
        self.cut = describer.cut if describer else DESCRIPTOR_CUT
        self.descriptors = None
        if features != "multitask":
            self.descriptors = DescriptorEmbedder(self.cut if uses_model else DESCRIPTOR_CUT)
        self.schema = self.descriptors.schema if self.descriptors else None
        if uses_model:
            learned = model_schema(describer.model, describer.cut)
            self.schema = _joint_schema(learned, self.schema) if self.schema else learned

    def describe(
        self, photo: np.ndarray, found: Detections, categories: Sequence[str] = ()
    ) -> tuple[Detections, list[Description], np.ndarray]:
        """Labels, descriptions and vectors of a photo's garments.

        Args:
            photo, found, categories: as for ``Describer.describe``.

        Returns:
            The garments as ``Describer.describe`` returns them, a description of each (without a
            model: colors only), and vectors f32[N,D].
        """
        if self.describer is None:
            crops, masks = cut_garments(photo, found, self.cut)
            pairs = zip(crops, masks, strict=True)
            descriptions = [Description({}, dominant_colors(*pair), {}) for pair in pairs]
            return found, descriptions, stack(self.descriptors(crops, masks), self.schema)
        found, descriptions = self.describer.describe(photo, found, categories)
        return found, descriptions, self.vectors(photo, found, descriptions)

    def vectors(
        self, photo: np.ndarray, found: Detections, descriptions: Sequence[Description]
    ) -> np.ndarray:
        """f32[N,D] of garments that the same describer has described."""
        if len(found) == 0:
            return np.zeros((0, self.schema.dim), np.float32)
        rows: Vectors = {}
        if self.descriptors:
            rows = self.descriptors(*cut_garments(photo, found, self.descriptors.cut))
        if self.features != "descriptors":
            for name in self.describer.aspects:
                learned = np.stack([description.vectors[name] for description in descriptions])
                share = MODEL_SHARES[name]
                pair = [(learned, share), (rows.get(name), 1 - share)]
                rows[name] = join(pair) if self.descriptors else learned
        return stack(rows, self.schema)


class DescriptorEmbedder:
    """Vectors of crops without any model; ``item`` joins the other three by ITEM_SHARES."""

    def __init__(self, cut: CropSettings = DESCRIPTOR_CUT) -> None:
        self.cut = cut
        self.dims = descriptors.dimensions()
        dims = {"item": sum(self.dims.values())} | self.dims
        self.schema = _schema(dims, f"descriptors {descriptors.VERSION}, {self.cut}")

    def __call__(self, crops: np.ndarray, masks: np.ndarray) -> Vectors:
        """Crops u8[N,S,S,3] and masks u8[N,S,S] -> f32[N,d] per aspect; N may be 0.

        Rows have unit length; each depends on its own crop only.
        """
        found = {name: np.zeros((len(crops), dim), np.float32) for name, dim in self.dims.items()}
        for i, (crop, mask) in enumerate(zip(crops, masks, strict=True)):
            for name, vector in descriptors.describe(crop, mask).items():
                found[name][i] = vector
        return found | {"item": join([(found[name], share) for name, share in ITEM_SHARES.items()])}


def embedder_for(schema: FeatureSchema, describer: Describer | None, where: str) -> GarmentEmbedder:
    """The embedder whose vectors can be compared with those of a database.

    Args:
        schema: the database's.
        describer: the multitask model at hand, if there is one.
        where: the database's location, for the error.

    Raises:
        InputError: there is none: the database was built with another model, or needs a model.
    """
    if schema.fingerprint == DescriptorEmbedder().schema.fingerprint:
        return GarmentEmbedder(describer, "descriptors")
    if describer is None:
        raise InputError(f"{where}: made with a multitask model; give it as --multitask-weights")
    both = GarmentEmbedder(describer, "both")
    embedder = both if both.schema == schema else GarmentEmbedder(describer, "multitask")
    schema.require_same(embedder.schema, where)
    return embedder


def join(parts: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Concatenate unit vectors so that the cosine is the weighted sum of the parts' cosines.

    Args:
        parts: (f32[N,d] rows of unit length, share); shares sum to 1.

    Returns:
        f32[N, sum of d], rows of unit length: each part times the square root of its share, hence
        <x, y> = sum of share * <x_part, y_part>.
    """
    joined = np.concatenate([vectors * np.float32(share**0.5) for vectors, share in parts], axis=1)
    return joined / np.maximum(np.linalg.norm(joined, axis=1, keepdims=True), 1e-12)


def model_schema(model: nn.Module, cut: CropSettings) -> FeatureSchema:
    """The schema of a multitask model's vectors, from its weights and its crop settings.

    Raises:
        InputError: the model has learned no aspect.
    """
    if not model.aspects:
        raise InputError("the model was trained without aspects and has no vectors to search by")
    return _schema(model.dims, f"multitask {model.digest()}, {cut}")


def _joint_schema(learned: FeatureSchema, classical: FeatureSchema) -> FeatureSchema:
    dims = dict(classical.aspects)
    for name, dim in learned.aspects:
        dims[name] += dim
    shares = ", ".join(f"{name} {share:g}" for name, share in MODEL_SHARES.items())
    return _schema(dims, f"{learned.fingerprint} + {classical.fingerprint} ({shares})")


def _schema(dims: Mapping[str, int], fingerprint: str) -> FeatureSchema:
    aspects = tuple((name, dims[name]) for name in ASPECTS if name in dims)
    return FeatureSchema(SCHEMA_VERSION, aspects, fingerprint)
