"""Box-guided features: same values as roi_align, and a gradient that reaches the box."""

import pytest
import torch
from torchvision.ops import roi_align

from engine.description.box_head import BoxHead, box_loss, soft_roi_align


def test_samples_equal_roi_aligns_at_one_sample_per_bin():
    features = torch.randn(3, 2, 11, 7)
    boxes = torch.tensor([[0.2, 0.25, 0.7, 0.8], [0.3, 0.3, 0.9, 0.5], [0.1, 0.4, 0.45, 0.85]])
    in_cells = boxes * torch.tensor([7.0, 11, 7, 11])
    expected = roi_align(features, list(in_cells[:, None]), (3, 3), sampling_ratio=1, aligned=True)
    torch.testing.assert_close(soft_roi_align(features, boxes, 3), expected)


def test_gradients_to_features_and_boxes_are_right():
    features = torch.randn(2, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0.2, 0.25, 0.73, 0.81], [0.31, 0.13, 0.9, 0.57]], dtype=torch.float64)
    boxes.requires_grad_()
    assert torch.autograd.gradcheck(lambda f, b: soft_roi_align(f, b, 3), (features, boxes))


def test_a_box_learns_from_what_is_inside_it():
    """A bright spot, a box beside it, and a loss that only asks for brightness."""
    x = torch.linspace(0, 1, 32)
    spot = torch.exp(-((x - 0.7) ** 2)[:, None] / 0.05 - ((x - 0.6) ** 2)[None] / 0.05)[None, None]
    box = torch.tensor([[0.2, 0.3, 0.4, 0.5]], requires_grad=True)
    optimizer = torch.optim.SGD([box], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        (-soft_roi_align(spot, box, 2).mean()).backward()
        optimizer.step()
    center = (box[0, :2] + box[0, 2:]) / 2
    assert center.tolist() == pytest.approx([0.6, 0.7], abs=0.03)


def test_loss_is_hand_worked():
    same = torch.tensor([[0.1, 0.2, 0.5, 0.6]])
    assert box_loss(same, same).item() == pytest.approx(0, abs=1e-6)
    apart = box_loss(torch.tensor([[0.0, 0.0, 0.25, 1.0]]), torch.tensor([[0.75, 0.0, 1.0, 1.0]]))
    assert apart.item() == pytest.approx(1.5 + 1 + 0.5)  # no overlap, half of the hull is empty


def test_the_head_starts_in_the_middle_and_gives_local_features():
    head = BoxHead(5, 3, 8)
    boxes, local = head(torch.randn(2, 5), torch.randn(2, 3, 6, 6))
    assert boxes.tolist() == [[0.25, 0.25, 0.75, 0.75]] * 2
    assert local.shape == (2, 8)
