"""Export: the graphs compute the same as the networks, and the files run in ONNX Runtime."""

import copy
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.checkpoint import FORMAT, save_checkpoint
from engine.data.labels import LabelGroup, LabelSpace, Source
from engine.description.multitask import Multitask, build_multitask
from engine.detection.detector import Detector, build_detector
from engine.detection.pyramid import Pyramid
from engine.detection.roi_heads import MASK_SHIFT
from engine.errors import InputError
from engine.onnx_runtime import OnnxDetector, OnnxMultitask, load_onnx
from tests.datasets import write_photo
from tools import export_model
from tools.export.compare import (
    Differences,
    compare_detectors,
    compare_garments,
    compare_multitask,
)
from tools.export.detector_graph import DetectorGraph
from tools.export.multitask_graph import MultitaskGraph

SIZE = (64, 96)
GROUPS = (
    LabelGroup("category", ("top", "skirt", "vest"), True, ("upper", "lower", "upper")),
    LabelGroup("color", ("red", "green"), True),
    LabelGroup("details", ("belt", "hood"), False),
)
SPACE = LabelSpace(GROUPS, (Source("s", {g.name: tuple(range(len(g.values))) for g in GROUPS}),))


def photo(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (3, height, width), dtype=torch.uint8, generator=generator)


@functools.cache
def detector(masks: bool = True) -> Detector:
    """A small detector that detects garments of both categories in noise."""
    torch.manual_seed(0)
    model = build_detector(
        num_classes=2, backbone="resnet18", load=False, masks=masks, score_threshold=0.2,
        detections_per_image=9, pyramid_channels=16,
    ).eval()  # fmt: skip
    for name, module in model.named_modules():
        if name.endswith("bn2"):
            module.weight.fill_(0.3)
    predictor = model.roi_heads.box_predictor
    nn.init.normal_(predictor.cls_score.weight, std=1.2)
    nn.init.normal_(predictor.bbox_pred.weight, std=0.08)
    nn.init.normal_(model.rpn.head.bbox_pred.weight, std=0.8)
    logits: list[Tensor] = []
    hook = predictor.cls_score.register_forward_hook(lambda *call: logits.append(call[2]))
    with torch.no_grad():
        model([photo(*SIZE)])
        predictor.cls_score.bias.sub_(logits[0].mean(0))  # no class wins everywhere
    hook.remove()
    model.rpn.kept_inference = 40
    return model


@functools.cache
def multitask() -> Multitask:
    torch.manual_seed(0)
    tasks = ("category", "attributes", "color", "shape", "box")
    return build_multitask(SPACE, trunk="resnet18", load=False, tasks=tasks).eval()


class Python(nn.Module):
    """A graph run by PyTorch, with the interface of an exported detector."""

    def __init__(self, model: Detector, *, mirror: bool = False) -> None:
        super().__init__()
        self.graph = DetectorGraph(model, mirror=mirror)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        (image,) = images
        height, width = image.shape[1:]
        padded = F.pad(image, (0, -width % 32, 0, -height % 32), value=99)
        found = self.graph(padded, torch.tensor([height, width]))
        return [
            dict(
                zip(
                    ("boxes", "scores", "labels", "probabilities", "roi_masks"), found, strict=False
                )
            )
        ]


@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("masks", [True, False])
def test_detector_graph_computes_the_same_as_the_detector(masks: bool, mirror: bool) -> None:
    model = detector(masks)
    photos = [photo(64, 96), photo(64, 50, 1), photo(37, 96, 2), photo(5, 7, 3)]
    original = functools.partial(model, mirror=mirror)
    found = compare_detectors(original, Python(model, mirror=mirror), photos)
    assert found.garments > 15
    assert found.lost == 0
    assert found.box_px < 1e-3 and found.score < 1e-5 and found.mask < 1e-3
    with torch.no_grad():
        expected, alone = original([photos[1]])[0], Python(model, mirror=mirror)([photos[1]])[0]
    assert expected.keys() == alone.keys()
    assert expected["labels"].tolist() == alone["labels"].tolist()
    assert {1, 2} <= set(expected["labels"].tolist())
    assert len(alone["labels"]) == 9, "as many as the detector keeps"


