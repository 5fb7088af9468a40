"""Mask targets from box crops against torchvision's from full-size masks, and mask positions."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from engine.detection.roi_heads import MASK_SHIFT, mask_targets
from engine.pixels.masks import paste_to_rles

HEIGHT, WIDTH = 61, 83
# Inside, at each border, the whole photo, a single pixel, thin.
SPANS = [
    (20, 11, 47, 40),
    (0, 0, 13, 29),
    (60, 30, 83, 61),
    (0, 0, 83, 61),
    (82, 60, 83, 61),
    (5, 7, 6, 60),
    (70, 3, 83, 9),
    (30, 50, 55, 61),
]


def blob(span: tuple[int, int, int, int]) -> torch.Tensor:
    x1, y1, x2, y2 = span
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    mask[y1:y2, x1:x2] = (torch.rand(y2 - y1, x2 - x1) > 0.3).to(torch.uint8)
    return mask


def cropped(masks: torch.Tensor, spare: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops with a pixel of context in a common frame, ``spare`` pixels larger than needed."""
    spans = [
        (max(a - 1, 0), max(b - 1, 0), min(c + 1, WIDTH), min(d + 1, HEIGHT))
        for a, b, c, d in SPANS
    ]
    frame = torch.zeros(len(SPANS), HEIGHT + spare, WIDTH + spare, dtype=torch.uint8)
    for slot, mask, (a, b, c, d) in zip(frame, masks, spans, strict=True):
        slot[: d - b, : c - a] = mask[b:d, a:c]
    return frame, torch.tensor([span[:2] for span in spans])


def regions_around(
    spans: list[tuple[int, ...]], per_mask: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random proposals for each mask, including the exact box and the whole photo."""
    index = torch.arange(len(spans)).repeat_interleave(per_mask)
    boxes = torch.tensor(spans, dtype=torch.float32)[index]
    jitter = torch.randn_like(boxes) * 4
    jitter[::per_mask] = 0
    boxes += jitter
    boxes[1::per_mask] = torch.tensor([0.0, 0, WIDTH, HEIGHT])
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, WIDTH)
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, HEIGHT)
    keep = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return boxes[keep], index[keep]


@pytest.mark.parametrize("spare", [0, 5])
def test_crops_give_the_targets_of_full_size_masks(spare):
    torch.manual_seed(0)
    masks = torch.stack([blob(span) for span in SPANS])
    crops, origins = cropped(masks, spare)
    regions, index = regions_around(SPANS, 9)
    got = mask_targets(crops, origins, regions, index, (HEIGHT, WIDTH))
    want = project_masks_on_boxes(masks, regions, index, 28)
    assert len(got) > 50
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4)


def test_targets_are_equal_bit_for_bit_where_coordinates_are():
    torch.manual_seed(1)
    masks = torch.stack([blob(span) for span in SPANS])
    crops, origins = cropped(masks, 0)
    index = torch.arange(len(SPANS))
    # Sides of 28 pixels give samples at binary fractions.
    corners = [(20, 10), (0, 0), (55, 33), (3, 30), (54, 33), (0, 20), (55, 0), (28, 33)]
    regions = torch.tensor([[x, y, x + 28, y + 28] for x, y in corners], dtype=torch.float32)
    got = mask_targets(crops, origins, regions, index, (HEIGHT, WIDTH))
    assert torch.equal(got, project_masks_on_boxes(masks, regions, index, 28))
    assert 0 < got.mean() < 1


def test_masks_predicted_as_in_training_are_aligned_with_the_garment():
    # A perfect mask head outputs its targets; pasted, they must cover the garment.
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    garment = (((x - 31.3) / 11) ** 2 + ((y - 24.6) / 7) ** 2 < 1).astype(np.uint8)
    rle = coco_mask.encode(np.asfortranarray(garment))
    box = torch.tensor([[20.0, 17.0, 43.0, 32.0]])
    overlaps = []
    for shift in (0.0, MASK_SHIFT, 2 * MASK_SHIFT):
        targets = mask_targets(
            torch.from_numpy(garment)[None],
            torch.zeros(1, 2, dtype=torch.long),
            box - shift,
            torch.zeros(1, dtype=torch.long),
            (HEIGHT, WIDTH),
        )
        pasted = paste_to_rles(targets.numpy(), box.numpy(), HEIGHT, WIDTH)
        overlaps.append(float(coco_mask.iou(pasted, [rle], [0])[0, 0]))
    assert overlaps[1] > 0.97
    assert overlaps[1] > max(overlaps[0], overlaps[2]) + 0.05
