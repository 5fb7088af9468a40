"""The label space of the multitask model: groups of labels, merged from several datasets.

A *group* is a set of related labels: the categories, the colors, the patterns, or a collection of
independent attributes. Datasets with a group of the same name share it, and its values are the
union of theirs. But a dataset with 17 categories never says that a garment is *not* one of another
dataset's 31. So every *source* (dataset) keeps its own vocabulary, and the softmax over a group is
restricted to the vocabulary of the sample's source.
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
# A special group: whether a detection is a garment ("yes") or a false one ("no"). It occurs in
# datasets that tools/outline_photos.py writes and is not reported among a garment's labels.
IS_GARMENT, YES, NO = "is garment", "yes", "no"

# A group whose name contains one of these words also trains the vector of that aspect.
ASPECT_WORDS = (
    ("color", ("color", "colour")),
    ("texture", ("pattern", "texture", "fabric", "material")),
    ("shape", (CATEGORY,)),
)


@dataclass(frozen=True)
class LabelGroup:
    """A group of labels, such as "category" or "color".

    Attributes:
        name: lower case, unique in its label space.
        values: the labels in the group.
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
    """A dataset and the values that its labels use."""

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

    def groups_of_tasks(self, tasks: Sequence[str]) -> list[LabelGroup]:
        """The groups, in order, that a model with these tasks has a classifier for."""
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
        raise InputError(f"vocabulary {name}: the model was trained on {known}; name one of them")

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
    """The joint label space of several datasets.

    Args:
        parts: the training records of each dataset; sources are in the same order.
        names: a unique name for each dataset.
        category_branches: set ``branches`` of the category group from the datasets'
            ``category_groups``.

    Returns:
        "category" first if any dataset has categories, then attribute groups in order of
        appearance. Groups and values of the same name are merged, ignoring case.

    Raises:
        InputError: two datasets have the same name or disagree whether a group is exclusive, a
            dataset has two groups of the same name, or branches are wanted and none is known.
    """
    if len(set(names)) < len(names):
        raise InputError(f"datasets named {', '.join(names)}: give each its own name with name=")
    values: dict[str, list[str]] = {}
    exclusive: dict[str, bool] = {}
    sources = []
    for records, name in zip(parts, names, strict=True):
        vocabulary = {}
        for group, its_values, is_exclusive in _groups_of(records):
            if group in vocabulary:
                raise InputError(
                    f"{name}: has two label groups called {group}; leave one out (attributes=..., "
                    "category=none), or rename it"
                )
            if exclusive.setdefault(group, is_exclusive) != is_exclusive:
                raise InputError(
                    f"{name}: {group} is exclusive in one dataset and multi-label in another; "
                    "leave it out of one of them (attributes=...), or rename it"
                )
            merged = values.setdefault(group, [])
            index = index_by_text(merged)
            for value in its_values:
                if index.setdefault(value.casefold(), len(index)) == len(merged):
                    merged.append(value)
            # A dataset may spell the same value in two ways.
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
    """The garment group of each category, from the first dataset that gives one."""
    known: dict[str, str] = {}
    for records in parts:
        for category, branch in zip(records.categories, records.category_groups, strict=False):
            if branch:
                known.setdefault(category.casefold(), branch)
    branches = tuple(known.get(category.casefold(), "") for category in categories)
    if not any(branches):
        raise InputError(
            "--category-branches: no dataset marks its categories as upper, lower or full body"
        )
    return branches


def _groups_of(records: PhotoRecords) -> list[tuple[str, list[str], bool]]:
    """(name, values, exclusive) of categories, if any garment has one, and of attribute groups."""
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

    Values that the space lacks (when a model is evaluated on another dataset) become -2 in
    exclusive groups, to distinguish them from unlabeled garments, and are dropped from the others.
    The space decides whether a group is exclusive, not the dataset: in one split of a COCO file
    each garment may happen to have a single value, in another several.

    Returns:
        By group name: int64 [G], index of the value, -1 unknown, -2 not in the space; for
        multi-label groups int8 [G, V], 1 yes, -1 no, 0 unknown.
    """
    count = len(records.garment_category)
    given = {name: (values, own) for name, values, own in _labels_by_group(records)}
    encoded = {}
    for group in space.groups:
        values, own = given.get(group.name, ([], None))
        index = index_by_text(group.values)
        if group.exclusive:
            if own is not None and own.ndim == 2:
                own = _single_value(own)
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


def _labels_by_group(records: PhotoRecords) -> list[tuple[str, list[str], np.ndarray]]:
    """(group, values, labels) of every group.

    The labels are int [G], indices of values or -1 (unknown), or int8 [G, V], 1 yes, -1 no, 0
    unknown.
    """
    columns = [(CATEGORY, records.categories, records.garment_category)]
    for group in records.attribute_groups:
        values = records.attributes[group.start : group.stop]
        columns.append(
            (group.name.lower(), values, records.attribute_matrix[:, group.start : group.stop])
        )
    return columns


def _single_value(signs: np.ndarray) -> np.ndarray:
    """Index of each row's only 1, -1 where it has none or several: int8 [G, V] -> int64 [G]."""
    return np.where((signs == 1).sum(axis=1) == 1, (signs == 1).argmax(axis=1), -1)
