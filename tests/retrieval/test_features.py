"""Feature schemas and weighted queries against the score's definition."""

import json

import numpy as np
import pytest

from engine.errors import InputError
from retrieval.features import (
    SCHEMA_VERSION,
    FeatureSchema,
    stack,
    weighted_query,
)

SCHEMA = FeatureSchema(SCHEMA_VERSION, (("item", 5), ("color", 3), ("shape", 7)), "test")


def unit_rows(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    rows = rng.normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def features(seed: int, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: unit_rows(rng, count, dim) for name, dim in SCHEMA.aspects}


def test_columns_follow_the_schema() -> None:
    found = features(0, 4)
    stacked = stack(found, SCHEMA)
    assert stacked.shape == (4, SCHEMA.dim) == (4, 15)
    for name in SCHEMA.names:
        assert np.array_equal(stacked[:, SCHEMA.slice(name)], found[name])
    assert stack(features(0, 0), SCHEMA).shape == (0, 15)


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ({"color": 2.0}, {"color": 1.0}),
        ({"item": 1, "color": 0.25, "shape": 3.75}, {"item": 0.2, "color": 0.05, "shape": 0.75}),
        ({"item": 1e308, "shape": 1e308}, {"item": 0.5, "shape": 0.5}),  # their sum overflows
    ],
)
def test_one_inner_product_is_the_weighted_score(weights, shares) -> None:
    queries, stored = features(1, 3), features(2, 11)
    scores = weighted_query(stack(queries, SCHEMA), weights, SCHEMA) @ stack(stored, SCHEMA).T
    for q in range(3):
        for x in range(11):
            score = sum(s * (queries[name][q] @ stored[name][x]) for name, s in shares.items())
            assert scores[q, x] == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        ({"colour": 1}, "colour"),
        ({"color": -0.1}, "color=-0.1"),
        ({"color": float("nan")}, "color=nan"),
        ({"color": float("inf")}, "color=inf"),
        ({"color": 0, "item": 0}, "all weights"),
        ({}, "all weights"),
    ],
)
def test_invalid_weights_are_refused(weights, named) -> None:
    with pytest.raises(InputError, match=named):
        weighted_query(stack(features(0, 1), SCHEMA), weights, SCHEMA)


def test_schema_survives_json_and_damage_is_refused() -> None:
    assert FeatureSchema.from_plain(json.loads(json.dumps(SCHEMA.to_plain()))) == SCHEMA
    for damaged in ({}, None, [], {"version": 1, "aspects": [["item"]], "fingerprint": ""}):
        with pytest.raises(InputError, match=r"^db/database\.json: "):
            FeatureSchema.from_plain(damaged, "db/database.json")
    with pytest.raises(InputError):
        FeatureSchema(1, (("item", 3), ("item", 3)), "")


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (FeatureSchema(SCHEMA_VERSION + 1, SCHEMA.aspects, "test"), "version"),
        (FeatureSchema(SCHEMA_VERSION, SCHEMA.aspects[::-1], "test"), "aspects"),
        (FeatureSchema(SCHEMA_VERSION, SCHEMA.aspects, "other"), "fingerprint"),
    ],
)
def test_features_of_another_schema_are_refused(other, what) -> None:
    SCHEMA.require_same(FeatureSchema.from_plain(SCHEMA.to_plain()), "db")
    with pytest.raises(InputError, match=f"^db: .*{what}"):
        SCHEMA.require_same(other, "db")


def test_stack_refuses_what_the_schema_does_not_describe() -> None:
    found = features(0, 2)
    for bad, named in (
        ({"item": found["item"]}, "color"),
        (found | {"color": found["color"][:, :2]}, "color"),
        (found | {"shape": np.full((2, 7), np.nan)}, "finite"),
    ):
        with pytest.raises(InputError, match=named):
            stack(bad, SCHEMA)
