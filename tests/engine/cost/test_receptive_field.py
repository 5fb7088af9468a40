"""Receptive fields against brute force (which pixels change the output) and published figures."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FeaturePyramidNetwork

from engine.backbones import Backbone, build_body
from engine.cost.network_graph import dilate, trace, without_last
from engine.cost.receptive_field import (
    Field,
    effective_field,
    effective_size,
    field_of,
    fields,
)
from engine.errors import InputError

SIZE = (47, 53)  # primes, larger than every small field here


def conv(*arguments, **settings) -> nn.Conv2d:
    return nn.Conv2d(*arguments, bias=False, **settings)


class Residual(nn.Module):
    """Two paths of different reach and, as in a strided block, a strided shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.long = nn.Sequential(conv(3, 4, 5, padding=2), conv(4, 4, 3, stride=2, padding=1))
        self.short = conv(3, 4, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.long(x) + self.short(x))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reach = conv(3, 2, 3, padding=3, dilation=3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.reach(x)], 1)


class UpAndDown(nn.Module):
    """One step of a pyramid: a coarse map is enlarged and added to a fine one."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.down, self.mode = conv(3, 3, 3, stride=2, padding=1), mode

    def forward(self, x: Tensor) -> Tensor:
        fine = nn.functional.interpolate(self.down(x), size=x.shape[-2:], mode=self.mode)
        return fine + x


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = conv(3, 4, (5, 3), padding=(2, 1)), nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.conv(x).permute(0, 2, 3, 1))


SMALL = {
    "dense": nn.Sequential(conv(3, 4, 3), conv(4, 2, 3, padding=1)),
    "depthwise": nn.Sequential(conv(3, 3, 5, groups=3), conv(3, 4, 1), conv(4, 4, 3, groups=4)),
    "dilated": nn.Sequential(conv(3, 2, 3, dilation=2, padding=2), conv(2, 2, 3, dilation=(4, 1))),
    "strided": nn.Sequential(conv(3, 2, 7, stride=2, padding=3), conv(2, 2, 3, stride=(1, 2))),
    "pooled": nn.Sequential(conv(3, 2, 3), nn.MaxPool2d(3, 2, 1), conv(2, 2, 3)),
    "ceiled": nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(3, 2), conv(3, 2, 3)),
    "residual": nn.Sequential(Residual(), conv(4, 4, 3, padding=1)),
    "concatenated": nn.Sequential(Dense(), conv(5, 2, 3)),
    "transposed": nn.Sequential(
        conv(3, 2, 3, stride=2), nn.ConvTranspose2d(2, 2, 3, 2, bias=False)
    ),
    "nearest": nn.Sequential(UpAndDown("nearest"), conv(3, 2, 3)),
    "bilinear": nn.Sequential(
        conv(3, 2, 3, stride=2), nn.Upsample(scale_factor=2, mode="bilinear")
    ),
    "channels last": ChannelsLast(),
    "regions": nn.Sequential(conv(3, 2, 3, padding=1), nn.AdaptiveAvgPool2d((7, 5))),
}


def positive(model: nn.Module) -> nn.Module:
    """Makes all weights positive: nothing cancels out or is rectified, so each path has effect."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.5, 1)
    return model.eval()


