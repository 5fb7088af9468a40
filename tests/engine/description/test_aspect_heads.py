"""Anchored aspects: the trunk's plain maps, kept in few numbers, and what a head adds to them."""

import torch
import torch.nn.functional as F

from engine.description.aspect_heads import LEARNED, Anchor, AspectHead, AspectHeads

SIZES, DIM = (11, 23), 7


def maps(count: int = 3, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = zip(SIZES, (10, 5), strict=True)
    return [torch.rand(count, c, side, side, generator=generator) for c, side in sizes]


def test_an_anchor_is_the_projected_power_mean_inside_the_mask():
    anchor = Anchor(SIZES, DIM)
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
    anchor = Anchor(sizes, dim)
    generator = torch.Generator().manual_seed(1)
    pairs = [torch.rand(37, c, 4, 4, generator=generator) for c in sizes]
    covered = torch.ones(37, 1, 4, 4)
    short = anchor(pairs, covered)
    means = [F.normalize(p.pow(3).mean(dim=(2, 3)).pow(1 / 3), dim=1) for p in pairs]
    full = F.normalize(torch.cat(means, dim=1), dim=1)
    assert (short @ short.T - full @ full.T).abs().max() < 3 / dim**0.5
    state = torch.random.get_rng_state()
    torch.random.manual_seed(5)
    assert torch.equal(Anchor(sizes, dim).projection, anchor.projection)
    torch.random.set_rng_state(state)


def test_an_anchored_vector_is_the_anchor_and_a_learned_share():
    torch.manual_seed(0)
    head = AspectHead((13,), DIM, SIZES).eval()
    parts, covered = [torch.rand(3, 13)], torch.ones(3, 1, 10, 10)
    _, vector = head(parts, tuple(maps()), covered)
    anchor = head.anchor(maps(), covered)
    head.anchor = None
    _, learned = head(parts, tuple(maps()), covered)
    expected = anchor + LEARNED * learned
    torch.testing.assert_close(vector, expected / expected.norm(dim=1, keepdim=True))


def test_item_and_shape_are_anchored_and_color_and_texture_are_free():
    heads = AspectHeads([3, 5, 11, 23], {"item": 7, "color": 7, "texture": 7, "shape": 7}).heads
    rows = {name: head.anchor and len(head.anchor.projection) for name, head in heads.items()}
    assert rows == {"item": 34, "color": None, "texture": None, "shape": 23}
