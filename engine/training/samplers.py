"""The order in which each rank sees the photos.

Every rank builds the same list of global batches from (seed, epoch) and takes its slice of each. So
all ranks make the same number of steps, the order does not depend on the number of processes (as
long as the global batch size stays the same), and resuming only needs the step number.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Draw(NamedTuple):
    """Identifies one training sample; with the seed it determines all its randomness."""

    epoch: int
    index: int  # of the photo (detector) or garment (multitask model) in the dataset
    copy: int  # 0, 1, ... if it is drawn several times per epoch
    batch: int  # number of the global batch; its samples share one training size


def aspect_groups(sizes: np.ndarray, factor: int) -> np.ndarray:
    """Group photos by aspect ratio, so that batches need little padding.

    Args:
        sizes: int [N, 2], width and height in pixels.
        factor: k >= 1 gives 2k+1 borders evenly spaced in log ratio between 1:2 and 2:1; 0 gives
            one border at 1:1; -1 puts all photos in one group.

    Returns:
        int [N], group of each photo.
    """
    if factor < 0:
        return np.zeros(len(sizes), dtype=np.int64)
    borders = 2.0 ** np.linspace(-1, 1, 2 * factor + 1) if factor else np.ones(1)
    return np.digitize(sizes[:, 0] / sizes[:, 1], borders)


def repeat_factors(
    garment_photo: np.ndarray, garment_category: np.ndarray, num_photos: int, threshold: float
) -> np.ndarray:
    """How often each photo should be drawn per epoch so that rare categories are seen enough.

    A category in a share f of the photos requires sqrt(threshold / f) draws; a photo gets the
    largest factor of its categories, at least 1 (LVIS, Gupta et al. 2019, §B).

    Args:
        garment_photo: int [G], photo index of each garment.
        garment_category: int [G], category of each garment.
        num_photos: N.
        threshold: share of the photos below which a category is rare; 0 gives 1 for every photo.

    Returns:
        float64 [N], at least 1.
    """
    factors = np.ones(num_photos)
    if threshold <= 0 or len(garment_photo) == 0:
        return factors
    pairs = np.unique(np.stack([garment_photo, garment_category], axis=1), axis=0)
    share = np.bincount(pairs[:, 1]) / num_photos
    wanted = np.sqrt(threshold / np.maximum(share, 1e-12))
    np.maximum.at(factors, pairs[:, 0], wanted[pairs[:, 1]])
    return factors


class GlobalBatches:
    """The global batches of any epoch: an array of (photo, copy) pairs per batch.

    Args:
        groups: int [N]; as far as possible, a batch has photos of one group (``aspect_groups``).
        factors: float [N], mean draws per photo and epoch (``repeat_factors``).
        batch_size: photos per global batch (all ranks and micro-batches together).
        seed: with the epoch number, decides everything.
    """

    def __init__(
        self, *, groups: np.ndarray, factors: np.ndarray, batch_size: int, seed: int
    ) -> None:
        self.groups = groups
        self.factors = factors
        self.batch_size = batch_size
        self.seed = seed
        # Rounded up, so that the ticks of _draw_photos are at most 1 apart and miss no photo.
        self.draws = int(np.ceil(factors.sum() - 1e-9))

    def __len__(self) -> int:
        """Batches per epoch: the same for every epoch."""
        return -(-self.draws // self.batch_size)

    def epoch(self, epoch: int) -> np.ndarray:
        """int64 [batches, batch_size, 2]: photo index and copy number of every draw.

        Each photo appears floor or ceil of its factor times; the few draws that fill the last
        batch repeat the epoch's first ones, as further copies.
        """
        rng = np.random.default_rng([self.seed, epoch])
        photos = self._draw_photos(rng)
        order = rng.permutation(len(photos))
        # A stable sort by group keeps the random order inside each group.
        order = order[np.argsort(self.groups[photos[order]], kind="stable")]
        full, mixed = self._split_by_group(photos[order])
        rng.shuffle(mixed)
        batches = np.concatenate([full, mixed]).reshape(-1, self.batch_size)
        rng.shuffle(batches, axis=0)
        return np.stack([batches, count_copies(batches)], axis=-1)

    def _draw_photos(self, rng: np.random.Generator) -> np.ndarray:
        photos = systematic_sample(rng, self.factors, self.draws)
        missing = len(self) * self.batch_size - len(photos)
        return np.concatenate([photos, np.resize(rng.permutation(photos), missing)])

    def _split_by_group(self, photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cut each group into complete batches; the remaining photos are mixed across groups."""
        cuts = np.flatnonzero(np.diff(self.groups[photos])) + 1
        full, mixed = [], []
        for run in np.split(photos, cuts):
            whole = len(run) // self.batch_size * self.batch_size
            full.append(run[:whole])
            mixed.append(run[whole:])
        return np.concatenate(full), np.concatenate(mixed)


def systematic_sample(rng: np.random.Generator, factors: np.ndarray, draws: int) -> np.ndarray:
    """Draw indices in proportion to ``factors`` by systematic sampling: int64 [draws], ascending.

    Element i occupies an interval of length ``factors[i]`` on a line and is drawn once for each of
    the evenly spaced ticks in it, that is the floor or ceil of its expected number of times.
    """
    if draws == 0 or len(factors) == 0:
        return np.zeros(0, np.int64)
    ends = np.cumsum(factors)
    ticks = (np.arange(draws) + rng.random()) * (ends[-1] / draws)
    return np.minimum(np.searchsorted(ends, ticks, side="right"), len(ends) - 1)


def count_copies(batches: np.ndarray) -> np.ndarray:
    """For each entry, how often the same index occurs before it: same shape, int64."""
    flat = batches.ravel()
    order = np.argsort(flat, kind="stable")
    ranked = flat[order]
    starts = np.searchsorted(ranked, ranked)
    copies = np.empty_like(flat)
    copies[order] = np.arange(len(flat)) - starts
    return copies.reshape(batches.shape)


class RankBatches:
    """Batch sampler for a DataLoader: this rank's micro-batches from a step to the end of training.

    Global batch = accumulate × world × per-process photos; micro-batch m of rank r is the slice
    (m * world + r) of it. Yields lists of Draw.
    """

    def __init__(
        self,
        batches: GlobalBatches,
        *,
        first_step: int,
        last_step: int,
        accumulate: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.batches = batches
        self.steps = range(first_step, last_step)
        self.accumulate = accumulate
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return len(self.steps) * self.accumulate

    def __iter__(self) -> Iterator[list[Draw]]:
        current, table = -1, None
        for step in self.steps:
            epoch, number = divmod(step, len(self.batches))
            if epoch != current:
                current, table = epoch, self.batches.epoch(epoch)
            slices = table[number].reshape(self.accumulate, self.world_size, -1, 2)
            for micro in slices[:, self.rank]:
                yield [Draw(epoch, int(i), int(copy), number) for i, copy in micro]