def seen_by_middle(
    model: nn.Module, axes: tuple[int, int] = (-2, -1)
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the pixels that change the middle position, tested one by one."""
    spans = []
    for axis, side in enumerate(SIZE):
        pulses = torch.zeros(side, 3, *SIZE)
        # A whole line of light each: a pulse on one pixel might miss a field with holes.
        pulses.movedim(2 + axis, 1)[torch.arange(side), torch.arange(side)] = 1
        with torch.no_grad():
            out = model(pulses).movedim(axes, (-2, -1))
        middle = out[..., out.shape[-2] // 2, out.shape[-1] // 2].flatten(1).sum(1)
        lit = middle.nonzero().flatten()
        spans.append((int(lit.min()), int(lit.max())))
    return tuple(spans)


def last(model: nn.Module, size: tuple[int, int] = SIZE) -> Field:
    return fields(trace(model.eval(), torch.zeros(1, 3, *size)))[-1]


@pytest.mark.parametrize("name", SMALL)
def test_theoretical_fields_are_the_pixels_that_change_the_output(name: str) -> None:
    model = positive(SMALL[name])
    graph = trace(model, torch.zeros(1, 3, *SIZE))
    node = list(graph.maps())[-1]
    found = field_of(graph, node)
    assert (found.rows, found.columns) == seen_by_middle(model, graph.axes[node])


def test_theoretical_fields_are_where_gradients_are() -> None:
    """Every layer of a small residual network, smooth so that no gradient vanishes."""
    model = positive(nn.Sequential(conv(3, 4, 3), Smooth(), conv(4, 4, 3, dilation=2)))
    image = torch.rand(1, 3, *SIZE)
    graph = trace(model, image)
    rows = fields(graph)
    assert len(rows) == 5
    for found in rows:
        influence = effective_field(graph, found.node, [image])
        for axis, span in enumerate((found.rows, found.columns)):
            reached = np.flatnonzero(influence.max(axis=1 - axis))
            assert (reached[0], reached[-1]) == span, found.name


class Smooth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(4, 4, 3, padding=1), conv(4, 4, 5, padding=2, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


@pytest.mark.parametrize(
    ("name", "size", "stride"),
    # Araujo, Norris, Sim: Computing Receptive Fields of Convolutional Neural Networks, 2019.
    [("alexnet", 195, 32), ("vgg16", 212, 32), ("mobilenet_v2", 491, 32), ("resnet18", 435, 32)],
)
def test_fields_equal_published_ones(name: str, size: int, stride: int) -> None:
    with torch.device("meta"):  # shapes suffice
        graph = trace(models.get_model(name).eval(), torch.empty(1, 3, 64, 64))
    found = [f for f in fields(graph) if not f.kind.startswith("Adaptive")][-1]
    assert found.size == (size, size)
    assert found.stride == (stride, stride)


def test_fields_of_both_layouts_of_resnet50() -> None:
    """483 px if stages stride before their first 3x3 convolution, 427 px if in it."""
    for early, size in ((True, 483), (False, 427)):
        with torch.device("meta"):
            body = build_body("resnet50", trainable_layers=0, frozen_norm=True, stride_in_1x1=early)
            network = Backbone("resnet50", body, None, 256).eval()
            rows = {f.name: f for f in fields(trace(network, torch.empty(1, 3, 64, 64)))}
        assert rows["body.layer4.2"].size == (size, size)
        assert rows["body.layer4.2.conv3"].kind == "Conv2d 1x1"
        assert rows["fpn.layer_blocks.0.0"].stride == (4, 4)
        assert rows["fpn.layer_blocks.0.0"].size > rows["body.layer4.2"].size, "from above"


def test_squeeze_excitation_is_marked_and_left_out() -> None:
    rows = fields(trace(models.mobilenet_v3_small().eval(), torch.zeros(1, 3, 64, 64)))
    by_name = {f.name: f for f in rows}
    assert not by_name["features.0.0"].whole
    assert by_name["features.12.0"].whole
    assert by_name["features.12.0"].size < (1000, 1000)


def test_dilating_equals_torchvisions() -> None:
    torch.manual_seed(0)
    dilated = {"replace_stride_with_dilation": [False, True, True]}
    theirs = ResNet(Bottleneck, [1, 2, 2, 2], **dilated).eval()
    ours = ResNet(Bottleneck, [1, 2, 2, 2]).eval()
    before = last(ours, (64, 64)).size
    ours.load_state_dict(theirs.state_dict())
    image = torch.rand(1, 3, 64, 64)
    dilate(ours, image, 2)
    with torch.no_grad():
        assert torch.equal(ours(image), theirs(image))
    found = last(ours, (64, 64))
    assert found.stride == (8, 8)
    assert found.size == before, "what a position sees stays"


def test_networks_that_cannot_be_dilated_are_refused() -> None:
    with torch.device("meta"):
        image = torch.empty(1, 3, 64, 64)
        with pytest.raises(InputError, match=r"features\.15 \(maxpool2d\) cannot"):
            dilate(models.vgg11().eval(), image, 2)
        with pytest.raises(InputError, match="--dilate 6: the network halves the map 5 times"):
            dilate(models.resnet18().eval(), image, 6)


def test_blocks_can_be_dropped() -> None:
    network = models.resnet18().eval()
    image = torch.rand(1, 3, 64, 64)
    graph = trace(network, image)
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(image))))
        third = network.layer3(network.layer2(network.layer1(x)))
        assert torch.equal(without_last(graph, 2)(image), third)
        assert torch.equal(without_last(graph, 0)(image), network.layer4(third))
    body = without_last(graph, 2)
    dropped = ("layer4", "fc")
    kept = {name for name, _ in network.named_parameters() if not name.startswith(dropped)}
    assert {name for name, _ in body.named_parameters()} == kept
    assert last(body, (64, 64)).size < last(network, (64, 64)).size
    with pytest.raises(InputError, match="has 9 blocks"):
        without_last(graph, 9)


def test_networks_that_are_not_convolutional_are_refused() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.softmax(x, -1) @ x

    class Loop(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(InputError, match="cannot follow softmax"):
        trace(Attention(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match="Loop cannot be traced"):
        trace(Loop(), torch.zeros(1, 3, 8, 8))


def test_effective_field_is_a_bell_inside_the_box() -> None:
    """With equal weights the field of n layers grows with sqrt(n) (central limit theorem)."""
    layers = [conv(1, 1, 3, padding=1) for _ in range(8)]
    model = nn.Sequential(*layers).eval()
    for layer in layers:
        nn.init.ones_(layer.weight)
    image = torch.rand(1, 1, 41, 41)
    graph = trace(model, image)
    node = list(graph.maps())[-1]
    influence = effective_field(graph, node, [image, image])
    expected = np.ones(1)
    for _ in layers:
        expected = np.convolve(expected, np.ones(3))
    expected = np.pad(np.outer(expected, expected) / expected.max() ** 2, 12)
    np.testing.assert_allclose(influence, expected, atol=1e-6)
    assert effective_size(influence) == pytest.approx(np.sqrt((expected >= 0.0455).sum()))
    assert effective_size(influence) < field_of(graph, node).size[0] == 17


def test_the_field_of_a_pyramid_is_that_of_its_coarsest_map() -> None:
    class Fed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.deep = conv(3, 4, 3, 2, padding=1), conv(4, 4, 3, 2, padding=1)
            self.pyramid = FeaturePyramidNetwork([4, 4], 4)

        def forward(self, x: Tensor) -> Tensor:
            fine = self.stem(x)
            return self.pyramid({"0": fine, "1": self.deep(fine)})["0"]

    model = positive(Fed())
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    found = last(model)
    assert (found.rows, found.columns) == seen_by_middle(model)
