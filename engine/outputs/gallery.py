"""index.html: one self-contained page that shows the garments of thousands of photos.

The page (template gallery.html beside this file) holds the list of photos as JSON and shows 48 at a
time; it loads pictures from overlays/ and crops/ when they come into view. Paths are stored as
percent-quoted bytes, so that any file name works.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from engine.outputs.journal import Record
from engine.outputs.results import slug
from engine.pixels.draw import category_colors

TEMPLATE = Path(__file__).with_name("gallery.html")
PLACEHOLDER = "/*DATA*/"


def _embed(value: Any) -> bytes:
    """JSON that cannot end the script element that contains it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c").encode()


def _url(path: str | Path) -> str:
    return quote(os.fsencode(path))


class GalleryWriter:
    """Writes the page photo by photo.

    Args:
        file: open for writing bytes.
        root: folder that the photos' names are relative to.
        output: folder of the page; links to the originals are relative to it.
        categories: of the detector, in order, which determines their colors.
    """

    def __init__(self, file: IO[bytes], root: str, output: Path, categories: Sequence[str]) -> None:
        self.file = file
        self.numbers = {name: number for number, name in enumerate(categories)}
        self.unreadable: list[tuple[str, str]] = []
        self.separator = b""
        head, self.tail = TEMPLATE.read_text(encoding="utf-8").split(PLACEHOLDER)
        colors = ["#%02x%02x%02x" % color for color in category_colors(len(categories))]  # noqa: UP031
        listed = [
            {"name": name, "slug": _url(slug(name)), "color": color}
            for name, color in zip(categories, colors, strict=True)
        ]
        originals = _url(os.path.relpath(root, output.absolute()))
        file.write(head.encode() + b'{"originals":' + _embed(originals))
        file.write(b',"categories":' + _embed(listed) + b',"photos":[')

    def add(self, record: Record) -> None:
        """Add one photo: [name, overlay, width, height, garments], each garment
        [category, score, x1, y1, x2, y2, share, labels, colors, similar], the box in units of the
        photo's sides; labels are [group, value, probability], colors [name, hex, share], similar
        items [key, score, picture or ""]."""
        if "kind" in record:
            self.unreadable.append((_url(record["photo"]), record["reason"]))
            return
        width, height = record["width"], record["height"]
        garments = []
        for garment in record["garments"]:
            x1, y1, x2, y2 = garment["box"]
            box = [round(v, 4) for v in (x1 / width, y1 / height, x2 / width, y2 / height)]
            row = [self.numbers[garment["category"]], garment["score"], *box]
            labels = [
                [group, ranked[0]["value"], ranked[0]["probability"]]
                for group, ranked in garment.get("labels", {}).items()
            ]
            colors = [[c["name"], c["hex"], c["share"]] for c in garment.get("colors", ())]
            similar = [
                [item["key"], item["score"], _url(item.get("picture", ""))]
                for item in garment.get("similar", ())
            ]
            garments.append([*row, garment["area_share"], labels, colors, similar])
        entry = [_url(record["photo"]), _url(record["overlay"]), width, height, garments]
        self.file.write(self.separator + _embed(entry))
        self.separator = b",\n"

    def close(self) -> None:
        """Write the part after the photos. The file stays open."""
        self.file.write(b'],"unreadable":' + _embed(self.unreadable) + b"}" + self.tail.encode())
