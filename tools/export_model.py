"""Exports a trained network to ONNX and verifies that its outputs are the same.

    python tools/export_model.py runs/d/checkpoint_best.pt --output detector.onnx --photos photos/
    python tools/export_model.py runs/m/checkpoint_best.pt --output multitask.onnx --photos photos/

The kind of network is read from the checkpoint. A detector takes one photo of any size, padded to
multiples of 32 pixels, and outputs boxes, scores, labels and 28 x 28 masks; a multitask model takes
any number of crops and outputs the logits of each label group and the vector of each aspect.

The file is run by ONNX Runtime on the photos (default: noise) and compared with the original; both
are timed alternately on the same number of CPU threads. Exit code: 0 same outputs, 1 different
outputs, 2 nothing could be exported.
"""

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from rich.console import Console

from engine.checkpoint import load_checkpoint
from engine.command_line import Parser, positive
from engine.config import require
from engine.description.multitask import build_multitask_from_checkpoint
from engine.detection.detector import build_from_checkpoint
from engine.detection.predict import PredictSettings
from engine.errors import exits_cleanly
from engine.files import make_folder, require_other
from engine.onnx_runtime import load_onnx
from engine.pixels.crops import cut_crop
from engine.pixels.geometry import channels_first, resize
from engine.training.meters import write_json
from engine.wording import counted
from tools.benchmarks.timing import Way, compare, machine, timed
from tools.export.compare import as_plain, compare_detectors, compare_multitask, sentence
from tools.export.write import export_detector, export_multitask
from tools.report.photos import read_photos


@exits_cleanly
def main(argv: list[str] | None = None) -> int:
    """Export, load, compare, time, report."""
    arguments = parse_arguments(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    checkpoint = load_checkpoint(arguments.weights)
    work = _detector if checkpoint["kind"] == "detector" else _multitask
    differences, original, exported, items = work(checkpoint, arguments)

    console = Console(highlight=False, soft_wrap=True)
    size = arguments.output.stat().st_size / 2**20
    console.print(f"{arguments.output}: {checkpoint['kind']}, {size:,.1f} MiB")
    console.print(sentence(differences, checkpoint["kind"]))
    summary = {"kind": checkpoint["kind"], "differences": as_plain(differences)}
    if arguments.rounds:
        summary |= {"machine": machine(), "speed": _time(original, exported, items, arguments)}
        what = "photo" if checkpoint["kind"] == "detector" else "crop"
        _print_speed(console, summary["speed"], what)
    if arguments.json:
        write_json(arguments.json, summary)
    if not differences.acceptable:
        console.print("the exported model's outputs differ from the original's", style="red")
        return 1
    return 0


def _detector(checkpoint: dict[str, Any], arguments: argparse.Namespace) -> tuple:
    settings = PredictSettings.as_evaluated(checkpoint["config"])
    original = build_from_checkpoint(checkpoint)
    photos = [
        channels_first(resize(photo, full_size, settings.size_of(full_size)))
        for photo, full_size in _photos(arguments, settings.short_side)
    ]
    export_detector(original, checkpoint, arguments.output)
    exported = load_onnx(arguments.output, "detector")
    if settings.mirror:
        original = functools.partial(original, mirror=True)
    differences = compare_detectors(original, exported, photos)
    items = [[photo] for photo in photos]
    return differences, original, exported, items


def _multitask(checkpoint: dict[str, Any], arguments: argparse.Namespace) -> tuple:
    config = checkpoint["config"]
    original = build_multitask_from_checkpoint(checkpoint)
    side = config["crop_size"]
    cut = [
        cut_crop(photo, np.array([0.0, 0.0, *full_size]), side, margin=0.0, full_size=full_size)
        for photo, full_size in _photos(arguments, side)
    ]
    crops = torch.stack([channels_first(crop) for crop, _ in cut])
    masks = torch.stack([torch.from_numpy(mask) for _, mask in cut])
    export_multitask(original, checkpoint, side, arguments.output)
    exported = load_onnx(arguments.output, "multitask")
    differences = compare_multitask(original, exported, crops, masks)
    return differences, original, exported, list(crops.split(1))


def _photos(arguments: argparse.Namespace, side: int) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """The photos as from ``read_photos``; noise if none is given."""
    if arguments.photos:
        return read_photos(arguments.photos, side)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return [(noise, (side, side))]


def _time(original: Any, exported: Any, items: list, arguments: argparse.Namespace) -> dict:
    """Time the exported model and the original alternately."""

    def way(model: Any) -> Way:
        with torch.inference_mode():
            model(items[0])
        return timed(torch.inference_mode()(lambda i: model(items[i])))

    rounds = arguments.rounds
    return compare(way(exported), way(original), items=len(items), rounds=rounds)


def _print_speed(console: Console, speed: dict[str, Any], what: str) -> None:
    ours, theirs = (1000 * speed[f"{way}_seconds"] for way in ("ours", "reference"))
    threads = counted(torch.get_num_threads(), "thread")
    console.print(
        f"ONNX Runtime {ours:,.1f} ms, PyTorch {theirs:,.1f} ms per {what}, one per call, each on "
        f"{threads}"
    )
    spread = f"{speed['ratio_min']:.2f} to {speed['ratio_max']:.2f}"
    console.print(f"{speed['ratio']:.2f} times as fast (rounds: {spread})")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("weights", type=Path, help="checkpoint or weights file")
    add("--output", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    add("--photos", nargs="+", default=[], help="photos to compare outputs on (default: noise)")
    add("--rounds", type=int, default=3, help="rounds of timing, 0 for none (default: 3)")
    add("--threads", type=positive, help="CPU threads of both (default: PyTorch's choice)")
    add("--json", type=Path, metavar="FILE", help="also write the results to this file")
    arguments = parser.parse_args(argv)
    require(arguments.rounds >= 0, f"--rounds {arguments.rounds}: must not be negative")
    require_other(arguments.output, [arguments.weights], "--output")
    for written in filter(None, (arguments.output, arguments.json)):
        make_folder(written.parent)
    return arguments


if __name__ == "__main__":
    main()
