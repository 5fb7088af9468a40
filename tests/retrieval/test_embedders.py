"""Embedders: vectors match the schema, cosines add up by shares, fingerprints identify models."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from engine.data.labels import ASPECTS, LabelGroup, LabelSpace, Source
from engine.description.describer import CropSettings, Describer, DescriberSettings, cut_garments
from engine.description.multitask import ASPECT_DIMS, build_multitask
from engine.detection.detections import Detections
from engine.errors import InputError
from retrieval import descriptors, embedders
from retrieval.embedders import (
    FEATURES,
    ITEM_SHARES,
    MODEL_SHARES,
    DescriptorEmbedder,
    GarmentEmbedder,
    embedder_for,
    join,
)

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


def describer_of(checkpoint: dict) -> Describer:
    return Describer(checkpoint, CPU, DescriberSettings())


@pytest.fixture(scope="module")
def checkpoint() -> dict:
    return checkpoint_with("category", *ASPECTS)


@pytest.fixture(scope="module")
def describer(checkpoint: dict) -> Describer:
    return describer_of(checkpoint)


def garments(count: int) -> tuple[np.ndarray, Detections]:
    """Colored blobs in a row, with their masks."""
    rng = np.random.default_rng(1)
    photo = rng.integers(0, 255, (90, 40 * 37, 3)).astype(np.uint8)
    boxes, masks = [], []
    for i in range(count):
        x1, y1 = 40 * i + 3, int(rng.integers(5, 30))
        bitmap = np.zeros(photo.shape[:2], np.uint8, order="F")
        bitmap[y1 : y1 + 50, x1 : x1 + 31] = 1
        bitmap[y1 : y1 + 9, x1 : x1 + 11] = 0
        photo[bitmap > 0] = rng.integers(0, 255, 3)
        boxes.append([x1, y1, x1 + 31, y1 + 50])
        masks.append(coco_mask.encode(bitmap))
    return photo, detections(photo, boxes, masks)


def detections(photo: np.ndarray, boxes: list, masks: list | None) -> Detections:
    count = len(boxes)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    scores, labels = np.ones(count, np.float32), np.ones(count, np.int64)
    return Detections(photo.shape[1], photo.shape[0], boxes, scores, labels, masks)


def only(found: Detections, photo: np.ndarray, i: int) -> Detections:
    return detections(photo, [found.boxes[i]], [found.masks[i]])


@pytest.mark.parametrize("features", FEATURES)
def test_vectors_follow_the_schema_and_their_own_crop_only(features: str, describer) -> None:
    embedder = GarmentEmbedder(describer, features)
    photo, found = garments(7)
    _, descriptions, together = embedder.describe(photo, found)
    assert embedder.schema.names == ASPECTS
    assert together.shape == (7, embedder.schema.dim) and len(descriptions) == 7
    for name in ASPECTS:
        part = together[:, embedder.schema.slice(name)]
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1, atol=1e-5)
    alone = embedder.describe(photo, only(found, photo, 6))[2]
    np.testing.assert_allclose(alone[0], together[6], atol=2e-3)
    assert abs(together[5] - together[6]).max() > 1e-2
    nothing = embedder.describe(photo, detections(photo, [], []))
    assert nothing[1] == [] and nothing[2].shape == (0, embedder.schema.dim)


def test_one_pass_gives_descriptions_and_vectors(describer, monkeypatch) -> None:
    photo, found = garments(3)
    calls = []
    describe = describer.model.describe
    monkeypatch.setattr(
        describer.model, "describe", lambda *rows: calls.append(len(rows[0])) or describe(*rows)
    )
    embedder = GarmentEmbedder(describer, "both")
    _, descriptions, vectors = embedder.describe(photo, found)
    assert calls == [3]
    assert [name for name, _ in descriptions[0].labels["category"]]
    again = embedder.vectors(photo, *describer.describe(photo, found))
    np.testing.assert_allclose(vectors, again, atol=1e-6)


def test_garments_that_the_model_drops_get_no_vector(describer, monkeypatch) -> None:
    photo, found = garments(3)
    embedder, describe = GarmentEmbedder(describer, "both"), describer.describe
    expected = embedder.describe(photo, found)[2][1:]

    def without_the_first(*garments) -> tuple:
        kept, descriptions = describe(*garments)
        return kept.only([1, 2]), descriptions[1:]

    monkeypatch.setattr(describer, "describe", without_the_first)
    kept, descriptions, vectors = embedder.describe(photo, found)
    assert kept.boxes.tolist() == found.boxes[1:].tolist() and len(descriptions) == 2
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_without_a_model_crops_are_cut_once_for_colors_and_vectors(monkeypatch) -> None:
    photo, found = garments(3)
    embedder, cuts = GarmentEmbedder(None, "descriptors"), []
    cut = embedders.cut_garments
    monkeypatch.setattr(embedders, "cut_garments", lambda *rows: cuts.append(rows) or cut(*rows))
    vectors = embedder.describe(photo, found)[2]
    assert len(cuts) == 1
    np.testing.assert_allclose(vectors, embedder.vectors(photo, found, ()), atol=1e-6)


def test_cosines_of_joined_vectors_add_up_by_shares(describer) -> None:
    photo, found = garments(5)
    classical = DescriptorEmbedder(CropSettings(SIDE, 0.1))
    described = classical(*cut_garments(photo, found, classical.cut))
    kinds = {f: GarmentEmbedder(describer, f) for f in ("both", "multitask")}
    rows = {f: embedder.describe(photo, found)[2] for f, embedder in kinds.items()}
    for name in ASPECTS:
        joint, learned = (rows[f][:, kinds[f].schema.slice(name)] for f in kinds)
        share = MODEL_SHARES[name]
        expected = share * (learned @ learned.T)
        expected += (1 - share) * (described[name] @ described[name].T)
        np.testing.assert_allclose(joint @ joint.T, expected, atol=1e-5)
    expected = sum(s * (described[n] @ described[n].T) for n, s in ITEM_SHARES.items())
    np.testing.assert_allclose(described["item"] @ described["item"].T, expected, atol=1e-5)


def test_joining_keeps_unit_length() -> None:
    one, two = np.eye(3, dtype=np.float32), np.eye(3, 5, dtype=np.float32)
    np.testing.assert_allclose(
        join([(one, 0.64), (two, 0.36)])[0], [0.8, 0, 0, 0.6, 0, 0, 0, 0], atol=1e-6
    )


def test_descriptors_equal_those_of_the_crops_and_need_no_model() -> None:
    photo, found = garments(2)
    embedder = GarmentEmbedder(None, "descriptors")
    _, descriptions, vectors = embedder.describe(photo, found)
    crops, masks = cut_garments(photo, found, embedder.cut)
    for name, vector in descriptors.describe(crops[1], masks[1]).items():
        assert np.array_equal(vectors[1, embedder.schema.slice(name)], vector)
    assert descriptions[0].labels == {} and descriptions[0].colors
    with pytest.raises(InputError, match="--multitask-weights"):
        GarmentEmbedder(None, "both")


def test_fingerprints_differ_for_other_weights_or_crop_settings(checkpoint: dict) -> None:
    def schema(change: str = "", **config):
        changed = copy.deepcopy(checkpoint)
        changed["config"] |= config
        if change:
            name = next(n for n in changed["model"] if n.startswith(change))
            changed["model"][name].view(-1)[0] += 1
        return GarmentEmbedder(describer_of(changed), "multitask").schema

    own = schema()
    assert own.aspects == tuple((name, ASPECT_DIMS[name]) for name in ASPECTS)
    assert schema() == own == schema(background=True)
    assert schema("classifiers.") == own  # vectors don't depend on it
    others = (schema("backbone."), schema("aspect_heads."), schema(margin=0.2))
    for other in (*others, schema(background=False)):
        with pytest.raises(InputError, match=r"^db: .*fingerprint"):
            own.require_same(other, "db")


def test_fingerprint_of_joined_vectors_names_the_shares(describer, monkeypatch) -> None:
    before = GarmentEmbedder(describer, "both").schema.fingerprint
    monkeypatch.setitem(MODEL_SHARES, "color", 0.25)
    after = GarmentEmbedder(describer, "both").schema.fingerprint
    assert "color 0.5" in before and after == before.replace("color 0.5", "color 0.25")


def test_model_trained_on_masks_with_background_is_given_them(checkpoint: dict) -> None:
    photo = np.full((64, 64, 3), 255, np.uint8)
    photo[16:48, 20:44] = (200, 30, 40)
    found = detections(photo, [[0, 0, 64, 64]], None)
    without = copy.deepcopy(checkpoint)
    without["config"]["background"] = False
    rows = [
        GarmentEmbedder(describer_of(c), "multitask").describe(photo, found)[2]
        for c in (checkpoint, without)
    ]
    assert abs(rows[0] - rows[1]).max() > 1e-3


@pytest.mark.parametrize("features", FEATURES)
def test_embedder_for_a_database_matches_its_schema(features: str, describer) -> None:
    schema = GarmentEmbedder(describer, features).schema
    embedder = embedder_for(schema, describer, "db")
    assert embedder.features == features
    assert embedder.describer is describer, "it describes photos whatever the vectors are"
    with pytest.raises(InputError, match=r"^db: its features"):
        embedder_for(replace(schema, fingerprint=f"{schema.fingerprint} older"), describer, "db")
    if features != "descriptors":
        with pytest.raises(InputError, match=r"^db: .*--multitask-weights"):
            embedder_for(schema, None, "db")
    other = describer_of(checkpoint_with("category", "color"))
    if features != "descriptors":
        with pytest.raises(InputError, match=r"^db: its features"):
            embedder_for(schema, other, "db")


def test_aspects_missing_from_the_model_come_from_the_descriptors() -> None:
    describer = describer_of(checkpoint_with("category", "color"))
    assert GarmentEmbedder(describer, "multitask").schema.names == ("color",)
    both, (photo, found) = GarmentEmbedder(describer, "both"), garments(2)
    assert both.schema.names == ASPECTS
    crops = cut_garments(photo, found, CropSettings(SIDE, 0.1))
    shape = both.describe(photo, found)[2][:, both.schema.slice("shape")]
    np.testing.assert_allclose(
        shape, DescriptorEmbedder(CropSettings(SIDE, 0.1))(*crops)["shape"], atol=1e-5
    )
    with pytest.raises(InputError, match="without aspects"):
        GarmentEmbedder(describer_of(checkpoint_with("category")), "multitask")
