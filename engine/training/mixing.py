"""The batches of the multitask model: several datasets mixed, with P x K identity sampling.

Datasets are mixed in proportion to their weights. K garments of one product form a *run*, which is
in one batch, so that each garment has positives there. At least P runs of one dataset, if it has
that many, are in the same batch, so that there are negatives of the same kind. The other batches
have no runs, only single garments.
This holds for global batches: with --accumulate a loss sees one micro-batch, and a run may be split
between two micro-batches.
"""

from collections.abc import Sequence

import numpy as np

from engine.data.records import PhotoRecords
from engine.training.samplers import count_copies, systematic_sample


class MixedBatches:
    """The global batches of any epoch, with the interface of ``samplers.GlobalBatches``.

    Args:
        parts: the datasets; their garments share one index, as in ``CropDataset``.
        weights: per dataset, how often each of its garments is drawn per epoch on average.
        batch_size: garments per global batch (all ranks and micro-batches together).
        seed: with the epoch number, decides everything.
        per_identity: K >= 1, garments in a run; identities with fewer garments repeat some.
            Identities with a single garment form no runs.
        identities_per_batch: P >= 1, smallest number of runs in a batch that has any.
        balance: 0..1; within a dataset, a category of n garments is drawn in proportion to
            n ** (1 - balance): 0 leaves frequencies as they are, 1 makes all categories equal.
    """

    def __init__(
        self,
        parts: Sequence[PhotoRecords],
        *,
        weights: Sequence[float],
        batch_size: int,
        seed: int,
        per_identity: int = 1,
        identities_per_batch: int = 8,
        balance: float = 0.0,
    ) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self.per_identity = min(per_identity, batch_size)
        self._parts = []
        start = 0
        for records, weight in zip(parts, weights, strict=True):
            self._parts.append(_Part(records, start, weight, self.per_identity, balance))
            start += len(records.garment_category)
        runs, alone = (sum(getattr(p, name) for p in self._parts) for name in ("runs", "alone"))
        draws = runs * self.per_identity + alone
        fewest = -(-runs // (batch_size // self.per_identity))  # batches that hold all runs
        self._batches = max(-(-draws // batch_size), fewest)
        self._with_runs = max(min(self._batches, runs // identities_per_batch), fewest)

    def __len__(self) -> int:
        """Batches per epoch: the same for every epoch."""
        return self._batches

    def epoch(self, epoch: int) -> np.ndarray:
        """int64 [batches, batch_size, 2]: garment index and copy number of every draw.

        Remaining places are filled with repeated draws, as further copies.
        """
        rng = np.random.default_rng([self.seed, epoch])
        drawn = [part.draw(rng) for part in self._parts]
        runs = np.concatenate([runs for runs, _ in drawn])
        alone = _interleave(rng, [alone for _, alone in drawn])
        # Batch b has the runs ends[b]:ends[b + 1]; they are spread evenly over the first _with_runs
        # batches.
        places = np.minimum(np.arange(len(self) + 1), self._with_runs)
        ends = places * len(runs) // max(self._with_runs, 1)
        missing = len(self) * self.batch_size - runs.size - len(alone)
        pool = alone if len(alone) else runs.ravel()
        alone = np.concatenate([alone, np.resize(rng.permutation(pool), missing)])
        batches, taken = np.empty((len(self), self.batch_size), np.int64), 0
        for batch, first, last in zip(batches, ends[:-1], ends[1:], strict=True):
            own = runs[first:last]
            free = self.batch_size - own.size
            batch[:] = _shuffle_runs(rng, own, alone[taken : taken + free])
            taken += free
        rng.shuffle(batches, axis=0)
        return np.stack([batches, count_copies(batches)], axis=-1)


class _Part:
    """The draws of one dataset per epoch: ``runs`` runs and ``alone`` single garments."""

    def __init__(
        self, records: PhotoRecords, start: int, weight: float, per_identity: int, balance: float
    ) -> None:
        self.start = start
        self.per_identity = per_identity
        factors = weight * _balance_factors(records.garment_category, balance)
        identity = records.garment_identity
        _, place, counts = np.unique(identity, return_inverse=True, return_counts=True)
        together = (identity >= 0) & (counts[place] > 1) & (per_identity > 1)
        self.in_runs, self.singles = np.flatnonzero(together), np.flatnonzero(~together)
        self.single_factors = factors[self.singles]
        self.alone = _at_least_one(self.single_factors)

        _, self.identity = np.unique(identity[self.in_runs], return_inverse=True)
        self.counts = np.bincount(self.identity)
        self.runs_each = -(-self.counts // per_identity)
        # The last run repeats garments; to compensate, all runs of the identity are drawn less.
        wanted = np.bincount(self.identity, factors[self.in_runs]) / per_identity
        self.run_factors = np.repeat(wanted / self.runs_each, self.runs_each)
        self.runs = _at_least_one(self.run_factors)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Garment indices: int64 [runs, K] and int64 [alone], each in random order."""
        runs = self._all_runs(rng)[_draw(rng, self.run_factors, self.runs)]
        alone = self.singles[_draw(rng, self.single_factors, self.alone)]
        return self.start + runs, self.start + alone

    def _all_runs(self, rng: np.random.Generator) -> np.ndarray:
        """Each identity's garments in random order, cut into runs: int64 [all runs, K].

        The last run of an identity is filled up with repetitions.
        """
        shuffled = rng.permutation(len(self.in_runs))
        order = shuffled[np.argsort(self.identity[shuffled], kind="stable")]
        owner = np.repeat(np.arange(len(self.counts)), self.runs_each)
        number = np.arange(len(owner)) - (np.cumsum(self.runs_each) - self.runs_each)[owner]
        position = number[:, None] * self.per_identity + np.arange(self.per_identity)
        first = np.cumsum(self.counts) - self.counts
        return self.in_runs[order[first[owner, None] + position % self.counts[owner, None]]]


def _at_least_one(factors: np.ndarray) -> int:
    return max(round(float(factors.sum())), 1) if len(factors) else 0


def _draw(rng: np.random.Generator, factors: np.ndarray, draws: int) -> np.ndarray:
    """Positions drawn in proportion to their factors, in random order."""
    order = rng.permutation(len(factors))
    return order[systematic_sample(rng, factors[order], draws)]


def _balance_factors(category: np.ndarray, balance: float) -> np.ndarray:
    """float64 [G] with mean 1, proportional to n ** -balance for categories of n garments."""
    if len(category) == 0:
        return np.ones(0)
    _, place, counts = np.unique(category, return_inverse=True, return_counts=True)
    factors = counts[place] ** -float(balance)
    return factors / factors.mean()


def _interleave(rng: np.random.Generator, streams: Sequence[np.ndarray]) -> np.ndarray:
    """Merge several sequences so that each is spread evenly over the whole."""
    keys = [(np.arange(len(s)) + rng.random(len(s))) / max(len(s), 1) for s in streams]
    return np.concatenate(streams)[np.argsort(np.concatenate(keys), kind="stable")]


def _shuffle_runs(rng: np.random.Generator, runs: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """One batch int64 [B]: runs and single garments in random order, without splitting runs."""
    key = rng.random(len(runs) + len(alone))
    keys = np.concatenate([np.repeat(key[: len(runs)], runs.shape[1]), key[len(runs) :]])
    return np.concatenate([runs.ravel(), alone])[np.argsort(keys, kind="stable")]
