"""Attributes and identities in COCO files, which COCO itself does not define.

    "attribute_ids": [3, 115]                            Fashionpedia: ids of the document's list
                                                         "attributes"; each supercategory is a
                                                         group, ignoring case
    "attributes": {"color": "red", "parts": ["frill"]}   CVAT, tools/convert_dataset.py: values by
                                                         group
    "identity": "D-17"                                   tools/convert_dataset.py: a product

A group whose values are strings is exclusive; one with lists is multi-label. Values that a list
leaves out are negative, so an empty list in "attributes" means none of the group's values. A group
that is not mentioned is unknown, and so are all attributes if ``attribute_ids`` is empty, as in
Fashionpedia's shoes. CVAT's check boxes and numbers are ignored, and so is "__undefined__", the
usual placeholder for a value that has not been chosen yet.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from engine.data.readers.list_files import group_by_type
from engine.data.readers.listed import is_free_text, number_values
from engine.data.readers.problems import Problems
from engine.data.records import AttributeGroup

UNDEFINED = "__undefined__"


class CocoLabels:
    """The labels of a document's annotations.

    Args:
        document: of a COCO file; its annotations have not been checked yet.
        problems: counts what is left out.

    Attributes:
        names, ids, groups: ``attributes``, ``attribute_ids`` and ``attribute_groups`` of the
            records.
        identities: names of the identities, in the order of their numbers.
    """

    def __init__(self, document: dict[str, Any], problems: Problems) -> None:
        annotations = [a for a in document["annotations"] if isinstance(a, dict)]
        listed = [a for a in _listed_attributes(document.get("attributes")) if a["name"].strip()]
        self.place: dict[Any, int] = {}  # attribute id, or (group, value) -> number
        if listed:
            kinds, types = number_values(a["supercategory"].lower() for a in listed)
            self.names, self.groups, order = group_by_type(
                [a["name"].strip() for a in listed], types, dict(enumerate(kinds))
            )
            self.ids = [listed[old]["id"] for old in order]
            self.place = {id_: new for new, id_ in enumerate(self.ids)}
        else:
            self.names, self.groups = self._by_name(annotations, problems)
            self.ids = list(range(len(self.names)))
        self.by_id = bool(listed)
        self.identities, _ = number_values(map(_identity, annotations))
        self.number_of = {name: i for i, name in enumerate(self.identities)}

    def _by_name(
        self, annotations: Iterable[dict], problems: Problems
    ) -> tuple[list[str], list[AttributeGroup]]:
        values_of: dict[str, list[str]] = {}
        multi_label = set()
        for annotation in annotations:
            for group, (values, exclusive) in _named_attributes(annotation).items():
                values_of.setdefault(group, []).extend(values)
                multi_label |= {group} if values and not exclusive else set()
        names, groups = [], []
        for group, given in values_of.items():
            values, _ = number_values(given)
            if not values:
                continue
            if is_free_text(given):
                detail = f"{group}: {len(values)} values in {len(given)} annotations"
                problems.add("column of free text", detail)
                continue
            self.place |= {(group, value): len(names) + i for i, value in enumerate(values)}
            start = len(names)
            names += values
            groups.append(AttributeGroup(group, start, len(names), group not in multi_label))
        return names, groups

    def attributes(self, annotation: dict, where: str, problems: Problems) -> np.ndarray:
        """int8 [A] of a garment: 1 yes, -1 no, 0 unknown."""
        row = np.zeros(len(self.names), np.int8)
        if self.by_id:
            ids = annotation.get("attribute_ids")
            given = [i for i in ids if isinstance(i, int)] if isinstance(ids, list) else []
            known = [number for number in given if number in self.place]
            for number in given:
                if number not in self.place:
                    problems.add("unknown attribute id", f"{where}: {number}")
            if known:
                row[:] = -1
                row[[self.place[number] for number in known]] = 1
            return row
        named = _named_attributes(annotation)
        for group in self.groups:
            values, _ = named.get(group.name, ([], True))
            if values or (group.name in named and not group.exclusive):
                row[group.start : group.stop] = -1
                row[[self.place[group.name, value] for value in values]] = 1
        return row

    def identity(self, annotation: dict, default: int) -> int:
        """The number of a garment's identity, -1 unknown; ``default`` if the file names none."""
        if not self.identities:
            return default
        return self.number_of.get(_identity(annotation), -1)


def _listed_attributes(entries: Any) -> list[dict[str, Any]]:
    """Fashionpedia's list of attributes, without entries of another form."""
    usable = [
        {"supercategory": "attribute"} | entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict)
    ]
    return [
        entry
        for entry in usable
        if isinstance(entry.get("id"), int)
        and all(isinstance(entry.get(key), str) for key in ("name", "supercategory"))
    ]


def _named_attributes(annotation: dict) -> dict[str, tuple[list[str], bool]]:
    """Group -> (values, whether they are given as a single string) of an annotation."""
    given = annotation.get("attributes")
    found: dict[str, tuple[list[str], bool]] = {}
    for name, value in given.items() if isinstance(given, dict) else ():
        values = value if isinstance(value, list) else [value]
        values = [text.strip() for text in values if isinstance(text, str)]
        values = [text for text in values if text and text != UNDEFINED]
        if (values or value == []) and name.strip():
            group = name.strip().lower()  # the same group may occur in upper and in lower case
            others = found.get(group, ([], True))[0]
            found[group] = others + values, isinstance(value, str) and not others
    return found


def _identity(annotation: dict) -> str:
    identity = annotation.get("identity")
    return identity.strip() if isinstance(identity, str) else ""
