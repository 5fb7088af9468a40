"""A dataset that replaces samples whose photo cannot be read."""

import logging
from pathlib import Path
from typing import Any

import torch

from engine.errors import InputError
from engine.pixels.photo_files import PhotoError
from engine.training.samplers import Draw

logger = logging.getLogger("weft")


class SubstitutingDataset(torch.utils.data.Dataset):
    """Base class: subclasses define ``_sample(draw)``. Where that raises PhotoError, the sample at
    the next index is used instead.

    Photos are checked when a dataset is first read, but may be damaged or deleted during training.

    Args:
        places: where the photos come from, for error messages.
        strict: raise PhotoError instead of substituting.
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
        raise InputError(
            f"{self.places}: no photo can be read; check the folder and its permissions"
        )

    def _sample(self, draw: Draw) -> Any:
        """The sample of one draw, of any type.

        Raises:
            PhotoError: its photo cannot be read.
        """
        raise NotImplementedError
