"""Ranks: start-up under torchrun, SLURM or plain python, and the few collectives the project uses.

Every function also works without a process group, so no caller asks "am I distributed?". Python
objects are sent over a gloo (CPU) group: NCCL would send them through GPU memory.
"""

import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from engine.errors import InputError
from engine.wording import printable

TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Collective timeout for inference, where a rank that is done waits for the slowest one.
LONGEST_WAIT_MINUTES = 7 * 24 * 60

Own = TypeVar("Own")
Shared = TypeVar("Shared")

_object_group: dist.ProcessGroup | None = None


def init(device: str = "auto", timeout_minutes: float = 30) -> torch.device:
    """Join the process group this process was launched into and return the device to work on.

    torchrun's variables take precedence (so torchrun inside an sbatch works) over SLURM's; with
    neither the process runs alone. A partly set torchrun environment is an error: otherwise a
    broken launch would silently train N separate models.

    Args:
        device: "auto" (the local rank's GPU when there is one, else the CPU), "cpu" or "cuda".
        timeout_minutes: how long a collective may wait for a lost rank before it fails.

    Raises:
        InputError: for a partly set environment or a GPU that is not there.
    """
    global _object_group
    _adopt_slurm_variables()
    present = [name for name in TORCHRUN_VARIABLES if name in os.environ]
    if present and len(present) < len(TORCHRUN_VARIABLES):
        missing = sorted(set(TORCHRUN_VARIABLES) - set(present))
        raise InputError(
            f"the launch environment sets {', '.join(present)} but not {', '.join(missing)}: "
            "start with torchrun, or unset them to run one process"
        )
    chosen = _choose_device(device)
    if present and not dist.is_initialized():
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        timeout = timedelta(minutes=timeout_minutes)
        dist.init_process_group(
            backend, timeout=timeout, device_id=chosen if backend == "nccl" else None
        )
        _object_group = dist.new_group(backend="gloo", timeout=timeout)
    return chosen


def _adopt_slurm_variables() -> None:
    """Translate srun's variables into torchrun's where torchrun set none and srun started several.

    ``SLURM_STEP_NUM_TASKS`` counts the tasks of this srun step, so an interactive shell inside an
    allocation (a step of one task) stays a lone process.
    """
    if any(name in os.environ for name in TORCHRUN_VARIABLES):
        return
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) <= 1 or "SLURM_PROCID" not in os.environ:
        return
    nodes = os.environ["SLURM_STEP_NODELIST"]
    command = ["scontrol", "show", "hostnames", nodes]
    try:
        hosts = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(
            f"cannot run scontrol to tell the first of the nodes {nodes} ({error}): start with "
            "torchrun, as tools/launch_slurm.sh does"
        ) from error
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]
    os.environ["WORLD_SIZE"] = os.environ["SLURM_STEP_NUM_TASKS"]
    os.environ["MASTER_ADDR"] = hosts.stdout.split()[0]
    # The job id spreads the ports of jobs that share a node.
    os.environ["MASTER_PORT"] = str(20000 + int(os.environ["SLURM_JOB_ID"]) % 20000)


def _choose_device(device: str) -> torch.device:
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if device not in ("auto", "cuda"):
        raise InputError(f"--device {device}: choose auto, cpu or cuda")
    if not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    # The local rank, never the global one: rank 8 of a second node is that node's GPU 0.
    index, count = local_rank(), torch.cuda.device_count()
    own_gpu = "SLURM_GPUS_PER_TASK" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ
    if count == 1 and own_gpu:  # srun, not torchrun, shows every process its own GPU only
        index = 0
    if index >= count:
        raise InputError(
            f"local rank {index} has no GPU: this node has {count}; lower --nproc_per_node"
        )
    chosen = torch.device("cuda", index)
    torch.cuda.set_device(chosen)
    return chosen


def shutdown() -> None:
    """Leave the process group. Only call it at the normal end: after a crash it could hang."""
    global _object_group
    if dist.is_initialized():
        dist.destroy_process_group()
        _object_group = None


def rank() -> int:
    """This process's number among all, 0 when alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes work together, 1 when alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """This process's number on its machine, 0 when alone."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_main() -> bool:
    """True on rank 0, which alone prints and writes."""
    return rank() == 0


def barrier() -> None:
    """Wait for every rank (on the CPU group, so no GPU kernel is queued)."""
    if world_size() > 1:
        dist.barrier(group=_object_group)


def gather_objects(item: Any) -> list[Any] | None:
    """Collect one Python object per rank on rank 0, in rank order; None on the other ranks."""
    if world_size() == 1:
        return [item]
    gathered = [None] * world_size() if is_main() else None
    dist.gather_object(item, gathered, dst=0, group=_object_group)
    return gathered


def broadcast_object(item: Any) -> Any:
    """Give every rank rank 0's object; the argument of the other ranks is ignored."""
    if world_size() == 1:
        return item
    box = [item if is_main() else None]
    dist.broadcast_object_list(box, src=0, group=_object_group)
    return box[0]


def on_main(work: Callable[[], tuple[Own, Shared]]) -> tuple[Own | None, Shared]:
    """Run ``work`` on rank 0 only and broadcast part of its result.

    Args:
        work: returns (what only rank 0 needs, what is sent to every rank).

    Returns:
        The same pair; on the other ranks the first is None.

    Raises:
        InputError: if ``work`` raised it, on every rank, so that none is left waiting.
    """
    own = shared = trouble = None
    if is_main():
        try:
            own, shared = work()
        except InputError as error:
            trouble = str(error)
    shared, trouble = broadcast_object((shared, trouble))
    if trouble is not None:
        raise InputError(trouble)
    return own, shared


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Sum a small tensor over ranks, in place, on whatever device it lives."""
    if world_size() > 1:
        dist.all_reduce(values, op=dist.ReduceOp.SUM)
    return values


def shard(count: int) -> range:
    """This rank's contiguous share of ``range(count)``: uneven, no padding, no duplicates.

    Padding is what makes other evaluators count photos twice; it is not needed as long as no
    collective runs inside the loop over a shard.
    """
    return range(count * rank() // world_size(), count * (rank() + 1) // world_size())


@contextmanager
def first_on_each_machine() -> Iterator[None]:
    """Let local rank 0 do cacheable work (parsing, downloads) before the other local ranks.

    If local rank 0 fails, the others still get to run, meet the same failure and end too.
    """
    if local_rank() != 0:
        barrier()
    try:
        yield
    finally:
        if local_rank() == 0:
            barrier()


class _Printable(logging.Formatter):
    """Makes messages safe to print, whatever file names they hold; tracebacks keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


def configure_logging() -> logging.Logger:
    """Set up the logger "weft": INFO on rank 0; other ranks only warn, prefixed by their rank."""
    logger = logging.getLogger("weft")
    logger.handlers.clear()
    handler = logging.StreamHandler()
    prefix = "" if is_main() else f"[rank {rank()}] "
    handler.setFormatter(_Printable(prefix + "%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if is_main() else logging.WARNING)
    logger.propagate = False
    return logger
