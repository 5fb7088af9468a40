"""The page: self-contained, and safe with any file name."""

import io
import json
import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from engine.description.describer import Description
from engine.detection.detections import Detections
from engine.outputs.gallery import GalleryWriter
from engine.outputs.results import garments_record

CATEGORIES = ["top", "</script><b>hat"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


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


def test_the_entry_of_a_photo_by_hand() -> None:
    data = data_of(page_of([record("a/b.jpg"), record("c.jpg")]))
    row = [1, 0.75, 0.1, 0.1, 0.3, 0.2, 0.02, [], [], []]
    assert data["photos"] == [
        ["a/b.jpg", "overlays/a/b.jpg.jpg", 100, 200, [row]],
        ["c.jpg", "overlays/c.jpg.jpg", 100, 200, [row]],
    ]
    assert data["originals"] == ".."
    assert [category["name"] for category in data["categories"]] == CATEGORIES
    assert all(re.fullmatch("#[0-9a-f]{6}", c["color"]) for c in data["categories"])


def test_the_entry_of_a_described_garment_by_hand() -> None:
    labels = {"color": [("navy", 0.9), ("blue", 0.1)], "<i>": [("zip", 0.2)]}
    description = Description(labels, [("navy", "#000080", 0.62)], {})
    data = data_of(page_of([record("a.jpg", [description])]))
    garment = data["photos"][0][4][0]
    assert garment[7:] == [
        [["color", "navy", 0.9], ["<i>", "zip", 0.2]],
        [["navy", "#000080", 0.62]],
        [],
    ]


def test_similar_items_with_and_without_a_picture() -> None:
    entry = record("a.jpg")
    entry["garments"][0]["similar"] = [
        {"key": "shop/b.jpg#1", "score": 0.9, "picture": "similar/ab 1.jpg"},
        {"key": "gone.jpg#2", "score": 0.5},
    ]
    garment = data_of(page_of([entry]))["photos"][0][4][0]
    assert garment[9] == [["shop/b.jpg#1", 0.9, "similar/ab%201.jpg"], ["gone.jpg#2", 0.5, ""]]


@pytest.mark.parametrize(
    "name", ["a b#c?.jpg", "50%25.jpg", "</script><!--.jpg", "\"'&.jpg", "é/ü.jpg", "\udce9.jpg"]
)
def test_any_file_name_works(name: str) -> None:
    page = page_of([record(name), {"photo": name, "kind": "empty", "reason": "</script>"}])
    assert page.count("</script") == 2, "the data ended its element"
    data = data_of(page)
    quoted, overlay = data["photos"][0][:2]
    assert unquote_to_bytes(quoted) == os.fsencode(name)
    assert unquote_to_bytes(overlay) == os.fsencode(f"overlays/{name}.jpg")
    assert re.fullmatch(r"[\w%./~-]+", quoted, re.ASCII)
    assert data["unreadable"] == [[quoted, "</script>"]]


def test_the_page_loads_nothing_from_other_hosts() -> None:
    page = page_of([record("a.jpg")])
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", page)


def test_a_page_without_photos_is_valid() -> None:
    assert data_of(page_of([]))["photos"] == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install the package chromium")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    labels = {"category": [("Hat", 0.97)], "color": [("Brown", 0.31)], "pattern": [("solid", 0.2)]}
    described = record("a.heic", [Description(labels, [], {})])
    unreadable = {"photo": "b.jpg", "kind": "empty", "reason": "the file is empty"}
    output = tmp_path / "out"
    output.mkdir()
    (tmp_path / "a.heic").write_bytes(b"as good as any to a browser that reads no HEIC")
    page_file = output / "index.html"
    page_file.write_text(page_of([described, unreadable], str(tmp_path), str(output)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(page_file.as_uri())
        assert page.inner_text("#totals") == "2 photos · 1 garment · 1 unreadable"
        page.click(".card")
        assert page.locator(".row .tags span").all_inner_texts() == ["Hat", "Brown?"]
        page.click("#original")
        page.wait_for_selector('.frame img[alt="This browser cannot show the original, or it has '
                               'moved"]')  # fmt: skip
        page.click("#original")
        assert page.get_attribute(".frame img", "alt") == "Photo with its garments drawn in"
        browser.close()
