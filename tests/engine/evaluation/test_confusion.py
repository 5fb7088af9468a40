"""Confusion matrices as files."""

from pathlib import Path

import cv2
import numpy as np

from engine.evaluation.confusion import draw_confusion, write_confusion


def test_the_table_has_headers_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "confusion.csv"
    write_confusion(path, np.array([[2, 1, 0], [0, 3, 4]]), ["coat", 'a "b", c'])
    assert path.read_text().splitlines() == [
        'truth \\ answer,coat,"a ""b"", c",(no answer)',
        "coat,2,1,0",
        '"a ""b"", c",0,3,4',
    ]


def test_the_picture_grows_with_the_number_of_values_that_occur(tmp_path: Path) -> None:
    heights = []
    for count, used in ((60, 50), (60, 3), (3, 2)):
        matrix = np.zeros((count, count + 1), np.int64)
        matrix[np.arange(used), np.arange(used)] = 5
        matrix[0, -1] = used > 2
        names = [f"category {i}" for i in range(count)]
        draw_confusion(tmp_path / "c.png", matrix, names, "category")
        heights.append(cv2.imread(str(tmp_path / "c.png")).shape[0])
    assert heights[0] > 1500 > 700 > heights[1] > heights[2]
