"""One state of a local database as a reader sees it: mapped vectors and which rows may be found.

A view does not change while the writer works, and several threads may search it. A new view shows
the newest state.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.errors import InputError
from retrieval.item_table import State
from retrieval.segments import Layout, MappedSegment, map_segment

ADVICE = "restore the file, or read their photos again: tools/build_database.py ... --repair"


@dataclass
class View:
    """Everything of one committed state except the items.

    Attributes:
        live: bool[rows], rows that hold an item, exist on disk and are not known to be damaged;
            None if all are.
        checksums: block -> checksum, from the item table.
        sound: blocks whose checksum was verified.
        masks: bool[rows] of the filter criteria used so far (``retrieval.filters``).
    """

    folder: Path
    layout: Layout
    state: State
    segments: list[MappedSegment]
    live: np.ndarray | None
    checksums: Mapping[int, int]
    sound: set[int] = field(default_factory=set)
    masks: dict[tuple, np.ndarray] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows, dead ones included."""
        return self.state.rows

    def live_mask(self) -> np.ndarray:
        """A copy of ``live`` to change."""
        return np.ones(self.rows, bool) if self.live is None else self.live.copy()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """f32[n, D] of the rows in the given order; what is missing reads as zeros."""
        vectors = np.zeros((len(rows), self.layout.dim), np.float32)
        for segment in self.segments:
            inside = (rows >= segment.start) & (rows < segment.start + len(segment.vectors))
            vectors[inside] = segment.vectors[rows[inside] - segment.start]
        return vectors

    def read_checked(self, rows: np.ndarray) -> np.ndarray:
        """As ``read``, but InputError names the file if a block of the rows is damaged."""
        for block in self.blocks_of(rows):
            if not self.is_sound(block):
                raise InputError(f"{self.describe(block)} are damaged; {ADVICE}")
        return self.read(rows)

    def blocks(self) -> range:
        """All blocks, by number."""
        return range(-(-self.rows // self.layout.block_rows))

    def blocks_of(self, rows: np.ndarray) -> list[int]:
        """The distinct blocks of rows i64[n], ascending."""
        return np.unique(rows // self.layout.block_rows).tolist()

    def is_sound(self, block: int) -> bool:
        """Whether a block's rows all exist and match its checksum."""
        if block not in self.sound:
            found = self._block(block)
            if found is None or zlib.crc32(found) != self.checksums.get(block):
                return False
            self.sound.add(block)
        return True

    def _block(self, block: int) -> np.ndarray | None:
        start, stop = self.block_range(block)
        for segment in self.segments:
            if segment.start <= start and stop <= segment.start + len(segment.vectors):
                return segment.vectors[start - segment.start : stop - segment.start]
        return None

    def block_range(self, block: int) -> tuple[int, int]:
        """First row and the one after the last."""
        size = self.layout.block_rows
        return block * size, min((block + 1) * size, self.rows)

    def describe(self, block: int) -> str:
        """A block in words: file and vectors."""
        start, stop = self.block_range(block)
        segment, offset = divmod(start, self.layout.segment_rows)
        path = self.layout.path(self.folder, self.state.generation, segment)
        return f"{path}: vectors {offset} to {offset + stop - start - 1}"


def map_rows(
    folder: Path, layout: Layout, state: State, before: View | None
) -> list[MappedSegment]:
    """Map the segments of all rows, without missing files; still valid mappings are reused."""
    known = {}
    if before is not None and before.state.generation == state.generation:
        known = {(mapped.start, len(mapped.vectors)): mapped for mapped in before.segments}
    return list(_map_each(folder, layout, state, known))


def _map_each(
    folder: Path, layout: Layout, state: State, known: Mapping
) -> Iterator[MappedSegment]:
    for start in range(0, state.rows, layout.segment_rows):
        wanted = min(layout.segment_rows, state.rows - start)
        mapped = known.get((start, wanted))
        if mapped is None:
            segment = start // layout.segment_rows
            mapped = map_segment(folder, layout, state.generation, segment, wanted)
        if mapped is not None:
            yield mapped


def live_mask(segments: list[MappedSegment], rows: int, dead: np.ndarray) -> np.ndarray | None:
    """bool[rows], False for dead rows int64[n] and missing ones; None if there are none."""
    if len(dead) == 0 and sum(len(segment.vectors) for segment in segments) == rows:
        return None
    live = np.zeros(rows, bool)
    for segment in segments:
        live[segment.start : segment.start + len(segment.vectors)] = True
    live[dead] = False
    return live
