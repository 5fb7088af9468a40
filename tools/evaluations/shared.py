"""What the evaluations share: starting, the output folder, the flags of running a model."""

import argparse

import torch

from engine import distributed
from engine.files import make_folder


def start(arguments: argparse.Namespace) -> torch.device:
    """Join the ranks, set up logging, and make ``--output-dir`` before the work, not after it."""
    device = distributed.init(arguments.device)
    distributed.configure_logging()
    if arguments.output_dir and distributed.is_main():
        make_folder(arguments.output_dir)
    return device


def add_running(
    parser: argparse.ArgumentParser, *, batch_size: int, what: str
) -> argparse._ArgumentGroup:
    """The flags of running a network; ``what`` goes through it ("photos", "garments")."""
    run = parser.add_argument_group("running the network")
    size = f"{what} a pass (default: {batch_size})"
    run.add_argument("-b", "--batch-size", type=int, default=batch_size, help=size)
    run.add_argument("-j", "--workers", type=int, default=2, help="decoding threads (2)")
    run.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="(fp32)")
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(auto)")
    return run
