"""Anchors: pooled maps in few numbers, random or the main directions of garments."""

import pytest
import torch
import torch.nn.functional as F

from engine.description.anchor import Anchor

SIZES, DIM = (11, 23), 7


def maps(count: int = 3, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = zip(SIZES, (10, 5), strict=True)
    return [torch.rand(count, c, side, side, generator=generator) for c, side in sizes]


def test_an_anchor_is_the_projected_power_mean_inside_the_mask():
    anchor = Anchor(SIZES, DIM, principal=False, learned=1)
    fine, coarse = maps(1)
    covered = torch.zeros(1, 1, 10, 10)
    covered[..., 2:6, 4:8] = 1
    pooled = []
    for picture, cells in (
        (fine[0], (slice(2, 6), slice(4, 8))),
        (coarse[0], (slice(1, 3), slice(2, 4))),
    ):
        mean_cube = (picture[(slice(None), *cells)] ** 3).mean(dim=(1, 2))
        root = mean_cube ** (1 / 3)
        pooled.append(root / root.norm())
    wanted = torch.cat(pooled) @ anchor.projection
    torch.testing.assert_close(anchor([fine, coarse], covered)[0], wanted / wanted.norm())


def test_an_anchor_keeps_cosines_and_is_the_same_everywhere():
    sizes, dim = (101, 211), 256
    anchor = Anchor(sizes, dim, principal=False, learned=1)
    generator = torch.Generator().manual_seed(1)
    pairs = [torch.rand(37, c, 4, 4, generator=generator) for c in sizes]
    covered = torch.ones(37, 1, 4, 4)
    short = anchor(pairs, covered)
    means = [F.normalize(p.pow(3).mean(dim=(2, 3)).pow(1 / 3), dim=1) for p in pairs]
    full = F.normalize(torch.cat(means, dim=1), dim=1)
    assert (short @ short.T - full @ full.T).abs().max() < 3 / dim**0.5
    state = torch.random.get_rng_state()
    torch.random.manual_seed(5)
    assert torch.equal(Anchor(sizes, dim, principal=False, learned=1).projection, anchor.projection)
    torch.random.set_rng_state(state)


def test_fitting_keeps_the_main_directions():
    torch.manual_seed(0)
    hidden = torch.linalg.qr(torch.randn(sum(SIZES), DIM)).Q
    pooled = torch.randn(101, DIM) @ hidden.T + 0.001 * torch.randn(101, sum(SIZES))
    anchor = Anchor(SIZES, DIM, principal=True, learned=1)
    assert not anchor.fitted
    anchor.fit(pooled)
    assert anchor.fitted
    kept = anchor.projection
    torch.testing.assert_close(kept.T @ kept, torch.eye(DIM), atol=1e-6, rtol=0)
    torch.testing.assert_close(kept @ (kept.T @ hidden), hidden, atol=1e-2, rtol=0)
    # All that the garments are is kept, so cosines are.
    short, full = F.normalize(pooled @ kept, dim=1), F.normalize(pooled, dim=1)
    torch.testing.assert_close(short @ short.T, full @ full.T, atol=1e-3, rtol=0)


@pytest.mark.parametrize("garments", [1, DIM - 2, DIM])
def test_few_garments_fill_up_with_other_directions(garments):
    anchor = Anchor(SIZES, DIM, principal=True, learned=1)
    pooled = torch.rand(garments, sum(SIZES), generator=torch.Generator().manual_seed(1))
    anchor.fit(pooled)
    kept = anchor.projection
    torch.testing.assert_close(kept.T @ kept, torch.eye(DIM), atol=1e-6, rtol=0)
    torch.testing.assert_close(pooled @ kept @ kept.T, pooled, atol=1e-5, rtol=0)
