"""Embedders: vectors follow their schema, cosines add up by shares, fingerprints tell models."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.errors import InputError
from engine.labels import ASPECTS, LabelGroup, LabelSpace, Source
from engine.multitask import ASPECT_DIMS, build_multitask
from retrieval import descriptors
from retrieval.embedders import (
    ITEM_SHARES,
    MODEL_SHARES,
    DescriptorEmbedder,
    JointEmbedder,
    ModelEmbedder,
    build_embedder,
    join,
)
from retrieval.features import stack

SPACE = LabelSpace(
    (LabelGroup("category", ("shirt", "jeans"), True),), (Source("shop", {"category": (0, 1)}),)
)
SIDE = 64
CPU = torch.device("cpu")


def checkpoint_with(*tasks: str) -> dict:
    torch.manual_seed(7)
    model = build_multitask(SPACE, trunk="resnet18", weights="none", tasks=tasks)
    config = {"trunk": "resnet18", "tasks": list(tasks), "crop_size": SIDE, "margin": 0.1}
    return {"config": config, "labels": SPACE.to_plain(), "model": model.state_dict()}


@pytest.fixture(scope="module")
def checkpoint() -> dict:
    return checkpoint_with("category", *ASPECTS)


def crops(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 8, 8, generator=generator) * 255
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.uint8)
    masks[:, 5:50, 11:40] = 255
    masks[:, 5:20, 11:20] = 0
    return F.interpolate(coarse, size=SIDE, mode="bilinear").to(torch.uint8), masks


@pytest.mark.parametrize("kind", ["descriptors", "model", "both"])
def test_vectors_follow_the_schema_and_their_own_crop_only(kind: str, checkpoint: dict) -> None:
    embedder = build_embedder(
        None if kind == "descriptors" else checkpoint, CPU, with_descriptors=kind == "both"
    )
    together = embedder(*crops(37))
    assert embedder.schema.names == ASPECTS
    assert stack(together, embedder.schema).shape == (37, embedder.schema.dim)
    for name in ASPECTS:
        np.testing.assert_allclose(np.linalg.norm(together[name], axis=1), 1, atol=1e-5)
    pixels, masks = crops(37)
    alone = embedder(pixels[36:], masks[36:])
    for name in ASPECTS:
        assert alone[name][0] @ together[name][36] > 0.9999
    nothing = embedder(pixels[:0], masks[:0])
    assert stack(nothing, embedder.schema).shape == (0, embedder.schema.dim)


def test_cosines_of_joined_vectors_add_up_by_shares(checkpoint: dict) -> None:
    model = ModelEmbedder(checkpoint, CPU)
    both, described = JointEmbedder(model), DescriptorEmbedder(SIDE, 0.1)
    pixels, masks = crops(5)
    joint, learned, classical = (e(pixels, masks) for e in (both, model, described))
    for name in ASPECTS:
        share = MODEL_SHARES[name]
        expected = share * (learned[name] @ learned[name].T)
        expected += (1 - share) * (classical[name] @ classical[name].T)
        np.testing.assert_allclose(joint[name] @ joint[name].T, expected, atol=1e-5)
    expected = sum(s * (classical[n] @ classical[n].T) for n, s in ITEM_SHARES.items())
    np.testing.assert_allclose(classical["item"] @ classical["item"].T, expected, atol=1e-5)


def test_joining_keeps_unit_length() -> None:
    one, two = np.eye(3, dtype=np.float32), np.eye(3, 5, dtype=np.float32)
    np.testing.assert_allclose(
        join([(one, 0.64), (two, 0.36)])[0], [0.8, 0, 0, 0.6, 0, 0, 0, 0], atol=1e-6
    )


def test_descriptors_are_those_of_the_crops() -> None:
    pixels, masks = crops(2)
    found = DescriptorEmbedder(SIDE)(pixels, masks)
    crop = pixels[1].permute(1, 2, 0).contiguous().numpy()
    for name, vector in descriptors.describe(crop, masks[1].numpy()).items():
        assert np.array_equal(found[name][1], vector)


def test_fingerprints_tell_weights_and_cuts_apart(checkpoint: dict) -> None:
    def schema(change: str = "", **config):
        changed = copy.deepcopy(checkpoint)
        changed["config"] |= config
        if change:
            name = next(n for n in changed["model"] if n.startswith(change))
            changed["model"][name].view(-1)[0] += 1
        return ModelEmbedder(changed, CPU).schema

    own = schema()
    assert own.aspects == tuple((name, ASPECT_DIMS[name]) for name in ASPECTS)
    assert schema() == own
    assert schema("classifiers.") == own  # vectors don't depend on it
    for other in (schema("backbone."), schema("aspect_heads."), schema(margin=0.2)):
        with pytest.raises(InputError, match=r"^db: .*fingerprint"):
            own.require_same(other, "db")
    with pytest.raises(InputError):
        own.require_same(JointEmbedder(ModelEmbedder(checkpoint, CPU)).schema, "db")


def test_aspects_the_model_has_not_learned_come_from_the_descriptors() -> None:
    model = ModelEmbedder(checkpoint_with("category", "color"), CPU)
    assert model.schema.names == ("color",)
    both, pixels = JointEmbedder(model), crops(2)
    assert both.schema.names == ASPECTS
    np.testing.assert_array_equal(
        both(*pixels)["shape"], DescriptorEmbedder(SIDE, 0.1)(*pixels)["shape"]
    )
    with pytest.raises(InputError, match="without aspects"):
        ModelEmbedder(checkpoint_with("category"), CPU)
