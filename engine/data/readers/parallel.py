"""Processes many small files on all cores, with a progress bar."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.distributed import is_main
from engine.pixels.photo_files import Header, PhotoError
from engine.pixels.photos import check_photo

CHUNK = 512
# Below this many files, starting processes costs more than they save.
WORTH_PROCESSES = 4 * CHUNK


def map_chunks(
    function: Callable[[Sequence], Any], items: Sequence, description: str
) -> Iterator[Any]:
    """``function(chunk)`` for each chunk of items, in order, using one process per core.

    The function must be at the top level of a module. Few items are processed in this process.
    """
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    if len(items) < WORTH_PROCESSES:
        yield from map(function, chunks)
        return
    # fork, because the children only read files, and spawn would import torch in each. Only on
    # Linux, since other systems' libraries do not survive a fork.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    # Ctrl-C is sent to the children too, but only the parent should handle it.
    ignore = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    with ProcessPoolExecutor(min(own_cores(), 32), mp_context=context, **ignore) as pool:
        results = pool.map(function, chunks)
        try:
            with progress_bar() as progress:
                task = progress.add_task(description, total=len(items))
                for chunk, result in zip(chunks, results, strict=True):
                    yield result
                    progress.advance(task, len(chunk))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def own_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def progress_bar() -> Progress:
    """A bar on stderr with description, count and time left; only rank 0 shows it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not is_main())


def check_photos(paths: Sequence[os.PathLike]) -> list[Header | PhotoError]:
    """For each photo its header, or a PhotoError if it cannot be used."""
    results = []
    for chunk in map_chunks(_check_chunk, paths, "reading photo headers"):
        results += chunk
    return results


def _check_chunk(paths: Sequence[os.PathLike]) -> list[Header | PhotoError]:
    return [_check_one(path) for path in paths]


def _check_one(path: os.PathLike) -> Header | PhotoError:
    try:
        return check_photo(path)
    except PhotoError as error:
        return error
