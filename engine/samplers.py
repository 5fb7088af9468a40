"""Which photos each rank sees, in which order: one global list per epoch, the same on every rank."""

from typing import NamedTuple


class Draw(NamedTuple):
    """One training sample to make: which photo, and where all its randomness comes from."""

    epoch: int
    index: int  # the photo's position in its records
    copy: int  # 0, 1, ... when repeat-factor sampling draws a photo several times an epoch
    batch: int  # number of the global batch: its samples share one training size
