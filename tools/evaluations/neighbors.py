"""A page of each aspect's nearest neighbors, to be judged by eye."""

from pathlib import Path

import cv2
import numpy as np

from engine.evaluation import ranking
from engine.evaluation.multitask_metrics import Descriptions, EvaluationPart
from engine.files import replacing
from engine.training.samplers import Draw

QUERIES = 12
NEIGHBORS = 5
SIDE = 112  # px of a thumbnail
GAP = 6
SEAM = 22  # px between the aspects
HEADER = 34
PAPER, INK, SAME = 255, (40, 40, 40), (30, 140, 60)


def write_neighbors(path: Path, part: EvaluationPart, found: Descriptions) -> None:
    """Draw a dozen garments of a dataset, one row each, with each aspect's nearest neighbors.

    The garments are evenly spaced in the dataset, so that every run shows the same ones. Neighbors
    that are the same product have a green frame.

    Args:
        path: of the JPEG.
        part: the dataset.
        found: its garments' descriptions.
    """
    rows = np.unique(np.linspace(0, len(found.garments) - 1, QUERIES).round().astype(int))
    columns = 1 + NEIGHBORS * len(found.aspects)
    width = columns * (SIDE + GAP) + len(found.aspects) * SEAM + GAP
    height = HEADER + len(rows) * (SIDE + GAP) + GAP
    page = np.full((height, width, 3), PAPER, np.uint8)
    _write_header(page, list(found.aspects))
    identity = part.records.garment_identity[found.garments]
    for line, row in enumerate(rows):
        y = HEADER + line * (SIDE + GAP)
        _paste(page, _thumbnail(part, found.garments[row]), GAP, y)
        for number, vectors in enumerate(found.aspects.values()):
            for place, neighbor in enumerate(nearest(vectors, row)):
                x = _column(number, place)
                same = identity[row] >= 0 and identity[row] == identity[neighbor]
                _paste(page, _thumbnail(part, found.garments[neighbor]), x, y, framed=same)
    _, data = cv2.imencode(".jpg", page[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    with replacing(path) as file:
        file.write(data.tobytes())


def nearest(vectors: np.ndarray, row: int) -> np.ndarray:
    """Rows nearest to ``row`` by cosine, without itself, ties by number: i64[<= NEIGHBORS]."""
    (found,) = ranking.nearest(vectors[[row]], vectors, NEIGHBORS + 1)
    return found[found != row][:NEIGHBORS]


def _column(aspect: int, place: int) -> int:
    before = 1 + aspect * NEIGHBORS + place
    return GAP + before * (SIDE + GAP) + (aspect + 1) * SEAM


def _write_header(page: np.ndarray, aspects: list[str]) -> None:
    places = [GAP, *(_column(number, 0) for number in range(len(aspects)))]
    for x, text in zip(places, ["garment", *aspects], strict=True):
        cv2.putText(
            page, text, (x, HEADER - 12), cv2.FONT_HERSHEY_SIMPLEX, 0.6, INK, 1, cv2.LINE_AA
        )


def _thumbnail(part: EvaluationPart, garment: int) -> np.ndarray:
    image, _ = part.dataset[Draw(0, int(garment), 0, 0)]
    picture = image.permute(1, 2, 0).numpy()
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _paste(page: np.ndarray, picture: np.ndarray, x: int, y: int, *, framed: bool = False) -> None:
    page[y : y + SIDE, x : x + SIDE] = picture
    if framed:
        cv2.rectangle(page, (x - 2, y - 2), (x + SIDE + 1, y + SIDE + 1), SAME, 3)
