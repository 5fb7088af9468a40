"""Starting weights: every accepted layout, every refused file."""

import logging
import pickle

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import MobileNet_V3_Large_Weights, ResNet18_Weights

from engine.data.labels import LabelGroup, LabelSpace, Source
from engine.description.multitask import build_multitask
from engine.detection.detector import build_detector
from engine.errors import InputError
from engine.pretrained import load_weights


def small(**settings) -> nn.Module:
    torch.manual_seed(0)
    defaults = {"num_classes": 3, "backbone": "resnet18", "weights": "none"}
    return build_detector(**defaults | settings)


def crops_model(categories: int, *aspects: str) -> nn.Module:
    values = tuple("abcdefg"[:categories])
    everything = Source("x", {"category": tuple(range(categories))})
    labels = LabelSpace((LabelGroup("category", values, True),), (everything,))
    return build_multitask(
        labels, trunk="resnet18", weights="none", tasks=("category", *(aspects or ["shape"]))
    )


def saved(content, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    return path


def checkpoint(model: dict, ema: dict | None = None) -> dict:
    return {"format": 1, "kind": "detector", "config": {}, "model": model, "ema": ema}


def test_a_bare_half_precision_backbone(tmp_path, caplog):
    source = torchvision.models.resnet18(num_classes=10)
    path = saved({k: v.half() for k, v in source.state_dict().items()}, tmp_path)
    detector = small()
    with caplog.at_level(logging.INFO, logger="weft"):
        report = load_weights(detector, path)
    weight = detector.backbone.body.layer3[0].conv1.weight
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, source.layer3[0].conv1.weight, rtol=0, atol=1e-3)
    assert report.unused == ["fc.bias", "fc.weight"]
    assert all(not n.startswith("backbone.body.") for n in report.missing)
    assert "loaded: 100 backbone.body" in caplog.text
    assert "left random, not in the file: 16 backbone.fpn" in caplog.text


def test_a_bare_mobilenet(tmp_path):
    source = torchvision.models.mobilenet_v3_large(num_classes=10)
    detector = small(
        backbone="mobilenet_v3_large", weights=str(saved(source.state_dict(), tmp_path))
    )
    assert torch.equal(
        detector.backbone.body[3].block[0][0].weight, source.features[3].block[0][0].weight
    )


def test_a_checkpoint_of_ours_with_other_categories(tmp_path):
    source = small(num_classes=5)
    averaged = {k: v + 1 for k, v in source.state_dict().items()}
    detector = small()
    report = load_weights(detector, saved(checkpoint(source.state_dict(), averaged), tmp_path))
    assert torch.equal(detector.state_dict()["backbone.fpn.inner_blocks.0.0.bias"],
                       averaged["backbone.fpn.inner_blocks.0.0.bias"])  # fmt: skip
    assert sorted(report.other_shape) == [
        "roi_heads.box_predictor.bbox_pred.bias",
        "roi_heads.box_predictor.bbox_pred.weight",
        "roi_heads.box_predictor.cls_score.bias",
        "roi_heads.box_predictor.cls_score.weight",
        "roi_heads.mask_predictor.mask_fcn_logits.bias",
        "roi_heads.mask_predictor.mask_fcn_logits.weight",
    ]
    assert report.missing == report.unused == []


def test_a_detector_of_other_categories_passes_on_those_that_both_know(tmp_path, caplog):
    theirs, ours = ["hat", "Top", "bag", "vest"], ["bag", "skirt", "top"]
    source, before = small(num_classes=4), small().state_dict()
    content = checkpoint(source.state_dict()) | {"categories": theirs}
    detector = small()
    with caplog.at_level(logging.INFO, logger="weft"):
        report = load_weights(detector, saved(content, tmp_path), ours)
    assert "categories known from there: 2 of 3" in caplog.text
    assert report.other_shape == report.missing == report.unused == []
    old, new = source.state_dict(), detector.state_dict()
    rows = {0: 0, 1: 3, 3: 2}  # of the class scores: background, bag, top
    for name, per in (
        ("box_predictor.cls_score", 1),
        ("box_predictor.bbox_pred", 4),
        ("mask_predictor.mask_fcn_logits", 1),
    ):
        for part in ("weight", "bias"):
            table, from_there = (s[f"roi_heads.{name}.{part}"] for s in (new, old))
            for row, other in rows.items():
                mine, other = (
                    slice(per * row, per * row + per),
                    slice(per * other, per * other + per),
                )
                assert torch.equal(table[mine], from_there[other])
            skirt = slice(2 * per, 3 * per)
            assert torch.equal(table[skirt], before[f"roi_heads.{name}.{part}"][skirt])


