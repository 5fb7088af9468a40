"""Backbones compared on one annotated dataset: linear-probe accuracy and cost.

    python tools/benchmark.py backbones --dataset csv:clothing:attributes= --output-dir compared/ \\
        --backbones resnet18 resnet50 mobilenet_v3_large --threads 1
    python tools/benchmark.py backbones --dataset csv:clothing:attributes= --output-dir compared/ \\
        --weights resnet50=resnet50.pth mobilenet_v3_large=none --stride-in-1x1 resnet50

The body is frozen at its starting weights (--weights); a logistic regression is fitted to the mean
of its last map over each garment of the training split. Accuracy is the share of the validation
split's labeled garments that are classified correctly, with its 95% interval. Parameters, MACs and
latency (of the fastest call, the least disturbed by other work) are the body's, without any head;
1 MAC = 2 FLOPs, as in tools/model_report.py.

A backbone whose weights are unavailable is named in the table and skipped. Features are cached in
--output-dir.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from dataset_helpers import DatasetSpec, load_spec, parse_spec
from engine.backbones import BACKBONES
from engine.command_line import positive
from engine.config import require
from engine.cost.flops import layer_costs
from engine.data.labels import encode_labels, merge_labels
from engine.data.records import PhotoRecords
from engine.errors import InputError
from engine.evaluation.bootstrap import mean_interval
from engine.files import make_folder
from tools.benchmarks.linear_probe import learn_labels
from tools.benchmarks.pooled_features import PooledFeatures, cached_features, share_photos
from tools.report.measure import measure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--dataset", required=True, metavar="FORMAT:PATH[:key=value]...",
        help="labeled dataset with a training and a validation split; keys as in train.py "
        "multitask --help",
    )  # fmt: skip
    add(
        "--backbones",
        nargs="+",
        choices=BACKBONES,
        default=BACKBONES,
        help="backbones to compare (default: all)",
    )
    add(
        "--weights", nargs="+", default=["imagenet"], metavar="[BACKBONE=]WEIGHTS",
        help="imagenet (downloaded), none or a file, for one backbone or for all that are not "
        "named (imagenet)",
    )  # fmt: skip
    add(
        "--stride-in-1x1", nargs="+", choices=BACKBONES, default=[],
        help="backbones whose weights have the stride on a stage's first 1x1 convolution",
    )  # fmt: skip
    add("--output-dir", type=Path, required=True, help="folder to cache features in")
    add(
        "--photos",
        type=positive,
        help="use at most N photos of each split, drawn at random (default: all)",
    )
    add("--size", type=int, default=224, help="side of the crop in pixels (default: 224)")
    add(
        "-b",
        "--batch-size",
        type=positive,
        default=1,
        help="crops per call when measuring latency (default: 1)",
    )
    add("--runs", type=positive, default=5, help="calls to time (default: 5)")
    add("--threads", type=positive, help="CPU threads (default: PyTorch's choice)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit and evaluate a probe for every backbone, and measure its cost."""
    require(arguments.size >= 32, f"--size {arguments.size}: must be at least 32")
    sources = sources_of(arguments.weights, arguments.backbones)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    spec = parse_spec(arguments.dataset)
    parts = [_part(spec, split, arguments.photos) for split in (spec.split, spec.val)]
    require(
        not share_photos(*parts),
        f"{arguments.dataset}: its training and validation splits share photos; give it a split "
        "column, or different split= and val=",
    )
    make_folder(arguments.output_dir)
    rows = []
    for backbone in arguments.backbones:
        row = {"backbone": backbone, "weights": sources[backbone]}
        try:
            network = PooledFeatures(
                sources[backbone], backbone=backbone, size=arguments.size,
                stride_in_1x1=backbone in arguments.stride_in_1x1,
            )  # fmt: skip
        except InputError as error:
            rows.append(row | {"missing": str(error)})
            continue
        accuracy = _accuracy(network, spec, parts, arguments.output_dir)
        rows.append(row | {"accuracy": accuracy} | _cost(network, arguments))
    trained, evaluated = (len(part.garment_photo) for part in parts)
    garments = {"train": trained, "val": evaluated}
    about = {name: getattr(arguments, name) for name in ("size", "batch_size")}
    return {"set": spec.title, "garments": garments, **about, "rows": rows}


