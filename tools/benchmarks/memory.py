"""Memory of loader processes that have read every record: packed records, or dicts in a list.

Measured is the sum of all processes' proportional set size (PSS: shared pages are divided by the
number of processes that share them). Python's dicts are shared after a fork only until they are
read: reading an object changes its reference count, which writes to its page.
"""

import argparse
import json
import multiprocessing
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from engine.command_line import positive
from engine.config import require
from engine.data.records import Garment, Photo, PhotoRecords
from engine.wording import counted

BLOCK = 500  # records that a worker reads at a time
LANDMARKS = 25
WAYS = ("no records", "packed", "dicts")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--records", type=positive, default=200_000, help="photos (default: 200000)"
    )
    parser.add_argument("--workers", type=positive, default=8, help="loader processes (default: 8)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure each way in its own process, minus the memory that the libraries alone take."""
    count, workers = arguments.records, arguments.workers
    require(Path("/proc/self/smaps_rollup").exists(), "memory: needs Linux, which reports PSS")
    found = {way: _measured(way, count, workers) for way in WAYS}
    empty = found["no records"]["mib"]
    net = {way: max(measured["mib"] - empty, 1) for way, measured in found.items()}
    ratio = net["dicts"] / net["packed"]
    row = {
        "case": f"{counted(count, 'record')}, {counted(workers, 'worker')}",
        "ours_mib": net["packed"],
        "reference_mib": net["dicts"],
        "ratio": ratio,
        "without_records_mib": empty,
        "garments": {way: found[way]["garments"] for way in WAYS[1:]},
    }
    return {"rows": [row]}


def _measured(way: str, count: int, workers: int) -> dict[str, float]:
    """Measure in a new process, so that one way leaves nothing behind for the other."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(way, count, workers, sender))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result


def _measure(way: str, count: int, workers: int, sender: Any) -> None:
    records: Sequence = range(count)
    if way == "packed":
        about = {"categories": [str(i) for i in range(13)], "category_ids": list(range(1, 14))}
        photos = (_as_photo(record) for record in synthetic(count))
        records = PhotoRecords.from_photos(photos, root=Path("/p"), format="benchmark", **about)
    elif way == "dicts":
        records = list(synthetic(count))
    blocks = [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    # Blocks are dealt to the workers in turn: each repeated that often is read by all of them.
    order = [block for block in blocks for _ in range(workers)]
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # more than cores
    loader = DataLoader(
        Touched(records),
        sampler=order,
        batch_size=None,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    iterator = iter(loader)
    garments = sum(iterator)
    processes = [os.getpid(), *(worker.pid for worker in iterator._workers)]
    sender.send({"mib": sum(map(_pss_mib, processes)), "garments": garments // workers})


def _pss_mib(process: int) -> float:
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line[:4] == "Pss:")


class Touched(Dataset):
    """Range of records -> the number of their garments, after reading everything in them."""

    def __init__(self, records: Sequence) -> None:
        self.records = records

    def __getitem__(self, block: range) -> int:
        return sum(_touch(self.records[i]) for i in block)


def _touch(record: Photo | dict | int) -> int:
    if isinstance(record, int):
        return 0
    garments = record["garments"] if isinstance(record, dict) else record.garments
    for garment in garments:
        if isinstance(garment, Garment):
            np.sum(garment.landmarks), [np.sum(polygon) for polygon in garment.segmentation]
        else:
            sum(garment["landmarks"]), [sum(polygon) for polygon in garment["segmentation"]]
    return len(garments)


def synthetic(count: int) -> Iterator[dict]:
    """Records as read from JSON, where every value is an object of its own."""
    rng = np.random.default_rng(0)
    texts = [json.dumps([_garment(rng) for _ in range(1 + i % 2)]) for i in range(min(count, 500))]
    for i in range(count):
        garments = json.loads(texts[i % len(texts)])
        about = {"file_name": f"image/{i:06d}.jpg", "image_id": i, "width": 600, "height": 800}
        yield about | {"garments": garments}


def _garment(rng: np.random.Generator) -> dict:
    points = int(rng.integers(30, 120))
    landmarks = np.concatenate([rng.random((LANDMARKS, 2)) * 600, np.ones((LANDMARKS, 1))], axis=1)
    return {
        "category_id": int(rng.integers(1, 14)),
        "bbox": (rng.random(4) * 300).round(2).tolist(),
        "segmentation": [(rng.random(2 * points) * 600).round(2).tolist()],
        "landmarks": landmarks.round().ravel().tolist(),
    }


def _as_photo(record: dict) -> Photo:
    garments = [
        Garment(
            category=garment["category_id"] - 1,
            box=np.array(garment["bbox"]),
            area=1.0,
            segmentation=[np.reshape(polygon, (-1, 2)) for polygon in garment["segmentation"]],
            landmarks=np.reshape(garment["landmarks"], (-1, 3)),
        )
        for garment in record["garments"]
    ]
    path = Path("/p") / record["file_name"]
    return Photo(path, record["image_id"], record["width"], record["height"], garments=garments)
