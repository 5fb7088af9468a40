"""Exported models: what they are given, what comes back, and which files are refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from engine.data.labels import LabelGroup, LabelSpace, Source
from engine.errors import InputError
from engine.onnx_runtime import FORMAT, METADATA, OnnxDetector, OnnxMultitask, load_onnx

GROUP = LabelGroup("category", ("top", "skirt"), True)
SPACE = LabelSpace((GROUP,), (Source("s", {"category": (0, 1)}),))
DETECTOR = {"format": FORMAT, "kind": "detector", "categories": ["top"]}


class Session:
    """Stands in for ONNX Runtime: keeps what it was given, answers with what it was told to."""

    def __init__(self, inputs: list[str], answers: dict[str, np.ndarray]) -> None:
        self.inputs, self.answers, self.given = inputs, answers, []

    def get_inputs(self) -> list:
        return [SimpleNamespace(name=name) for name in self.inputs]

    def get_outputs(self) -> list:
        return [SimpleNamespace(name=n, shape=list(a.shape)) for n, a in self.answers.items()]

    def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.given.append(given)
        count = len(given["images"]) if "images" in given else None
        return [self.answers[name][:count] for name in names]


def write_model(path: Path, metadata: str | None) -> Path:
    """A graph that does next to nothing, with metadata as given."""
    shape = ("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info(*shape)],
        [helper.make_tensor_value_info("y", *shape[1:])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if metadata is not None:
        helper.set_model_props(model, {METADATA: metadata})
    onnx.save(model, path)
    return path


def test_photos_are_padded_to_whole_cells() -> None:
    answers = {
        "boxes": np.ones((2, 4), np.float32),
        "roi_masks": np.full((2, 28, 28), 0.5, np.float32),
    }
    session = Session(["image", "size"], answers)
    model = OnnxDetector(session, DETECTOR)
    photos = [torch.full((3, 4, 65), 7, dtype=torch.uint8), torch.full((3, 32, 1), 9).byte()]
    found = model(photos)
    assert len(found) == 2 and not model.training
    assert found[0]["roi_masks"].dtype == torch.float16
    assert [given["size"].tolist() for given in session.given] == [[4, 65], [32, 1]]
    shapes = [(3, 32, 96), (3, 32, 32)]
    for given, photo, shape in zip(session.given, photos, shapes, strict=True):
        assert given["image"].shape == shape and given["image"].dtype == np.uint8
        height, width = photo.shape[1:]
        assert np.array_equal(given["image"][:, :height, :width], photo)
        assert given["image"].astype(int).sum() == photo.sum(), "nothing around it"


@pytest.mark.parametrize("routed", [False, True])
def test_crops_without_masks_and_no_crops(routed: bool) -> None:
    answers = {
        "logits/category": np.arange(6, dtype=np.float32).reshape(3, 2),
        "aspects/color": np.ones((3, 5), np.float32),
        "boxes": np.zeros((3, 4), np.float32),
    }
    inputs = ["images", "masks", *(["route"] if routed else [])]
    session = Session(inputs, answers)
    checkpoint = {"kind": "multitask", "size": [8, 8], "digest": "abc", "labels": SPACE.to_plain()}
    model = OnnxMultitask(session, checkpoint)
    assert (model.labels, model.groups) == (SPACE, [GROUP])
    assert (model.aspects, model.dims, model.digest()) == (("color",), {"color": 5}, "abc")
    crops = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    found = model.describe(crops)
    assert found["logits"]["category"].tolist() == [[0, 1], [2, 3]]
    assert found["aspects"]["color"].shape == (2, 5) and found["boxes"].shape == (2, 4)
    given = session.given[0]
    assert given.keys() == set(inputs)
    assert given["masks"].shape == (2, 8, 8) and given["masks"].min() == 255
    assert not routed or given["route"].tolist() == [-1, -1]
    assert model(crops)["boxes"].shape == (2, 4)
    model.describe(crops, torch.zeros(2, 8, 8).byte())
    assert session.given[2]["masks"].max() == 0
    assert model.describe(crops[:0])["aspects"]["color"].shape == (0, 5)
    assert len(session.given[3]["images"]) == 1, "the graph never sees an empty batch"
    with pytest.raises(InputError, match="8 x 9 pixels"):
        model.describe(torch.zeros(1, 3, 8, 9, dtype=torch.uint8))


def test_files(tmp_path: Path) -> None:
    path = write_model(tmp_path / "d.onnx", json.dumps(DETECTOR))
    model = load_onnx(path, "detector")
    assert model.checkpoint["categories"] == ["top"]
    with pytest.raises(InputError, match="holds a detector model, but a multitask model is"):
        load_onnx(path, "multitask")
    with pytest.raises(InputError, match="no such model"):
        load_onnx(tmp_path / "none.onnx", "detector")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"bad\.onnx: not a readable ONNX model"):
        load_onnx(tmp_path / "bad.onnx", "detector")
    foreign = (None, "{", "[]", "{}", json.dumps(DETECTOR | {"format": FORMAT - 1}))
    for metadata in (*foreign, json.dumps(DETECTOR | {"kind": "poem"})):
        write_model(tmp_path / "foreign.onnx", metadata)
        with pytest.raises(InputError, match="not a model that this version"):
            load_onnx(tmp_path / "foreign.onnx", "detector")
