"""The page: self-contained, and safe with any file name."""

import io
import json
import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest

from engine.description.describer import Description
from engine.detection.detections import Detections
from engine.outputs.gallery import GalleryWriter
from engine.outputs.results import garments_record

CATEGORIES = ["top", "</script><b>hat"]


def page_of(records: list[dict], root: str = "/photos", output: str = "/photos/out") -> str:
    file = io.BytesIO()
    writer = GalleryWriter(file, root, Path(output), CATEGORIES)
    for record in records:
        writer.add(record)
    writer.close()
    return file.getvalue().decode()


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])


def record(name: str, descriptions: list[Description] | None = None) -> dict:
    boxes = np.array([[10, 20, 30, 40]], np.float32)
    found = Detections(100, 200, boxes, np.float32([0.75]), np.array([2]), None)
    return garments_record(name, found, CATEGORIES, descriptions=descriptions, pictures=True)


def test_an_entry_by_hand() -> None:
    data = data_of(page_of([record("a/b.jpg")]))
    row = [1, 0.75, 0.1, 0.1, 0.3, 0.2, 0.02, [], [], []]
    assert data["photos"] == [["a/b.jpg", "overlays/a/b.jpg.jpg", 100, 200, [row]]]
    assert data["originals"] == ".."
    assert [category["name"] for category in data["categories"]] == CATEGORIES
    assert all(re.fullmatch("#[0-9a-f]{6}", c["color"]) for c in data["categories"])


def test_a_described_garment_by_hand() -> None:
    labels = {"color": [("navy", 0.9), ("blue", 0.1)], "<i>": [("zip", 0.2)]}
    description = Description(labels, [("navy", "#000080", 0.62)], {})
    data = data_of(page_of([record("a.jpg", [description])]))
    garment = data["photos"][0][4][0]
    assert garment[7:] == [
        [["color", "navy", 0.9], ["<i>", "zip", 0.2]],
        [["navy", "#000080", 0.62]],
        [],
    ]


@pytest.mark.parametrize(
    "name", ["a b#c?.jpg", "50%25.jpg", "</script><!--.jpg", "\"'&.jpg", "é/ü.jpg", "\udce9.jpg"]
)
def test_any_file_name_survives(name: str) -> None:
    page = page_of([record(name), {"photo": name, "kind": "empty", "reason": "</script>"}])
    assert page.count("</script") == 2, "the data ended its element"
    data = data_of(page)
    quoted, overlay = data["photos"][0][:2]
    assert unquote_to_bytes(quoted) == os.fsencode(name)
    assert unquote_to_bytes(overlay) == os.fsencode(f"overlays/{name}.jpg")
    assert re.fullmatch(r"[\w%./~-]+", quoted, re.ASCII)
    assert data["unreadable"] == [[quoted, "</script>"]]


def test_nothing_comes_from_another_host() -> None:
    page = page_of([record("a.jpg")])
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", page)


def test_a_page_without_photos() -> None:
    assert data_of(page_of([]))["photos"] == []
