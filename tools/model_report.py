"""The cost of a network and its receptive fields: parameters, MACs, FLOPs, time, memory.

    python tools/model_report.py resnet50
    python tools/model_report.py detector --weights runs/d/checkpoint_best.pt --output-dir report/
    python tools/model_report.py multitask --size 224 224 -b 8 --threads 1
    python tools/model_report.py resnet50 --drop-last 3             # without the last three blocks
    python tools/model_report.py resnet50 --dilate 1                # stride 16 instead of 32
    python tools/model_report.py --list

1 MAC = 2 FLOPs. Convolutions, matrix products and attention are counted as they run; bias,
normalization, activation, pooling and box selection (NMS) are not. A detector's cost depends on the
number of detections: it is counted for --garments masks.

Receptive fields are those of a map's central cell: the theoretical one over all paths, and with
--output-dir the effective one, by gradients (with random weights unless --weights is given).

--output-dir gets report.json, layers.csv, fields.csv, costs.png and fields.png.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from rich.console import Console
from torch import Tensor

from engine import distributed
from engine.backbones import BACKBONES
from engine.command_line import Parser, positive
from engine.config import require
from engine.cost.flops import layer_costs
from engine.cost.network_graph import trace
from engine.cost.receptive_field import effective_field, fields
from engine.errors import InputError, exits_cleanly
from engine.files import make_folder
from engine.pixels.geometry import channels_first, resize
from engine.training.meters import write_json
from engine.wording import counted
from tools.report.measure import measure
from tools.report.networks import Network, build, names, noise, normalize
from tools.report.photos import read_photos
from tools.report.pictures import draw_costs, draw_fields
from tools.report.tables import (
    ORDERS,
    last_of_each_stride,
    print_costs,
    print_fields,
    print_measured,
    sizes_of,
    write_costs,
    write_fields,
)

PIPE_WIDTH = 140


def report(arguments: argparse.Namespace) -> None:
    """Build, count, measure, trace, report."""
    # A file or a pipe has no width, and the table should not be cut there.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    folder = arguments.output_dir
    if folder:
        make_folder(folder)
    device = distributed.init(arguments.device)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with _explain_size_errors(arguments.size):
        network = build(arguments)
        inputs = _move(network.inputs, device)
        # Before the measurements, which take a while, since there may be no such photos.
        pictures = _pictures(arguments.photos, network.size) if folder else []
        rows = layer_costs(network.model.to(device), *inputs)
    summary = {"network": network.title, "size": network.size, "batch_size": arguments.batch_size}
    batch, (height, width) = counted(arguments.batch_size, "picture"), network.size
    console.print(f"{network.title}, {batch} of {height} x {width} pixels", style="bold")

    macs, parameters = sum(row.macs for row in rows), sum(row.parameters for row in rows)
    summary |= {"parameters": parameters, "macs": macs, "flops": 2 * macs}
    print_costs(console, rows, arguments.sort, arguments.top)
    console.print(f"{parameters:,} parameters, {macs / 1e9:.3f} GMAC = {2 * macs / 1e9:.3f} GFLOP")

    if arguments.runs:
        measured = measure(network.model, inputs, arguments.runs)
        threads = torch.get_num_threads() if device.type == "cpu" else None
        print_measured(console, measured, arguments.batch_size, threads)
        summary |= asdict(measured) | {"threads": threads, "device": device.type}

    summary |= _fields(network, arguments, pictures, console)
    if folder:
        write_costs(folder / "layers.csv", rows)
        draw_costs(folder / "costs.png", rows, network.title)
        write_json(folder / "report.json", summary)
    distributed.shutdown()


@contextmanager
def _explain_size_errors(size: tuple[int, int] | None) -> Iterator[None]:
    """Turn the errors of a network that cannot process pictures of --size into InputErrors."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        if size is None:
            raise
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"--size {size[0]} {size[1]}: the network cannot process such a picture ({reason}); "
            "give another size"
        ) from error


