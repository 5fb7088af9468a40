"""Label spaces of several datasets: merged groups, separate vocabularies."""

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
        photos, root=Path("/x"), format="csv", categories=categories,
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


def test_groups_merge_and_vocabularies_stay_separate():
    space = merge_labels([SHOP, PHONE], ["shop", "phone"])
    assert [g.name for g in space.groups] == ["category", "color", "parts"]  # ignoring case
    assert space.group("category").values == ("Shirt", "Dress", "Hat")
    assert space.group("color").values == ("red", "blue", "green")
    assert not space.group("parts").exclusive
    assert space.known_values("color").tolist() == [[True, True, False], [False, True, True]]
    assert space.known_values("parts").tolist() == [[True, True], [False, False]]
    assert space.sources[1].vocabulary == {"category": (2, 1), "color": (1, 2)}


def test_categories_without_a_labeled_garment_make_no_group():
    for category, groups in ((0, ["category"]), (-1, [])):
        only = records(["Hat"], [(category, [])])
        assert [g.name for g in merge_labels([only], ["only"]).groups] == groups


def test_a_categorys_branch_comes_from_the_first_dataset_that_gives_one():
    sets = [records(["Hat", "Dress"], [(0, []), (1, [])]) for _ in range(3)]
    for one, groups in zip(sets, ([], ["", "full"], ["upper", "lower"]), strict=True):
        one.category_groups = groups
    space = merge_labels(sets, ["a", "b", "c"], category_branches=True)
    assert space.group("category").branches == ("upper", "full")
    with pytest.raises(InputError, match="--category-branches"):
        merge_labels(sets[:1], ["a"], category_branches=True)


def test_two_spellings_of_a_value_in_one_dataset_are_merged():
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


def test_labels_are_encoded_as_indices_into_the_merged_space():
    space = merge_labels([SHOP, PHONE], ["shop", "phone"])
    shop, phone = encode_labels(space, SHOP), encode_labels(space, PHONE)
    assert shop["category"].tolist() == [1, -1, 0]
    assert shop["color"].tolist() == [1, -1, 0]
    assert shop["parts"].tolist() == [[1, 0], [-1, 1], [0, 0]]
    assert phone["category"].tolist() == [2, 1]
    assert phone["color"].tolist() == [1, 2]
    assert phone["parts"].tolist() == [[0, 0], [0, 0]]  # unlabeled is not negative
    colorless = encode_labels(space, records(["Hat"], [(0, []), (-1, [])]))
    assert colorless["color"].tolist() == [-1, -1] and colorless["category"].tolist() == [2, -1]


def test_the_space_decides_whether_a_group_is_exclusive():
    several = records(
        ["x"], [(0, [1, -1]), (0, [1, 1]), (0, [-1, -1]), (0, [0, 0])], ["blue", "green"],
        [AttributeGroup("color", 0, 2, False)],
    )  # fmt: skip
    one = merge_labels([PHONE], ["phone"])
    assert encode_labels(one, several)["color"].tolist() == [0, -1, -1, -1]
    many = merge_labels([several], ["several"])
    assert encode_labels(many, PHONE)["color"].tolist() == [[1, -1], [-1, 1]]


def test_values_missing_from_the_space_differ_from_unlabeled_ones():
    space = merge_labels([PHONE], ["phone"])
    encoded = encode_labels(space, SHOP)
    assert encoded["category"].tolist() == [1, -1, -2]
    assert encoded["color"].tolist() == [0, -1, -2]
    assert "parts" not in encoded


def test_a_groups_aspect_follows_from_its_name():
    aspects = [LabelGroup(n, (), True).aspect for n in ("category", "color", "dominant colour",
               "fabric", "sleeve pattern", "gender")]  # fmt: skip
    assert aspects == ["shape", "color", "color", "texture", "texture", None]


def test_a_label_space_survives_a_checkpoint():
    space = merge_labels([SHOP, PHONE], ["shop", "phone"])
    assert LabelSpace.from_plain(space.to_plain()) == space


def test_sources_are_found_by_name():
    space = merge_labels([SHOP, PHONE], ["shop", "phone"])
    assert space.source_named(None).name == "shop"
    assert space.source_named("phone").name == "phone"
    with pytest.raises(InputError, match=r"vocabulary x: .* shop, phone;"):
        space.source_named("x")


def test_conflicting_names_and_groups_are_refused():
    with pytest.raises(InputError, match="name="):
        merge_labels([SHOP, PHONE], ["a", "a"])
    clash = records([], [(-1, [1])], ["blue"], [AttributeGroup("color", 0, 1, False)])
    with pytest.raises(InputError, match=r"color is exclusive in one dataset.*attributes="):
        merge_labels([SHOP, clash], ["a", "b"])
    garments, groups = [(0, [1, -1])], [AttributeGroup("Category", 0, 2, True)]
    named_alike = records(["Hat"], garments, ["cap", "beret"], groups)
    with pytest.raises(InputError, match=r"^hats: has two label groups called category; leave one"):
        merge_labels([named_alike], ["hats"])
