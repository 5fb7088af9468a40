"""Checks every photo in worker processes: can it be decoded, are its annotations plausible?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from torch.utils.data import DataLoader, Dataset

from engine.data.readers.parallel import progress_bar
from engine.data.records import Garment, Photo, PhotoRecords
from engine.pixels.masks import to_rle
from engine.pixels.photos import PhotoError, read_photo
from tools.checkup.duplicates import THUMBNAIL, file_digest

BATCH = 16
MASK_BOX_IOU = 0.5  # below this IoU of a mask's extent and its box, the two disagree
TWICE_IOU = 0.95  # above this IoU, two garments of one category are one, annotated twice


@dataclass(slots=True)
class Finding:
    """The result of checking one photo."""

    problems: list[tuple[str, str]] = field(default_factory=list)  # kind, place
    digest: bytes | None = None  # of the file; None if the photo cannot be decoded
    thumbnail: np.ndarray | None = None  # uint8 [32, 32]


class _Inspector(Dataset):
    def __init__(self, records: PhotoRecords) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Finding:
        photo = self.records[index]
        finding = Finding(check_garments(photo, self.records.category_name))
        try:
            pixels = read_photo(photo.path)
        except PhotoError as error:
            finding.problems.append((f"{error.kind} photo", str(error)))
            return finding
        finding.digest = file_digest(photo.path)
        gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        finding.thumbnail = cv2.resize(gray, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        return finding


def inspect(records: PhotoRecords, *, workers: int, title: str) -> Iterator[Finding]:
    """A Finding per photo, in order, with a progress bar."""
    loader = DataLoader(_Inspector(records), batch_size=BATCH, num_workers=workers, collate_fn=list)
    with progress_bar() as progress:
        task = progress.add_task(f"decoding {title}", total=len(records))
        for findings in loader:
            yield from findings
            progress.advance(task, len(findings))


def check_garments(photo: Photo, name_of: Callable[[int], str]) -> list[tuple[str, str]]:
    """The problems of a photo's annotations as (kind, place).

    Args:
        photo: with its garments.
        name_of: category number -> name.
    """
    found = []
    for garment in photo.garments:
        place = f"{photo.path.name}: {name_of(garment.category)} {garment.annotation_id}"
        if garment.segmentation is not None:
            found += [(kind, place) for kind in _check_mask(garment, photo)]
    boxes = np.array([garment.box for garment in photo.garments]).reshape(-1, 4)
    kinds = np.array([garment.category for garment in photo.garments])
    twice = np.triu(_iou(boxes, boxes) > TWICE_IOU, 1) & (kinds[:, None] == kinds)
    for first, second in zip(*np.nonzero(twice), strict=True):
        ids = f"{photo.garments[first].annotation_id} and {photo.garments[second].annotation_id}"
        place = f"{photo.path.name}: {name_of(kinds[first])} {ids}"
        found.append(("garment annotated twice", place))
    return found


def _check_mask(garment: Garment, photo: Photo) -> list[str]:
    rle = to_rle(garment.segmentation, photo.height, photo.width)
    if coco_mask.area(rle) == 0:
        return ["mask without a pixel"]
    x, y, width, height = coco_mask.toBbox(rle).tolist()
    extent = np.array([[x, y, x + width, y + height]])
    return ["mask and box disagree"] if _iou(extent, garment.box[None])[0, 0] < MASK_BOX_IOU else []


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of xyxy boxes [N, 4] and [M, 4]: float [N, M]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    return common / (areas[0][:, None] + areas[1][None] - common)
