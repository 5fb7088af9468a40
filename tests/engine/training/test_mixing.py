"""Mixed batches: shares by weight, runs of products, balanced categories, reproducibility."""

from pathlib import Path

import numpy as np
import pytest

from engine.data.packing import fill_columns
from engine.data.records import PhotoRecords
from engine.training.mixing import MixedBatches


def part(identities: list[int], categories: list[int] | None = None) -> PhotoRecords:
    """A dataset with one garment per photo."""
    count = len(identities)
    columns = {
        "garment_offsets": np.arange(count + 1),
        "garment_identity": np.array(identities, np.int64),
        "garment_category": np.zeros(count) if categories is None else np.array(categories),
        "file_name_offsets": np.zeros(count + 1),
    }
    about = {"format": "test", "root": Path("/photos"), "categories": ["a", "b"]}
    return PhotoRecords(fill_columns(count, count, columns), category_ids=[1, 2], **about)


def batches(*parts: PhotoRecords, batch_size: int = 6, **settings) -> MixedBatches:
    weights = settings.pop("weights", [1.0] * len(parts))
    return MixedBatches(parts, weights=weights, batch_size=batch_size, seed=3, **settings)


@pytest.mark.parametrize("batch_size", [1, 4, 6, 40])
def test_without_identities_every_garment_is_drawn_once(batch_size: int) -> None:
    mixed = batches(part([-1] * 13), part([-1] * 10), batch_size=batch_size)
    table = mixed.epoch(2)
    assert table.shape == (len(mixed), batch_size, 2) == (-(-23 // batch_size), batch_size, 2)
    first = table[table[..., 1] == 0][:, 0]
    assert sorted(first) == list(range(23))
    pairs = table.reshape(-1, 2).tolist()
    assert len({tuple(pair) for pair in pairs}) == len(pairs)


def test_batches_are_reproducible_and_differ_between_epochs() -> None:
    def one() -> MixedBatches:
        return batches(part([0, 0, 1, 1, 1, -1, 5]), part([-1] * 9), per_identity=2)

    np.testing.assert_array_equal(one().epoch(4), one().epoch(4))
    assert not np.array_equal(one().epoch(4), one().epoch(5))


def test_weights_set_the_shares_of_the_datasets_in_all_batches() -> None:
    mixed = batches(part([-1] * 60), part([-1] * 20), weights=[0.5, 3], batch_size=9)
    table = mixed.epoch(0)[..., 0]
    assert len(mixed) == 10
    assert (table < 60).sum() == 30 and (table >= 60).sum() == 60
    assert np.bincount(table[table >= 60] - 60).tolist() == [3] * 20
    per_batch = (table < 60).sum(axis=1)
    assert per_batch.min() >= 2 and per_batch.max() <= 4


def test_weight_one_half_draws_another_half_every_epoch() -> None:
    mixed = batches(part([-1] * 40), weights=[0.5])
    drawn = {tuple(sorted(set(mixed.epoch(e)[..., 0].ravel()))) for e in range(5)}
    assert len(drawn) == 5


@pytest.mark.parametrize(("per_identity", "batch_size"), [(2, 6), (3, 7), (4, 5), (9, 6)])
def test_garments_of_a_product_form_runs(per_identity: int, batch_size: int) -> None:
    names = np.repeat(np.arange(11), np.arange(1, 12))  # product i has i + 1 garments
    names = np.random.default_rng(0).permutation(names)
    records = part([*names.tolist(), -1, -1, -1])
    mixed = batches(records, part([-1] * 17), per_identity=per_identity, batch_size=batch_size)
    together = min(per_identity, batch_size)
    seen = set()
    for epoch in range(3):
        for row in mixed.epoch(epoch)[..., 0]:
            seen |= set(row.tolist())
            products = [names[i] if i < len(names) else -1 for i in row]
            blocks = [
                (product, products[i : i + together])
                for i, product in enumerate(products)
                if product > 0 and (i == 0 or products[i - 1] != product)
            ]
            for product, block in blocks:
                assert block == [product] * together
                distinct = set(row[products.index(product) :][:together].tolist())
                assert len(distinct) == min(together, product + 1)
    assert len(seen) > 0.9 * (len(names) + 3 + 17)


def test_runs_of_a_dataset_share_batches() -> None:
    shop = part(np.repeat(np.arange(24), 3).tolist())
    other = part(np.repeat(np.arange(12), 3).tolist())
    settings = {"per_identity": 3, "batch_size": 30}
    mixed = batches(shop, part([-1] * 400), other, identities_per_batch=6, **settings)
    table = mixed.epoch(1)[..., 0]
    inside = [(table < 72).sum(axis=1), (table >= 472).sum(axis=1)]
    assert sorted(inside[0].tolist()) == [0] * (len(mixed) - 4) + [18] * 4
    assert sorted(inside[1].tolist()) == [0] * (len(mixed) - 2) + [18] * 2
    assert not (inside[0] * inside[1]).any()
    places = {tuple((mixed.epoch(e)[..., 0] < 72).any(axis=1)) for e in range(4)}
    assert len(places) > 1, "always in the same order"
    # With more runs than that, all batches have some.
    crowded = batches(shop, identities_per_batch=99, **settings).epoch(0)[..., 0]
    assert sorted(set(crowded.ravel().tolist())) == list(range(72)) and len(crowded) == 3


def test_products_with_few_garments_are_not_drawn_more_often() -> None:
    # 20 products of 2 garments and 5 of 8, in runs of 4: 40 garments each.
    names = [*np.repeat(np.arange(20), 2), *np.repeat(np.arange(20, 25), 8)]
    mixed = batches(part(names), per_identity=4, batch_size=8)
    assert len(mixed) == 10
    drawn = np.concatenate([mixed.epoch(e)[..., 0].ravel() for e in range(20)])
    assert (drawn < 40).mean() == pytest.approx(0.5, abs=0.05)


def test_balance_evens_out_the_categories() -> None:
    categories = [0] * 90 + [1] * 10
    for balance, rare in ((0.0, 0.1), (0.5, 0.25), (1.0, 0.5)):
        table = batches(part([-1] * 100, categories), batch_size=10, balance=balance).epoch(1)
        assert len(table) == 10
        assert (table[..., 0] >= 90).mean() == pytest.approx(rare, abs=0.011)


def test_places_that_runs_leave_free_are_filled_with_repetitions() -> None:
    mixed = batches(part([0] * 3 + [1] * 3), per_identity=3, batch_size=5)
    table = mixed.epoch(0)
    assert table.shape == (2, 5, 2)
    assert set(table[..., 0].ravel()) == set(range(6))
    assert len({tuple(pair) for pair in table.reshape(-1, 2).tolist()}) == 10


def test_datasets_without_garments_are_ignored() -> None:
    table = batches(part([]), part([-1] * 5), part([]), batch_size=5, per_identity=2).epoch(0)
    assert sorted(table[0, :, 0]) == [0, 1, 2, 3, 4]
    assert len(batches(part([]))) == 0
