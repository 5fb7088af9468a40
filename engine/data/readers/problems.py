"""Problems of a dataset, counted by kind, with the consequence and a few examples of each kind."""

from dataclasses import dataclass, field
from typing import Any

from engine.pixels.photo_files import TRAITS

# Kind of fault -> what is done about it.
CONSEQUENCES = {
    "missing photo": "photo left out",
    "empty photo": "photo left out",
    "truncated photo": "photo left out",
    "unreadable photo": "photo left out",
    "too large photo": "photo left out",
    "photo size differs from its annotation": "photo left out",
    "file name leaves the image folder": "photo left out",
    "malformed photo entry": "photo left out",
    "malformed annotation file": "photo left out",
    "duplicate image id": "later photo left out",
    "malformed annotation": "garment left out",
    "duplicate annotation": "later garment left out",
    "duplicate annotation id": "later garment kept under another id",
    "annotation of an unlisted photo": "garment left out",
    "unknown category id": "garment left out",
    "unknown attribute id": "attribute left out",
    "box not finite": "garment left out",
    "degenerate box": "garment left out",
    "box outside the photo": "garment left out",
    "box reaches out of the photo": "box clipped",
    "polygon of fewer than 3 points": "polygon left out",
    "malformed mask": "garment left out",
    "mask size differs from the photo": "garment left out",
    "empty mask": "garment left out",
    "garment without a mask in a set with masks": "garment left out",
    "malformed landmarks": "landmarks left out",
    "category number out of range": "category unknown",
    "several answers where one is right": "answer unknown",
    "list of another length than announced": "its rows used",
    "malformed row": "row left out",
    "photo listed twice": "later row left out",
    # Found by tools/check_dataset.py only.
    "mask without a pixel": "left out in training",
    "mask and box disagree": "kept",
    "garment annotated twice": "both kept",
    "photo that is in another split too": "kept; metrics will be too high",
    "photo that is in its split twice": "both kept",
}
# Kinds that are not faults; nothing is left out because of them.
NOTES = {f"photo {trait}": consequence for trait, consequence in TRAITS.items()} | {
    "column of free text": "not an attribute",
    "missing list": "what it holds is unknown",
}
EXAMPLES_KEPT = 5


class BadRecord(Exception):
    """A raw value that cannot be used; ``kind`` is a key of CONSEQUENCES."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass
class Problem:
    """One kind of problem in a dataset: how often it occurs, and the first few examples."""

    kind: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for the user."""
        return f"{self.kind} ×{self.count} ({self.consequence}): {self.examples[0]}"

    @property
    def consequence(self) -> str:
        """What is done about it."""
        return (CONSEQUENCES | NOTES)[self.kind]

    @property
    def is_note(self) -> bool:
        """Whether this is information rather than a fault."""
        return self.kind in NOTES


class Problems:
    """Counts problems by kind, in order of first appearance."""

    def __init__(self) -> None:
        self.by_kind: dict[str, Problem] = {}

    def add(self, kind: str, example: str) -> None:
        """Count one problem; ``example`` says where it is and which value is wrong."""
        problem = self.by_kind.setdefault(kind, Problem(kind))
        problem.count += 1
        if len(problem.examples) < EXAMPLES_KEPT:
            problem.examples.append(example)

    def add_traits(self, traits: tuple[str, ...], example: str) -> None:
        """Count a photo's traits (``engine.pixels.photo_files.TRAITS``)."""
        for trait in traits:
            self.add(f"photo {trait}", example)

    def merge(self, problems: list[Problem]) -> None:
        """Add another collection's counts (from a worker process)."""
        for problem in problems:
            mine = self.by_kind.setdefault(problem.kind, Problem(problem.kind))
            mine.count += problem.count
            mine.examples = (mine.examples + problem.examples)[:EXAMPLES_KEPT]

    def found(self) -> list[Problem]:
        """All kinds that occurred."""
        return list(self.by_kind.values())


def shorten(value: Any, length: int = 60) -> str:
    """A value as text for a message, cut if long."""
    try:
        text = repr(value[:10] if isinstance(value, list) else value)
    except RecursionError:
        text = "(deeply nested)"
    return text if len(text) <= length else text[: length - 1] + "…"
