"""Anchored aspects: what a head adds to the trunk's plain maps."""

import torch

from engine.description.anchor import Anchor
from engine.description.aspect_heads import AspectHead, AspectHeads
from tests.engine.description.test_anchor import DIM, SIZES, maps


def test_an_anchored_vector_is_the_anchor_and_a_learned_share():
    torch.manual_seed(0)
    head = AspectHead((13,), DIM, Anchor(SIZES, DIM, principal=False, learned=0.4)).eval()
    parts, covered = [torch.rand(3, 13)], torch.ones(3, 1, 10, 10)
    _, vector = head(parts, tuple(maps()), covered)
    anchor = head.anchor(maps(), covered)
    head.anchor = None
    _, learned = head(parts, tuple(maps()), covered)
    expected = anchor + 0.4 * learned
    torch.testing.assert_close(vector, expected / expected.norm(dim=1, keepdim=True))


def test_item_and_shape_are_anchored_and_color_and_texture_are_free():
    heads = AspectHeads([3, 5, 11, 23], {"item": 7, "color": 7, "texture": 7, "shape": 7}).heads
    rows = {name: head.anchor and len(head.anchor.projection) for name, head in heads.items()}
    assert rows == {"item": 34, "color": None, "texture": None, "shape": 23}
    assert not heads["item"].anchor.fitted and heads["shape"].anchor.fitted
