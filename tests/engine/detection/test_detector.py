"""The whole detector: against torchvision's with the same weights, and its other properties."""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from engine.backbones import uses_channels_last
from engine.detection.detector import ARCHITECTURES, build_detector, build_from_checkpoint
from engine.errors import InputError

HEIGHT, WIDTH = 128, 192  # multiples of 64, where torchvision rounds no stride


def small(**settings) -> nn.Module:
    torch.manual_seed(0)
    defaults = {
        "num_classes": 3,
        "backbone": "resnet18",
        "weights": "none",
        "pyramid_channels": 16,
        "rois_per_image": 16,
        "detections_per_image": 20,
    }
    detector = build_detector(**defaults | settings)
    detector.rpn.kept_training = detector.rpn.kept_inference = 60
    return detector


def photo(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def full_masks(boxes: list[list[int]], height: int, width: int) -> torch.Tensor:
    """u8[N,H,W]: an ellipse in each box."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    masks = [
        (((x + 0.5 - (a + c) / 2) / (c - a)) ** 2 + ((y + 0.5 - (b + d) / 2) / (d - b)) ** 2) < 0.25
        for a, b, c, d in boxes
    ]
    return torch.stack(masks).to(torch.uint8) if masks else torch.zeros(0, height, width).byte()


def crop(masks: torch.Tensor, boxes: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Box crops with a pixel of context, zero-padded to the largest, and their origins."""
    if not boxes:
        return torch.zeros(0, 0, 0, dtype=torch.uint8), torch.zeros(0, 2, dtype=torch.int64)
    height, width = masks.shape[1:]
    spans = [
        (max(a - 1, 0), max(b - 1, 0), min(c + 1, width), min(d + 1, height))
        for a, b, c, d in boxes
    ]
    crops = [m[b:d, a:c] for m, (a, b, c, d) in zip(masks, spans, strict=True)]
    padded = torch.zeros(
        len(crops), max(c.shape[0] for c in crops), max(c.shape[1] for c in crops)
    ).byte()
    for slot, part in zip(padded, crops, strict=True):
        slot[: part.shape[0], : part.shape[1]] = part
    return padded, torch.tensor([span[:2] for span in spans])


def target(boxes: list[list[int]], labels: list[int], height=HEIGHT, width=WIDTH) -> dict:
    masks, origin = crop(full_masks(boxes, height, width), boxes)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": masks,
        "mask_origin": origin,
    }


BOXES = [
    ([[10, 12, 90, 101], [50, 60, 192, 128]], [1, 3]),
    ([[0, 0, 37, 128], [20, 5, 61, 67], [100, 40, 180, 100]], [2, 2, 1]),
]


@functools.cache
def torchvision_twin() -> tuple[nn.Module, nn.Module]:
    """Our detector and torchvision's with the same weights, both without random sampling."""
    ours = small(rois_per_image=400, pyramid_channels=256)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=3
    )
    reference = MaskRCNN(
        backbone,
        num_classes=4,
        min_size=HEIGHT,
        max_size=WIDTH,
        rpn_batch_size_per_image=100_000,
        rpn_pre_nms_top_n_train=60,
        rpn_post_nms_top_n_train=60,
        rpn_pre_nms_top_n_test=60,
        rpn_post_nms_top_n_test=60,
        box_batch_size_per_image=400,
        box_score_thresh=0.2,
        box_detections_per_img=20,
    )
    liven(ours)
    reference.load_state_dict(ours.state_dict())
    ours.rpn.anchors_per_image = 100_000
    ours.roi_heads.score_threshold = 0.2
    return ours, reference


def liven(detector: nn.Module) -> None:
    """Set norm statistics so that the activations, and boxes, of a random network differ."""
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
            module.running_mean.uniform_(-0.2, 0.2)


