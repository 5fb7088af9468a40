"""Training samples of photos of which some may have become unreadable since the start."""

import logging
from pathlib import Path
from typing import Any

import torch

from engine.errors import InputError
from engine.pixels.photo_files import PhotoError
from engine.training.samplers import Draw

logger = logging.getLogger("weft")


class StandIns(torch.utils.data.Dataset):
    """A dataset of ``_sample(draw)``; the next readable photo stands in for a broken one.

    Args:
        places: where the photos come from, for people.
        strict: let an unreadable photo end the run.
    """

    def __init__(self, places: str, *, strict: bool) -> None:
        self.places, self.strict = places, strict
        self._warned: set[Path] = set()

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, draw: Draw) -> Any:
        for step in range(len(self)):
            try:
                return self._sample(draw._replace(index=(draw.index + step) % len(self)))
            except PhotoError as error:
                if self.strict:
                    raise
                if error.path not in self._warned:
                    self._warned.add(error.path)
                    logger.warning("left out: %s", error)
        raise InputError(f"{self.places}: not one photo can be read")

    def _sample(self, draw: Draw) -> Any:
        """The sample of one draw, or PhotoError."""
        raise NotImplementedError
