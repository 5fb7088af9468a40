"""Exported models, run by ONNX Runtime in place of the networks, with the same interface.

``tools/export_model.py`` writes one file per model. Besides the graph it holds, as JSON under
``METADATA``, the checkpoint's entries that describe the network: kind, config, categories, labels.
Nothing in it can run code.

    detector   image u8[3,32·h,32·w], size i64[2] -> boxes, scores, labels, probabilities,
               roi_masks (D garments)
    multitask  images u8[B,3,S,S], masks u8[B,S,S] (, route i64[B]) -> logits/GROUP ...,
               aspects/ASPECT ... (, boxes)
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.data.labels import LabelSpace
from engine.detection.detector import SIZE_DIVISOR
from engine.errors import InputError

METADATA = "weft"
FORMAT = 3
LOGITS, ASPECTS = "logits/", "aspects/"


class OnnxModel(nn.Module):
    """An ONNX Runtime session and the metadata of its file.

    Attributes:
        checkpoint: kind, config, categories, category_ids and labels, as in a checkpoint.
    """

    def __init__(self, session: Any, checkpoint: dict[str, Any]) -> None:
        super().__init__()
        self.session, self.checkpoint = session, checkpoint
        self.outputs = [output.name for output in session.get_outputs()]
        self.eval()

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, Tensor]:
        values = self.session.run(self.outputs, inputs)
        found = zip(self.outputs, values, strict=True)
        return {name: torch.from_numpy(value) for name, value in found}


class OnnxDetector(OnnxModel):
    """Drop-in for an ``engine.detection.detector.Detector`` in evaluation mode."""

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """
        Args:
            images: u8[3,H,W] RGB each.

        Returns:
            As the detector: boxes f32[D,4], scores f32[D], labels i64[D], probabilities f32[D,C],
            and with a mask head roi_masks f16[D,28,28], on the CPU.
        """
        return [self._detect(image) for image in images]

    def _detect(self, image: Tensor) -> dict[str, Tensor]:
        height, width = image.shape[-2:]
        missing = [(0, 0), (0, -height % SIZE_DIVISOR), (0, -width % SIZE_DIVISOR)]
        padded = np.pad(image.cpu().numpy(), missing)
        found = self._run({"image": padded, "size": np.array([height, width], np.int64)})
        if "roi_masks" in found:
            found["roi_masks"] = found["roi_masks"].half()
        return found


class OnnxMultitask(OnnxModel):
    """Drop-in for an ``engine.description.multitask.Multitask`` in evaluation mode.

    Attributes:
        labels, groups, aspects, dims: as the model's.
        size: (height, width) of the crops it takes.
    """

    def __init__(self, session: Any, checkpoint: dict[str, Any]) -> None:
        super().__init__(session, checkpoint)
        self.size: tuple[int, int] = tuple(checkpoint["size"])
        self.labels = LabelSpace.from_plain(checkpoint["labels"])
        answered = _under(LOGITS, self.outputs)
        self.groups = [group for group in self.labels.groups if group.name in answered]
        self.aspects = tuple(_under(ASPECTS, self.outputs))
        shapes = {output.name: output.shape for output in session.get_outputs()}
        self.dims = {name: shape[1] for name, shape in _under(ASPECTS, shapes).items()}
        self.takes_route = any(given.name == "route" for given in session.get_inputs())

    def digest(self) -> str:
        """The original model's digest, since their vectors are comparable."""
        return self.checkpoint["digest"]

    def forward(self, images: Tensor) -> dict[str, Any]:
        """As ``Multitask.forward`` in evaluation."""
        return self.describe(images)

    def describe(
        self, images: Tensor, masks: Tensor | None = None, route: Tensor | None = None
    ) -> dict[str, Any]:
        """As ``Multitask.describe``, on the CPU.

        Raises:
            InputError: crops of another size than the exported one.
        """
        count = len(images)
        if tuple(images.shape[-2:]) != self.size:
            raise InputError(
                f"crops of {images.shape[-2]} x {images.shape[-1]} pixels: the exported model "
                f"takes {self.size[0]} x {self.size[1]}"
            )
        if masks is None:
            masks = images.new_full((count, *self.size), 255)
        inputs = {"images": images, "masks": masks}
        if self.takes_route:
            inputs["route"] = route if route is not None else torch.full((count,), -1)
        if count == 0:  # a graph may fail on an empty batch: run one crop and drop the result
            inputs = {name: value.new_zeros(1, *value.shape[1:]) for name, value in inputs.items()}
        found = self._run({name: value.cpu().numpy() for name, value in inputs.items()})
        found = {name: value[:count] for name, value in found.items()}
        boxes = {"boxes": found["boxes"]} if "boxes" in found else {}
        return boxes | {"logits": _under(LOGITS, found), "aspects": _under(ASPECTS, found)}


def _under(prefix: str, named: Any) -> dict[str, Any]:
    """The entries whose name has the prefix, without the prefix."""
    values = named if isinstance(named, dict) else dict.fromkeys(named)
    return {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}


MODELS = {"detector": OnnxDetector, "multitask": OnnxMultitask}


def load_onnx(path: Path, kind: str) -> OnnxModel:
    """Open an exported model on the CPU, to run on as many threads as torch uses.

    Args:
        path: written by ``tools/export_model.py``.
        kind: "detector" or "multitask", what the caller needs it to be.

    Raises:
        InputError: no such file, another program's model, a damaged or wrong-kind one.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such model; make one with tools/export_model.py")
    # Imported here: most commands never run an exported model.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exception types are not public
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise InputError(f"{path}: not a readable ONNX model ({reason})") from error
    checkpoint = _read_metadata(path, session.get_modelmeta().custom_metadata_map)
    if kind != checkpoint["kind"]:
        found = checkpoint["kind"]
        raise InputError(f"{path}: holds a {found} model, but a {kind} model is needed here")
    return MODELS[checkpoint["kind"]](session, checkpoint)


def load_exported(path: str | Path, kind: str) -> dict[str, Any]:
    """An exported model in the form of ``engine.checkpoint.load_checkpoint``.

    In place of weights it holds the network itself, ready to run, under "network", and its config
    has "exported": True.

    Raises:
        InputError: as ``load_onnx``.
    """
    network = load_onnx(path, kind)
    config = network.checkpoint["config"] | {"exported": True}
    return network.checkpoint | {"config": config, "network": network}


def _read_metadata(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    try:
        checkpoint = json.loads(metadata[METADATA])
        known = checkpoint["format"] == FORMAT and checkpoint["kind"] in MODELS
    except (KeyError, TypeError, json.JSONDecodeError):
        known = False
    if not known:
        raise InputError(f"{path}: not a model that this version's tools/export_model.py wrote")
    return checkpoint
