"""Losses against hand-worked values, slow loops and themselves on more ranks."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.description.losses import (
    LearnedTaskWeights,
    batch_hard_triplet,
    cross_entropy,
    gather_rows,
    global_mean,
    multilabel_loss,
    positive_weights,
    supervised_contrast,
    view_contrast,
)
from engine.distributed import rank, world_size
from tests.ranks import run_ranks

ALL = torch.ones(1, 5, dtype=torch.bool)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


def test_mean_counts_weights_and_survives_infinities_that_do_not_count():
    values = torch.tensor([2.0, float("inf"), 4.0], requires_grad=True)
    mean = global_mean(values, torch.tensor([1.0, 0.0, 3.0]))
    assert mean.item() == pytest.approx((2 + 12) / 4)
    mean.backward()
    assert values.grad.tolist() == pytest.approx([0.25, 0, 0.75])


def test_nothing_labeled_gives_zero_with_a_zero_gradient():
    logits = torch.randn(3, 5, requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([-1, -1, -2]), ALL.expand(3, 5))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


def test_cross_entropy_equals_torch_on_what_is_labeled():
    logits, targets = torch.randn(7, 5), torch.tensor([0, 4, -1, 2, 2, -1, 1])
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])
    known = ALL.expand(7, 5)
    expected = F.cross_entropy(
        logits, targets, ignore_index=-1, weight=weights, label_smoothing=0.0
    )
    assert cross_entropy(logits, targets, known, class_weights=weights).item() == pytest.approx(
        expected.item(), rel=1e-5
    )
    smooth = F.cross_entropy(logits, targets, ignore_index=-1, label_smoothing=0.2)
    assert cross_entropy(logits, targets, known, smoothing=0.2).item() == pytest.approx(
        smooth.item(), rel=1e-5
    )


def test_cross_entropy_uses_the_datasets_own_vocabulary():
    logits = torch.tensor([[1.0, 2.0, 30.0]])
    known = torch.tensor([[True, True, False]])
    expected = -math.log(math.exp(1) / (math.exp(1) + math.exp(2)))
    assert cross_entropy(logits, torch.tensor([0]), known).item() == pytest.approx(expected)
    smooth = cross_entropy(logits, torch.tensor([0]), known, smoothing=0.5).item()
    other = -math.log(math.exp(2) / (math.exp(1) + math.exp(2)))
    assert smooth == pytest.approx(0.5 * expected + 0.25 * (expected + other))


@pytest.mark.parametrize("kind", ["bce", "focal", "hinge"])
def test_multilabel_loss_equals_a_loop_over_what_is_known(kind):
    logits = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.0, -0.25]])
    targets = torch.tensor([[1, -1, 0], [-1, 0, 1]], dtype=torch.int8)
    weight = torch.tensor([2.0, 5.0, 7.0])
    losses = []
    for row, column in [(0, 0), (0, 1), (1, 0), (1, 2)]:
        x, y = logits[row, column].item(), targets[row, column].item()
        p = 1 / (1 + math.exp(-x * y))  # probability of the right answer
        one = {"bce": -math.log(p), "focal": -((1 - p) ** 2) * math.log(p)}
        one["hinge"] = max(0, 1 - x * y)
        losses.append(one[kind] * (weight[column].item() if y > 0 else 1))
    loss = multilabel_loss(logits, targets, kind=kind, pos_weight=weight)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_positive_weights_are_clamped_both_ways():
    weights = positive_weights(torch.tensor([10.0, 0, 1, 990]), torch.tensor([30.0, 5, 9999, 10]))
    assert weights.tolist() == pytest.approx([3, 5, 20, 1 / 20])


def test_view_contrast_equals_a_loop():
    anchors, keys = unit(5, 3, seed=1), unit(5, 3, seed=2)
    chosen = torch.tensor([True, False, True, True, False])
    same = torch.zeros(5, 5, dtype=torch.bool)
    same[0, 3] = same[3, 0] = True
    same[2, 2] = True  # its own crop stays its positive
    expected = []
    for i in (0, 2, 3):
        scores = {j: math.exp((anchors[i] @ keys[j]).item() / 0.1) for j in range(5)}
        others = [j for j in range(5) if j == i or not same[i, j]]
        expected.append(-math.log(scores[i] / sum(scores[j] for j in others)))
    loss = view_contrast(anchors, keys, chosen, same, 0.1)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_supervised_contrast_equals_a_loop():
    vectors, ids = unit(7, 4, seed=3), [1, 1, 1, 2, -1, 2, 5]
    expected = []
    for i in (0, 1, 2, 3, 5):  # 6 has no partner, 4 no identity
        others = [j for j in range(7) if j != i and ids[j] >= 0]
        total = sum(math.exp((vectors[i] @ vectors[j]).item() / 0.2) for j in others)
        partners = [j for j in others if ids[j] == ids[i]]
        expected.append(
            -np.mean([(vectors[i] @ vectors[j]).item() / 0.2 - math.log(total) for j in partners])
        )
    loss = supervised_contrast(vectors, torch.tensor(ids), 0.2)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_triplet_takes_the_hardest_of_each_kind():
    angles = torch.tensor([0.0, 20.0, 60.0, 50.0]).deg2rad()
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    ids = torch.tensor([7, 7, 7, 8])
    cos = lambda degrees: math.cos(math.radians(degrees))  # noqa: E731
    expected = [
        cos(50) - cos(60) + 0.2,  # from 0: farthest friend at 60, nearest stranger at 50
        max(0, cos(30) - cos(40) + 0.2),
        cos(10) - cos(60) + 0.2,
    ]
    assert batch_hard_triplet(vectors, ids, 0.2).item() == pytest.approx(np.mean(expected))


def test_learned_weights_follow_the_formula():
    weigh = LearnedTaskWeights(("a", "b"))
    with torch.no_grad():
        weigh.log_variance["a"].fill_(0.5)
    weighted = weigh({"a": torch.tensor(2.0), "b": torch.tensor(3.0)})
    assert weighted["a"].item() == pytest.approx(2 * math.exp(-0.5) + 0.5)
    assert weighted["b"].item() == 3


# --- On several ranks --------------------------------------------------------------------------


def all_losses(logits, targets, vectors, keys, ids) -> torch.Tensor:
    """Every loss that looks beyond its rank, summed."""
    chosen = targets >= 0
    alike = (targets[:, None] == gather_rows(targets)) & chosen[:, None]
    known = torch.ones(logits.shape, dtype=torch.bool)
    return (
        cross_entropy(logits, targets, known)
        + view_contrast(vectors, keys, chosen, alike, 0.1)
        + supervised_contrast(vectors, ids, 0.1)
        + batch_hard_triplet(vectors, ids, 0.3)
    )


def share_of_gradient(count: int) -> np.ndarray:
    """This rank's rows' gradient of the losses, as DDP would average them."""
    vectors = torch.cat([unit(count, 4, seed=5), unit(count, 4, seed=6)], dim=1)
    inputs = torch.cat(
        [torch.randn(count, 5, generator=torch.Generator().manual_seed(1)), vectors], 1
    )
    ids = torch.tensor([0, 0, 1, -1, 1, 2, 2, 0, -1, 1, 3, 3])[:count]
    targets = torch.tensor([0, 1, -1, -1, -1, -1, 4, 1, 0, 0, 2, 3])[:count]  # unevenly known
    mine = slice(rank() * count // world_size(), (rank() + 1) * count // world_size())
    rows = inputs[mine].clone().requires_grad_()
    loss = all_losses(rows[:, :5], targets[mine], rows[:, 5:9], rows[:, 9:], ids[mine])
    loss.backward()
    return (rows.grad / world_size()).numpy()


@pytest.mark.parametrize("ranks", [2, 3])
def test_gradients_on_several_ranks_are_those_of_one(ranks):
    together = np.concatenate(run_ranks(ranks, share_of_gradient, 12))
    np.testing.assert_allclose(together, share_of_gradient(12), atol=1e-5)
