"""Placing, covering and packing garments, against full-size bitmaps."""

import numpy as np
import torch
from pycocotools import mask as coco_mask

from engine.data.records import Garment
from engine.pixels import geometry, shapes

STAY = np.eye(3)
SIZE = (50, 40)


def rectangle(x1: float, y1: float, x2: float, y2: float, **more) -> Garment:
    polygon = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], float)
    box = np.array([x1, y1, x2, y2], float)
    area = (x2 - x1) * (y2 - y1)
    return Garment(**({"category": 2, "box": box, "area": area, "segmentation": [polygon]} | more))


def place(garment: Garment, matrix: np.ndarray = STAY, with_mask: bool = True):
    return shapes.place(garment, matrix, SIZE, with_mask=with_mask)


def test_the_box_is_the_extent_of_the_visible_pixels():
    shape = place(rectangle(4.2, 3, 11.9, 8.6))
    assert shape.label == 3
    assert shape.box.tolist() == [4, 3, 12, 9]
    assert shape.mask.shape == (6, 8)
    assert shape.area == 48
    cut = place(rectangle(-5, 3, 5, 50))
    assert cut.box.tolist() == [0, 3, 5, 40]


def test_boxes_without_masks_are_mapped_and_clipped():
    shape = place(rectangle(4.25, 3, 11.5, 8.5), with_mask=False)
    assert shape.mask is None
    assert shape.box.tolist() == [4.25, 3, 11.5, 8.5]
    assert shape.area == 7.25 * 5.5
    turned = geometry.about(geometry.rotation(90), 10, 10)
    assert np.allclose(place(rectangle(4, 8, 14, 9), turned, False).box, [11, 4, 12, 14])
    assert np.allclose(place(rectangle(44, 35, 54, 45), STAY, False).box, [44, 35, 50, 40])


def test_crowds_and_hardly_visible_garments_are_left_out():
    for with_mask in (True, False):
        assert place(rectangle(-10, 0, 0.5, 9), STAY, with_mask) is None  # 5 percent inside
        assert place(rectangle(-8, 0, 2, 9), STAY, with_mask) is not None  # 20 percent
        assert place(rectangle(-90, 0, 5, 20), STAY, with_mask) is not None  # 5, of the picture too
        assert place(rectangle(-95, 0, 4.9, 20), STAY, with_mask) is None  # a little less
        assert place(rectangle(60, 5, 70, 9), STAY, with_mask) is None
        assert place(rectangle(5, 5, 5, 9), STAY, with_mask) is None
        assert place(rectangle(5, 5, 9, 9, crowd=True), STAY, with_mask) is None
    assert place(rectangle(5.1, 5.1, 5.3, 9)) is None  # between the pixel centers
    assert place(rectangle(5, 5, 5.5, 9), STAY, False) is None
    assert place(rectangle(5, 5, 9, 9, segmentation=[])) is None
    empty = coco_mask.encode(np.zeros((40, 50), np.uint8, order="F"))
    assert place(rectangle(5, 5, 9, 9, segmentation=empty)) is None


def full(shape: shapes.Shape) -> np.ndarray:
    canvas = np.zeros(SIZE[::-1], np.uint8)
    x1, y1, x2, y2 = shape.box.astype(int)
    canvas[y1:y2, x1:x2] = shape.mask
    return canvas


def test_covered_pixels_are_removed_from_mask_and_box():
    under = [place(rectangle(2, 2, 12, 12)), place(rectangle(30, 2, 40, 12)),
             place(rectangle(9, 9, 13, 13)), place(rectangle(10, 20, 20, 21))]  # fmt: skip
    before = [full(shape) for shape in under]
    top = place(rectangle(8, 0, 20, 30))
    left = shapes.cover(under, top)
    # The third and fourth are hidden; the second is out of reach.
    assert len(left) == 2
    assert left[0].box.tolist() == [2, 2, 8, 12]
    assert left[1] is under[1]
    assert np.array_equal(full(left[0]), before[0] & (1 - full(top)))
    assert left[0].whole == 100


def test_repeated_covering_is_measured_against_the_whole_garment():
    shape = place(rectangle(0, 0, 40, 10))
    for step in range(3):
        (shape,) = shapes.cover([shape], place(rectangle(12 * step, 0, 12 * step + 12, 10)))
    assert shape.box.tolist() == [36, 0, 40, 10]
    assert shapes.cover([shape], place(rectangle(30, 0, 37, 10))) == []  # 30 of 400 pixels left


def test_an_irregular_top_covers_only_its_own_pixels():
    diamond = rectangle(
        0, 0, 1, 1, segmentation=[np.array([[20.0, 5], [35, 20], [20, 35], [5, 20]])]
    )
    under, top = place(rectangle(0, 0, 50, 40)), place(diamond)
    (left,) = shapes.cover([under], top)
    assert np.array_equal(full(left), full(under) & (1 - full(top)))
    assert left.box.tolist() == [0, 0, 50, 40]


def test_packed_masks_have_one_pixel_of_context():
    placed = [place(rectangle(*box)) for box in ((5, 6, 9, 13), (0, 0, 50, 3), (44, 30, 50, 40))]
    target = shapes.pack(placed, SIZE, with_masks=True)
    assert target["boxes"].dtype == torch.float32
    assert target["boxes"].tolist() == [[5, 6, 9, 13], [0, 0, 50, 3], [44, 30, 50, 40]]
    assert target["labels"].tolist() == [3, 3, 3]
    assert target["area"].tolist() == [28, 150, 60]
    assert target["mask_origin"].tolist() == [[4, 5], [0, 0], [43, 29]]
    assert target["masks"].dtype == torch.uint8
    assert target["masks"].shape == (3, 11, 50)
    for shape, crop, (x0, y0) in zip(placed, target["masks"], target["mask_origin"], strict=True):
        inside = crop.numpy()[: SIZE[1] - y0, : SIZE[0] - x0]
        assert np.array_equal(full(shape)[y0 : y0 + 11, x0 : x0 + 50], inside)
        assert crop.sum() == shape.area  # nothing past the picture


def test_a_picture_without_garments_has_empty_tensors():
    target = shapes.pack([], SIZE, with_masks=True)
    shape_of = {name: tuple(value.shape) for name, value in target.items()}
    assert shape_of == {"boxes": (0, 4), "labels": (0,), "area": (0,), "iscrowd": (0,),
                        "masks": (0, 0, 0), "mask_origin": (0, 2)}  # fmt: skip
    assert target["mask_origin"].dtype == torch.int64
    assert "masks" not in shapes.pack([], SIZE, with_masks=False)
