"""The page of nearest neighbors: right rows, right places, frames around the same product."""

from pathlib import Path

import cv2
import numpy as np
import torch

from engine.data.records import Garment, Photo, PhotoRecords
from engine.evaluation.multitask_metrics import Descriptions, EvaluationPart
from tools.evaluations import neighbors


class Gray:
    """Garment i is a square of gray 20 i."""

    def __getitem__(self, draw):
        return torch.full((3, 32, 32), 20 * draw.index, dtype=torch.uint8), {}


def part_of(identities: list[int]) -> EvaluationPart:
    box = np.array([0.0, 0, 9, 9])
    photos = [
        Photo(Path(f"/p/{i}.jpg"), i, 9, 9, garments=[Garment(-1, box, 81.0, identity=identity)])
        for i, identity in enumerate(identities)
    ]
    records = PhotoRecords.from_photos(
        photos, root=Path("/p"), format="csv", categories=[], category_ids=[]
    )
    return EvaluationPart("set", records, Gray())


def test_nearest_excludes_itself_and_breaks_ties_by_number() -> None:
    vectors = np.array([[1, 0], [0.6, 0.8], [1, 0], [1, 0], [0, 1]], np.float32)
    assert neighbors.nearest(vectors, 2).tolist() == [0, 3, 1, 4]


def test_page_by_hand(tmp_path: Path) -> None:
    angles = np.deg2rad([0, 50, 10, 12])
    aspects = {"item": np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)}
    found = Descriptions(np.arange(4), {}, aspects, [])
    neighbors.write_neighbors(tmp_path / "page.jpg", part_of([0, 0, -1, -1]), found)
    page = cv2.imread(str(tmp_path / "page.jpg"))
    middle = neighbors.SIDE // 2

    def gray_at(line: int, x: int) -> int:
        y = neighbors.HEADER + line * (neighbors.SIDE + neighbors.GAP) + middle
        return round(float(page[y, x + middle].mean()) / 20)

    first = [neighbors._column(0, place) for place in (0, 1, 2)]
    step = neighbors.SIDE + neighbors.GAP
    for line, nearest in enumerate(([2, 3, 1], [3, 2, 0], [3, 0, 1], [2, 0, 1])):
        assert gray_at(line, neighbors.GAP) == line
        assert [gray_at(line, x) for x in first] == nearest
        below = neighbors.HEADER + (line + 1) * step - neighbors.GAP // 2
        assert page[below, neighbors.GAP + middle].min() > 200, "lines touch"

    def framed(line: int, place: int) -> bool:
        edge = page[neighbors.HEADER + line * step + middle, first[place] - 2].astype(int)
        return edge[1] > edge[2] + 60

    # Garments 0 and 1 are the same product; the identities of 2 and 3 are unknown.
    places = {(line, place) for line in range(4) for place in range(3) if framed(line, place)}
    assert places == {(0, 2), (1, 2)}
