"""Parts that the evaluations share: startup, output folder, flags of models and views."""

import argparse

import torch

from engine import distributed
from engine.config import require
from engine.evaluation.aspect_metrics import ViewRoles
from engine.files import make_folder


def start(arguments: argparse.Namespace) -> torch.device:
    """Join the ranks, set up logging, and create ``--output-dir`` before the work begins."""
    device = distributed.init(arguments.device)
    distributed.configure_logging()
    if arguments.output_dir and distributed.is_main():
        make_folder(arguments.output_dir)
    return device


def add_running(
    parser: argparse.ArgumentParser, *, batch_size: int, what: str
) -> argparse._ArgumentGroup:
    """Add the flags of running a network on ``what``: "photos" or "garments"."""
    run = parser.add_argument_group("running the network")
    add = run.add_argument
    size = f"{what} per pass (default: {batch_size})"
    add("-b", "--batch-size", type=int, default=batch_size, metavar="N", help=size)
    threads = "threads that decode photos (default: 2)"
    add("-j", "--workers", type=int, default=2, metavar="N", help=threads)
    arithmetic = "precision of the network's arithmetic (default: fp32)"
    add("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help=arithmetic)
    where = "where the network runs (default: auto, a GPU if there is one)"
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help=where)
    return run


def add_views(group: argparse._ArgumentGroup) -> None:
    """``--query-views``, ``--gallery-view`` and ``--view-column``; see ``views_of``."""
    add = group.add_argument
    add("--query-views", nargs="+", default=[], metavar="VIEW", help="views that are queries")
    add("--gallery-view", metavar="VIEW", help="view that is the gallery")
    names = "label that names a photo's view (default: view)"
    add("--view-column", default="view", metavar="LABEL", help=names)


def views_of(arguments: argparse.Namespace) -> ViewRoles | None:
    """Which views of a product are queries and gallery; None without these flags.

    Raises:
        InputError: only one of the two flags is given.
    """
    queries, gallery = arguments.query_views, arguments.gallery_view
    both = bool(queries) == (gallery is not None)
    require(both, "--query-views and --gallery-view go together: give both")
    return ViewRoles(tuple(queries), gallery, arguments.view_column) if queries else None
