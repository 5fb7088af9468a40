"""Both networks on a device that is not the CPU: no tensor is left behind, and nothing waits twice.

No GPU is needed: see ``tests.other_device``.
"""

import pytest
import torch

from engine.description.criterion import ITEM_LOSSES, Criterion
from engine.description.multitask import ASPECT_DIMS, TASKS, build_multitask
from engine.detection.detector import build_detector
from engine.training.loader import to_device
from tests.engine.description.test_multitask import SPACE, batch, crops
from tests.engine.detection.test_detector import BOXES, photo, target
from tests.other_device import DEVICE, other_device

# The suppression of each photo's proposals, and how many of them are garments.
SUPPRESSION = {
    "rpn.py: kept = ((boxes[:, 2:] - boxes[:, :2]) >= self.min_side).all(1).nonzero().squeeze(1)",
    "rpn.py: kept = batched_nms(boxes, scores[kept], levels[kept], self.nms_iou)",
}
COUNT = "roi_heads.py: counts = torch.stack([sample.count for sample in samples]).tolist()"


def test_the_other_device_notices_mixed_tensors_and_waits():
    with other_device() as waits:
        there = torch.arange(3.0).to(DEVICE)
        assert (there.device, (there * 2).cpu().tolist()) == (DEVICE, [0, 2, 4])
        assert sum(waits.values()) == 2
        with pytest.raises(AssertionError, match="mixes devices"):
            there + torch.ones(3)
        there[torch.arange(2)] = 7
        assert sum(waits.values()) == 3
        assert float(there.sum()) == 16


@pytest.mark.parametrize("garments", [(None, 1), (None, None)])
def test_a_detector_learns_and_finds_on_another_device(garments):
    torch.manual_seed(0)
    model = build_detector(
        num_classes=3, backbone="resnet18", weights="none", pyramid_channels=16, rois_per_image=16
    )
    model.rpn.kept_training = model.rpn.kept_inference = 60
    targets = [target(*([], []) if i is None else BOXES[i]) for i in garments]
    with other_device() as waits:
        model.to(DEVICE, memory_format=torch.channels_last)
        images, targets = to_device(([photo(seed=0), photo(seed=1)], targets), DEVICE)
        waits.clear()
        losses = model(images, targets)
        sum(losses.values()).backward()
        assert waits.keys() == SUPPRESSION | {COUNT}
        assert waits[COUNT] == 1
        assert all(loss.device == DEVICE for loss in losses.values())
        with torch.no_grad():
            found = model.eval()(images, mirror=True)
        assert all(value.device == DEVICE for value in found[0].values())


@pytest.mark.parametrize("item_loss", ITEM_LOSSES)
def test_a_multitask_model_learns_on_another_device_without_waiting(item_loss):
    model = build_multitask(SPACE, trunk="resnet18", weights="none", tasks=TASKS)
    model.criterion = Criterion(
        SPACE, TASKS, ASPECT_DIMS, task_weights="learned", smoothing=0.1, item_loss=item_loss,
        class_weights={group.name: torch.ones(len(group.values)) for group in SPACE.groups},
    )  # fmt: skip
    with other_device() as waits:
        model.to(DEVICE, memory_format=torch.channels_last).train()
        images, targets = to_device((crops(7), batch()), DEVICE)
        waits.clear()
        losses = model(images, targets)
        sum(losses.values()).backward()
        assert not waits
        assert all(loss.device == DEVICE for loss in losses.values())
        with torch.no_grad():
            found = model.eval().describe(images, targets["mask"])
        assert not waits
        assert all(vectors.device == DEVICE for vectors in found["aspects"].values())
