"""Costs against hand-worked values and the totals that torchvision publishes."""

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.vision_transformer import VisionTransformer
from torchvision.ops import FrozenBatchNorm2d

from engine.backbones import build_body
from engine.cost.flops import LayerCost, describe, layer_costs
from engine.detection.detector import build_detector

# Layer, input, multiply-accumulates: output cells x filter cells x channels in / groups x out.
BY_HAND = [
    (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 11, 13), 2 * 11 * 13 * 9 * 3 * 8),
    (nn.Conv2d(12, 8, 3, groups=4), (1, 12, 11, 13), 9 * 11 * 9 * 3 * 8),
    (nn.Conv2d(12, 12, 3, groups=12), (1, 12, 11, 13), 9 * 11 * 9 * 12),
    (nn.Conv2d(5, 7, 3, dilation=2), (1, 5, 11, 13), 7 * 9 * 9 * 5 * 7),
    (nn.Conv2d(5, 7, (1, 5), (2, 3)), (1, 5, 11, 13), 6 * 3 * 5 * 5 * 7),
    (nn.ConvTranspose2d(5, 7, 2, 2), (1, 5, 11, 13), 11 * 13 * 4 * 5 * 7),
    (nn.Linear(17, 5), (2, 3, 17), 2 * 3 * 17 * 5),
    (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2)), (1, 3, 8, 8), 0),
]


def by_name(rows: list[LayerCost]) -> dict[str, LayerCost]:
    return {row.name: row for row in rows}


def macs(rows: list[LayerCost]) -> int:
    return sum(row.macs for row in rows)


@pytest.mark.parametrize(("layer", "shape", "expected"), BY_HAND, ids=lambda value: str(value)[:40])
def test_costs_of_layers_by_hand(layer: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    rows = layer_costs(layer.eval(), torch.rand(shape))
    assert macs(rows) == expected
    assert sum(row.flops for row in rows) == 2 * expected
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet50", models.ResNet50_Weights.IMAGENET1K_V1),
        ("mobilenet_v3_large", models.MobileNet_V3_Large_Weights.IMAGENET1K_V1),
        ("resnext50_32x4d", models.ResNeXt50_32X4D_Weights.IMAGENET1K_V1),
        ("vit_b_16", models.ViT_B_16_Weights.IMAGENET1K_V1),
    ],
)
def test_totals_equal_those_published_by_torchvision(
    name: str, weights: models.WeightsEnum
) -> None:
    """torchvision's GFLOPS are GMACs. On the meta device only shapes are computed."""
    with torch.device("meta"):
        network = models.get_model(name).eval()
        rows = layer_costs(network, torch.empty(1, 3, 224, 224))
    assert round(macs(rows) / 1e9, 3) == weights.meta["_ops"]
    assert sum(row.parameters for row in rows) == weights.meta["num_params"]


def test_the_mask_rcnn_total_equals_that_published_by_torchvision() -> None:
    """134.38 GMAC: a photo enlarged from 512 to 800 pixels, 1000 proposals, no detection."""
    published = models.detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta
    with torch.device("meta"):
        body = resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d
        )
        network = MaskRCNN(body, 91).eval()
        image, regions = torch.empty(1, 3, 800, 800), torch.empty(1000, 256, 7, 7)
    # Stage by stage, because choosing boxes needs values.
    heads = network.roi_heads
    rows = layer_costs(network.backbone, image)
    rows += layer_costs(network.rpn.head, list(network.backbone(image).values()))
    rows += layer_costs(heads.box_head, regions)
    rows += layer_costs(heads.box_predictor, heads.box_head(regions))
    assert round(macs(rows) / 1e9, 2) == published["_ops"] == 134.38
    assert sum(p.numel() for p in network.parameters()) == published["num_params"]


def test_the_cost_of_attention_by_hand() -> None:
    tokens, width, hidden = 17, 24, 48  # 4 x 4 patches and the class token
    network = VisionTransformer(32, 8, 1, 3, width, hidden, num_classes=5).eval()
    rows = by_name(layer_costs(network, torch.rand(1, 3, 32, 32)))
    attention = rows["encoder.layers.encoder_layer_0.self_attention"]
    assert attention.macs == 4 * tokens * width**2 + 2 * tokens**2 * width
    assert rows["encoder.layers.encoder_layer_0.mlp.0"].macs == tokens * width * hidden
    assert torch.backends.mha.get_fastpath_enabled()


def test_folded_convolutions_are_counted_under_their_own_names() -> None:
    """The bodies of engine.backbones run a convolution's arithmetic without calling it."""
    ours = build_body("resnet18", trainable_layers=0, frozen_norm=True).eval()
    with torch.device("meta"):
        theirs = models.resnet18().eval()
        reference = by_name(layer_costs(theirs, torch.empty(1, 3, 64, 96)))
    rows = by_name(layer_costs(ours, torch.rand(1, 3, 64, 96)))
    for name in ("conv1", "layer2.0.conv1", "layer2.0.downsample.0", "layer4.1.conv2"):
        mine, other = rows[name], reference[name]
        assert (mine.macs, mine.output, mine.kind) == (other.macs, other.output, other.kind)
    assert "forward" not in vars(ours.conv1), "nothing stays wrapped"
    assert "_conv_forward" not in vars(ours.conv1), "nothing stays wrapped"


def test_the_costs_of_a_detectors_layers_sum_to_its_total() -> None:
    torch.manual_seed(0)
    detector = build_detector(num_classes=3, backbone="resnet18", load=False).eval()
    detector.roi_heads.detections_per_image, detector.roi_heads.score_threshold = 7, 0.0
    rows = by_name(layer_costs(detector, [torch.randint(256, (3, 64, 96), dtype=torch.uint8)]))
    assert sum(row.parameters for row in rows.values()) == sum(
        p.numel() for p in detector.parameters()
    )
    assert all(row.macs >= 0 for row in rows.values())
    mask = rows["roi_heads.mask_head.0.0"]
    assert mask.macs == 7 * 14 * 14 * 9 * 256 * 256
    # The proposal head runs once on each of five maps: 16 x 24, 8 x 12, 4 x 6, 2 x 3, 1 x 2 cells.
    cells = 16 * 24 + 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2
    assert rows["rpn.head.conv.0.0"].macs == cells * 9 * 256 * 256
    assert rows["backbone.fpn.inner_blocks.3.0"].macs == 2 * 3 * 512 * 256


def test_shared_parameters_are_counted_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    rows = layer_costs(nn.Sequential(first, second), torch.rand(1, 4))
    assert [row.parameters for row in rows] == [20, 4]
    assert [row.macs for row in rows] == [16, 16]


def test_descriptions_of_layers() -> None:
    assert describe(nn.Conv2d(4, 4, (3, 5), (2, 1), groups=4, dilation=2)) == (
        "Conv2d 3x5 /2x1 groups 4 dilation 2"
    )
    assert describe(nn.Linear(3, 5)) == "Linear 3 -> 5"
    assert describe(nn.ReLU()) == "ReLU"
