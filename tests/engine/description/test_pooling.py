"""Pooling of maps under weight maps, against hand-worked values."""

import torch

from engine.description.pooling import masked_mean, power_mean


def test_masked_mean_is_hand_worked():
    features = torch.arange(8.0).view(1, 2, 2, 2)
    weights = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]])
    expected = torch.tensor([[(0 + 1 + 1.5) / 2, (4 + 3 + 3.5) / 2]])
    torch.testing.assert_close(masked_mean(features, weights), expected)


def test_power_mean_is_hand_worked():
    features = torch.tensor([[[[1.0, 2.0, 9.0]], [[0.0, -3.0, 9.0]]]])
    weights = torch.tensor([[[[1.0, 1.0, 0.0]]]])
    expected = torch.tensor([[((1 + 8) / 2) ** (1 / 3), 1e-6]])
    torch.testing.assert_close(power_mean(features, weights), expected)


def test_power_mean_outgrows_half_precision_unharmed():
    """The cube of 50 is beyond its largest number, 65504."""
    features, weights = torch.full((1, 3, 7, 5), 50.0), torch.ones(1, 1, 7, 5)
    with torch.autocast("cpu", torch.float16):
        pooled = power_mean(features, weights)
    torch.testing.assert_close(pooled, torch.full((1, 3), 50.0))
