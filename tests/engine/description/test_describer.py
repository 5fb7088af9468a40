"""Descriptions of detected garments: order, probabilities, batches, averaging, reduced photos."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from engine.data.labels import IS_GARMENT, LabelGroup, LabelSpace, Source
from engine.description.describer import Describer, DescriberSettings, choose_vocabulary
from engine.description.multitask import build_multitask
from engine.description.multitask_config import MultitaskConfig
from engine.description.multitask_task import settings_of
from engine.detection.detections import Detections
from engine.errors import InputError
from engine.pixels.view_transform import MultitaskAugmentation

BRANCHES = ("upper", "upper", "lower", "lower", "")
SPACE = LabelSpace(
    (
        LabelGroup("category", ("shirt", "top", "jeans", "shorts", "hat"), True, BRANCHES),
        LabelGroup("color", ("red", "blue", "gray"), True),
        LabelGroup("parts", ("zip", "hood"), False),
    ),
    (
        Source("shop", {"category": (0, 2, 4), "color": (0, 1, 2)}),
        Source("street", {"category": (1, 2, 3), "parts": (0, 1)}),
    ),
)
TASKS = ("category", "attributes", "item", "color")


@pytest.fixture(scope="module")
def checkpoint():
    torch.manual_seed(5)
    model = build_multitask(SPACE, trunk="resnet18", weights="none", tasks=TASKS)
    config = {"trunk": "resnet18", "tasks": list(TASKS), "crop_size": 64, "margin": 0.1}
    return {"config": config, "labels": SPACE.to_plain(), "model": model.state_dict()}


def describer(checkpoint, **settings) -> Describer:
    return Describer(checkpoint, torch.device("cpu"), DescriberSettings(**settings))


def described(checkpoint, photo, found, categories=(), **settings):
    return describer(checkpoint, **settings).describe(photo, found, categories)[1]


def photo_with(count: int) -> tuple[np.ndarray, Detections]:
    """Colored rectangles on gray, and perfect detections of them."""
    rng = np.random.default_rng(count)
    photo = np.full((240, 320, 3), 128, np.uint8)
    boxes, masks = [], []
    for _ in range(count):
        x, y = rng.integers(0, 200), rng.integers(0, 150)
        w, h = rng.integers(40, 110, 2)
        mask = np.zeros(photo.shape[:2], np.uint8, order="F")
        mask[y : y + h, x : x + w] = 1
        photo[mask > 0] = rng.integers(0, 255, 3)
        boxes.append([x, y, min(x + w, 320), min(y + h, 240)])
        masks.append(coco_mask.encode(mask))
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.arange(count) % 2 + 1
    return photo, Detections(320, 240, boxes, np.ones(count, np.float32), labels, masks)


@pytest.mark.parametrize("background", [False, True])
def test_crops_are_cut_as_the_training_says(checkpoint, background):
    trained = MultitaskConfig(
        output_dir="unused", dataset=("csv:x",), trunk="resnet18", tasks=TASKS
    )
    augmentation = MultitaskAugmentation(crop_size=96, margin=0.25, background=background)
    cut = describer(checkpoint | {"config": settings_of(trained, augmentation)}).cut
    assert (cut.size, cut.margin, cut.background) == (96, 0.25, background)


def test_probabilities_are_those_of_the_chosen_vocabulary(checkpoint):
    photo, found = photo_with(3)
    for entry in described(checkpoint, photo, found, top_k=3):
        assert list(entry.labels) == ["category", "color", "parts"]
        names, values = zip(*entry.labels["category"], strict=True)
        assert set(names) == {"shirt", "jeans", "hat"}  # the first set's words
        assert sum(values) == pytest.approx(1, abs=1e-3)
        assert list(values) == sorted(values, reverse=True)
        assert {n for n, _ in entry.labels["parts"]} == {"zip", "hood"}
        assert set(entry.vectors) == {"item", "color"}
        assert np.linalg.norm(entry.vectors["item"]) == pytest.approx(1, abs=1e-5)


def test_another_vocabulary_and_fewer_answers_can_be_asked_for(checkpoint):
    photo, found = photo_with(2)
    entry = described(checkpoint, photo, found, vocabulary="street", top_k=1)[0]
    assert {n for n, _ in entry.labels["category"]} < {"top", "jeans", "shorts"}
    assert len(entry.labels["category"]) == len(entry.labels["color"]) == 1
    with pytest.raises(InputError, match=r"vocabulary x: the model was trained on shop, street"):
        describer(checkpoint, vocabulary="x")


@pytest.mark.parametrize(
    ("logits", "word", "first"),
    [
        ([0.1, 0, 0, 5, 0], "Shorts", "shorts"),  # street's word, of which the shop has none
        ([9, 0, 0, 5, 0], "shorts", "shirt"),  # the shop is sure
        ([0.1, 0, 0, 5, 0], "", "shirt"),
        ([0.1, 0, 5, 4, 0], "shorts", "jeans"),
        ([0.1, 5, 0, 0, 0], "shorts", "shirt"),  # nor does street see what the detector saw
    ],
)
def test_an_unsure_category_gives_way_to_the_fused_one(checkpoint, logits, word, first):
    rows = {"category": torch.tensor([logits], dtype=torch.float32)}
    rows |= {"color": torch.zeros(1, 3), "parts": torch.zeros(1, 2)}
    [entry] = describer(checkpoint)._rank(rows, [word])
    assert entry["category"][0][0] == first
    [kept] = describer(checkpoint, vocabulary="shop")._rank(rows, [word])
    assert kept["category"][0][0] in ("shirt", "jeans")


def test_vocabularies_fall_back_group_by_group():
    assert choose_vocabulary(SPACE, "street") == {
        "category": (1, 2, 3), "color": (0, 1, 2), "parts": (0, 1),
    }  # fmt: skip


def test_temperature_flattens_without_reordering(checkpoint):
    photo, found = photo_with(1)
    sharp = described(checkpoint, photo, found)[0].labels["color"]
    flat = described(checkpoint, photo, found, temperature=50)[0].labels["color"]
    assert [n for n, _ in sharp] == [n for n, _ in flat]
    assert flat[0][1] == pytest.approx(1 / 3, abs=0.02)
    assert flat[0][1] < sharp[0][1]


def test_descriptions_do_not_depend_on_the_batch(checkpoint):
    photo, found = photo_with(33)  # more than a batch
    together = described(checkpoint, photo, found)
    for i in (0, 32):
        one = Detections(320, 240, found.boxes[i : i + 1], found.scores[i : i + 1],
                         found.labels[i : i + 1], found.masks[i : i + 1])  # fmt: skip
        alone = described(checkpoint, photo, one)[0]
        for aspect, vector in alone.vectors.items():
            assert vector @ together[i].vectors[aspect] > 0.9999
        assert alone.colors == together[i].colors


def test_no_garments_give_no_descriptions(checkpoint):
    photo, found = photo_with(0)
    assert described(checkpoint, photo, found) == []


def test_averaging_makes_mirror_images_alike(checkpoint):
    photo, found = photo_with(1)
    mirrored = photo[:, ::-1].copy()
    x1, y1, x2, y2 = found.boxes[0]
    mask = coco_mask.encode(np.asfortranarray(coco_mask.decode(found.masks[0])[:, ::-1]))
    other = Detections(320, 240, np.array([[320 - x2, y1, 320 - x1, y2]], np.float32),
                       found.scores, found.labels, [mask])  # fmt: skip
    plain = describer(checkpoint)
    both = [
        plain.describe(*pair)[1][0].vectors["item"] for pair in ((photo, found), (mirrored, other))
    ]
    averaging = describer(checkpoint, tta=True)
    better = [
        averaging.describe(*pair)[1][0].vectors["item"]
        for pair in ((photo, found), (mirrored, other))
    ]
    assert better[0] @ better[1] > both[0] @ both[1] - 1e-6
    assert better[0] @ both[0] < 1 - 1e-7  # it does average something


def test_a_photo_decoded_at_half_size_is_described_nearly_alike(checkpoint):
    photo, found = photo_with(2)
    half = photo.reshape(120, 2, 160, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    full, reduced = (described(checkpoint, p, found) for p in (photo, half))
    for a, b in zip(full, reduced, strict=True):
        assert a.vectors["color"] @ b.vectors["color"] > 0.99
        assert a.colors[0][0] == b.colors[0][0]


def test_the_detectors_category_chooses_the_branch(checkpoint):
    photo, found = photo_with(2)
    categories = ["Jeans", "unheard of"]
    first, second = described(checkpoint, photo, found, categories)
    assert first.labels["category"][0] == ("jeans", 1.0)  # shirt and hat are not lower body
    free = described(checkpoint, photo, found)[1]
    assert second.labels == free.labels


def predicting(logits: torch.Tensor, subject: Describer, group: str = "category") -> Describer:
    """The describer, with the given logits of one label group."""
    network = subject.model.describe

    def answers(*rows):
        return network(*rows) | {"logits": network(*rows)["logits"] | {group: logits}}

    subject.model.describe = answers
    return subject


def test_categories_are_fused_if_a_training_set_has_exactly_the_detectors(checkpoint):
    photo, found = photo_with(5)
    found.probabilities = np.full((5, 3), 0.2, np.float32)
    found.probabilities[np.arange(5), found.labels - 1] = 0.4
    logits = torch.full((5, 5), -9.0)
    logits[:, [1, 2, 3]] = torch.tensor([[5.0, 0, 0], [0, 5, 0], [0, 0, 5], [5, 0, 0], [0, 0, 0]])
    subject = predicting(logits, describer(checkpoint))
    street = [SPACE.groups[0].values[number] for number in (1, 2, 3)]
    renamed, _ = subject.describe(photo, found, street)
    assert renamed.labels.tolist() == [1, 2, 3, 1, 1]  # the last: no opinion, so it stays
    same, _ = subject.describe(photo, found, [*street, "cape"])
    assert same.labels.tolist() == found.labels.tolist()
    given, _ = subject.describe(photo, found)
    assert given.labels.tolist() == found.labels.tolist()


@pytest.fixture(scope="module")
def checkpoint_with_is_garment(checkpoint):
    """A model that also predicts whether a detection is a garment."""
    torch.manual_seed(5)
    asked = LabelGroup(IS_GARMENT, ("no", "yes"), True)
    space = LabelSpace(
        (*SPACE.groups, asked), (*SPACE.sources, Source("finds", {IS_GARMENT: (0, 1)}))
    )
    model = build_multitask(space, trunk="resnet18", weights="none", tasks=TASKS)
    return checkpoint | {"labels": space.to_plain(), "model": model.state_dict()}


def test_false_detections_are_dropped(checkpoint_with_is_garment):
    photo, found = photo_with(3)
    answers = torch.tensor([[0.0, 2.0], [2.0, 0.0], [-1.0, 1.0]])
    everything = described(checkpoint_with_is_garment, photo, found)
    subject = predicting(answers, describer(checkpoint_with_is_garment), IS_GARMENT)
    for detector in (["dress"] * 3, [SPACE.groups[0].values[number] for number in (1, 2, 3)]):
        seen, descriptions = subject.describe(photo, found, detector)
        np.testing.assert_array_equal(seen.boxes, found.boxes[[0, 2]])
        assert seen.dropped == 1
        for kept, number in zip(descriptions, (0, 2), strict=True):
            assert kept.colors == everything[number].colors
            np.testing.assert_array_equal(kept.vectors["item"], everything[number].vectors["item"])
    given, descriptions = subject.describe(photo, found)
    assert len(given) == len(descriptions) == 3 and given.dropped == 0


def test_is_garment_is_not_among_the_labels(checkpoint_with_is_garment):
    photo, found = photo_with(2)
    assert list(describer(checkpoint_with_is_garment).groups) == ["category", "color", "parts"]
    for description in described(checkpoint_with_is_garment, photo, found):
        assert list(description.labels) == ["category", "color", "parts"]
