"""Label spaces of several sets: merged questions, separate vocabularies."""

from pathlib import Path

import numpy as np
import pytest

from engine.data.labels import LabelGroup, LabelSpace, encode_labels, merge_labels
from engine.data.records import AttributeGroup, Garment, Photo, PhotoRecords
from engine.errors import InputError


def records(categories, garments, attributes=(), groups=()) -> PhotoRecords:
    """One photo per (category, attribute values)."""
    photos = [
        Photo(Path("/x") / f"{i}.jpg", i, 10, 10, garments=[
            Garment(category, np.array([0.0, 0, 10, 10]), 100.0,
                    attributes=np.array(values, np.int8))
        ])
        for i, (category, values) in enumerate(garments)
    ]  # fmt: skip
    return PhotoRecords.from_photos(
        photos, root=Path("/x"), name="csv", categories=categories,
        category_ids=range(len(categories)), attributes=attributes, attribute_groups=groups,
    )  # fmt: skip


SHOP = records(
    ["Shirt", "Dress"],
    [(1, [-1, 1, 1, 0]), (-1, [0, 0, -1, 1]), (0, [1, -1, 0, 0])],
    ["red", "blue", "zip", "hood"],
    [AttributeGroup("Color", 0, 2, True), AttributeGroup("parts", 2, 4, False)],
)
PHONE = records(
    ["Hat", "DRESS"], [(0, [1, -1]), (1, [-1, 1])], ["Blue", "green"],
    [AttributeGroup("color", 0, 2, True)],
)  # fmt: skip


def test_questions_merge_and_vocabularies_stay_apart():
    space = merge_labels([SHOP, PHONE], ["shop", "phone"])
    assert [g.name for g in space.groups] == ["category", "color", "parts"]  # capitals aside
    assert space.group("category").values == ("Shirt", "Dress", "Hat")
    assert space.group("color").values == ("red", "blue", "green")
    assert not space.group("parts").exclusive
    assert space.known_values("color").tolist() == [[True, True, False], [False, True, True]]
    assert space.known_values("parts").tolist() == [[True, True], [False, False]]
    assert space.sources[1].vocabulary == {"category": (2, 1), "color": (1, 2)}


def test_what_no_garment_answers_is_not_asked():
    for category, asked in ((0, ["category"]), (-1, [])):
        only = records(["Hat"], [(category, [])])
        assert [g.name for g in merge_labels([only], ["only"]).groups] == asked


def test_the_first_set_that_says_so_tells_a_categorys_branch():
    sets = [records(["Hat", "Dress"], [(0, []), (1, [])]) for _ in range(3)]
    for one, groups in zip(sets, ([], ["", "full"], ["upper", "lower"]), strict=True):
        one.category_groups = groups
    space = merge_labels(sets, ["a", "b", "c"], category_branches=True)
    assert space.group("category").branches == ("upper", "full")
    with pytest.raises(InputError, match="--category-branches"):
        merge_labels(sets[:1], ["a"], category_branches=True)


def test_a_value_that_one_set_spells_in_two_ways_is_one():
    two = records(["Hat", "hat", "Bag"], [(0, []), (1, []), (2, [])], [], [])
    space = merge_labels([two], ["two"])
    assert space.group("category").values == ("Hat", "Bag")
    assert space.sources[0].vocabulary == {"category": (0, 1)}
    assert encode_labels(space, two)["category"].tolist() == [0, 0, 1]

    group = AttributeGroup("parts", 0, 3, False)
    garments = [(-1, [1, 0, -1]), (-1, [-1, -1, 1]), (-1, [0, -1, 0]), (-1, [-1, 1, -1])]
    two = records([], garments, ["Zip", "hood", "zip"], [group])
    space = merge_labels([two], ["two"])
    assert space.group("parts").values == ("Zip", "hood")
    assert encode_labels(space, two)["parts"].tolist() == [[1, 0], [1, -1], [0, -1], [-1, 1]]


def test_labels_are_numbered_in_the_merged_space():
    space = merge_labels([SHOP, PHONE], ["shop", "phone"])
    shop, phone = encode_labels(space, SHOP), encode_labels(space, PHONE)
    assert shop["category"].tolist() == [1, -1, 0]
    assert shop["color"].tolist() == [1, -1, 0]
    assert shop["parts"].tolist() == [[1, 0], [-1, 1], [0, 0]]
    assert phone["category"].tolist() == [2, 1]
    assert phone["color"].tolist() == [1, 2]
    assert phone["parts"].tolist() == [[0, 0], [0, 0]]  # silence is not a no
    colorless = encode_labels(space, records(["Hat"], [(0, []), (-1, [])]))
    assert colorless["color"].tolist() == [-1, -1] and colorless["category"].tolist() == [2, -1]


def test_the_space_says_whether_a_question_has_one_answer():
    several = records(
        ["x"], [(0, [1, -1]), (0, [1, 1]), (0, [-1, -1]), (0, [0, 0])], ["blue", "green"],
        [AttributeGroup("color", 0, 2, False)],
    )  # fmt: skip
    one = merge_labels([PHONE], ["phone"])
    assert encode_labels(one, several)["color"].tolist() == [0, -1, -1, -1]
    many = merge_labels([several], ["several"])
    assert encode_labels(many, PHONE)["color"].tolist() == [[1, -1], [-1, 1]]


def test_values_unknown_to_the_space_are_told_from_unlabeled_ones():
    space = merge_labels([PHONE], ["phone"])
    encoded = encode_labels(space, SHOP)
    assert encoded["category"].tolist() == [1, -1, -2]
    assert encoded["color"].tolist() == [0, -1, -2]
    assert "parts" not in encoded


def test_groups_that_name_an_aspect_train_it():
    aspects = [LabelGroup(n, (), True).aspect for n in ("category", "color", "dominant colour",
               "fabric", "sleeve pattern", "gender")]  # fmt: skip
    assert aspects == ["shape", "color", "color", "texture", "texture", None]


def test_survives_a_checkpoint():
    space = merge_labels([SHOP, PHONE], ["shop", "phone"])
    assert LabelSpace.from_plain(space.to_plain()) == space


def test_sources_are_found_by_name():
    space = merge_labels([SHOP, PHONE], ["shop", "phone"])
    assert space.source_named(None).name == "shop"
    assert space.source_named("phone").name == "phone"
    with pytest.raises(InputError, match=r"vocabulary x: .* shop, phone"):
        space.source_named("x")


def test_clashes_are_refused():
    with pytest.raises(InputError, match="name="):
        merge_labels([SHOP, PHONE], ["a", "a"])
    clash = records([], [(-1, [1])], ["blue"], [AttributeGroup("color", 0, 1, False)])
    with pytest.raises(InputError, match=r"color is exclusive in one set.*attributes="):
        merge_labels([SHOP, clash], ["a", "b"])
    garments, groups = [(0, [1, -1])], [AttributeGroup("Category", 0, 2, True)]
    named_alike = records(["Hat"], garments, ["cap", "beret"], groups)
    with pytest.raises(InputError, match=r"^hats: has two questions called category; leave one"):
        merge_labels([named_alike], ["hats"])