def show(report: dict[str, Any]) -> None:
    """Print a line of common settings, and a table with a row per backbone."""
    console = Console(width=None if Console().is_terminal else 140, highlight=False)
    where = report["machine"]
    trained, evaluated = report["garments"].values()
    console.print(
        f"{report['set']}: {trained} training garments, {evaluated} evaluated, at "
        f"{report['size']} px; latency per crop in the fastest call of {report['batch_size']}, on "
        f"{where['torch_threads']} threads of {where['processor'].strip()} (load {where['load']})"
    )
    groups = list(dict.fromkeys(g for row in report["rows"] for g in row.get("accuracy", {})))
    table = Table("", "weights", *(f"{group}, %" for group in groups), "Mparam.", "GMAC", "ms",
                  box=None)  # fmt: skip
    for row in report["rows"]:
        name, weights = row["backbone"], Path(row["weights"]).name
        if "missing" in row:
            table.add_row(name, f"{weights}: unavailable")
            continue
        shares = (_percent(row["accuracy"][group]) for group in groups)
        cost = f"{row['parameters'] / 1e6:.1f}", f"{row['macs'] / 1e9:.2f}"
        table.add_row(name, weights, *shares, *cost, f"{row['ms_per_crop']:.1f}")
    console.print(table)
    for row in report["rows"]:
        if "missing" in row:
            console.print(f"{row['backbone']}: {row['missing']}")


def _percent(found: dict[str, float]) -> str:
    low, high = found["interval"]
    return f"{100 * found['top1']:.1f}±{50 * (high - low):.1f}"


def sources_of(texts: list[str], backbones: list[str]) -> dict[str, str]:
    """Backbone -> its weights, from --weights.

    Raises:
        InputError: weights for a backbone that is not compared.
    """
    general, own = "imagenet", {}
    for text in texts:
        name, equals, source = text.partition("=")
        if not equals:
            general = text
            continue
        require(
            name in backbones,
            f"--weights {text}: {name} is not compared; give BACKBONE=FILE with one of "
            f"{', '.join(backbones)}",
        )
        own[name] = source
    return {backbone: own.get(backbone, general) for backbone in backbones}


def _part(spec: DatasetSpec, split: str, photos: int | None) -> PhotoRecords:
    records = load_spec(spec, split)
    if photos is None or photos >= len(records):
        return records
    chosen = np.random.default_rng(0).choice(len(records), photos, replace=False)
    return records.subset(np.sort(chosen))


def _accuracy(
    network: PooledFeatures, spec: DatasetSpec, parts: list[PhotoRecords], folder: Path
) -> dict[str, dict[str, Any]]:
    """Label group -> top-1 accuracy on the validation split, its 95% interval, labeled garments."""
    train, val = parts
    space = merge_labels([train], [spec.title])
    cache = folder / f"{spec.title}-{network.name}.npz"
    known, features = (cached_features(network, part, cache) for part in (train, val))
    scores = learn_labels(space, encode_labels(space, train), known, features)
    truth = encode_labels(space, val)
    found = {}
    for group, logits in scores.items():
        labeled = truth[group] != -1  # a value that no training garment can have is a miss
        right = (logits.argmax(axis=1) == truth[group])[labeled].astype(np.float64)
        if len(right):
            about = {"top1": right.mean(), "interval": mean_interval(right)}
            found[group] = about | {"labelled": len(right)}
    return found


def _cost(network: PooledFeatures, arguments: argparse.Namespace) -> dict[str, Any]:
    shape = (arguments.batch_size, 3, arguments.size, arguments.size)
    crops = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
    layers = layer_costs(network.body, crops[:1])
    measured = measure(network.body, (crops,), arguments.runs)
    return {
        "parameters": sum(layer.parameters for layer in layers),
        "macs": sum(layer.macs for layer in layers),
        "ms_per_crop": measured.fastest_ms / arguments.batch_size,
        "peak_mib": measured.peak_mib,
    }
