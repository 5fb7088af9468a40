"""Running a (made-up) multitask model over garments, on one and on several ranks."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn

from engine.data.labels import LabelSpace, merge_labels
from engine.data.records import Garment, Photo, PhotoRecords
from engine.description.describe import (
    DescribeSettings,
    describe,
    describe_shard,
    evaluate_multitask,
    gather_descriptions,
)
from engine.errors import InputError
from engine.evaluation import ranking
from engine.evaluation.multitask_metrics import EvaluationPart, evaluate_part
from engine.pixels.photos import PhotoError
from engine.training.samplers import Draw
from tests.ranks import run_ranks

COUNT = 23
BOX = np.array([0, 0, 8, 8.0])
CPU = torch.device("cpu")
KEYS = ranking._keys


def garments() -> PhotoRecords:
    """A garment a photo: category i % 3, product i % 5."""
    photos = [
        Photo(Path(f"/data/{i}.jpg"), i, 8, 8, garments=[Garment(i % 3, BOX, 64, identity=i % 5)])
        for i in range(COUNT)
    ]
    about = {"format": "csv", "categories": ["coat", "dress", "skirt"], "category_ids": [1, 2, 3]}
    return PhotoRecords.from_photos(photos, root=Path("/data"), **about)


class Crops(torch.utils.data.Dataset):
    """Crop i has the color i everywhere; some cannot be read."""

    def __init__(self, broken: tuple[int, ...] = ()) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, draw: Draw) -> tuple:
        if draw.index in self.broken:
            raise PhotoError("missing", Path(f"{draw.index}.jpg"), "it is not there")
        image = torch.full((3, 4, 4), draw.index, dtype=torch.uint8)
        return image, {"mask": torch.full((4, 4), 255, dtype=torch.uint8)}


class Oracle(nn.Module):
    """Reads the garment's number from its crop; item vectors are alike by product."""

    def __init__(self, labels: LabelSpace) -> None:
        super().__init__()
        self.labels = labels

    def describe(self, images: torch.Tensor, masks: torch.Tensor) -> dict:
        assert not self.training
        assert masks.shape == images[:, 0].shape
        number = images[:, 0, 0, 0].long()
        item = torch.eye(8)[number % 5] + 0.1 * torch.eye(8)[5 + number % 3]
        logits = torch.eye(len(self.labels.groups[0].values))[number % 3]
        return {"logits": {"category": logits}, "aspects": {"item": item}}


def evaluate(broken: tuple[int, ...] = (), batch_size: int = 3) -> dict:
    records = garments()
    model = Oracle(merge_labels([records], ["set"])).eval()
    part = EvaluationPart("set", records, Crops(broken))
    settings = DescribeSettings(batch_size=batch_size)
    found = describe(model, part, settings, CPU)
    detailed = evaluate_part(part, found, model.labels, details=True)
    metrics = evaluate_multitask(model, model.labels, [part], settings, CPU)
    assert metrics["set"]["item"].items() < detailed["item"].items()
    return {"set": detailed}


def test_a_perfect_model_scores_one() -> None:
    metrics = evaluate()["set"]
    assert metrics["garments"] == COUNT
    assert metrics["unreadable"] == 0
    category = metrics["category"]
    assert category["labelled"] == COUNT
    assert category["top1"] == category["macro_f1"] == category["weighted_f1"] == 1
    assert category["intervals"]["top1"] == (1, 1)
    assert "top3" not in category  # of three categories
    assert metrics["item"]["R@1"] == metrics["item"]["mAP"] == 1


def shard_of(batch_size: int) -> tuple[list[int], list[int] | None]:
    """Garments of this rank's shard, and of all together on rank 0."""
    model = Oracle(merge_labels([garments()], ["set"])).eval()
    shard = describe_shard(model, Crops((4,)), DescribeSettings(batch_size=batch_size), CPU)
    found = gather_descriptions(shard, COUNT)
    return shard.garments.tolist(), found and found.garments.tolist()


def judged() -> tuple[dict, int]:
    """The metrics, and how many queries this rank searched with."""
    searched = []

    def keys(similar: np.ndarray) -> np.ndarray:
        searched.append(len(similar))
        return KEYS(similar)

    with patch.object(ranking, "_keys", keys), patch.object(ranking, "BLOCK_BYTES", 1600):
        return evaluate(broken=(4, 22)), sum(searched)


def on_a_rank() -> tuple:
    return judged(), shard_of(5), shard_of(100)


def test_ranks_share_out_whole_batches_and_all_get_the_same_answer() -> None:
    alone = evaluate(broken=(4, 22))
    assert alone["set"]["unreadable"] == 2
    assert alone["set"]["garments"] == alone["set"]["category"]["labelled"] == COUNT - 2
    others = [i for i in range(COUNT) if i != 4]
    first, second = run_ranks(2, on_a_rank)
    assert first[0][0] == second[0][0] == alone
    assert first[0][1] + second[0][1] == judged()[1]  # the search is shared out, too
    assert min(first[0][1], second[0][1]) > 0.3 * judged()[1]
    assert first[1] == ([0, 1, 2, 3, *range(5, 10)], others)
    assert second[1] == (list(range(10, COUNT)), None)
    assert first[2] == ([], others)  # one batch for two ranks
    assert second[2] == (others, None)


def test_duplicated_and_missing_entries_are_detected() -> None:
    model = Oracle(merge_labels([garments()], ["set"])).eval()
    shard = describe_shard(model, Crops(), DescribeSettings(workers=0), CPU)
    with pytest.raises(AssertionError, match="twice or never"):
        gather_descriptions(shard, COUNT + 1)


def evaluate_nothing() -> str:
    with pytest.raises(InputError) as error:
        evaluate(broken=tuple(range(COUNT)))
    return str(error.value)


def test_not_one_readable_photo_is_bad_input_on_every_rank() -> None:
    for ranks in (1, 3):
        for message in run_ranks(ranks, evaluate_nothing):
            assert message == "no photo of the dataset to evaluate on can be read"


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": -1}])
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(InputError, match="--" + next(iter(wrong)).replace("_", "-")):
        DescribeSettings(**wrong)
