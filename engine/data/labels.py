"""The label space of the multitask model: groups of labels, merged from several datasets.

A *group* is one question with a set of possible values: "category", "color", "pattern", or a
collection of independent attributes. Datasets with a group of the same name share it, and its
values are the union of theirs. But a dataset with 17 categories never says that a garment is *not*
one of another dataset's 31. So every *source* (dataset) keeps its own vocabulary, and the softmax
over a group is restricted to the vocabulary of the sample's source.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data.records import PhotoRecords
from engine.errors import InputError

ASPECTS = ("item", "color", "texture", "shape")
CATEGORY = "category"
# A group of its own: whether a detection is a garment at all ("yes") or a false one. Datasets that
# have it are written by tools/outline_photos.py; it is not reported among a garment's labels.
IS_GARMENT, YES, NO = "is garment", "yes", "no"

# A group whose name contains the word also trains that aspect's vector.
ASPECT_WORDS = (
    ("color", ("color", "colour")),
    ("texture", ("pattern", "texture", "fabric", "material")),
    ("shape", (CATEGORY,)),
)


@dataclass(frozen=True)
class LabelGroup:
    """One question with its possible values.

    Attributes:
        name: lower case, unique in its space.
        values: the possible answers.
        exclusive: exactly one value is right (softmax); else values are independent (sigmoid).
        branches: of "category" with a branched head: the garment group ("upper", "lower", "full" or
            "") of every value; else empty.
    """

    name: str
    values: tuple[str, ...]
    exclusive: bool
    branches: tuple[str, ...] = ()

    @property
    def aspect(self) -> str | None:
        """The aspect that this group's labels also train, None when there is none."""
        found = [a for a, words in ASPECT_WORDS if any(word in self.name for word in words)]
        return found[0] if found else None


@dataclass(frozen=True)
class Source:
    """A dataset that labels come from, and the values it uses."""

    name: str
    vocabulary: dict[str, tuple[int, ...]]  # group name -> indices of its values in the group


