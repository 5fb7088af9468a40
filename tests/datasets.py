"""Small datasets on disk for tests: noise photos with annotations one can reason about."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from retrieval.deepfashion2 import TrueGarment

SIZES = {1: (60, 45), 2: (37, 53), 3: (64, 64)}  # photo id -> width, height


def write_photo(path: Path, width: int, height: int, seed: int = 0) -> None:
    """A smooth noise JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seeds = (np.random.default_rng(seed).random((5, 5, 3)) * 255).astype(np.uint8)
    assert cv2.imwrite(str(path), cv2.resize(seeds, (width, height)))


def rectangle_rle(width: int, height: int, box: tuple[int, int, int, int]) -> dict[str, Any]:
    """Compressed RLE, as JSON has it, of a filled box (x1, y1, x2, y2)."""
    bitmap = np.zeros((height, width), np.uint8, order="F")
    bitmap[box[1] : box[3], box[0] : box[2]] = 1
    rle = coco_mask.encode(bitmap)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def coco_document() -> dict[str, Any]:
    """Three photos, four garments: polygon, compressed RLE, uncompressed RLE, crowd."""
    images = [
        {"id": i, "file_name": f"{i}.jpg", "width": width, "height": height}
        for i, (width, height) in SIZES.items()
    ]
    whole = {"size": [64, 64], "counts": [0, 64 * 64]}
    rle = rectangle_rle(60, 45, (4, 3, 12, 9))
    polygon = [[4.5, 3, 12, 3, 12, 9, 4.5, 9]]

    def annotation(number: int, image: int, category: int, **more: Any) -> dict[str, Any]:
        more = {"bbox": [4, 3, 8, 6], "area": 48.0, "iscrowd": 0} | more
        return {"id": number, "image_id": image, "category_id": category, **more}

    return {
        "info": {"description": "test"},
        "categories": [{"id": 3, "name": "top"}, {"id": 8, "name": "skirt"}],
        "images": images,
        "annotations": [
            annotation(11, 1, 3, segmentation=rle),
            annotation(12, 3, 8, segmentation=whole, bbox=[0, 0, 64, 64], area=4096, iscrowd=1),
            annotation(13, 1, 8, segmentation=polygon, bbox=[4.5, 3, 7.5, 6], area=45),
            annotation(14, 3, 3, segmentation=rectangle_rle(64, 64, (4, 3, 12, 9))),
        ],
    }


def write_coco(root: Path, document: Any = None, split: str = "train") -> Path:
    """``<root>/images`` and ``<root>/<split>.json``; returns the root."""
    for i, (width, height) in SIZES.items():
        write_photo(root / "images" / f"{i}.jpg", width, height, seed=i)
    document = coco_document() if document is None else document
    (root / f"{split}.json").write_text(json.dumps(document))
    return root


def df2_item(category: int, landmarks: int, **more: Any) -> dict[str, Any]:
    """A garment as DeepFashion2 has it; ``category`` counts from 1."""
    return {
        "category_id": category,
        "category_name": "",
        "style": 0,
        "bounding_box": [4, 3, 24, 33],
        "landmarks": [value for i in range(landmarks) for value in (5 + i % 9, 6, i % 3)],
        "segmentation": [[4, 3, 24, 3, 24, 33, 4, 33]],
        "scale": 1,
        "occlusion": 2,
        "zoom_in": 3,
        "viewpoint": 2,
    } | more


def df2_annotations() -> dict[str, dict[str, Any]]:
    """File stem -> annotation; item2 before item1 in the first."""
    return {
        "000001": {
            "item2": df2_item(8, 14, style=2),
            "source": "user",
            "pair_id": 7,
            "item1": df2_item(1, 25, bounding_box=[1, 2, 30, 40]),
        },
        "000002": {"source": "shop", "pair_id": 7, "item1": df2_item(8, 14, style=2)},
        "000010": {"source": "shop", "pair_id": 9, "item1": df2_item(13, 19, style=2)},
    }


def write_df2(root: Path, annotations: dict | None = None, split: str = "train") -> Path:
    """``<root>/<split>/image`` and ``annos``; returns the root."""
    annotations = df2_annotations() if annotations is None else annotations
    (root / split / "annos").mkdir(parents=True, exist_ok=True)
    for number, (name, annotation) in enumerate(annotations.items(), 1):
        write_photo(root / split / "image" / f"{name}.jpg", 40 + number, 50, seed=number)
        (root / split / "annos" / f"{name}.json").write_text(json.dumps(annotation))
    return root


def write_df2_truth(
    folder: Path, queries: Iterable[TrueGarment], gallery: Iterable[TrueGarment]
) -> None:
    """The official files of a retrieval's truth: val_query.json and val_gallery.json."""
    asked = [
        {"query_image_id": g.image_id, "style": g.style, "cls": g.category, "pair_id": g.pair_id,
         "bbox": list(g.box)}
        for g in queries
    ]  # fmt: skip
    searched = [
        {"gallery_image_id": g.image_id, "style": g.style, "pair_id": g.pair_id,
         "bbox": list(g.box)}
        for g in gallery
    ]  # fmt: skip
    (folder / "val_query.json").write_text(json.dumps(asked))
    (folder / "val_gallery.json").write_text(json.dumps(searched))