def test_losses_and_gradients_equal_torchvisions(monkeypatch):
    # Without a kink: rounding, which depends on the CPU, flips a rectifier here and there.
    monkeypatch.setattr(F, "relu", lambda x, inplace=False: F.softplus(x))
    ours, reference = (model.train() for model in torchvision_twin())
    images = [photo(seed=1), photo(seed=2)]
    got = ours(images, [target(*b) for b in BOXES])
    full = [
        {
            "boxes": torch.tensor(boxes, dtype=torch.float32),
            "labels": torch.tensor(labels),
            "masks": full_masks(boxes, HEIGHT, WIDTH),
        }
        for boxes, labels in BOXES
    ]
    want = reference([image / 255 for image in images], full)
    assert got.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-6, msg=name)
    sum(got.values()).backward()
    sum(want.values()).backward()
    for name, theirs in reference.named_parameters():
        mine = ours.get_parameter(name)
        assert mine.requires_grad == theirs.requires_grad, name
        if theirs.requires_grad:
            assert (mine.grad - theirs.grad).norm() < 1e-4 * theirs.grad.norm(), name


def test_detections_equal_torchvisions():
    ours, reference = (model.eval() for model in torchvision_twin())
    images = [photo(seed=3), photo(seed=4)]
    with torch.no_grad():
        got, want = ours(images), reference([image / 255 for image in images])
    for mine, theirs in zip(got, want, strict=True):
        assert len(theirs["boxes"]) > 5
        assert mine["roi_masks"].shape == (len(mine["boxes"]), 28, 28)
        assert mine["roi_masks"].dtype == torch.float16
        torch.testing.assert_close(mine["scores"], theirs["scores"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine["boxes"], theirs["boxes"], rtol=1e-4, atol=1e-2)
        assert torch.equal(mine["labels"], theirs["labels"])


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("masks", [True, False])
def test_photos_without_garments_give_gradients_to_every_parameter(arch, masks):
    detector = small(arch=arch, masks=masks, trainable_backbone_layers=5).train()
    losses = detector([photo(96, 64), photo(64, 96)], [target([], []), target([], [])])
    assert ("loss_mask" in losses) == masks
    assert losses["loss_box_reg"] == 0 and losses["loss_rpn_box_reg"] == 0
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert all(b.isfinite().all() for b in detector.buffers())


def test_one_photo_without_garments_beside_one_with():
    detector = small().train()
    losses = detector(
        [photo(96, 64), photo(96, 64, 1)], [target([], []), target([[5, 5, 60, 80]], [2])]
    )
    assert all(value.isfinite() for value in losses.values())
    assert losses["loss_mask"] > 0 and losses["loss_box_reg"] > 0


def test_box_dropout_changes_box_losses_but_no_detections():
    targets = [target([[20, 30, 90, 100]], [1])]
    losses, detections = {}, {}
    for share in (0.0, 0.9):
        model = small(box_dropout=share)
        detections[share] = model.eval()([photo()])[0]
        torch.manual_seed(1)
        losses[share] = model.train()([photo()], targets)
    torch.testing.assert_close(detections[0.0], detections[0.9])
    for name in ("loss_rpn_box_reg", "loss_objectness", "loss_mask"):
        torch.testing.assert_close(losses[0.0][name], losses[0.9][name])
    for name in ("loss_classifier", "loss_box_reg"):
        assert (losses[0.0][name] - losses[0.9][name]).abs() > 1e-4


def test_training_does_not_change_the_targets():
    sample = target([[5, 5, 60, 80], [0, 0, 30, 30]], [2, 1])
    before = copy.deepcopy(sample)
    small().train()([photo(96, 64)], [sample])
    assert all(torch.equal(sample[key], before[key]) for key in before)


def test_box_only_detector_has_no_mask_parts():
    detector = small(masks=False)
    assert not any("mask" in name for name in detector.state_dict())
    boxes_only = {k: v for k, v in target([[5, 5, 60, 80]], [2]).items() if "mask" not in k}
    assert "loss_mask" not in detector.train()([photo(96, 64)], [boxes_only])
    with torch.no_grad():
        found = detector.eval()([photo(96, 64)])[0]
    assert set(found) == {"boxes", "scores", "labels", "probabilities"}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_detections_do_not_depend_on_the_rest_of_the_batch(arch):
    detector = small(arch=arch, score_threshold=0.0).eval()
    liven(detector)
    # All three are padded to 128 x 96.
    photos = [photo(127, 65, 1), photo(128, 96, 2), photo(97, 90, 3)]
    with torch.no_grad():
        together = detector(photos)
        alone = [
            detector([p, photo(128, 96, 9)])[0] if i == 2 else detector([p])[0]
            for i, p in enumerate(photos)
        ]
    for one, among in zip(alone, together, strict=True):
        assert len(one["boxes"]) > 0
        torch.testing.assert_close(one["boxes"], among["boxes"], rtol=0, atol=1e-3)
        assert torch.equal(one["labels"], among["labels"])


def test_mirror_averages_the_outputs_for_the_photo_and_its_mirror_image():
    detector = small(score_threshold=0.2).eval()
    liven(detector)
    photos = [photo(61, 47, 1), photo(64, 96, 2)]
    with torch.no_grad():
        found = detector(photos, mirror=True)
        maps, pyramid = detector._pyramid(photos)
        sizes = [tuple(p.shape[1:]) for p in photos]
        proposals, _ = detector.rpn(maps, pyramid, sizes)
        for i, image in enumerate(photos):
            # One photo, one proposal, one look at a time; the batch is padded to 64 x 96.
            pad = photo(64, 96, 9)
            looks = []
            for picture in (image, image.flip(-1)):
                looks.append(detector._pyramid([picture, pad])[1])
            wanted = []
            for box in proposals[i]:
                x1, y1, x2, y2 = box.tolist()
                other = torch.tensor([[sizes[i][1] - x2, y1, sizes[i][1] - x1, y2]])
                none = torch.zeros(0, 4)
                ((_, one), _) = detector.roi_heads._predict(looks[0], [box[None], none])
                ((_, two), _) = detector.roi_heads._predict(looks[1], [other, none])
                wanted.append((one[0, 1:] + two[0, 1:]) / 2)
            wanted = torch.stack(wanted)
            assert len(found[i]["scores"]) > 0
            for score, label in zip(found[i]["scores"], found[i]["labels"], strict=True):
                assert (wanted[:, label - 1] - score).abs().min() < 1e-5
        # Seen from the other side: the photos' proposals in the mirror images.
        flipped = [p.flip(-1) for p in photos]
        mirrored = detector._pyramid(flipped)[1]
        moved = [
            torch.stack((w - p[:, 2], p[:, 1], w - p[:, 0], p[:, 3]), 1)
            for p, (_, w) in zip(proposals, sizes, strict=True)
        ]
        other_side = detector.roi_heads.detect(mirrored, moved, sizes, pyramid)
    for one, two, (_, width) in zip(found, other_side, sizes, strict=True):
        assert torch.equal(one["labels"], two["labels"])
        torch.testing.assert_close(one["scores"], two["scores"])
        back = two["boxes"][:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1, -1, 1])
        back += torch.tensor([width, 0.0, width, 0])
        torch.testing.assert_close(one["boxes"], back, rtol=0, atol=1e-3)
        torch.testing.assert_close(one["roi_masks"], two["roi_masks"].flip(-1))
        rows = torch.arange(len(one["labels"]))
        assert torch.equal(one["probabilities"][rows, one["labels"] - 1], one["scores"])
        assert (one["probabilities"].sum(dim=1) < 1).all()  # the rest is background
        torch.testing.assert_close(one["probabilities"], two["probabilities"])