def _fields(
    network: Network, arguments: argparse.Namespace, pictures: list[Tensor], console: Console
) -> dict[str, Any]:
    """Receptive fields of all layers; with --output-dir also effective ones, of each stride's
    last map. Prints and writes them, and returns a summary."""
    body = network.body.cpu()
    try:
        with _explain_size_errors(arguments.size):
            graph = trace(body, normalize(noise(network.size)))
        found = fields(graph)
    except InputError as error:
        console.print(f"no receptive fields: {error}")
        return {}
    shown = last_of_each_stride(found)
    influences = {}
    if arguments.output_dir:
        influences = {field.name: effective_field(graph, field.node, pictures) for field in shown}
        write_fields(arguments.output_dir / "fields.csv", found)
        drawn = list(influences.values())
        draw_fields(arguments.output_dir / "fields.png", shown, drawn, network.title)
    effective = sizes_of(influences)
    print_fields(console, shown, effective)
    last = shown[-1]
    about = {"stride": last.stride, "field": last.size, "sees_whole_picture_too": last.whole}
    return about | {"effective_fields": effective}


def _pictures(photos: list[str], size: tuple[int, int]) -> list[Tensor]:
    """The photos (noise if none is given) at the network's size, normalized: f32[1,3,H,W] each."""
    if not photos:
        return [normalize(noise(size))]
    return [
        normalize(channels_first(resize(photo, full_size, size[::-1])))
        for photo, full_size in read_photos(photos, min(size))
    ]


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    return type(value)(_move(each, device) for each in value)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("network", nargs="?", metavar="NETWORK", help="detector, multitask or a torchvision model")
    add("--list", action="store_true", help="print all names and stop")
    add(
        "--weights", type=Path, metavar="FILE",
        help="checkpoint or weights file; for torchvision models a state dict (default: random)",
    )  # fmt: skip
    add(
        "--backbone", choices=BACKBONES, default="resnet50",
        help="of a detector or multitask model without --weights (default: resnet50)",
    )  # fmt: skip
    add(
        "--size", type=positive, nargs=2, metavar=("H", "W"),
        help="size of the picture in pixels (default: as trained)",
    )  # fmt: skip
    add("-b", "--batch-size", type=positive, default=1, help="pictures per call (default: 1)")
    add(
        "--garments",
        type=positive,
        default=10,
        help="detector: masks counted per photo (default: 10)",
    )
    change = parser.add_argument_group("modifications (of torchvision's classifiers)")
    change.add_argument(
        "--drop-last", type=int, metavar="N",
        help="remove the head and the last N blocks (0: only the head)",
    )  # fmt: skip
    change.add_argument(
        "--dilate", type=int, default=0, metavar="N",
        help="remove the head, and use dilation instead of the last N strides, for a larger map",
    )  # fmt: skip
    output = parser.add_argument_group("output")
    output.add_argument(
        "--sort", choices=ORDERS, default="macs", help="order of the table (default: macs)"
    )
    output.add_argument("--top", type=int, default=20, help="layers to print (default: 20)")
    output.add_argument(
        "--runs", type=int, default=5, help="calls to time, 0 for no measurement (default: 5)"
    )
    output.add_argument("--threads", type=positive, help="CPU threads (default: PyTorch's choice)")
    output.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where the latency is measured (default: auto, a GPU if there is one)",
    )
    output.add_argument(
        "--photos", nargs="+", default=[],
        help="photos for the effective receptive fields of --output-dir (default: noise)",
    )  # fmt: skip
    output.add_argument("--output-dir", type=Path, metavar="DIR", help="where to write the files")
    arguments = parser.parse_args(argv)
    if not arguments.network and not arguments.list:
        parser.error("give a network, or --list")
    for flag in ("dilate", "top", "runs"):
        value = getattr(arguments, flag)
        require(value >= 0, f"--{flag} {value}: must not be negative")
    sentence = "--photos: only used with --output-dir, for the effective fields; give both"
    require(not arguments.photos or arguments.output_dir is not None, sentence)
    if arguments.size:
        arguments.size = tuple(arguments.size)
    return arguments


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    if arguments.list:
        print("\n".join(names()))
    else:
        report(arguments)


if __name__ == "__main__":
    main()
