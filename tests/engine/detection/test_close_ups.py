"""Close-ups: combining the detections in a photo and in its half."""

import pytest
import torch

from engine.detection.close_ups import combine, half_size


def output(*rows: tuple[list[float], float, int]) -> dict[str, torch.Tensor]:
    """A detector's output of (box, score, label) rows; the score also marks the other tensors."""
    scores = torch.tensor([row[1] for row in rows])
    return {
        "boxes": torch.tensor([row[0] for row in rows], dtype=torch.float32).view(-1, 4),
        "scores": scores,
        "labels": torch.tensor([row[2] for row in rows], dtype=torch.int64),
        "probabilities": scores[:, None].expand(-1, 3),
        "roi_masks": scores.half()[:, None, None].expand(-1, 28, 28),
    }


def test_half_size_takes_means_of_whole_and_cut_blocks():
    image = torch.tensor([[[0, 10, 7], [20, 31, 8], [4, 6, 5]]], dtype=torch.uint8)
    assert half_size(image.expand(3, 3, 3)).tolist() == [[[15, 8], [5, 5]]] * 3  # 15.25, 7.5, ...
    assert half_size(image).dtype == torch.uint8


def test_large_garments_of_a_close_up_come_from_its_half():
    size = (83, 61)  # a close-up from 48.8 px on, large from 24.4 px on
    whole = output(
        ([0, 0, 24, 24], 0.9, 1),
        ([0, 0, 25, 25], 0.8, 2),  # large: left out
        ([20, 20, 69, 32], 0.3, 1),  # long, but of a small area
    )
    half = output(
        ([0, 0, 12, 12], 0.7, 1),  # 24 px in the photo: left out
        ([4, 12, 31, 42], 0.6, 3),  # 62 px
        ([0, 0, 12.5, 12.5], 0.2, 2),
    )
    found = combine(whole, half, size, 0.8)
    assert found["scores"].tolist() == [torch.tensor(x).item() for x in (0.9, 0.6, 0.3, 0.2)]
    assert found["labels"].tolist() == [1, 3, 1, 2]
    # The half had one more column and row than half of the photo: clipped.
    expected = [[0, 0, 24, 24], [8, 24, 61, 83], [20, 20, 69, 32], [0, 0, 25, 25]]
    assert found["boxes"].tolist() == expected
    assert torch.equal(found["probabilities"][:, 1], found["scores"])
    assert torch.equal(found["roi_masks"][:, 5, 7], found["scores"].half())


@pytest.mark.parametrize(("side", "score", "changed"), [(25, 0.5, True), (24, 0.9, False),
                                                        (25, 0.49, False)])  # fmt: skip
def test_other_photos_stay_as_they_are(side: float, score: float, changed: bool):
    whole = output(([0, 0, 60, 60], 0.9, 1), ([1, 1, 60, 60], 0.8, 1))
    found = combine(whole, output(([0, 0, side, side], score, 2)), (61, 100), 0.8)
    assert (found["labels"].tolist() == [2]) is changed
    assert (found is whole) is not changed


def test_one_garment_on_both_sides_of_the_limit_is_kept_once():
    whole = output(([0, 0, 30, 30], 0.5, 1), ([0, 0, 29, 30], 0.4, 2))
    half = output(([0, 0, 16, 16], 0.7, 1), ([0, 0, 31, 31], 0.6, 3))
    found = combine(whole, half, (62, 62), 0.99)
    assert found["labels"].tolist() == [1, 3, 2]  # of other categories: kept
    assert found["boxes"][0].tolist() == [0, 0, 32, 32]


def test_nothing_found():
    found = combine(output(), output(), (61, 61), 0.3)
    assert [tuple(found[name].shape) for name in found] == [
        (0, 4), (0,), (0,), (0, 3), (0, 28, 28)
    ]  # fmt: skip
