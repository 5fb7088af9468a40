"""What the evaluations share: starting, the output folder, the flags of models and views."""

import argparse

import torch

from engine import distributed
from engine.config import require
from engine.files import make_folder
from engine.judging.aspect_metrics import ViewRoles


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


def add_views(group: argparse._ArgumentGroup) -> None:
    """``--query-views``, ``--gallery-view`` and ``--view-column``; see ``views_of``."""
    group.add_argument("--query-views", nargs="+", default=[], help="views that ask")
    group.add_argument("--gallery-view", help="view that is searched")
    group.add_argument("--view-column", default="view", help="label that names the view (view)")


def views_of(arguments: argparse.Namespace) -> ViewRoles | None:
    """Which views of a product search which; None where the flags do not say.

    Raises:
        InputError: they say one of the two alone.
    """
    queries, gallery = arguments.query_views, arguments.gallery_view
    both = bool(queries) == (gallery is not None)
    require(both, "--query-views and --gallery-view go together: give both")
    return ViewRoles(tuple(queries), gallery, arguments.view_column) if queries else None