@pytest.mark.parametrize(
    ("config", "flag"),
    [
        ({}, "was trained without --stride-in-1x1; leave it out"),
        ({"stride_in_1x1": True, "pyramid_channels": 32}, "with --pyramid-channels 32; give the"),
        ({"stride_in_1x1": True, "pyramid_channels": 16}, None),
    ],
)
def test_a_checkpoint_of_ours_names_the_flags_that_its_network_needs(tmp_path, config, flag):
    """The place of the stride is in no tensor: the weights would load, and be worth little."""
    detector = small(backbone="resnet50", pyramid_channels=16, stride_in_1x1=True)
    path = saved(checkpoint(detector.state_dict()) | {"config": config}, tmp_path)
    if flag is None:
        assert load_weights(detector, path).missing == []
        return
    with pytest.raises(InputError, match=flag):
        load_weights(detector, path)


def test_the_place_of_the_stride_is_asked_of_deep_resnets_only(tmp_path):
    detector = small()
    content = checkpoint(detector.state_dict()) | {"config": {"stride_in_1x1": True}}
    assert load_weights(detector, saved(content, tmp_path)).missing == []


def test_the_same_categories_in_another_order_are_told_apart_by_name(tmp_path):
    source = small()
    content = checkpoint(source.state_dict()) | {"categories": ["hat", "top", "bag"]}
    detector = small()
    load_weights(detector, saved(content, tmp_path), ["bag", "hat", "top"])
    bias = "roi_heads.box_predictor.cls_score.bias"
    assert torch.equal(detector.state_dict()[bias], source.state_dict()[bias][[0, 3, 1, 2]])


def test_a_detector_loads_its_own_checkpoint(tmp_path):
    source = small()
    report = load_weights(small(), saved(checkpoint(source.state_dict()), tmp_path))
    names = {n for n in source.state_dict() if not n.endswith("num_batches_tracked")}
    assert set(report.loaded) == names
    assert report.other_shape == report.missing == report.unused == []


def test_a_detector_with_masks_starts_one_without(tmp_path):
    report = load_weights(small(masks=False), saved(small().state_dict(), tmp_path))
    assert report.unused and all("mask" in name for name in report.unused)
    assert report.missing == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("resnet34", "resnet18: it lacks 0 of that network.s 100 tensors .* 80 others"),
        ("resnet50", "check --backbone"),
        ("mobilenet_v3_large", "check --backbone"),
    ],
)
def test_another_backbone_is_refused(other, words, tmp_path):
    source = getattr(torchvision.models, other)(num_classes=2)
    with pytest.raises(InputError, match=words):
        load_weights(small(), saved(source.state_dict(), tmp_path))


def test_another_width_is_refused(tmp_path):
    state = {k: torch.zeros(3) for k in torchvision.models.resnet18().state_dict()}
    with pytest.raises(InputError, match=r"size mismatch for backbone.body"):
        load_weights(small(), saved(state, tmp_path))


class Payload:
    """What a hostile file would run."""

    def __reduce__(self):
        return (print, ("executed",))


def test_files_that_are_not_weights(tmp_path, capsys):
    detector = small()
    damaged = saved(torchvision.models.resnet18().state_dict(), tmp_path)
    damaged.write_bytes(damaged.read_bytes()[:5000])
    with pytest.raises(InputError, match="damaged"):
        load_weights(detector, damaged)
    hostile = tmp_path / "hostile.pt"
    hostile.write_bytes(pickle.dumps({"conv1.weight": Payload()}, protocol=2))
    with pytest.raises(InputError, match="could run code"):
        load_weights(detector, hostile)
    assert "executed" not in capsys.readouterr().out
    with pytest.raises(InputError, match="no such weights file"):
        load_weights(detector, tmp_path / "absent.pt")
    with pytest.raises(InputError, match="a list, not a state dict"):
        load_weights(detector, saved([1, 2], tmp_path))
    with pytest.raises(InputError, match="no state dict of tensors"):
        load_weights(detector, saved({"lr": 0.1}, tmp_path))


