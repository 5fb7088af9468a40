"""Pooling and cutting from the table of cells, against RoIAlign and plain padding."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from engine.detection.pyramid import Pyramid

STRIDES = (4, 8, 16, 32, 64)
HEIGHT, WIDTH = 416, 352  # 13 x 11 cells at stride 32


def random_maps(batch: int = 2, channels: int = 7) -> list[torch.Tensor]:
    torch.manual_seed(0)
    sizes = [(HEIGHT // s, WIDTH // s) for s in STRIDES[:-1]] + [(7, 6)]
    return [torch.randn(batch, channels, *size, requires_grad=True) for size in sizes]


def reference_pool(maps, boxes, strides, size):
    pool = MultiScaleRoIAlign([str(i) for i in range(len(strides))], size, 2)
    pool.scales = [1 / s for s in strides]
    exponents = [s.bit_length() - 1 for s in strides]
    pool.map_levels = initLevelMapper(exponents[0], exponents[-1])
    features = OrderedDict((str(i), m) for i, m in enumerate(maps[: len(strides)]))
    return pool(features, boxes, [(HEIGHT, WIDTH)])


def random_regions(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    limit = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT], dtype=torch.float32)
    ends = torch.rand(count, 2, 2, generator=generator) ** torch.tensor([1.0, 2.0])
    low, high = ends.amin(1), ends.amax(1)
    return torch.cat((low, high), 1) * limit


# Whole image, single cells, a hair wide, beyond the borders by less and by more than a cell.
EDGES = torch.tensor([
    [0, 0, WIDTH, HEIGHT],
    [0, 0, 3, 3],
    [WIDTH - 3, HEIGHT - 3, WIDTH, HEIGHT],
    [10, 10, 10.001, 200],
    [-3, -3, 20, 20],
    [-30, -30, 20, 20],
    [WIDTH - 9, HEIGHT - 9, WIDTH + 5, HEIGHT + 40],
    [64, 64, 64 + 224, 64 + 224],
    [0, 0, 224, 223.9999],  # of stride 16 up to rounding
    [-6, -6, 50, 50],  # at stride 4, the first of 14 samples is one cell outside, just not zero
    [WIDTH - 54, HEIGHT - 54, WIDTH + 2, HEIGHT + 2],  # and the last
    [-200, -200, 400, 400],  # of stride 32
    [-400, -400, 600, 600],  # of a stride that is not used
])  # fmt: skip


@pytest.mark.parametrize("size", [7, 14])
@pytest.mark.parametrize("strides", [STRIDES[:4], STRIDES[1:4]])
def test_pooling_equals_torchvisions_roi_align(size, strides):
    maps = random_maps()[STRIDES.index(strides[0]) :]
    boxes = [random_regions(29, 1), torch.cat((EDGES, random_regions(13, 2)))]
    got = Pyramid(maps, STRIDES[-len(maps) :]).pool(boxes, len(strides), size)
    want = reference_pool(maps, boxes, strides, size)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    upstream = torch.randn_like(want)
    used = maps[: len(strides)]
    mine = torch.autograd.grad(got, used, upstream)
    theirs = torch.autograd.grad(want, used, upstream)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_pooling_no_regions():
    pyramid = Pyramid(random_maps(), STRIDES)
    assert pyramid.pool([torch.zeros(0, 4), torch.zeros(0, 4)], 4, 7).shape == (0, 7, 7, 7)


def test_pooled_regions_and_patches_are_channels_last():
    pyramid = Pyramid(random_maps(), STRIDES)
    pooled = pyramid.pool([random_regions(3, 0), EDGES], 4, 7)
    patches, _ = pyramid.patches(torch.zeros(2, dtype=torch.long), torch.arange(2), 1)
    for made in (pooled, patches):
        assert made.is_contiguous(memory_format=torch.channels_last)


def test_maps_of_half_precision_are_pooled_in_it():
    maps, boxes = random_maps(), [random_regions(5, 1), EDGES]
    got = Pyramid([m.bfloat16() for m in maps], STRIDES).pool(boxes, 4, 7)
    assert got.dtype == torch.bfloat16
    want = Pyramid(maps, STRIDES).pool(boxes, 4, 7)
    torch.testing.assert_close(got.float(), want, rtol=0.02, atol=0.03)


@pytest.mark.parametrize("radius", [1, 2])
def test_patches_equal_those_cut_from_padded_maps(radius):
    maps = random_maps()
    pyramid = Pyramid(maps, STRIDES)
    cells = sum(m.shape[2] * m.shape[3] for m in maps)
    cell = torch.arange(0, cells, 17)
    image = torch.arange(len(cell)) % 2
    got, inside = pyramid.patches(image, cell, radius)
    everything = []
    for m in maps:
        with_mask = torch.cat((m, torch.ones_like(m[:, :1])), 1)
        cut = F.unfold(with_mask, 2 * radius + 1, padding=radius)
        everything.append(cut.view(2, 8, 2 * radius + 1, 2 * radius + 1, -1))
    want = torch.cat(everything, -1)[image, :, :, :, cell]
    assert torch.equal(got, want[:, :-1])
    assert torch.equal(inside[:, 0], want[:, -1] > 0)
