"""A garment's features, one unit vector per aspect, and the schema that describes them.

The aspects' vectors are stored side by side, in the schema's order. The score of a stored garment x
for a query q under weights w is sum_a w_a <q_a, x_a> / sum_a w_a. Multiplying each part of the
query by w_a / sum(w) turns this into a plain inner product, so one stored matrix serves any
weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.errors import InputError

# Increased when stored vectors change their meaning although names and sizes stay the same.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class FeatureSchema:
    """What the columns of a feature matrix mean; vectors of different schemas never mix.

    Attributes:
        version: of the layout, ``SCHEMA_VERSION`` when written by this code.
        aspects: (name, dimensions) of each part, in the order of the columns.
        fingerprint: method, weights and preprocessing that computed the vectors, in one string.
    """

    version: int
    aspects: tuple[tuple[str, int], ...]
    fingerprint: str

    def __post_init__(self) -> None:
        names = [name for name, _ in self.aspects]
        if not names or len(set(names)) < len(names) or min(d for _, d in self.aspects) < 1:
            raise InputError(f"feature schema: aspects {self.aspects} are empty or repeat a name")

    @property
    def names(self) -> tuple[str, ...]:
        """The aspects' names, in the order of the columns."""
        return tuple(name for name, _ in self.aspects)

    @property
    def dim(self) -> int:
        """Columns of all aspects together."""
        return sum(dim for _, dim in self.aspects)

    def slice(self, aspect: str) -> slice:
        """The columns of one aspect.

        Raises:
            InputError: the schema has no such aspect.
        """
        start = 0
        for name, dim in self.aspects:
            if name == aspect:
                return slice(start, start + dim)
            start += dim
        raise InputError(f"no aspect {aspect!r}: these features have {', '.join(self.names)}")

    def to_plain(self) -> dict[str, Any]:
        """In a form that JSON can hold."""
        aspects = [[name, dim] for name, dim in self.aspects]
        return {"version": self.version, "aspects": aspects, "fingerprint": self.fingerprint}

    @classmethod
    def from_plain(cls, plain: Any, where: str = "feature schema") -> "FeatureSchema":
        """Inverse of ``to_plain``.

        Raises:
            InputError: not written by ``to_plain``; the message begins with ``where``.
        """
        try:
            aspects = tuple((str(name), int(dim)) for name, dim in plain["aspects"])
            return cls(int(plain["version"]), aspects, str(plain["fingerprint"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: damaged or missing description of the features") from error

    def require_same(self, other: "FeatureSchema", where: str) -> None:
        """Refuse features that cannot be compared with these.

        Raises:
            InputError: naming ``where`` (the database's location) and the first difference.
        """
        for what in ("version", "aspects", "fingerprint"):
            own, given = getattr(self, what), getattr(other, what)
            if own != given:
                raise InputError(
                    f"{where}: its features have {what} {own}, the new ones {given}; use the same "
                    "model and settings, or build another database"
                )


def stack(features: Mapping[str, np.ndarray], schema: FeatureSchema) -> np.ndarray:
    """Put aspect vectors side by side.

    Args:
        features: f32[N,d] per aspect, rows of unit length; entries not in the schema are ignored.
        schema: of the result.

    Returns:
        f32[N,D], contiguous.

    Raises:
        InputError: an aspect is missing, has another size, or holds values that are not finite.
    """
    parts = []
    for name, dim in schema.aspects:
        if name not in features:
            raise InputError(f"features lack the aspect {name!r}, which the schema requires")
        part = np.asarray(features[name], np.float32)
        if part.ndim != 2 or part.shape[1] != dim:
            raise InputError(f"features {name!r} are {part.shape}, the schema requires (N, {dim})")
        if not np.isfinite(part).all():
            raise InputError(f"features {name!r} hold values that are not finite")
        parts.append(part)
    return np.concatenate(parts, axis=1)


def weighted_query(
    vectors: np.ndarray, weights: Mapping[str, float], schema: FeatureSchema
) -> np.ndarray:
    """Queries whose plain inner product with stored vectors is the weighted score.

    Args:
        vectors: f32[Q,D] of stacked unit vectors.
        weights: per aspect, 0 or more; 0 for an aspect left out.
        schema: of the vectors.

    Returns:
        f32[Q,D]: each aspect's columns times w / sum(w).

    Raises:
        InputError: an unknown aspect, a weight that is negative or not finite, or only zeros.
    """
    factors = np.repeat(
        normalized_weights(weights, schema).astype(np.float32), [dim for _, dim in schema.aspects]
    )
    return np.asarray(vectors, np.float32) * factors


def normalized_weights(weights: Mapping[str, float], schema: FeatureSchema) -> np.ndarray:
    """f64[aspects] in the schema's order, summing to 1; raises as ``weighted_query``."""
    for name, weight in weights.items():
        schema.slice(name)
        if not math.isfinite(weight) or weight < 0:
            raise InputError(f"weight {name}={weight}: give a number from 0 up")
    raw = np.array([weights.get(name, 0.0) for name in schema.names], np.float64)
    if not raw.any():
        raise InputError("all weights are 0: give at least one aspect a weight above 0")
    raw /= raw.max()  # first, because the sum of huge weights would overflow
    return raw / raw.sum()


def parse_weights(text: str) -> dict[str, float]:
    """Parse ``color=1,shape=0.5``; InputError for anything else."""
    weights = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            weights[name.strip()] = float(number)
        except ValueError:
            raise InputError(f"weights {text!r}: write ASPECT=NUMBER,ASPECT=NUMBER") from None
    return weights