def test_graph_pools_like_the_detector() -> None:
    generator = torch.Generator().manual_seed(0)
    model, height, width = detector(), 416, 352
    sizes = [(height // s, width // s) for s in (4, 8, 16, 32)] + [(7, 6)]
    maps = [torch.randn(1, 16, *size, generator=generator) for size in sizes]
    ends = torch.rand(211, 2, 2, generator=generator) ** torch.tensor([1.0, 2.0])
    regions = torch.cat((ends.amin(1), ends.amax(1)), 1)
    regions *= torch.tensor([width, height, width, height])
    edges = [[0, 0, width, height], [0, 0, 130, 150], [200, 260, width, height], [0, 9, 3, 400]]
    regions = torch.cat((regions, torch.tensor(edges, dtype=torch.float32)))
    regions = regions[(regions[:, 2:] - regions[:, :2]).amin(1) > 4]
    graph = DetectorGraph(model)
    for shift, bins in ((0, 7), (MASK_SHIFT, 14)):
        expected = Pyramid(maps, model.backbone.strides).pool([regions - shift], 4, bins)
        found = graph._pool(graph._atlas(maps), regions - shift, bins)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_graph_without_detections() -> None:
    model = copy.deepcopy(detector())
    model.roi_heads.score_threshold = 1.0
    with torch.no_grad():
        found = DetectorGraph(model)(photo(*SIZE), torch.tensor(SIZE))
    assert [part.shape for part in found] == [(0, 4), (0,), (0,), (0, 2), (0, 28, 28)]


def test_multitask_graph_names_its_outputs() -> None:
    model = multitask()
    graph = MultitaskGraph(model)
    names = ["logits/category", "logits/color", "logits/details", "aspects/color", "aspects/shape"]
    assert graph.outputs == [*names, "boxes"]
    assert graph.inputs == ("images", "masks", "route")
    crops = torch.stack([photo(64, 64), photo(64, 64, 1)])
    masks = torch.full((2, 64, 64), 255, dtype=torch.uint8)
    route = torch.tensor([1, -1])
    with torch.no_grad():
        found = dict(zip(graph.outputs, graph(crops, masks, route), strict=True))
        expected = model.describe(crops, masks, route)
    assert torch.equal(found["logits/category"], expected["logits"]["category"])
    assert torch.equal(found["aspects/shape"], expected["aspects"]["shape"])


def run(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        export_model.main([str(argument) for argument in arguments])
    assert ended.value.code == code


def checkpoint(kind: str, model: nn.Module, config: dict, **more: object) -> dict:
    return {
        "format": FORMAT, "kind": kind, "config": config, "model": model.state_dict(), **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def exported_detector(tmp_path_factory) -> Path:
    """The file of a detector that mirrors, written by the script, which takes half a minute.

    That of one that does not is test_infer_onnx.py's.
    """
    folder = tmp_path_factory.mktemp("detector")
    config = {"arch": "maskrcnn", "backbone": "resnet18", "masks": True, "test_short_side": 64,
              "test_max_side": 90, "test_mirror": True}  # fmt: skip
    about = {"categories": ["top", "skirt"], "category_ids": [1, 5], "attributes": []}
    save_checkpoint(checkpoint("detector", detector(), config, **about), folder / "d.pt")
    write_photo(folder / "photos" / "a.jpg", 120, 80)
    write_photo(folder / "photos" / "b.jpg", 50, 90)
    (folder / "photos" / "c.jpg").write_bytes(b"no photo")
    with pytest.MonkeyPatch.context() as patch:
        # The usual limits (1000 proposals, 100 garments) would take a minute.
        patch.setattr(export_model, "build_from_checkpoint", lambda _: detector())
        run(
            folder / "d.pt", "--output", folder / "d.onnx", "--rounds", 1,
            "--photos", folder / "photos", "--json", folder / "report.json",
        )  # fmt: skip
    return folder / "d.onnx"


def test_exported_detector_gives_the_same_outputs(exported_detector: Path) -> None:
    report = json.loads((exported_detector.parent / "report.json").read_text())
    assert report["differences"]["acceptable"] and report["differences"]["garments"] > 2
    assert report["speed"]["items"] == 2 and report["speed"]["ratio"] > 0
    exported = load_onnx(exported_detector, "detector")
    assert isinstance(exported, OnnxDetector) and not exported.training
    assert exported.checkpoint["categories"] == ["top", "skirt"]
    assert exported.checkpoint["config"]["test_max_side"] == 90
    photos = [photo(64, 96), photo(60, 33, 1), photo(197, 301, 2), photo(1, 1, 3)]
    original = functools.partial(detector(), mirror=True)
    found = compare_detectors(original, exported, photos)
    assert found.acceptable and found.garments > 10
    results = exported(photos)
    assert results[0]["roi_masks"].dtype == torch.float16
    assert results[1]["boxes"][:, 2].max() <= 33


def test_many_crops_are_run_in_small_batches() -> None:
    """Hundreds of photos would not fit into memory as one batch."""
    sizes = []

    class Watched(nn.Module):
        groups = GROUPS[:1]

        def __init__(self, off: int) -> None:
            super().__init__()
            self.off = off

        def describe(self, images: Tensor, masks: Tensor) -> dict:
            sizes.append(len(images))
            logits = images.float().mean((1, 2, 3))[:, None].repeat(1, 3)
            logits[:, 0] += self.off * (images[:, 0, 0, 0] == 40)
            return {"logits": {"category": logits}, "aspects": {}}

    crops = torch.arange(41, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
    masks = torch.ones(41, 8, 8, dtype=torch.uint8)
    assert compare_multitask(Watched(0), Watched(0), crops, masks).acceptable
    assert not compare_multitask(Watched(0), Watched(1), crops, masks).acceptable, "the last one"
    assert max(sizes) == 16 and sum(sizes) == 4 * 41


def test_exported_detector_without_detections(exported_detector: Path) -> None:
    session = load_onnx(exported_detector, "detector").session
    canvas = np.zeros((3, *SIZE), np.uint8)
    # On a photo without pixels there is no room for a box.
    found = session.run(None, {"image": canvas, "size": np.array([0, 0])})
    assert [part.shape for part in found] == [(0, 4), (0,), (0,), (0, 2), (0, 28, 28)]


def test_exported_multitask_gives_the_same_outputs(tmp_path: Path) -> None:
    config = {"trunk": "resnet18", "tasks": list(multitask().tasks), "crop_size": 64}
    saved = checkpoint("multitask", multitask(), config, labels=SPACE.to_plain())
    save_checkpoint(saved, tmp_path / "m.pt")
    run(tmp_path / "m.pt", "--output", tmp_path / "sub" / "m.onnx", "--rounds", 0)
    exported = load_onnx(tmp_path / "sub" / "m.onnx", "multitask")
    assert isinstance(exported, OnnxMultitask)
    assert exported.aspects == multitask().aspects and exported.labels == SPACE
    for count in (1, 3):
        crops = torch.stack([photo(64, 64, seed) for seed in range(count)])
        masks = torch.zeros(count, 64, 64, dtype=torch.uint8)
        masks[1:, :30] = 255  # the first has none: it counts as everywhere
        assert compare_multitask(multitask(), exported, crops, masks).acceptable
    route = torch.tensor([0, 1, -1])
    with torch.no_grad():
        expected = multitask().describe(crops, None, route)["logits"]["category"]
    torch.testing.assert_close(
        exported.describe(crops, None, route)["logits"]["category"], expected
    )
    nothing = exported.describe(crops[:0])
    assert nothing["aspects"]["color"].shape == (0, 64)
    assert nothing["logits"]["details"].shape == (0, 2)
    with pytest.raises(InputError, match="takes 64 x 64"):
        exported.describe(crops[..., :32])
    with pytest.raises(InputError, match="holds a multitask"):
        load_onnx(tmp_path / "sub" / "m.onnx", "detector")


def test_differences_are_detected() -> None:
    mine = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [60, 60, 70, 70]]),
        "scores": torch.tensor([0.9, 0.8, 0.05]),
        "labels": torch.tensor([1, 2, 1]),
        "probabilities": torch.tensor([[0.9, 0.0], [0.1, 0.8], [0.05, 0.02]]),
        "roi_masks": torch.zeros(3, 28, 28),
    }
    same = Differences()
    compare_garments(same, mine, mine)
    assert same.acceptable and same.garments == 3
    swapped = {name: value[[1, 0]] for name, value in mine.items()}
    other = Differences()
    compare_garments(other, mine, swapped)
    assert other.acceptable, "neither order nor unsure garments matter"
    changes = {
        "box_px": {"boxes": mine["boxes"] + 0.25},
        "score": {"scores": mine["scores"] - 0.01},
        "probability": {"probabilities": mine["probabilities"] - 0.01},
        "mask": {"roi_masks": mine["roi_masks"] + 0.5},
        "lost": {"labels": mine["labels"] + 1},
    }
    for what, change in changes.items():
        other = Differences()
        compare_garments(other, mine, mine | change)
        assert getattr(other, what) > 0
        assert other.acceptable == (what == "box_px")
    lost = Differences()
    compare_garments(lost, mine, {name: value[:1] for name, value in mine.items()})
    assert lost.lost == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.pt",), "none.pt: no such weights file"),
        (("none.pt", "--rounds", -1), "--rounds -1"),
    ],
)
def test_bad_input_is_one_sentence(arguments, message, exported_detector, capsys) -> None:
    weights = exported_detector.with_name(arguments[0])
    run(weights, *arguments[1:], "--output", exported_detector.with_name("x.onnx"), code=2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_checkpoint_is_not_overwritten(tmp_path: Path, capsys) -> None:
    weights = tmp_path / "trained.pt"
    weights.write_bytes(b"days of work")
    run(weights, "--output", weights, code=2)
    assert "is the file to be read; name another" in capsys.readouterr().err
    assert weights.read_bytes() == b"days of work"
