"""A contact sheet of a search: one row per query, with its picture followed by its hits."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engine.config import require
from engine.files import replacing
from engine.pixels.geometry import shrink_to
from engine.wording import printable
from retrieval.pictures import item_picture
from retrieval.search import Query
from retrieval.store import Hit

CELL_WIDTH, PICTURE_HEIGHT = 190, 230  # px
LINE, LINES = 15, 3  # of a caption
GAP = 10
PAPER, INK, SOFT, WELL = (250, 250, 248), (30, 30, 32), (110, 112, 118), (228, 228, 224)
MOST_QUERIES = 200  # a taller picture than this many rows is opened by few viewers
WIDEST = {".jpg": 65_500, ".png": 1_000_000}  # px that OpenCV can encode


def write_sheet(
    path: Path, results: Sequence[tuple[Query, Sequence[Hit]]], root: str | None
) -> None:
    """Draw results as a PNG (or JPEG, by the suffix); missing photos become placeholders.

    Args:
        path: of the picture.
        results: queries and their hits; the first MOST_QUERIES are drawn.
        root: folder of the database's photos; None if unknown.

    Raises:
        InputError: the picture is too wide, or cannot be written.
    """
    results = results[:MOST_QUERIES]
    columns = 1 + max((len(hits) for _, hits in results), default=0)
    width = columns * (CELL_WIDTH + GAP) + GAP
    suffix = ".jpg" if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
    advice = "lower --top-k or name it .png" if suffix == ".jpg" else "lower --top-k"
    require(
        width <= WIDEST[suffix], f"{path}: {width} pixels are too wide for a {suffix}; {advice}"
    )
    row_height = PICTURE_HEIGHT + LINES * LINE + 2 * GAP
    sheet = Image.new("RGB", (width, max(len(results), 1) * row_height + GAP), PAPER)
    for row, (query, hits) in enumerate(results):
        _cell(sheet, GAP, GAP + row * row_height, _query_picture(query, root), _query_lines(query))
        for column, hit in enumerate(hits, 1):
            x, y = GAP + column * (CELL_WIDTH + GAP), GAP + row * row_height
            _cell(sheet, x, y, item_picture(root, hit.item, PICTURE_HEIGHT), _hit_lines(hit))
    _, data = cv2.imencode(suffix, cv2.cvtColor(np.asarray(sheet), cv2.COLOR_RGB2BGR))
    with replacing(path) as file:
        file.write(data)


def _query_picture(query: Query, root: str | None) -> np.ndarray | None:
    if query.item is not None:
        return item_picture(root, query.item, PICTURE_HEIGHT)
    return None if query.crop is None else shrink_to(query.crop, PICTURE_HEIGHT)


def _query_lines(query: Query) -> list[str]:
    return ["query", query.title, query.category or ""]


def _hit_lines(hit: Hit) -> list[str]:
    cosines = " ".join(f"{name[0]}{value:.2f}" for name, value in hit.aspects.items())
    name = hit.item.photo.rpartition("/")[2]
    return [f"{hit.score:.3f}  {hit.item.category or ''}", cosines, f"{name}#{hit.item.garment}"]


def _cell(
    sheet: Image.Image, x: int, y: int, picture: np.ndarray | None, lines: Sequence[str]
) -> None:
    """Draw a picture, centered in its cell at (x, y), and its caption."""
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((x, y, x + CELL_WIDTH - 1, y + PICTURE_HEIGHT - 1), WELL)
    if picture is None:
        pen.text((x + CELL_WIDTH / 2, y + PICTURE_HEIGHT / 2), "photo missing", SOFT,
                 _font(), anchor="mm")  # fmt: skip
    else:
        fitted = _fit(picture)
        height, width = fitted.shape[:2]
        place = x + (CELL_WIDTH - width) // 2, y + (PICTURE_HEIGHT - height) // 2
        sheet.paste(Image.fromarray(fitted), place)
    for number, line in enumerate(lines[:LINES]):
        text = _shorten(printable(line))
        color = INK if number == 0 else SOFT
        pen.text((x, y + PICTURE_HEIGHT + 4 + number * LINE), text, color, _font())


def _fit(picture: np.ndarray) -> np.ndarray:
    """Resize to fit a cell; small crops are enlarged at most twofold."""
    height, width = picture.shape[:2]
    factor = min(CELL_WIDTH / width, PICTURE_HEIGHT / height, 2)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(picture, size, interpolation=how)


def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(12)


def _shorten(text: str) -> str:
    """The text, its middle replaced by an ellipsis if it is too wide."""
    font = _font()
    while font.getlength(text) > CELL_WIDTH and len(text) > 4:
        middle = len(text) // 2
        text = f"{text[: middle - 1]}…{text[middle + 1 :]}".replace("……", "…")
    return text
