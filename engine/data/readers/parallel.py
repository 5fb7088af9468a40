"""Work over many small files, spread over the cores, with a progress bar."""

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
    """``function`` of each chunk of items, in order, computed by as many processes as cores.

    The function must be importable (top level of a module); few items are done right here.
    """
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    if len(items) < WORTH_PROCESSES:
        yield from map(function, chunks)
        return
    # fork: the children start at once and only read files; spawn would import torch in each. Only
    # Linux's libraries survive it.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    # Ctrl-C reaches the children too; the parent alone should answer it.
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
    if hasattr(os, "sched_getaffinity"):  # not on a Mac
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def progress_bar() -> Progress:
    """A bar on stderr: name, bar, count, time left; silent on ranks other than 0."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not is_main())


def check_photos(paths: Sequence[os.PathLike]) -> list[Header | PhotoError]:
    """Each photo's header, or what is wrong with the photo."""
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
