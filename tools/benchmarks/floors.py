"""Baselines for the multitask model: a frozen ImageNet ResNet-50 and classical descriptors.

    python tools/benchmark.py floors --weights resnet50.pth --output-dir floors/ \\
        --dataset csv:products:attributes=color,pattern,gender csv:clothing:attributes=
    python tools/benchmark.py floors --weights resnet50.pth --output-dir floors/ \\
        --dataset csv:catalog --query-views back alt1 --gallery-view main

Measured like the model itself (``tools/evaluate.py multitask``), on the same garments:

* "resnet50": labels by logistic regression on its pooled features, fitted to the training split if
  that shares no photo with the evaluated one; neighbors ("item") by the features themselves.
* "descriptors": neighbors by color, texture and shape descriptors, and by their concatenation
  ("item").
* with --by-halves also on every second product only (the 2nd, 4th, ... by name), to compare with a
  model that was trained on the other half.

ResNet features take about 0.1 s per photo and core; they are cached in --output-dir.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from dataset_helpers import DatasetSpec, load_spec, parse_specs
from engine.data.labels import LabelSpace, encode_labels, merge_labels
from engine.data.records import PhotoRecords
from engine.description.describe import DescribeSettings, describe
from engine.description.multitask_task import evaluation_parts
from engine.evaluation.aspect_metrics import ViewRoles
from engine.evaluation.multitask_metrics import Descriptions, evaluate_part
from engine.evaluation.multitask_tables import print_multitask
from engine.files import make_folder
from engine.pixels.view_transform import MultitaskAugmentation
from retrieval.embedders import DESCRIPTOR_CUT, DescriptorEmbedder
from tools.benchmarks.linear_probe import learn_labels
from tools.benchmarks.pooled_features import PooledFeatures, cached_features, share_photos
from tools.evaluations.shared import add_views, views_of

logger = logging.getLogger("weft")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", action="extend", nargs="+", required=True,
        metavar="FORMAT:PATH[:key=value]...",
        help="datasets to evaluate on; keys as in train.py multitask --help",
    )  # fmt: skip
    parser.add_argument(
        "--weights", type=Path, required=True, help="ResNet-50 with torchvision's parameter names"
    )
    parser.add_argument(
        "--stride-in-1x1", action="store_true",
        help="the weights have the stride on a stage's first 1x1 convolution",
    )  # fmt: skip
    parser.add_argument("--output-dir", type=Path, required=True, help="where features are cached")
    add_views(parser.add_argument_group("views of a product"))
    parser.add_argument(
        "--by-halves", action="store_true", help="also evaluate every second product alone"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluate both baselines on every dataset."""
    views = views_of(arguments)
    specs = parse_specs(arguments.dataset)
    network = PooledFeatures(arguments.weights, stride_in_1x1=arguments.stride_in_1x1)
    make_folder(arguments.output_dir)
    floors = {}
    for spec in specs:
        cache = arguments.output_dir / f"{spec.title}-{network.name}.npz"
        floors |= _measure(spec, network, cache, views, arguments.by_halves)
    return {"floors": floors}


def show(report: dict[str, Any]) -> None:
    """Print the tables of ``tools/evaluate.py multitask`` for each dataset and baseline."""
    print_multitask(report["floors"], Console())


def _measure(
    spec: DatasetSpec,
    network: PooledFeatures,
    cache: Path,
    views: ViewRoles | None,
    by_halves: bool,
) -> dict[str, Any]:
    """Both baselines' metrics on one dataset, in the form of ``print_multitask``."""
    cropping = MultitaskAugmentation(crop_size=DESCRIPTOR_CUT.size, margin=DESCRIPTOR_CUT.margin)
    (part,) = evaluation_parts({spec.title: load_spec(spec, spec.val)}, cropping)
    pooled = cached_features(network, part.records, cache)
    space, logits = _probe(spec, part.records, pooled, network, cache)
    unit = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    every = np.arange(len(pooled))
    found = {
        "resnet50": Descriptions(every, logits, {"item": unit}, []),
        "descriptors": describe(
            _Describing(), part, DescribeSettings(workers=0), torch.device("cpu"), progress=True
        ),
    }
    floors = {}
    for title, chosen in _selections(part.records, by_halves).items():
        for floor, descriptions in found.items():
            kept = _choose(descriptions, chosen)
            name = f"{spec.title}{title}, {floor}"
            floors[name] = evaluate_part(part, kept, space, views=views, details=True)
    return floors


def _probe(
    spec: DatasetSpec,
    val: PhotoRecords,
    features: np.ndarray,
    network: PooledFeatures,
    cache: Path,
) -> tuple[LabelSpace, dict[str, np.ndarray]]:
    """The training split's label space and, per exclusive group, scores f32[n,V] of ``val``."""
    train = load_spec(spec, spec.split)
    space = merge_labels([train], [spec.title])
    if share_photos(train, val):
        logger.info(
            "%s: training and validation splits share photos, so no labels are learned", spec.title
        )
        return space, {}
    known = cached_features(network, train, cache)
    return space, learn_labels(space, encode_labels(space, train), known, features)


def _selections(records: PhotoRecords, by_halves: bool) -> dict[str, np.ndarray]:
    """Name in the report -> bool[G], the garments evaluated together."""
    identities = records.garment_identity
    chosen = {"": np.ones(len(identities), bool)}
    if by_halves and records.identities:
        order = np.argsort(np.array(records.identities), kind="stable")
        chosen[" (every second product)"] = np.isin(identities, order[1::2])
    return chosen


def _choose(found: Descriptions, chosen: np.ndarray) -> Descriptions:
    rows = chosen[found.garments]
    logits, aspects = (
        {name: values[rows] for name, values in part.items()}
        for part in (found.logits, found.aspects)
    )
    return Descriptions(found.garments[rows], logits, aspects, found.unreadable)


class _Describing(nn.Module):
    """The classical descriptors with the interface of a multitask model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedder = DescriptorEmbedder()

    def describe(self, images: Tensor, masks: Tensor) -> dict[str, Any]:
        pixels = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        vectors = self.embedder(pixels, masks.cpu().numpy())
        aspects = {name: torch.from_numpy(rows) for name, rows in vectors.items()}
        return {"logits": {}, "aspects": aspects}
