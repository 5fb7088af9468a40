"""Which outlines are trusted, by hand-made detections on drawn photos."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine.detection.detections import Detections
from tools.outlining.outline import judge_finds, outline

CATEGORIES = ["top", "trousers", "shoes"]
HEIGHT, WIDTH = 149, 131
SHIRT, LEGS, FEET = (20, 70, 30, 100), (75, 120, 40, 90), (125, 145, 40, 90)  # y, y, x, x


def encode(y1: int, y2: int, x1: int, x2: int) -> dict:
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    bitmap[y1:y2, x1:x2] = 1
    return coco_mask.encode(bitmap)


def found(*garments: tuple[str, float, tuple[int, int, int, int]]) -> Detections:
    boxes = np.array([[x1, y1, x2, y2] for _, _, (y1, y2, x1, x2) in garments], np.float32)
    labels = np.array([CATEGORIES.index(name) + 1 for name, _, _ in garments], np.int64)
    scores = np.array([score for _, score, _ in garments], np.float32)
    masks = [encode(*place) for _, _, place in garments]
    return Detections(WIDTH, HEIGHT, boxes.reshape(-1, 4), scores, labels, masks)


def photo(background: str = "floor") -> np.ndarray:
    rng = np.random.default_rng(1)
    picture = np.full((HEIGHT, WIDTH, 3), 255.0)
    if background == "floor":
        picture[:] = (180, 160, 120)
        picture += rng.normal(0, 9, picture.shape)
    y1, y2, x1, x2 = SHIRT
    picture[y1:y2, x1:x2] = (30, 90, 60)
    picture[y1:y2, x1:x2] += rng.normal(0, 9, (y2 - y1, x2 - x1, 3))
    return picture.clip(0, 255).astype(np.uint8)


def iou(one: dict, other: dict) -> float:
    return coco_mask.iou([one], [other], [0])[0, 0]


@pytest.mark.parametrize(
    ("background", "how"),
    [("studio", "alone, off a studio's background"), ("floor", "alone, cut out by color")],
)
def test_a_garment_alone_gets_the_known_category_and_a_mask(background, how):
    rough = (26, 70, 34, 96)
    said, garments = outline(photo(background), found(("trousers", 0.4, rough)), CATEGORIES, "top")
    assert said == how
    [(name, mask)] = garments
    assert name == "top"
    assert iou(mask, encode(*SHIRT)) > max(0.9, iou(encode(*rough), encode(*SHIRT)))


def test_a_studio_photos_foreground_must_agree_with_the_detection():
    half = (SHIRT[0], SHIRT[0] + 20, *SHIRT[2:])
    said, _ = outline(photo("studio"), found(("top", 0.9, half)), CATEGORIES, "top")
    assert said.startswith("alone") and "studio" not in said


def test_the_known_category_wins_over_a_higher_score():
    seen = found(("shoes", 0.9, (20, 40, 30, 60)), ("top", 0.35, (24, 70, 32, 98)))
    _, [(name, mask)] = outline(photo(), seen, CATEGORIES, "top")
    assert name == "top" and iou(mask, encode(*SHIRT)) > 0.9


def test_worn_with_others_all_are_kept_as_detected():
    seen = found(("trousers", 0.9, LEGS), ("top", 0.8, SHIRT), ("shoes", 0.7, FEET))
    how, garments = outline(photo(), seen, CATEGORIES, "top")
    assert how.startswith("worn")
    assert [name for name, _ in garments] == ["top", "trousers", "shoes"]
    assert [coco_mask.toBbox(mask).tolist() for _, mask in garments] == [
        [x1, y1, x2 - x1, y2 - y1] for y1, y2, x1, x2 in (SHIRT, LEGS, FEET)
    ]


def test_absent_categories_are_ignored():
    fist = (60, 75, 10, 25)
    seen = found(("top", 0.8, SHIRT), ("trousers", 0.9, LEGS), ("shoes", 0.9, fist))
    _, garments = outline(photo(), seen, CATEGORIES, "top", absent=["shoes"])
    assert [name for name, _ in garments] == ["top", "trousers"]
    seen = found(("shoes", 0.9, SHIRT))
    assert outline(photo(), seen, CATEGORIES, "top", absent=["shoes"]) == ("nothing seen", [])


@pytest.mark.parametrize(
    "seen",
    [
        found(),
        found(("top", 0.29, SHIRT)),
        found(("top", 0.8, SHIRT), ("trousers", 0.5, LEGS)),  # maybe trousers, maybe not
        found(("trousers", 0.8, LEGS), ("shoes", 0.8, FEET)),  # which of them would be the top?
        found(("top", 0.8, SHIRT), ("shoes", 0.8, FEET), ("shoes", 0.8, (0, 15, 0, 20))),
        found(("top", 0.8, (0, HEIGHT, 0, WIDTH))),  # all of the photo
    ],
)
def test_doubtful_photos_are_left_out(seen):
    assert outline(photo(), seen, CATEGORIES, "top")[1] == []


def test_if_alone_the_largest_of_the_category_is_the_garment():
    strip = (0, 12, 30, 100)
    floor = (75, HEIGHT, 0, WIDTH)
    seen = found(("top", 0.9, strip), ("trousers", 0.8, floor), ("top", 0.7, (24, 70, 32, 98)))
    _, garments = outline(photo(), seen, CATEGORIES, "top", alone=True)
    [(name, mask)] = garments
    assert name == "top" and iou(mask, encode(*SHIRT)) > 0.9


def test_if_alone_the_garment_is_found_under_any_category():
    seen = found(("top", 0.9, (0, 12, 30, 100)), ("shoes", 0.4, (24, 70, 32, 98)))
    _, [(name, mask)] = outline(photo(), seen, CATEGORIES, "trousers", alone=True)
    assert name == "trousers" and iou(mask, encode(*SHIRT)) > 0.9


STRIP, FIST = (0, 12, 30, 100), (60, 75, 10, 25)


def test_if_alone_other_categories_are_false_detections():
    whole = (18, 72, 28, 102)
    seen = found(("top", 0.9, STRIP), ("trousers", 0.8, LEGS), ("top", 0.7, whole),
                 ("shoes", 0.06, FEET), ("shoes", 0.5, (30, 50, 40, 60)),
                 ("shoes", 0.4, (0, 0, 0, 0)))  # fmt: skip
    judged = judge_finds(seen, CATEGORIES, "top", alone=True)
    assert [(name, garment) for name, _, garment in judged] == [
        ("top", True),
        ("trousers", False),
        ("shoes", False),
    ], "what has its name may be its other half, what lies on it a part; a mask may be empty"
    assert judged[0][1] == encode(*whole)


def test_if_worn_only_absent_categories_are_false_detections():
    seen = found(("trousers", 0.9, LEGS), ("top", 0.7, SHIRT), ("shoes", 0.5, FIST))
    assert [find[::2] for find in judge_finds(seen, CATEGORIES, "top")] == [("top", True)]
    judged = judge_finds(seen, CATEGORIES, "top", absent=["shoes"])
    assert [(name, garment) for name, _, garment in judged] == [("top", True), ("shoes", False)]


def test_without_the_known_garment_nothing_is_labeled():
    for seen in (found(), found(("trousers", 0.9, SHIRT)), found(("top", 0.29, SHIRT))):
        assert judge_finds(seen, CATEGORIES, "top", absent=["trousers"], alone=True) == []
