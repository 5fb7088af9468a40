"""Benchmarks Weft against the same work done as in torchvision's detection references.

    python tools/benchmark.py loader --data-path photos/       # training samples a second
    python tools/benchmark.py training --data-path photos/     # a training step
    python tools/benchmark.py inference --data-path photos/    # photo file -> masks
    python tools/benchmark.py evaluation                       # predictions -> COCO's numbers
    python tools/benchmark.py memory                           # memory of loader processes
    python tools/benchmark.py search                           # search of the local database
    python tools/benchmark.py serving                          # search server under load
    python tools/benchmark.py floors --help                    # baselines of the multitask model
    python tools/benchmark.py backbones --help                 # accuracy and cost of backbones

In all but serving, floors and backbones, Weft and the reference alternate in one process; the ratio
is how many times faster (or smaller) Weft is: the median over rounds, with minimum and maximum. The
reference decodes at full size with PIL, keeps one full-size bitmap per garment, applies separate
transforms, resizes inside the model, and pastes masks at full size before encoding them. The
reference of evaluation is pycocotools, of memory a list of dicts, of search a bare matrix product.
tools/export_model.py measures the speed of exported models.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from engine import distributed
from engine.command_line import Parser, positive
from engine.errors import exits_cleanly
from engine.files import make_folder
from engine.training.meters import write_json
from tools.benchmarks import (
    backbones,
    evaluation,
    floors,
    inference,
    loader,
    memory,
    search,
    serving,
    training,
)
from tools.benchmarks.timing import machine

# Kind of work -> its module, default rounds (None: no rounds), and the ratio it should reach.
BENCHMARKS = {
    "loader": (loader, 5, 5),
    "training": (training, 5, 1.3),
    "inference": (inference, 5, 2),
    "evaluation": (evaluation, 3, 30),
    "memory": (memory, None, None),
    "search": (search, 5, 0.77),
    "serving": (serving, None, None),
    "floors": (floors, None, None),
    "backbones": (backbones, None, None),
}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    kinds = parser.add_subparsers(dest="benchmark", required=True, metavar="WORK")
    for name, (module, rounds, _) in BENCHMARKS.items():
        about = module.__doc__.splitlines()[0]
        kind = kinds.add_parser(name, help=about, description=module.__doc__)
        module.add_arguments(kind)
        if rounds is not None:
            times = f"how often both ways do the work (default: {rounds})"
            kind.add_argument("--rounds", type=positive, default=rounds, help=times)
        kind.add_argument(
            "--json", type=Path, metavar="FILE", help="also write the results to this file"
        )
    return parser.parse_args(argv)


def print_report(report: dict[str, Any], target: float | None) -> None:
    """Print a line about the machine, and a table of both ways' times (or sizes) and ratios."""
    console = Console()
    where = report["machine"]
    device = where["accelerator"] or f"{where['processor']}, {where['cores']} cores"
    console.print(f"{device}; {where['torch_threads']} threads; load {where['load']}")
    sizes = {key: value for key, value in report.items() if not isinstance(value, dict)}
    skipped = ("benchmark", "rows")
    console.print(", ".join(f"{k} {v}" for k, v in sizes.items() if k not in skipped))
    if target:
        console.print(f"target ratio: {target:g}")
    table = Table("", "ours", "reference", "ratio", "of rounds", box=None)
    for row in report["rows"]:
        spread = f"{row['ratio_min']:.2f}-{row['ratio_max']:.2f}" if "ratio_min" in row else ""
        both = (_amount(row, "ours"), _amount(row, "reference"))
        table.add_row(row["case"], *both, f"{row['ratio']:.2f}", spread)
    console.print(table)


def _amount(row: dict[str, Any], way: str) -> str:
    if f"{way}_mib" in row:
        return f"{row[f'{way}_mib']:,.0f} MiB"
    seconds = row[f"{way}_seconds"]
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    distributed.configure_logging()
    if arguments.json:
        make_folder(arguments.json.parent)
    module, _, target = BENCHMARKS[arguments.benchmark]
    results = module.run(arguments)
    where = machine(getattr(arguments, "device", "cpu"))
    report = {"benchmark": arguments.benchmark, "machine": where} | results
    if hasattr(module, "show"):
        module.show(report)
    else:
        print_report(report, target)
    if arguments.json:
        write_json(arguments.json, report)


if __name__ == "__main__":
    main()
