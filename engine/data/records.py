"""A dataset in memory: photos and their garments, packed into a few numpy arrays.

Photo and Garment objects are made on demand. Loader processes share the arrays; a list of 200k
photo objects would end up copied into each of them, since reference counting writes to shared
pages. The arrays of a cached dataset are memory-mapped. ``engine.data.packing`` defines the layout.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.data.packing import (
    GARMENT_COLUMNS,
    PHOTO_COLUMNS,
    RAGGED_GARMENT_COLUMNS,
    RAGGED_PHOTO_COLUMNS,
    SOURCES,
    choose_rows,
    pack,
    ragged_rows,
    to_offsets,
)


@dataclass(frozen=True)
class AttributeGroup:
    """A group of attributes: columns ``start:stop`` of the attribute matrix.

    In an exclusive group one value is 1 and the others are -1, or all are 0 (unknown). In other
    groups the values are independent.
    """

    name: str
    start: int
    stop: int
    exclusive: bool


@dataclass(slots=True)
class Garment:
    """One annotated garment. Coordinates are pixels of the upright photo, origin upper left."""

    category: int  # 0-based index into the records' categories, -1 = unknown
    box: np.ndarray  # float64 [4], x1 y1 x2 y2
    area: float  # in pixels: COCO's "area" if annotated, else the box's
    segmentation: list[np.ndarray] | dict | None = None  # polygons [K, 2] | compressed RLE
    crowd: bool = False  # one annotation for several garments, COCO's "iscrowd"
    annotation_id: int = 0
    identity: int = -1  # garments of one identity are the same product; -1 = unknown
    style: int = 0  # DeepFashion2's, 0 = none
    pair_id: int = -1  # DeepFashion2's, -1 = none
    landmarks: np.ndarray | None = None  # float32 [K, 3]: x, y, 2 visible | 1 occluded | 0 absent
    scale: int = 0  # DeepFashion2's: 1 small, 2 modest, 3 large; 0 = unknown
    occlusion: int = 0  # 1 slight, 2 medium, 3 heavy; 0 = unknown
    zoom_in: int = 0  # 1 none, 2 medium, 3 large; 0 = unknown
    viewpoint: int = 0  # 1 not worn, 2 frontal, 3 side or back; 0 = unknown
    # int8 [A]: 1 yes, -1 no, 0 unknown
    attributes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))


@dataclass(slots=True)
class Photo:
    """One photo and what is annotated on it."""

    path: Path
    image_id: int
    width: int
    height: int
    source: str = ""  # "shop", "user" or "" (unknown)
    garments: list[Garment] = field(default_factory=list)


class PhotoRecords:
    """A dataset that has been read: ``records[i]`` is a Photo, the columns are numpy arrays.

    Attributes:
        format: the format it was read from.
        root: folder that the file names are relative to.
        categories, category_ids: names, and the dataset's own ids in the same order.
        category_groups: "upper", "lower", "full" or "" per category; empty if the dataset has none.
        attributes: names of the attribute columns; empty if the dataset has none.
        attribute_ids: the dataset's own ids in the same order; counted from 0 if it has none.
        attribute_groups: consecutive ranges of the attributes.
        identities: ``identities[k]`` is the name of identity k; empty if the dataset has none.
        problems: the faults found by the reader, one ``readers.problems.Problem`` per kind.
        columns: every array of ``engine.data.packing``, read-only, also available as
            ``records.<name>``.
        garment_offsets: int64 [N + 1]; the garments of photo i are rows
            ``garment_offsets[i]:garment_offsets[i + 1]`` of the garment columns.
    """

    def __init__(
        self,
        columns: dict[str, np.ndarray],
        *,
        format: str,
        root: Path,
        categories: Sequence[str],
        category_ids: Sequence[int],
        category_groups: Sequence[str] = (),
        attributes: Sequence[str] = (),
        attribute_ids: Sequence[int] = (),
        attribute_groups: Sequence[AttributeGroup] = (),
        identities: Sequence[str] = (),
        problems: Sequence = (),
    ) -> None:
        for column in columns.values():
            column.flags.writeable = False  # like memory-mapped ones
        self.columns = columns
        self.format = format
        self.root = Path(root)
        self.categories = list(categories)
        self.category_ids = list(category_ids)
        self.category_groups = list(category_groups)
        self.attributes = list(attributes)
        self.attribute_ids = list(attribute_ids or range(len(self.attributes)))
        self.attribute_groups = list(attribute_groups)
        self.identities = list(identities)
        self.problems = list(problems)

    @classmethod
    def from_photos(cls, photos: Iterable[Photo], *, root: Path, **about) -> "PhotoRecords":
        """Pack photo objects; the other arguments are those of the constructor."""
        return cls(pack(photos, Path(root)), root=root, **about)

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.__dict__["columns"][name]
        except KeyError:
            raise AttributeError(f"PhotoRecords has no attribute {name!r}") from None

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Photo:
        index = range(len(self))[index]
        width, height = self.sizes[index].tolist()
        start, end = self.garment_offsets[index : index + 2].tolist()
        return Photo(
            path=self.path(index),
            image_id=int(self.image_ids[index]),
            width=width,
            height=height,
            source=self.source_of(index),
            garments=[self._garment(g, width, height) for g in range(start, end)],
        )

    def path(self, index: int) -> Path:
        """Path of photo ``index``."""
        return self.root / self.file_name_of(index)

    def file_name_of(self, index: int) -> str:
        """The photo's path relative to the root, with forward slashes."""
        return self._row("file_name", index).tobytes().decode()

    def source_of(self, index: int) -> str:
        """Where the photo comes from: "shop", "user" or "" (unknown)."""
        return SOURCES[self.photo_source[index]]

    @property
    def garment_photo(self) -> np.ndarray:
        """int64 [G], index of each garment's photo."""
        return np.repeat(np.arange(len(self)), np.diff(self.garment_offsets))

    @property
    def attribute_matrix(self) -> np.ndarray:
        """int8 [G, A]: 1 yes, -1 no, 0 unknown."""
        return self.attribute_values.reshape(len(self.garment_category), len(self.attributes))

    @property
    def has_masks(self) -> bool:
        """Whether there are garments and all of them have a segmentation."""
        return len(self.garment_category) > 0 and bool(self.garment_has_mask.all())

    @property
    def garment_has_mask(self) -> np.ndarray:
        """bool [G], whether each garment has a segmentation."""
        return (np.diff(self.polygon_lengths_offsets) > 0) | (np.diff(self.rle_offsets) > 0)

    def category_name(self, category: int) -> str:
        """A category's name, "unknown" for -1."""
        return self.categories[category] if category >= 0 else "unknown"

    def garment(self, g: int) -> tuple[int, Garment]:
        """Index of the photo of garment ``g``, and the garment."""
        g = range(len(self.garment_category))[g]
        photo = self.photo_of(g)
        return photo, self._garment(g, *self.sizes[photo].tolist())

    def photo_of(self, g: int) -> int:
        """Index of one garment's photo; ``garment_photo`` has those of all garments."""
        return int(np.searchsorted(self.garment_offsets, g, side="right")) - 1

    def with_columns(self, columns: dict[str, np.ndarray], **about) -> "PhotoRecords":
        """A copy with some columns or other constructor arguments replaced."""
        kept = {key: value for key, value in vars(self).items() if key != "columns"}
        return PhotoRecords(self.columns | columns, **(kept | about))

    def in_categories_of(self, other: "PhotoRecords") -> "PhotoRecords":
        """A copy whose categories are numbered as in ``other``.

        Raises:
            ValueError: ``other`` lacks one of the categories.
        """
        numbers = np.array([*map(other.categories.index, self.categories), -1])
        column = numbers[self.garment_category].astype(self.garment_category.dtype)
        names = ("categories", "category_ids", "category_groups")
        about = {name: getattr(other, name) for name in names}
        return self.with_columns({"garment_category": column}, **about)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "PhotoRecords":
        """New records of the photos at ``indices``, in that order; photos may repeat."""
        indices = np.arange(len(self))[np.asarray(indices, dtype=np.int64)]
        garments, garment_offsets = ragged_rows(self.garment_offsets, indices)
        return self._select(indices, garments, garment_offsets)

    def keep_garments(self, keep: np.ndarray) -> "PhotoRecords":
        """New records of all photos, with only the garments where ``keep`` (bool [G]) is true."""
        kept_before = to_offsets(keep)
        photos = np.arange(len(self))
        return self._select(photos, np.flatnonzero(keep), kept_before[self.garment_offsets])

    def _select(
        self, indices: np.ndarray, garments: np.ndarray, garment_offsets: np.ndarray
    ) -> "PhotoRecords":
        columns = {"garment_offsets": garment_offsets}
        for names, rows in ((PHOTO_COLUMNS, indices), (GARMENT_COLUMNS, garments)):
            columns |= {name: self.columns[name][rows] for name in names}
        ragged = ((RAGGED_PHOTO_COLUMNS, indices), (RAGGED_GARMENT_COLUMNS, garments))
        for names, rows in ragged:
            for name in names:
                old = self.columns[name], self.columns[f"{name}_offsets"]
                columns[name], columns[f"{name}_offsets"] = choose_rows(*old, rows)
        return self.with_columns(columns)

    def _row(self, name: str, index: int) -> np.ndarray:
        start, end = self.columns[f"{name}_offsets"][index : index + 2].tolist()
        return self.columns[name][start:end]

    def _garment(self, g: int, width: int, height: int) -> Garment:
        landmarks = np.array(self._row("landmarks", g))
        return Garment(
            category=int(self.garment_category[g]),
            box=np.array(self.garment_box[g]),
            area=float(self.garment_area[g]),
            segmentation=self._segmentation(g, width, height),
            crowd=bool(self.garment_crowd[g]),
            annotation_id=int(self.garment_annotation_id[g]),
            identity=int(self.garment_identity[g]),
            style=int(self.garment_style[g]),
            pair_id=int(self.garment_pair_id[g]),
            landmarks=landmarks if len(landmarks) else None,
            scale=int(self.garment_scale[g]),
            occlusion=int(self.garment_occlusion[g]),
            zoom_in=int(self.garment_zoom_in[g]),
            viewpoint=int(self.garment_viewpoint[g]),
            attributes=np.array(self._row("attribute_values", g)),
        )

    def _segmentation(self, g: int, width: int, height: int) -> list[np.ndarray] | dict | None:
        counts = self._row("rle", g)
        if len(counts):
            return {"size": [height, width], "counts": counts.tobytes()}
        lengths = self._row("polygon_lengths", g)
        if len(lengths) == 0:
            return None
        points = np.array(self._row("points", g))
        return np.split(points, np.cumsum(lengths)[:-1])
