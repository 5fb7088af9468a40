"""What a dataset is once it is read: photos and their garments, packed into a few numpy arrays.

Objects are made on demand. A list of 200k photo objects is touched (reference counted) by every
loader process and so copied into each; arrays are not, and a cached dataset's arrays stay in the
file they are mapped from. ``COLUMNS`` below is the whole layout.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SOURCES = ("", "shop", "user")

# Name -> (dtype, shape of one element). Photo columns have N rows, garment columns G, in the
# order of their photos. A name with a twin "<name>_offsets" is ragged: row i is the slice
# offsets[i]:offsets[i + 1] of it.
PHOTO_COLUMNS = {
    "image_ids": (np.int64, ()),
    "sizes": (np.int32, (2,)),  # width, height
    "photo_source": (np.int8, ()),  # index into SOURCES
}
GARMENT_COLUMNS = {
    "garment_category": (np.int32, ()),
    "garment_box": (np.float64, (4,)),
    "garment_area": (np.float64, ()),
    "garment_crowd": (np.bool_, ()),
    "garment_annotation_id": (np.int64, ()),
    "garment_identity": (np.int64, ()),
    "garment_style": (np.int64, ()),
    "garment_pair_id": (np.int64, ()),
    "garment_scale": (np.int8, ()),
    "garment_occlusion": (np.int8, ()),
    "garment_zoom_in": (np.int8, ()),
    "garment_viewpoint": (np.int8, ()),
}
RAGGED_PHOTO_COLUMNS = {"file_name": (np.uint8, ())}  # UTF-8, relative to the root
RAGGED_GARMENT_COLUMNS = {
    "points": (np.float64, (2,)),  # of all its polygons, one after another
    "polygon_lengths": (np.int32, ()),  # points of each polygon
    "rle": (np.uint8, ()),  # compressed COCO counts; its size is the photo's
    "landmarks": (np.float32, (3,)),
    "attribute_values": (np.int8, ()),
}
RAGGED_COLUMNS = RAGGED_PHOTO_COLUMNS | RAGGED_GARMENT_COLUMNS
OFFSETS = (np.int64, ())
COLUMNS = (
    {"garment_offsets": OFFSETS}
    | PHOTO_COLUMNS
    | GARMENT_COLUMNS
    | RAGGED_COLUMNS
    | {f"{name}_offsets": OFFSETS for name in RAGGED_COLUMNS}
)


@dataclass(slots=True)
class Garment:
    """One annotated garment. Coordinates are pixels of the upright photo, (0, 0) its corner."""

    category: int  # 0-based index into the records' categories
    box: np.ndarray  # float64 [4], x1 y1 x2 y2
    area: float  # as annotated: COCO's "area", else the box's
    segmentation: list[np.ndarray] | dict | None = None  # polygons [K, 2] | compressed RLE
    crowd: bool = False  # one box around many, COCO's "iscrowd"
    annotation_id: int = 0
    identity: int = -1  # garments of one identity are the same product; -1 = unknown
    style: int = 0  # DeepFashion2's, 0 = none
    pair_id: int = -1  # DeepFashion2's, -1 = none
    landmarks: np.ndarray | None = None  # float32 [K, 3]: x, y, 2 visible | 1 occluded | 0 absent
    scale: int = 0  # DeepFashion2's: 1 small, 2 modest, 3 large; 0 = unknown
    occlusion: int = 0  # 1 slight, 2 medium, 3 heavy; 0 = unknown
    zoom_in: int = 0  # 1 none, 2 medium, 3 large; 0 = unknown
    viewpoint: int = 0  # 1 not worn, 2 frontal, 3 side or back; 0 = unknown
    attributes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))  # 1 yes -1 no 0 ?


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
    """A read dataset: ``records[i]`` is a Photo, the columns are numpy arrays.

    Attributes:
        name: the format it was read from.
        root: folder that the file names are relative to.
        categories, category_ids: names, and the dataset's own ids in the same order.
        attributes: attribute names (empty where the set has none).
        problems: what was wrong with the source, one entry a kind (``readers.problems.Problem``).
        columns: every array of the layout above, also reachable as ``records.<name>``.
        garment_offsets: int64 [N + 1], garments of photo i are rows offsets[i]:offsets[i + 1].
    """

    def __init__(
        self,
        columns: dict[str, np.ndarray],
        *,
        name: str,
        root: Path,
        categories: Sequence[str],
        category_ids: Sequence[int],
        attributes: Sequence[str] = (),
        problems: Sequence = (),
    ) -> None:
        for column in columns.values():
            column.flags.writeable = False  # as mapped ones are
        self.columns = columns
        self.name = name
        self.root = Path(root)
        self.categories = list(categories)
        self.category_ids = list(category_ids)
        self.attributes = list(attributes)
        self.problems = list(problems)

    @classmethod
    def from_photos(cls, photos: Iterable[Photo], *, root: Path, **about) -> "PhotoRecords":
        """Pack photo objects; the other arguments are the constructor's."""
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
        """Where photo ``index`` lies."""
        return self.root / self.file_name_of(index)

    def file_name_of(self, index: int) -> str:
        """The photo's path relative to the root, with forward slashes."""
        return self._row("file_name", index).tobytes().decode()

    def source_of(self, index: int) -> str:
        """Where the photo comes from: "shop", "user" or "" (unknown)."""
        return SOURCES[self.photo_source[index]]

    @property
    def garment_photo(self) -> np.ndarray:
        """int64 [G], index of the photo that each garment is on."""
        return np.repeat(np.arange(len(self)), np.diff(self.garment_offsets))

    @property
    def has_masks(self) -> bool:
        """Whether every garment has a segmentation (and there is one)."""
        return len(self.garment_category) > 0 and bool(self.garment_has_mask.all())

    @property
    def garment_has_mask(self) -> np.ndarray:
        """bool [G]."""
        return (np.diff(self.polygon_lengths_offsets) > 0) | (np.diff(self.rle_offsets) > 0)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "PhotoRecords":
        """The photos at ``indices``, in that order, as records of their own."""
        indices = np.arange(len(self))[np.asarray(indices, dtype=np.int64)]
        garments, garment_offsets = _ragged_rows(self.garment_offsets, indices)
        return self._select(indices, garments, garment_offsets)

    def keep_garments(self, keep: np.ndarray) -> "PhotoRecords":
        """All photos, with the garments for which ``keep`` (bool [G]) holds."""
        kept_before = _offsets(keep)
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
                values, offsets = _ragged_rows(self.columns[f"{name}_offsets"], rows)
                columns |= {name: self.columns[name][values], f"{name}_offsets": offsets}
        about = {key: value for key, value in vars(self).items() if key != "columns"}
        return PhotoRecords(columns, **about)

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