def test_boxes_stay_inside_each_photo_and_are_sorted():
    detector = small(score_threshold=0.0, detections_per_image=37, masks=False).eval()
    liven(detector)
    photos = [photo(61, 47), photo(33, 89)]
    with torch.no_grad():
        results = detector(photos)
    for image, result in zip(photos, results, strict=True):
        height, width = image.shape[1:]
        assert 0 < len(result["boxes"]) <= 37
        assert (result["boxes"] >= 0).all()
        assert (result["boxes"] <= torch.tensor([width, height, width, height])).all()
        assert (result["boxes"][:, 2:] > result["boxes"][:, :2]).all()
        assert (result["scores"].diff() <= 0).all()
        assert result["labels"].dtype == torch.int64
        assert ((result["labels"] >= 1) & (result["labels"] <= 3)).all()


def test_no_detections_and_no_photos():
    detector = small(score_threshold=1.0).eval()
    with torch.no_grad():
        result = detector([photo(64, 64)])[0]
        assert detector([]) == []
    assert result["boxes"].shape == (0, 4) and result["roi_masks"].shape == (0, 28, 28)


def test_photos_are_normalized_and_padded():
    detector = small().to(memory_format=torch.channels_last)
    image = photo(33, 20)
    batch = detector._stack([image, photo(10, 40)])
    assert batch.shape == (2, 3, 64, 64)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(batch[0, :, :33, :20], (image / 255 - mean) / std)
    assert batch[0, :, 33:].eq(0).all() and batch[0, :, :, 20:].eq(0).all()


