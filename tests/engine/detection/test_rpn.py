"""Anchors against torchvision's; the head on patches against the head on whole maps."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from engine.detection.pyramid import Pyramid
from engine.detection.rpn import ProposalNetwork, cell_anchors

STRIDES = (4, 8, 16)


def network(conv_depth: int = 1, sizes=((32,), (64,), (71,))) -> ProposalNetwork:
    torch.manual_seed(0)
    rpn = ProposalNetwork(8, STRIDES, sizes, conv_depth)
    for parameter in rpn.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return rpn


def maps_of(height: int, width: int) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(2, 8, height // s, width // s) for s in STRIDES]


def test_anchors_equal_torchvisions():
    sizes = ((32, 48), (71, 105), (156, 232))
    rpn, maps = network(sizes=sizes), maps_of(96, 160)
    generator = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 3)
    want = generator(ImageList(torch.zeros(2, 3, 96, 160), [(96, 160)] * 2), maps)[0]
    got = torch.cat([rpn._anchors(i, m.shape[-2:]) for i, m in enumerate(maps)])
    assert torch.equal(got, want)


def test_a_cell_has_every_size_at_every_ratio():
    anchors = cell_anchors((32.0,))
    assert anchors.tolist() == [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]


@pytest.mark.parametrize("conv_depth", [1, 2])
def test_scoring_sampled_anchors_equals_scoring_all(conv_depth):
    rpn, maps = network(conv_depth), maps_of(48, 80)
    logits, offsets = rpn.head(maps)
    flat_logits = torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in logits], 1)
    flat_offsets = torch.cat([x.permute(0, 2, 3, 1).reshape(2, -1, 4) for x in offsets], 1)
    everything = torch.arange(flat_logits.shape[1]).expand(2, -1)
    got_logits, got_offsets = rpn._score(Pyramid(maps, STRIDES), everything)
    torch.testing.assert_close(got_logits, flat_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got_offsets, flat_offsets, rtol=1e-4, atol=1e-4)


def test_proposals_are_inside_each_photo():
    rpn, maps = network().eval(), maps_of(64, 96)
    sizes = [(64, 96), (41, 53)]
    proposals, losses = rpn(maps, Pyramid(maps, STRIDES), sizes)
    assert losses == {}
    for boxes, (height, width) in zip(proposals, sizes, strict=True):
        assert 0 < len(boxes) <= rpn.kept_inference
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()


def test_proposals_have_width_and_height():
    boxes = torch.tensor([[0.0, 0, 10, 0], [-5, 0, 0, 10], [0, 0, 10, 10]])
    kept = network()._suppress(boxes, torch.tensor([3.0, 2, 1]), (20, 20), torch.zeros(3))
    assert kept.tolist() == [[0, 0, 10, 10]]
