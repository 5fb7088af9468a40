"""Bodies against torchvision's own classifiers; freezing; memory layouts."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v3_large, resnet18, resnet50
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d

from engine import backbones
from engine.backbones import (
    PYRAMID_CHANNELS,
    Backbone,
    build_body,
    prepare_for_inference,
    uses_channels_last,
)
from engine.precision import autocast

CPU = torch.device("cpu")
LAYERS = {f"layer{i}": str(i) for i in (1, 2, 3, 4)}


def build(name="resnet18", **settings):
    torch.manual_seed(0)
    body = build_body(name, **{"trainable_layers": 3, "frozen_norm": True} | settings)
    return Backbone(name, body, None, PYRAMID_CHANNELS)


def randomize_norms(body: nn.Module) -> None:
    torch.manual_seed(1)
    for module in body.modules():
        if isinstance(module, FrozenBatchNorm2d | nn.BatchNorm2d):
            for values, low in ((module.weight, 0.5), (module.running_var, 0.5),
                                (module.bias, -0.3), (module.running_mean, -0.3)):  # fmt: skip
                nn.init.uniform_(values, low, low + 0.6)


@pytest.mark.parametrize(("name", "reference"), [("resnet18", resnet18), ("resnet50", resnet50)])
def test_folded_norms_change_neither_features_nor_gradients(name, reference):
    body = build(name).body
    randomize_norms(body)
    plain = reference(norm_layer=FrozenBatchNorm2d)
    plain.load_state_dict(body.state_dict(), strict=False)
    plain = IntermediateLayerGetter(plain, LAYERS)
    images = torch.randn(2, 3, 64, 96)
    got, want = body(images), list(plain(images).values())
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * b.abs().max().item())
    got[-1].sum().backward()
    want[-1].sum().backward()
    mine, theirs = body.layer3[0].conv2.weight.grad, plain.layer3[0].conv2.weight.grad
    # Rounding flips a rectifier here and there, hence no element-wise comparison.
    assert (mine - theirs).norm() < 5e-3 * theirs.norm()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("frozen_norm", [True, False])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v3_large"])
def test_norms_folded_once_change_no_bit(name, frozen_norm, precision, monkeypatch):
    backbone = build(name, frozen_norm=frozen_norm).eval().to(memory_format=torch.channels_last)
    randomize_norms(backbone.body)
    images, weights = torch.randn(2, 3, 64, 96), copy.deepcopy(backbone.state_dict())
    with torch.no_grad(), autocast(images.device, precision):
        want = backbone(images)
        assert prepare_for_inference(backbone, CPU, precision) is backbone
        monkeypatch.setattr(backbones, "_fold", None)  # not in every pass again
        assert all(map(torch.equal, backbone(images), want))
    after = backbone.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[key], value) for key, value in weights.items())


def test_a_network_with_norms_folded_once_can_learn_on():
    body = prepare_for_inference(build().body, CPU, "fp32").train()
    body(torch.randn(1, 3, 64, 64))[-1].sum().backward()
    assert body.layer4[0].conv1.weight.grad.any()


def test_real_batch_norm_learns_its_statistics():
    body = build(frozen_norm=False, trainable_layers=5).body.train()
    before = body.layer4[1].bn2.running_mean.clone()
    body(torch.randn(2, 3, 64, 64))
    assert not torch.equal(body.layer4[1].bn2.running_mean, before)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet101", "mobilenet_v3_large"])
def test_maps_have_the_promised_strides(name):
    backbone = build(name).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 96, 64))
    assert len(maps) == len(backbone.strides)
    for m, stride in zip(maps, backbone.strides, strict=True):
        assert m.shape == (1, 256, -(-96 // stride), -(-64 // stride))


def test_mobilenet_equals_torchvisions():
    body = build("mobilenet_v3_large", frozen_norm=False).body.eval()
    randomize_norms(body)
    plain = mobilenet_v3_large().eval()
    plain.features.load_state_dict(body.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(body(images)[-1], plain.features(images))


def test_stride_in_the_first_convolution():
    body, plain = build("resnet50", stride_in_1x1=True).body, build("resnet50").body
    plain.load_state_dict(body.state_dict())
    for name in ("layer2", "layer3", "layer4"):
        first = getattr(body, name)[0]
        assert first.conv1.stride == (2, 2) and first.conv2.stride == (1, 1)
    assert body.layer1[0].conv1.stride == (1, 1)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(body(images)[1:], plain(images)[1:], strict=True):
            assert a.shape == b.shape and not torch.allclose(a, b)


@pytest.mark.parametrize("frozen_norm", [True, False])
@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", ["conv1", "layer1", "layer2", "layer3", "layer4"]),
        ("mobilenet_v3_large", ["0", "2", "4", "7", "13", "16"]),
    ],
)
def test_exactly_the_asked_stages_learn(name, stages, frozen_norm):
    for count in range(len(stages) + 1):
        backbone = build(name, trainable_layers=count, frozen_norm=frozen_norm)
        learning = {n.split(".")[0] for n, p in backbone.body.named_parameters() if p.requires_grad}
        frozen = {n.split(".")[0] for n, p in backbone.body.named_parameters()} - learning
        assert learning.issuperset(stages[len(stages) - count :])
        assert frozen.issuperset(stages[: len(stages) - count])
        assert all(p.requires_grad for p in backbone.fpn.parameters())


def test_memory_layout_is_recognized():
    backbone = build()
    assert not uses_channels_last(backbone)
    assert uses_channels_last(backbone.to(memory_format=torch.channels_last))