def test_channels_last_changes_only_rounding():
    detector = small(score_threshold=0.3).eval()
    liven(detector)
    with torch.no_grad():
        plain = detector([photo(96, 64)])[0]
        moved = detector.to(memory_format=torch.channels_last)([photo(96, 64)])[0]
    assert len(plain["boxes"]) > 0
    torch.testing.assert_close(plain["boxes"], moved["boxes"], rtol=1e-4, atol=1e-3)


def test_autocast_keeps_boxes_in_full_precision_and_every_gradient():
    detector = small().train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector([photo(96, 64)], [target([[5, 5, 60, 80]], [2])])
        with torch.no_grad():
            result = detector.eval()([photo(96, 64)])[0]
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    assert result["boxes"].dtype == result["scores"].dtype == torch.float32
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        assert not parameter.requires_grad or parameter.grad.abs().sum() > 0, name


def checkpoint_of(detector: nn.Module, **config) -> dict:
    defaults = {"arch": "maskrcnn", "backbone": "resnet18", "masks": True}
    return {
        "kind": "detector",
        "config": defaults | config,
        "categories": ["top", "skirt", "shoes"],
        "model": detector.state_dict(),
        "ema": None,
    }


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_checkpoint_rebuilds_the_detector(arch):
    unusual = {"arch": arch, "backbone": "resnet50", "stride_in_1x1": True, "pyramid_channels": 64}
    detector = small(**unusual).eval().to(memory_format=torch.channels_last)
    liven(detector)
    rebuilt = build_from_checkpoint(checkpoint_of(detector, **unusual))
    assert not rebuilt.training and uses_channels_last(rebuilt.backbone)
    rebuilt.rpn.kept_inference = detector.rpn.kept_inference
    rebuilt.roi_heads.detections_per_image = detector.roi_heads.detections_per_image
    with torch.no_grad():
        want, got = detector([photo(96, 64)])[0], rebuilt([photo(96, 64)])[0]
    assert len(want["boxes"]) > 0
    for key in want:
        torch.testing.assert_close(got[key], want[key])


def test_a_checkpoint_prefers_averaged_weights():
    detector = small(pyramid_channels=256)  # as a checkpoint has that does not tell
    checkpoint = checkpoint_of(detector)
    checkpoint["ema"] = {k: v + 1 for k, v in detector.state_dict().items()}
    rebuilt = build_from_checkpoint(checkpoint)
    key = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(rebuilt.state_dict()[key], checkpoint["ema"][key])


def test_contradictory_checkpoints_are_refused():
    checkpoint = checkpoint_of(small(), pyramid_channels=16)
    checkpoint["categories"] = ["top"]
    with pytest.raises(InputError, match=r"size mismatch for roi_heads.box_predictor"):
        build_from_checkpoint(checkpoint)
    del checkpoint["config"]["backbone"]
    with pytest.raises(InputError, match="lacks 'backbone'"):
        build_from_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"arch": "yolo"}, "maskrcnn, maskrcnn_v2"),
        ({"backbone": "vgg"}, "resnet18, resnet34"),
        ({"trainable_backbone_layers": 6}, "resnet18 has 0 to 5"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        small(**settings)