def test_the_bodies_of_both_networks_fit_each_other(tmp_path):
    detector, model = small(), crops_model(2)
    name = "backbone.body.layer3.0.conv1.weight"
    for target, source in ((model, crops_model(4)), (model, detector), (detector, model)):
        with torch.no_grad():
            source.get_parameter(name).add_(1)
        report = load_weights(target, saved(checkpoint(source.state_dict()), tmp_path))
        assert torch.equal(target.get_parameter(name), source.get_parameter(name))
        heads = [n for n in report.loaded if not n.startswith("backbone.")]
        assert bool(heads) == (type(source) is type(target))
    report = load_weights(model, saved(checkpoint(crops_model(4).state_dict()), tmp_path))
    assert sorted(report.other_shape) == ["classifiers.0.bias", "classifiers.0.weight"]


def test_an_attention_for_other_aspects_passes_on_those_that_both_have(tmp_path):
    source, model = crops_model(2, "item", "color"), crops_model(2, "color", "shape")
    nn.init.normal_(source.aspect_heads.attention.look.weight)
    config = {"tasks": ["category", "item", "color"]}
    content = {"format": 1, "kind": "multitask", "labels": source.labels.to_plain(),
               "config": config, "model": source.state_dict()}  # fmt: skip
    load_weights(model, saved(content, tmp_path))
    mine, theirs = (m.aspect_heads.attention.look.weight for m in (model, source))
    assert torch.equal(mine[0], theirs[1])  # color
    assert not mine[1].any()  # shape, as it was built


def test_imagenet_weights_of_each_body(monkeypatch):
    def stand_in(self, **options):
        assert options["weights_only"] and options["check_hash"]
        build = {"ResNet18": "resnet18", "MobileNet": "mobilenet_v3_large"}
        name = next(v for k, v in build.items() if type(self).__name__.startswith(k))
        return getattr(torchvision.models, name)().state_dict()

    for weights in (ResNet18_Weights, MobileNet_V3_Large_Weights):
        monkeypatch.setattr(weights, "get_state_dict", stand_in)
    for backbone in ("resnet18", "mobilenet_v3_large"):
        detector = small(backbone=backbone, weights="imagenet")
        assert not any(isinstance(m, nn.BatchNorm2d) for m in detector.backbone.body.modules())


def test_a_failed_download_says_what_to_do(monkeypatch):
    def offline(self, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", offline)
    with pytest.raises(InputError, match=r"cannot download https://.*give --weights a FILE"):
        small(weights="imagenet")


def test_coco_weights_load_but_for_the_predictors(monkeypatch):
    names = {"maskrcnn": "MaskRCNN_ResNet50_FPN_Weights",
             "maskrcnn_v2": "MaskRCNN_ResNet50_FPN_V2_Weights"}  # fmt: skip
    builders = {"maskrcnn": "maskrcnn_resnet50_fpn", "maskrcnn_v2": "maskrcnn_resnet50_fpn_v2"}
    for arch, builder in builders.items():
        model = getattr(torchvision.models.detection, builder)(weights=None, weights_backbone=None)
        state = model.state_dict()
        enum = getattr(torchvision.models.detection, names[arch])
        monkeypatch.setattr(enum, "get_state_dict", lambda self, state=state, **options: state)
        detector = small(arch=arch, backbone="resnet50")
        report = load_weights(detector, "coco")
        assert len(report.other_shape) == 6
        assert report.missing == report.unused == []
        # v1 was trained without an epsilon beside the variance: the sum must stay what it was.
        variance = detector.backbone.body.bn1.running_var
        expected = 1 - 1e-5 if arch == "maskrcnn" else 1.0
        torch.testing.assert_close(variance, torch.full_like(variance, expected), rtol=0, atol=1e-7)


def test_coco_weights_of_other_backbones_do_not_exist():
    with pytest.raises(InputError, match="no COCO weights for resnet18"):
        small(weights="coco")


def test_a_resuming_run_reads_no_weights():
    small(weights="/nowhere/weights.pt", load=False)
