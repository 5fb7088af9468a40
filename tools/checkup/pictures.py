"""Contact sheets of a few annotated photos of a split, and of pairs of duplicates."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from engine.data.records import PhotoRecords
from engine.files import replacing
from engine.pixels.draw import draw_garments
from engine.pixels.masks import to_rle
from engine.pixels.photos import PhotoError, read_photo

CELL = 720  # height of a photo's cell in pixels
PAIR_CELL = 280
COLUMNS = 4
CAPTION = 56  # pixels below a pair
BACKGROUND = 245


def write_samples(path: Path, records: PhotoRecords, count: int, seed: int) -> None:
    """Write a sheet of randomly chosen photos with their garments drawn."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(records), min(count, len(records)), replace=False)).tolist()
    pictures = [picture for i in chosen if (picture := _annotated(records, i)) is not None]
    _write(path, _fit_all(pictures, CELL))


def _annotated(records: PhotoRecords, index: int) -> np.ndarray | None:
    photo = records[index]
    try:
        pixels = read_photo(photo.path, min_short_side=CELL)
    except PhotoError:
        return None
    size = photo.width, photo.height
    masks = [
        None if g.segmentation is None else to_rle(g.segmentation, photo.height, photo.width)
        for g in photo.garments
    ]
    names = [records.category_name(garment.category) for garment in photo.garments]
    boxes = np.array([garment.box for garment in photo.garments]).reshape(-1, 4)
    # The colors of the categories depend on how many there are.
    categories = [*records.categories, *sorted(set(names) - set(records.categories))]
    return draw_garments(pixels, boxes, masks, names, categories=categories, size=size)


def write_pairs(path: Path, pairs: Sequence[tuple[Path, Path, str]]) -> None:
    """Write a sheet of photo pairs, each with its caption."""
    photos = [_or_gray(photo) for first, second, _ in pairs for photo in (first, second)]
    halves = _fit_all(photos, PAIR_CELL)
    cells = []
    for i, (_, _, caption) in enumerate(pairs):
        pair = np.hstack(halves[2 * i : 2 * i + 2])
        strip = np.full((CAPTION, pair.shape[1], 3), BACKGROUND, np.uint8)
        for line, text in enumerate(caption.split("\n")):
            place = (4, 16 * (line + 1))
            cv2.putText(
                strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0,) * 3, 1, cv2.LINE_AA
            )
        cells.append(np.vstack([pair, strip]))
    _write(path, cells)


def _or_gray(path: Path) -> np.ndarray:
    try:
        return read_photo(path, min_short_side=PAIR_CELL)
    except PhotoError:
        return np.full((8, 8, 3), 128, np.uint8)


def _fit_all(pictures: list[np.ndarray], height: int) -> list[np.ndarray]:
    """Each picture centered in a cell of the given height, as wide as their median aspect ratio."""
    if not pictures:
        return []
    aspect = np.median([picture.shape[1] / picture.shape[0] for picture in pictures])
    width = round(height * float(np.clip(aspect, 0.5, 2)))
    return [_fit(picture, width, height) for picture in pictures]


def _fit(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    cell = np.full((height, width, 3), BACKGROUND, np.uint8)
    x, y = (width - size[0]) // 2, (height - size[1]) // 2
    cell[y : y + size[1], x : x + size[0]] = cv2.resize(picture, size, interpolation=method)
    return cell


def _write(path: Path, cells: list[np.ndarray]) -> None:
    if not cells:
        return
    columns = min(COLUMNS, len(cells))
    while len(cells) % columns:
        cells.append(np.full_like(cells[0], BACKGROUND))
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    _, jpeg = cv2.imencode(".jpg", np.vstack(rows)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    with replacing(path) as file:
        file.write(jpeg.tobytes())