def pack(photos: Iterable[Photo], root: Path) -> dict[str, np.ndarray]:
    """Turn photo objects, one at a time, into the columns of the layout."""
    rows: dict[str, list] = {name: [] for name in (*PHOTO_COLUMNS, *GARMENT_COLUMNS)}
    ragged: dict[str, list] = {name: [] for name in RAGGED_COLUMNS}
    counts = []
    for photo in photos:
        rows["image_ids"].append(photo.image_id)
        rows["sizes"].append((photo.width, photo.height))
        rows["photo_source"].append(SOURCES.index(photo.source))
        name = photo.path.relative_to(root).as_posix().encode()
        ragged["file_name"].append(np.frombuffer(name, np.uint8))
        counts.append(len(photo.garments))
        for garment in photo.garments:
            _pack_garment(garment, rows, ragged)
    columns = {"garment_offsets": _offsets(counts)}
    for name, (dtype, shape) in (PHOTO_COLUMNS | GARMENT_COLUMNS).items():
        columns[name] = np.array(rows[name], dtype).reshape(-1, *shape)
    for name, (dtype, shape) in RAGGED_COLUMNS.items():
        values = [np.zeros((0, *shape), dtype), *ragged[name]]
        columns[name] = np.concatenate(values).astype(dtype, copy=False)
        columns[f"{name}_offsets"] = _offsets([len(value) for value in ragged[name]])
    return columns


def _pack_garment(garment: Garment, rows: dict[str, list], ragged: dict[str, list]) -> None:
    for name in GARMENT_COLUMNS:
        rows[name].append(getattr(garment, name.removeprefix("garment_")))
    is_rle = isinstance(garment.segmentation, dict)
    polygons = [] if is_rle or garment.segmentation is None else garment.segmentation
    counts = garment.segmentation["counts"] if is_rle else b""
    landmarks = np.zeros((0, 3)) if garment.landmarks is None else garment.landmarks
    ragged["points"].append(np.concatenate([np.zeros((0, 2)), *polygons]))
    ragged["polygon_lengths"].append(np.array([len(p) for p in polygons], np.int32))
    ragged["rle"].append(np.frombuffer(counts, np.uint8))
    ragged["landmarks"].append(landmarks.astype(np.float32))
    ragged["attribute_values"].append(garment.attributes)


def concatenate(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join the columns of several packs, in order."""
    columns = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        if name.endswith("_offsets"):
            columns[name] = _offsets(np.concatenate([np.diff(array) for array in arrays]))
        else:
            columns[name] = np.concatenate(arrays)
    return columns


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """int64 [len + 1], where each row starts and the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _ragged_rows(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value indices of the chosen rows of a ragged column, one after another; their offsets."""
    lengths = (offsets[1:] - offsets[:-1])[rows]
    new_offsets = _offsets(lengths)
    shift = np.repeat(offsets[:-1][rows] - new_offsets[:-1], lengths)
    return np.arange(new_offsets[-1]) + shift, new_offsets
