"""A cheap substitute for the detector, whose output depends on the photo, and photos for it."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn


class ColorDetector(nn.Module):
    """Three boxes per photo, at fractions of its sides; scores and labels follow its colors."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[tuple[int, ...]]] = []

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        assert torch.is_inference_mode_enabled()
        self.batches.append([tuple(image.shape) for image in images])
        return [self.look_at(image) for image in images]

    def look_at(self, image: Tensor) -> dict[str, Tensor]:
        assert image.dtype == torch.uint8
        height, width = image.shape[1:]
        color = image[:, height // 2, width // 2].float() / 255
        corner, far = color / 2, (color + 1.2) / 2
        boxes = torch.stack([corner * width, corner * height, far * width, far * height], dim=1)
        masks = color[:, None, None].expand(3, 28, 28).half()
        labels = (color * 2.99).long() + 1
        return {"boxes": boxes, "scores": color, "labels": labels, "roi_masks": masks}


def write_photo(path: Path, width: int, height: int, color: tuple[int, int, int]) -> Path:
    assert cv2.imwrite(str(path), np.full((height, width, 3), color[::-1], np.uint8))
    return path


def write_photos(folder: Path, count: int) -> list[tuple[int, Path]]:
    rng = np.random.default_rng(count)
    sizes = [(60, 80), (62, 79), (80, 60), (50, 50), (200, 31)]
    colors = rng.integers(0, 256, (count, 3)).tolist()
    return [
        (i, write_photo(folder / f"{i}.png", *sizes[i % 5], tuple(color)))
        for i, color in enumerate(colors)
    ]
