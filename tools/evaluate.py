"""Evaluates a trained network, or a search, on annotated photos.

    python tools/evaluate.py detector --weights runs/d/checkpoint_best.pt --data-path photos/
    python tools/evaluate.py multitask --weights runs/m/checkpoint_best.pt --dataset csv:products
    python tools/evaluate.py names --dataset csv:phone --words T-Shirt=top
    python tools/evaluate.py retrieval --database DB
    torchrun --nproc_per_node=2 tools/evaluate.py ...    # split among processes, same numbers

Each kind has its own --help, which lists its metrics and output files.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine import distributed
from engine.command_line import Parser
from engine.errors import exits_cleanly
from tools.evaluations import detector, multitask, names, retrieval

EVALUATIONS = {
    "detector": detector,
    "multitask": multitask,
    "names": names,
    "retrieval": retrieval,
}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for name, module in EVALUATIONS.items():
        about = module.__doc__
        kind = kinds.add_parser(name, help=about.splitlines()[0], description=about)
        module.add_arguments(kind)
    return parser.parse_args(argv)


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    EVALUATIONS[arguments.kind].evaluate(arguments)
    distributed.shutdown()


if __name__ == "__main__":
    main()
