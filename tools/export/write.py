"""Writes models as ONNX files."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.description.multitask import Multitask
from engine.detection.detector import SIZE_DIVISOR, Detector
from engine.detection.predict import PredictSettings
from engine.files import replacing
from engine.onnx_runtime import FORMAT, METADATA
from tools.export.detector_graph import DetectorGraph
from tools.export.multitask_graph import MultitaskGraph

OPSET = 20
KEPT = ("kind", "config", "categories", "category_ids", "attributes", "labels")
# Sizes of the example inputs. The exported sizes are dynamic, but an example of 1 would fix them.
BATCH = 2
EXAMPLE = (5 * SIZE_DIVISOR, 7 * SIZE_DIVISOR)


def export_detector(detector: Detector, checkpoint: dict[str, Any], path: Path) -> None:
    """Write a detector for photos of any size, padded to multiples of 32 pixels."""
    mirror = PredictSettings.as_evaluated(checkpoint["config"]).mirror
    graph = DetectorGraph(detector, mirror=mirror).eval()
    inputs = (torch.zeros(3, *EXAMPLE, dtype=torch.uint8), torch.tensor(EXAMPLE))
    sides = {axis: SIZE_DIVISOR * torch.export.Dim(f"cells{axis}", min=1) for axis in (1, 2)}
    outputs = ["boxes", "scores", "labels", "probabilities"]
    outputs += ["roi_masks"] if detector.roi_heads.mask_head is not None else []
    shapes = {"image": sides, "size": None}
    _write(graph, inputs, ["image", "size"], outputs, shapes, _metadata(checkpoint), path)


def export_multitask(model: Multitask, checkpoint: dict[str, Any], side: int, path: Path) -> None:
    """Write a multitask model for any number of crops of ``side`` x ``side`` pixels."""
    graph = MultitaskGraph(model).eval()
    metadata = _metadata(checkpoint) | {"size": [side, side], "digest": model.digest()}
    inputs = {
        "images": torch.zeros(BATCH, 3, side, side, dtype=torch.uint8),
        "masks": torch.full((BATCH, side, side), 255, dtype=torch.uint8),
        "route": torch.full((BATCH,), -1),
    }
    batch = torch.export.Dim("batch")
    _write(
        graph,
        tuple(inputs[name] for name in graph.inputs),
        list(graph.inputs),
        graph.outputs,
        {name: {0: batch} for name in graph.inputs},
        metadata,
        path,
    )


def _metadata(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT} | {name: checkpoint[name] for name in KEPT if name in checkpoint}


def _write(
    graph: nn.Module,
    inputs: tuple[Tensor, ...],
    input_names: list[str],
    output_names: list[str],
    dynamic_shapes: dict[str, dict | None],
    metadata: dict[str, Any],
    path: Path,
) -> None:
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            inputs,
            dynamo=True,
            input_names=input_names,
            output_names=output_names,
            dynamic_shapes=dynamic_shapes,
            opset_version=OPSET,
            optimize=False,  # slow, and ONNX Runtime optimizes when it loads the file
            verbose=False,
        )
    program.model.metadata_props[METADATA] = json.dumps(metadata)
    with replacing(path) as file:
        file.write(program.model_proto.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which logs its steps and warns of its own deprecated parts."""
    names = ("torch.onnx", "torch.__trace", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
