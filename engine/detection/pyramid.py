"""The feature pyramid of a batch as one table with a row per cell.

Pooling a region is a weighted sum of rows. Compared with RoIAlign on maps, this reads whole channel
vectors (several times faster forward and backward on a CPU), handles all levels at once without
synchronizing with the accelerator, and sums gradients in a fixed order.
"""

from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLES = 2  # per bin and axis


class Pyramid:
    """The maps of one batch, fine to coarse.

    Attributes:
        rows: [sum of B*H*W, C], the cells of level 0 first, within a level by image, y, x.
        first_row, first_cell, heights, widths, strides: i64[L]; ``first_cell`` counts the cells of
            one image.
    """

    def __init__(self, maps: list[Tensor], strides: tuple[int, ...]) -> None:
        """``maps`` [B,C,H/s,W/s], one per stride."""
        self.rows = torch.cat([m.permute(0, 2, 3, 1).reshape(-1, m.shape[1]) for m in maps])
        cells = [m.shape[2] * m.shape[3] for m in maps]
        first_cell = [0, *accumulate(cells)][:-1]
        table = torch.tensor([
            [c * len(maps[0]) for c in first_cell],
            first_cell,
            [m.shape[2] for m in maps],
            [m.shape[3] for m in maps],
            strides,
        ])  # fmt: skip
        # Non-blocking, since a plain copy would wait for everything queued on the accelerator.
        self.first_row, self.first_cell, self.heights, self.widths, self.strides = table.to(
            self.rows.device, non_blocking=True
        )

    def pool(self, boxes: list[Tensor], levels: int, size: int) -> Tensor:
        """RoIAlign (2x2 samples per bin) of each region, on the level that fits its size.

        The level follows equation 1 of Feature Pyramid Networks (Lin et al., 2017): a region of
        224 x 224 px belongs to stride 16.

        Args:
            boxes: f32[R_i,4] xyxy px, for each image.
            levels: number of levels used, from the finest.
            size: bins per side.

        Returns:
            [sum of R_i, C, size, size], channels last in memory.
        """
        regions = torch.cat(boxes)
        image = torch.cat(
            [torch.full_like(b[:, 0], i, dtype=torch.long) for i, b in enumerate(boxes)]
        )
        side = (regions[:, 2:] - regions[:, :2]).prod(1).sqrt()
        stride = 2 ** (4 + (side / 224).log2() + 1e-6).floor()
        level = (stride[:, None] >= self.strides[1:levels]).sum(1)

        scaled = regions / self.strides[level, None]
        height, width = self.heights[level], self.widths[level]
        y, y_weight = _taps(scaled[:, 1], scaled[:, 3], height, size)
        x, x_weight = _taps(scaled[:, 0], scaled[:, 2], width, size)
        start = self.first_row[level] + image * height * width
        row_start = start[:, None, None] + y * width[:, None, None]
        index = row_start[:, :, None, :, None] + x[:, None, :, None, :]
        weight = y_weight[:, :, None, :, None] * x_weight[:, None, :, None, :]
        taps = (2 * SAMPLES) ** 2
        pooled = F.embedding_bag(
            index.view(-1, taps),
            self.rows,
            mode="sum",
            per_sample_weights=weight.view(-1, taps).to(self.rows.dtype),
        )
        return pooled.view(len(regions), size, size, self.rows.shape[1]).permute(0, 3, 1, 2)

    def patches(self, image: Tensor, cell: Tensor, radius: int) -> tuple[Tensor, Tensor]:
        """Cut out the neighborhoods of some cells.

        Args:
            image, cell: i64[N]; cells are numbered over all levels of one image.
            radius: cells on each side.

        Returns:
            (patches [N,C,K,K] with K = 2*radius + 1, zero outside the map, channels last in
            memory; inside bool[N,1,K,K]).
        """
        level = (cell[:, None] >= self.first_cell[1:]).sum(1)
        height, width = (s[level, None, None] for s in (self.heights, self.widths))
        local = (cell - self.first_cell[level])[:, None, None]
        around = torch.arange(-radius, radius + 1, device=cell.device)
        y, x = local // width + around[:, None], local % width + around
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        start = self.first_row[level] + image * self.heights[level] * self.widths[level]
        row = torch.where(inside, start[:, None, None] + y * width + x, 0)
        cut = F.embedding(row, self.rows) * inside[..., None]
        return cut.permute(0, 3, 1, 2), inside[:, None]


def _taps(low: Tensor, high: Tensor, cells: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Indices and weights [R,size,2*SAMPLES] of bilinear sampling along one axis.

    ``low`` and ``high`` f32[R] are the ends of the regions in cells, ``cells`` i64[R] the map's
    size. Cell centers are at integers. Samples up to one cell outside the map read its edge, those
    further out read zero.
    """
    extent = (high - low).clamp(min=1)[:, None]
    steps = torch.arange(size * SAMPLES, device=low.device) + 0.5
    position = low[:, None] + steps * extent / (size * SAMPLES)
    last = cells[:, None] - 1
    weight = ((position >= -1) & (position <= last + 1)) / SAMPLES
    position = position.clamp(min=0)
    before = torch.minimum(position.long(), last)
    after = torch.minimum(before + 1, last)
    share = position - before
    index = torch.stack((before, after), -1).view(len(low), size, 2 * SAMPLES)
    return index, (torch.stack((1 - share, share), -1) * weight[..., None]).view_as(index)
