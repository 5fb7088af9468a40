"""The branched category head is a proper distribution, and a known group rules the others out."""

import torch

from engine.description.branches import BranchedClassifier

BRANCHES = ("upper", "lower", "upper", "full", "lower", "")


def test_probabilities_are_those_of_the_chain_rule():
    torch.manual_seed(0)
    head = BranchedClassifier(7, BRANCHES).eval()
    features = torch.randn(3, 7)
    answer = head(features).exp()
    torch.testing.assert_close(answer.sum(dim=1), torch.ones(3))
    group = head.router(features).softmax(dim=1)
    upper, lower = (head.branches[i](features).softmax(dim=1) for i in (0, 1))
    expected = torch.stack(
        [
            group[:, 0] * upper[:, 0], group[:, 1] * lower[:, 0], group[:, 0] * upper[:, 1],
            group[:, 2], group[:, 1] * lower[:, 1], group[:, 3],
        ],
        dim=1,
    )  # fmt: skip
    torch.testing.assert_close(answer, expected)


def test_a_known_group_replaces_the_estimate():
    head = BranchedClassifier(7, BRANCHES).eval()
    features = torch.randn(2, 7)
    routed = head(features, torch.tensor([1, -1])).exp()
    lower = head.branches[1](features[:1]).softmax(dim=1)[0].detach()
    torch.testing.assert_close(routed[0], torch.tensor([0, lower[0], 0, 0, lower[1], 0]))
    torch.testing.assert_close(routed[1], head(features[1:]).exp()[0])
