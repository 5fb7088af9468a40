"""Box coding, matching and sampling, against torchvision's and by counts."""

import torch
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou

from engine.detection.boxes import (
    decode_boxes,
    encode_boxes,
    match,
    mirror_boxes,
    sample_balanced,
)


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 100
    return torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * 80 + 1), 1)


def test_codes_equal_torchvisions_and_decode_back():
    targets, anchors = random_boxes(53, 0), random_boxes(53, 1)
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    codes = encode_boxes(targets, anchors, (10, 5))
    torch.testing.assert_close(codes, coder.encode_single(targets, anchors), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decode_boxes(codes, anchors, (10, 5)), targets, rtol=1e-4, atol=1e-3)


def test_decoding_limits_growth_as_torchvision_does():
    offsets, anchors = torch.full((1, 4), 50.0), torch.tensor([[10.0, 20, 30, 60]])
    want = BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(offsets, anchors)
    torch.testing.assert_close(decode_boxes(offsets, anchors, (1, 1)), want)


def test_decoding_broadcasts_over_classes():
    anchors = random_boxes(7, 2)
    offsets = torch.randn(7, 3, 4)
    got = decode_boxes(offsets, anchors[:, None], (10, 5))
    for c in range(3):
        assert torch.equal(got[:, c], decode_boxes(offsets[:, c], anchors, (10, 5)))


def test_matching_equals_torchvisions():
    truth, boxes = random_boxes(5, 3), random_boxes(997, 4)
    # Two boxes that tie as the best of their true box.
    boxes[11] = boxes[13] = truth[2] + 30
    want = Matcher(0.7, 0.3, allow_low_quality_matches=True)(box_iou(truth, boxes))
    index, state = match(truth, boxes, low=0.3, high=0.7, keep_best=True)
    positive = want >= 0
    assert torch.equal(state > 0, positive)
    assert torch.equal(state < 0, want == Matcher.BETWEEN_THRESHOLDS)
    assert torch.equal(index[positive], want[positive])


def test_an_iou_equal_to_a_threshold_counts_as_above():
    truth = torch.tensor([[0.0, 0, 10, 10]])
    boxes = torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 2.5], [0, 0, 10, 2]])  # IoU 1/2, 1/4, 1/5
    _, state = match(truth, boxes, low=0.25, high=0.5)
    assert state.tolist() == [1, -1, 0]


def test_a_true_box_without_overlap_matches_no_box():
    truth = torch.tensor([[500.0, 500, 510, 510]])
    _, state = match(truth, random_boxes(9, 5), low=0.3, high=0.7, keep_best=True)
    assert state.tolist() == [0] * 9


def test_without_true_boxes_everything_is_background():
    index, state = match(torch.zeros(0, 4), random_boxes(3, 6), low=0.3, high=0.7)
    assert index.tolist() == state.tolist() == [0, 0, 0]


def draw(positives: int, negatives: int, ignored: int, size: int, limit: int):
    state = torch.tensor([1] * positives + [0] * negatives + [-1] * ignored, dtype=torch.int8)
    state = state[torch.randperm(len(state))]
    index, valid, count = sample_balanced(state, size, limit)
    return state[index], index, valid, int(count)


def test_sampling_balances_positives_and_negatives():
    for positives, negatives, want in ((50, 50, (5, 15)), (3, 50, (3, 17)), (50, 4, (5, 4))):
        got, index, valid, count = draw(positives, negatives, 31, 20, 5)
        assert len(set(index.tolist())) == len(index) == 20
        assert count == want[0] and (got[:count] == 1).all()
        assert (got[count : sum(want)] == 0).all()
        assert valid.tolist() == [True] * sum(want) + [False] * (20 - sum(want))


def test_sampling_from_few_or_no_boxes():
    got, _, valid, count = draw(1, 2, 1, 20, 5)
    assert len(got) == 4 and valid.sum() == 3 and count == 1
    got, _, valid, count = draw(0, 0, 0, 20, 5)
    assert len(got) == 0 and count == 0


def test_sampling_is_uniform():
    torch.manual_seed(0)
    state = torch.tensor([1, 1, 1, 0, 0, 0, 0], dtype=torch.int8).expand(4000, 7)
    index, valid, count = sample_balanced(state, 3, 1)
    assert valid.all() and (count == 1).all()
    drawn = torch.bincount(index.flatten(), minlength=7) / 4000
    assert torch.allclose(drawn[:3], torch.tensor(1 / 3), atol=0.04)
    assert torch.allclose(drawn[3:], torch.tensor(1 / 2), atol=0.04)


def test_mirrored_boxes_by_hand():
    boxes = torch.tensor([[[0.0, 2.0, 3.0, 5.0]], [[7.0, 0.0, 11.0, 1.0]]])
    flipped = torch.tensor([[[8.0, 2.0, 11.0, 5.0]], [[0.0, 0.0, 4.0, 1.0]]])
    assert torch.equal(mirror_boxes(boxes, 11), flipped)
    assert torch.equal(mirror_boxes(boxes[:0], torch.tensor(11)), boxes[:0])
