"""Sampling order: the same on every rank, complete, grouped by shape, and resumable."""

import numpy as np
import pytest

from engine.training.samplers import GlobalBatches, RankBatches, aspect_groups, repeat_factors


def batches_for(photos: int, batch_size: int, *, groups=None, factors=None) -> GlobalBatches:
    return GlobalBatches(
        groups=np.zeros(photos, dtype=int) if groups is None else groups,
        factors=np.ones(photos) if factors is None else factors,
        batch_size=batch_size,
        seed=5,
    )


@pytest.mark.parametrize("photos", [1, 7, 31])
@pytest.mark.parametrize("batch_size", [1, 4, 11])
def test_an_epoch_holds_every_photo_and_fills_the_last_batch_with_copies(photos, batch_size):
    table = batches_for(photos, batch_size).epoch(3)
    indices, copies = table[..., 0].ravel(), table[..., 1].ravel()
    assert table.shape == (-(-photos // batch_size), batch_size, 2)
    assert set(indices) == set(range(photos))
    assert len(set(zip(indices, copies, strict=True))) == len(indices)
    assert np.count_nonzero(copies) == len(indices) - photos


def test_epochs_differ_and_repeat_exactly():
    batches = batches_for(31, 4)
    assert np.array_equal(batches.epoch(2), batches_for(31, 4).epoch(2))
    assert not np.array_equal(batches.epoch(2), batches.epoch(3))


# Of 15, 16 and 17 photos 3, 4 and 4 whole batches exist; one more holds the 3 and 1 left over.
@pytest.mark.parametrize(("counts", "mixed"), [((15, 16, 17), 1), ((12, 16), 0)])
def test_all_batches_but_the_last_ones_hold_a_single_group(counts, mixed):
    groups = np.repeat(np.arange(len(counts)), counts)
    batches = batches_for(len(groups), 4, groups=groups)
    epochs = [groups[batches.epoch(epoch)[..., 0]] for epoch in range(4)]
    assert [sum(len(set(row)) > 1 for row in epoch) for epoch in epochs] == [mixed] * 4
    assert len({tuple(epoch[:, 0]) for epoch in epochs}) > 1, "always in the same order"


def test_aspect_groups_by_hand():
    sizes = np.array([[100, 300], [100, 150], [100, 100], [101, 100], [300, 100]])
    assert aspect_groups(sizes, -1).tolist() == [0, 0, 0, 0, 0]
    assert aspect_groups(sizes, 0).tolist() == [0, 0, 1, 1, 1]  # upright or not
    low, upright, square, wider, high = aspect_groups(sizes, 3)
    assert low < upright < square == wider < high


def test_repeat_factors_by_hand():
    # Category 0 is in 4 of 4 photos, category 1 (twice in photo 2) in one: t/f = .5/.25.
    photo = np.array([0, 1, 2, 2, 2, 3])
    category = np.array([0, 0, 0, 1, 1, 0])
    factors = repeat_factors(photo, category, 4, 0.5)
    assert factors == pytest.approx([1, 1, np.sqrt(2), 1])
    assert repeat_factors(photo, category, 4, 0.0).tolist() == [1, 1, 1, 1]
    assert repeat_factors(photo[:0], category[:0], 3, 0.5).tolist() == [1, 1, 1]


def test_repeat_factors_are_met_on_average_and_no_photo_is_left_out():
    factors = np.array([1, 1, 2.5, 1, 1.25, 1, 3])
    batches = batches_for(7, 1, factors=factors)
    counts = np.zeros(7)
    for epoch in range(200):
        drawn = np.bincount(batches.epoch(epoch)[..., 0].ravel(), minlength=7)
        assert drawn.min() >= 1
        counts += drawn
    assert counts / 200 == pytest.approx(factors * 11 / 10.75, abs=0.1)


@pytest.mark.parametrize(("world", "accumulate"), [(1, 6), (2, 3), (3, 2), (6, 1)])
def test_any_split_over_ranks_and_micro_batches_trains_on_the_same_global_batches(
    world, accumulate
):
    batches = batches_for(31, 12)
    per_rank = [
        list(RankBatches(batches, first_step=0, last_step=7, accumulate=accumulate,
                         rank=rank, world_size=world))
        for rank in range(world)
    ]  # fmt: skip
    assert len({len(own) for own in per_rank}) == 1
    for step in range(7):
        epoch, number = divmod(step, len(batches))
        expected = batches.epoch(epoch)[number, :, 0].tolist()
        micros = range(step * accumulate, (step + 1) * accumulate)
        drawn = [d for m in micros for own in per_rank for d in own[m]]
        assert [d.index for d in drawn] == expected
        assert {(d.epoch, d.batch) for d in drawn} == {(epoch, number)}


def test_starting_at_a_later_step_gives_the_rest_of_the_run():
    batches = batches_for(31, 4)
    options = {"last_step": 20, "accumulate": 2, "rank": 1, "world_size": 2}
    whole = list(RankBatches(batches, first_step=0, **options))
    tail = RankBatches(batches, first_step=11, **options)
    assert list(tail) == whole[22:]
    assert len(tail) == 18
