"""Feature extractors: a ResNet or MobileNetV3 body with a feature pyramid on top.

Parameters keep torchvision's key names (``body.layer1.0.conv1.weight``, ``fpn.inner_blocks.0...``),
so that its published weights and bare classification backbones load without a translation table.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large, resnet
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from engine.errors import InputError
from engine.precision import PRECISIONS

RESNETS = {
    "resnet18": (resnet.BasicBlock, (2, 2, 2, 2)),
    "resnet34": (resnet.BasicBlock, (3, 4, 6, 3)),
    "resnet50": (resnet.Bottleneck, (3, 4, 6, 3)),
    "resnet101": (resnet.Bottleneck, (3, 4, 23, 3)),
}
BACKBONES = (*RESNETS, "mobilenet_v3_large")
PYRAMID_CHANNELS = 256  # of the published weights


class Backbone(nn.Module):
    """Body and pyramid.

    Attributes:
        name: one of ``BACKBONES``.
        strides: pixels of the image per cell of each returned map, fine to coarse. The last map
            is the second last subsampled: proposals use it, region features do not.
        pyramid_channels: of each returned map.
    """

    def __init__(
        self,
        name: str,
        body: nn.Module,
        pyramid_norm: Callable[[int], nn.Module] | None,
        pyramid_channels: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.body = body
        self.pyramid_channels = pyramid_channels
        self.fpn = FeaturePyramidNetwork(
            body.channels, pyramid_channels, LastLevelMaxPool(), norm_layer=pyramid_norm
        )
        self.strides = (*body.strides, 2 * body.strides[-1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """f32[B,3,H,W], normalized, H and W multiples of 32 -> one [B,P,H/s,W/s] per stride."""
        maps = OrderedDict((str(i), m) for i, m in enumerate(self.body(images)))
        return list(self.fpn(maps).values())


class ResNetBody(resnet.ResNet):
    """A ResNet without its classifier, returning the output of all four stages."""

    strides = (4, 8, 16, 32)

    def __init__(self, name: str, norm: Callable[[int], nn.Module], stride_in_1x1: bool) -> None:
        block, depths = RESNETS[name]
        folding = _FoldingBottleneck if block is resnet.Bottleneck else _FoldingBasicBlock
        super().__init__(folding, depths, norm_layer=norm)
        del self.avgpool, self.fc
        self.channels = [64 * block.expansion * 2**i for i in range(4)]
        # None where there is no such choice. It shows in no weight, so loaders have to ask.
        self.stride_in_1x1 = stride_in_1x1 if block is resnet.Bottleneck else None
        if self.stride_in_1x1:
            for stage in (self.layer2, self.layer3, self.layer4):
                stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """f32[B,3,H,W] -> four maps at strides 4, 8, 16, 32."""
        x = self.maxpool(self.relu(_conv_norm(images, self.conv1, self.bn1)))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def stages(self) -> list[tuple[nn.Module, ...]]:
        """Groups of modules that freeze together, input to output."""
        stem = [(self.conv1, self.bn1)]
        return stem + [(s,) for s in (self.layer1, self.layer2, self.layer3, self.layer4)]


class _FoldingBasicBlock(resnet.BasicBlock):
    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(_conv_norm(x, self.conv1, self.bn1))
        out = _conv_norm(out, self.conv2, self.bn2)
        return self.relu(
            out.add_(x if self.downsample is None else _conv_norm(x, *self.downsample))
        )


class _FoldingBottleneck(resnet.Bottleneck):
    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(_conv_norm(x, self.conv1, self.bn1))
        out = self.relu(_conv_norm(out, self.conv2, self.bn2))
        out = _conv_norm(out, self.conv3, self.bn3)
        return self.relu(
            out.add_(x if self.downsample is None else _conv_norm(x, *self.downsample))
        )


def _conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """``norm(conv(x))``, with the normalization folded into the filters unless it is training.

    norm(conv(x)) = conv(x)·a + b with constants a, b, hence one convolution with filters scaled by
    a and bias b: it saves two passes over the activations and their memory; gradients are the same.
    """
    if norm.training and isinstance(norm, nn.BatchNorm2d):
        return norm(conv(x))
    # Set by prepare_for_inference.
    folded = None if norm.training else getattr(conv, "folded", None)
    return conv._conv_forward(x, *(folded or _fold(conv, norm)))


def _fold(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Filters and bias of the convolution that equals ``norm(conv(x))``."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


@torch.no_grad()
def prepare_for_inference(network: nn.Module, device: torch.device, precision: str) -> nn.Module:
    """Move a network to the device and fold its ResNet's batch norms once for all forward passes.

    Outputs are the same to the last bit. From now on evaluation mode ignores changes of the folded
    parameters, and forward passes must use ``precision``.

    Args:
        network: any module; modified in place.
        device: where to run it.
        precision: "fp32", "bf16" or "fp16".

    Returns:
        The same network.
    """
    network.to(device)
    bodies = [module for module in network.modules() if isinstance(module, ResNetBody)]
    for conv, norm in (pair for body in bodies for pair in pairwise(body.modules())):
        if isinstance(conv, nn.Conv2d):
            conv.folded = tuple(part.to(PRECISIONS[precision]) for part in _fold(conv, norm))
    return network


class MobileNetBody(nn.Sequential):
    """MobileNetV3-large's features, returning the last block at strides 8, 16 and 32.

    Stride 4 is left out: its 256-channel pyramid level alone would cost several times the body.
    """

    strides = (8, 16, 32)
    channels = (40, 112, 960)
    stride_in_1x1 = None  # no such choice
    _returned = (6, 12, 16)
    _stage_starts = (0, 2, 4, 7, 13, 16)  # the stem, each block that halves the map, the last conv

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__(*mobilenet_v3_large(norm_layer=norm).features)

    def forward(self, images: Tensor) -> list[Tensor]:
        """f32[B,3,H,W] -> three maps at strides 8, 16, 32."""
        x, maps = images, []
        for i, block in enumerate(self):
            x = block(x)
            if i in self._returned:
                maps.append(x)
        return maps

    def stages(self) -> list[tuple[nn.Module, ...]]:
        """Groups of modules that freeze together, input to output."""
        ends = (*self._stage_starts[1:], len(self))
        blocks = list(self)
        return [tuple(blocks[a:b]) for a, b in zip(self._stage_starts, ends, strict=True)]


def build_body(
    name: str, *, trainable_layers: int, frozen_norm: bool, stride_in_1x1: bool = False
) -> nn.Module:
    """A body with random weights.

    Args:
        name: one of ``BACKBONES``.
        trainable_layers: how many stages learn, counted from the top: 0-5 (ResNet), 0-6
            (MobileNet).
        frozen_norm: keep batch-norm statistics and scales as loaded: right for pretrained bodies,
            whose statistics a few photos per step would only degrade. False without pretrained
            weights, which have no statistics to keep.
        stride_in_1x1: put the stride into the first 1x1 convolution of a bottleneck stage, as in
            the original ResNet, instead of the 3x3 as in torchvision. Must match the weights.

    Raises:
        InputError: an unknown name or a number of stages that it does not have.
    """
    if name not in BACKBONES:
        raise InputError(f"backbone {name}: choose one of {', '.join(BACKBONES)}")
    if name in RESNETS:
        norm = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        body = ResNetBody(name, norm, stride_in_1x1)
    else:
        # MobileNetV3's weights were made with this epsilon, not with the layers' default.
        real = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
        body = MobileNetBody(partial(FrozenBatchNorm2d, eps=1e-3) if frozen_norm else real)
    _freeze(body, name, trainable_layers)
    return body


def _freeze(body: nn.Module, name: str, trainable_layers: int) -> None:
    stages = body.stages()
    if not 0 <= trainable_layers <= len(stages):
        raise InputError(f"{trainable_layers} trainable layers: {name} has 0 to {len(stages)}")
    for stage in stages[: len(stages) - trainable_layers]:
        for module in stage:
            module.requires_grad_(False)


def uses_channels_last(module: nn.Module) -> bool:
    """Whether the module was moved to channels-last memory (``.to(memory_format=...)``)."""
    weight = next(p for p in module.parameters() if p.dim() == 4 and p.shape[1] > 1)
    return weight.is_contiguous(memory_format=torch.channels_last)