@dataclass(frozen=True)
class LabelSpace:
    """All groups and all sources of a model, in a fixed order."""

    groups: tuple[LabelGroup, ...]
    sources: tuple[Source, ...]

    def group(self, name: str) -> LabelGroup:
        """The group called ``name``."""
        return next(group for group in self.groups if group.name == name)

    def answered_by(self, tasks: Sequence[str]) -> list[LabelGroup]:
        """The groups that a model with these tasks has a classifier for, in their order."""
        return [
            g for g in self.groups if (CATEGORY if g.name == CATEGORY else "attributes") in tasks
        ]

    def source_named(self, name: str | None) -> Source:
        """The source called ``name``; the first one for None.

        Raises:
            InputError: there is no such source.
        """
        for source in self.sources:
            if name in (None, source.name):
                return source
        known = ", ".join(source.name for source in self.sources)
        raise InputError(f"vocabulary {name}: the model knows those of {known}")

    def known_values(self, name: str) -> Tensor:
        """bool [sources, values of group ``name``]: which vocabulary contains which value."""
        known = torch.zeros(len(self.sources), len(self.group(name).values), dtype=torch.bool)
        for row, source in zip(known, self.sources, strict=True):
            row[list(source.vocabulary.get(name, ()))] = True
        return known

    def to_plain(self) -> dict[str, Any]:
        """As lists and dicts, for a checkpoint."""
        return {
            "groups": [
                {
                    "name": g.name,
                    "values": list(g.values),
                    "exclusive": g.exclusive,
                    "branches": list(g.branches),
                }
                for g in self.groups
            ],
            "sources": [
                {"name": s.name, "vocabulary": {k: list(v) for k, v in s.vocabulary.items()}}
                for s in self.sources
            ],
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "LabelSpace":
        """The inverse of ``to_plain``."""
        groups = (
            LabelGroup(g["name"], tuple(g["values"]), g["exclusive"], tuple(g["branches"]))
            for g in plain["groups"]
        )
        sources = (
            Source(s["name"], {k: tuple(v) for k, v in s["vocabulary"].items()})
            for s in plain["sources"]
        )
        return cls(tuple(groups), tuple(sources))


def merge_labels(
    parts: Sequence[PhotoRecords], names: Sequence[str], *, category_branches: bool = False
) -> LabelSpace:
    """The label space of several sets together.

    Args:
        parts: the sets' training records; their order is the order of the sources.
        names: a unique name for each.
        category_branches: give the categories the garment groups that the sets know.

    Returns:
        "category" first when any set has categories, then attribute groups in order of appearance.
        Groups are the same when their names are, values when their texts are, capitals aside.

    Raises:
        InputError: two sets have the same name, or disagree whether a group is exclusive; one has
            two groups of a name.
    """
    if len(set(names)) < len(names):
        raise InputError(f"sets named {', '.join(names)}: give each its own with name=")
    values: dict[str, list[str]] = {}
    exclusive: dict[str, bool] = {}
    sources = []
    for records, name in zip(parts, names, strict=True):
        vocabulary = {}
        for group, its_values, alone in _groups_of(records):
            if group in vocabulary:
                raise InputError(
                    f"{name}: has two questions called {group}; leave one out (attributes=..., "
                    "category=none), or rename it"
                )
            if exclusive.setdefault(group, alone) != alone:
                raise InputError(
                    f"{name}: {group} is exclusive in one set and multi-label in another; leave it "
                    "out of one of them (attributes=...), or rename it"
                )
            merged = values.setdefault(group, [])
            index = index_by_text(merged)
            for value in its_values:
                if index.setdefault(value.casefold(), len(index)) == len(merged):
                    merged.append(value)
            # A set may itself spell a value in two ways.
            vocabulary[group] = tuple(dict.fromkeys(index[v.casefold()] for v in its_values))
        sources.append(Source(name, vocabulary))
    order = sorted(values, key=lambda group: group != CATEGORY)  # stable: only moves category
    branches = _branches(parts, values.get(CATEGORY, [])) if category_branches else ()
    groups = tuple(
        LabelGroup(g, tuple(values[g]), exclusive[g], branches if g == CATEGORY else ())
        for g in order
    )
    return LabelSpace(groups, tuple(sources))


def index_by_text(values: Sequence[str]) -> dict[str, int]:
    """Casefolded text of each value -> its index."""
    return {value.casefold(): i for i, value in enumerate(values)}


def _branches(parts: Sequence[PhotoRecords], categories: list[str]) -> tuple[str, ...]:
    """The garment group of each category, by the first set that names one."""
    known: dict[str, str] = {}
    for records in parts:
        for category, branch in zip(records.categories, records.category_groups, strict=False):
            if branch:
                known.setdefault(category.casefold(), branch)
    branches = tuple(known.get(category.casefold(), "") for category in categories)
    if not any(branches):
        raise InputError("--category-branches: none of the sets says upper, lower or full body")
    return branches


def _groups_of(records: PhotoRecords) -> list[tuple[str, list[str], bool]]:
    """(name, values, exclusive) of every group that at least one garment of the set answers."""
    groups = []
    if (records.garment_category >= 0).any():
        groups.append((CATEGORY, records.categories, True))
    for group in records.attribute_groups:
        groups.append(
            (group.name.lower(), records.attributes[group.start : group.stop], group.exclusive)
        )
    return groups


def encode_labels(space: LabelSpace, records: PhotoRecords) -> dict[str, np.ndarray]:
    """A dataset's labels as indices into the values of ``space``.

    Values that the space lacks (in the evaluation of another dataset) become -2 in exclusive
    groups, to distinguish them from unlabeled garments, and are dropped from the others. Whether a
    group is exclusive is decided by the space, not by the dataset: one split of a COCO file may
    happen to have one value per garment, and another split several.

    Returns:
        For every group: int64 [G], value or -1 unknown or -2 not in the space; multi-label:
        int8 [G, V], 1 yes, -1 no, 0 unknown.
    """
    count = len(records.garment_category)
    given = {name: (values, own) for name, values, own in _columns_of(records)}
    encoded = {}
    for group in space.groups:
        values, own = given.get(group.name, ([], None))
        index = index_by_text(group.values)
        if group.exclusive:
            if own is not None and own.ndim == 2:
                own = _only_answer(own)
            numbers = [index.get(value.casefold(), -2) for value in values]
            lookup = np.array([*numbers, -1], np.int64)
            encoded[group.name] = lookup[own] if own is not None else np.full(count, -1)
        else:
            table = np.zeros((count, len(group.values)), np.int8)
            texts = np.array([value.casefold() for value in values])
            for text in set(texts.tolist()) & index.keys():
                # A value spelled in two ways is positive if either is.
                table[:, index[text]] = own[:, texts == text].max(axis=1)
            encoded[group.name] = table
    return encoded


def _columns_of(records: PhotoRecords) -> list[tuple[str, list[str], np.ndarray]]:
    """(group, values, labels): labels are the value's number or -1 [G], or 1 / -1 / 0 [G, V]."""
    columns = [(CATEGORY, records.categories, records.garment_category)]
    for group in records.attribute_groups:
        values = records.attributes[group.start : group.stop]
        columns.append(
            (group.name.lower(), values, records.attribute_matrix[:, group.start : group.stop])
        )
    return columns


def _only_answer(signs: np.ndarray) -> np.ndarray:
    """int64 [G] of signs [G, V]: the value that a garment has, -1 where it has none or several."""
    return np.where((signs == 1).sum(axis=1) == 1, (signs == 1).argmax(axis=1), -1)
