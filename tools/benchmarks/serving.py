"""The search server under load: searches by several numbers of clients, photos, bad requests.

Starts a server on this machine with a database of random vectors, sends it requests through real
sockets, and stops it; the photo is a portrait. It reports requests per second, the median and the
95th percentile of a client's waiting time, and the server's memory before and after many good and
bad requests.
"""

import argparse
import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

from engine.command_line import positive
from engine.config import require
from engine.wording import counted
from retrieval.embedders import GarmentEmbedder
from retrieval.store import Item, item_key, open_database
from tools.benchmarks.search import fill

SCRIPT = Path(__file__).parents[1] / "serve.py"
JSON = {"Content-Type": "application/json"}
Request = tuple[str, str, bytes, dict[str, str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    clients = "numbers of simultaneous clients (default: 1,8,32)"
    add("--items", type=positive, default=100_000, help="items stored (default: 100000)")
    add("--clients", default="1,8,32", metavar="N,...", help=clients)
    add("--requests", type=positive, default=400, help="searches per row (default: 400)")
    add("--photos", type=int, default=10, help="photos to upload (default: 10)")
    add("--soak", type=int, default=2000, help="searches before memory is read (default: 2000)")
    add("--malformed", type=int, default=10_000, help="bad requests (default: 10000)")
    add(
        "--detector-weights", metavar="FILE",
        help="detect garments and describe them (default: whole photos, without a model)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure; returns rows of timings, the server's memory in MiB and bad requests' statuses."""
    clients = [int(text) for text in arguments.clients.split(",") if text.isdecimal()]
    require(bool(clients) and min(clients) >= 1, "--clients: give numbers from 1, such as 1,8,32")
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "database"
        searches = [search_request(key, i) for i, key in enumerate(build(database, arguments))]
        with serving(database, *model_flags(arguments.detector_weights)) as (port, process):
            load(port, searches[:20], 1)  # maps the vectors
            asked = repeat(searches, arguments.requests)
            rows = [measure(f"search, {counted(n, 'client')}", port, asked, n) for n in clients]
            photos = [photo_request()] * arguments.photos
            load(port, photos[:1], 1)
            rows += [measure("photo, 1 client", port, photos, 1)] if photos else []
            memory = {"before": resident_mib(process)}
            load(port, repeat(searches, arguments.soak), 8)
            memory[f"after {arguments.soak} searches"] = resident_mib(process)
            statuses = load(port, list(malformed(arguments.malformed)), 8)[1]
            memory[f"after {arguments.malformed} malformed requests"] = resident_mib(process)
            require(process.poll() is None, "the server ended under malformed requests")
    return {"rows": rows, "memory_mib": memory, "malformed_statuses": statuses}


def show(report: dict[str, Any]) -> None:
    """Print the report."""
    console = Console()
    where = report["machine"]
    console.print(f"{where['processor']}, {where['cores']} cores; load {where['load']}")
    table = Table("", "requests/s", "median", "95 %", "other than 200", box=None)
    for row in report["rows"]:
        times = (f"{row['p50_ms']:.1f} ms", f"{row['p95_ms']:.1f} ms")
        table.add_row(row["case"], f"{row['per_second']:.1f}", *times, str(row["failed"]))
    console.print(table)
    memory = report["memory_mib"].items()
    console.print("memory: " + ", ".join(f"{name} {mib:,.0f} MiB" for name, mib in memory))
    console.print(f"responses to malformed requests: {report['malformed_statuses']}")


def build(location: Path, arguments: argparse.Namespace) -> list[str]:
    """A database of random unit vectors; returns some of its keys."""
    schema = GarmentEmbedder(None, "descriptors").schema
    with open_database(location, schema=schema, create=True) as store:
        fill(store, arguments.items, item)
    return [item(number).key for number in np.linspace(0, arguments.items - 1, 50).astype(int)]


def item(number: int) -> Item:
    """The item with a number."""
    photo = f"photos/{number:08d}.jpg"
    return Item(item_key(photo, 1), photo, 1, None, f"kind {number % 12}")


def model_flags(detector: str | None) -> list[str]:
    """The server's flags for both networks (the included multitask model), or for none."""
    if detector:
        return ["--detector-weights", detector]
    return ["--whole-photo", "--multitask-weights", "none"]


def photo_request() -> Request:
    """A request with matplotlib's portrait, since noise has no garments that take time."""
    portrait = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return "POST", "/api/detect", portrait.read_bytes(), {}


def small_photo(kind: str) -> bytes:
    """The content of a file of noise; ``kind`` is its suffix."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    picture = cv2.resize(noise, (96, 128), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(kind, picture)[1].tobytes()


@contextmanager
def serving(database: Path, *flags: str) -> Iterator[tuple[int, subprocess.Popen]]:
    """Run a server process; yields its port and the process."""
    command = [sys.executable, str(SCRIPT), "--database", str(database), "--port", "0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        found = re.search(r":(\d+)$", line.strip())
        require(found is not None, f"the server did not start: {' '.join(command)}")
        yield int(found[1]), process
    finally:
        process.terminate()
        process.wait(30)


def search_request(key: str, number: int) -> Request:
    """A search for a stored item, with weights that vary with ``number``."""
    weights = {"item": 1, "color": number % 5 / 4, "texture": 0.5, "shape": number % 3}
    return "POST", "/api/search", json.dumps({"key": key, "weights": weights}).encode(), JSON


def repeat(requests: list[Request], count: int) -> list[Request]:
    """``count`` requests, repeating the given ones in turn."""
    return [requests[i % len(requests)] for i in range(count)]


def malformed(count: int) -> Iterator[Request]:
    """Invalid requests: broken JSON, wrong types, broken photos, odd paths."""
    rng = random.Random(0)
    whole = [small_photo(kind) for kind in (".jpg", ".png", ".webp")]

    def cut() -> Request:
        """A cut-off photo with a complete header, so that it reaches the decoder."""
        data = rng.choice(whole)
        return "POST", "/api/detect", data[: rng.randrange(len(data) // 2, len(data) - 50)], {}

    kinds: list[Callable[[], Request]] = [
        lambda: ("POST", "/api/search", rng.randbytes(rng.randrange(200)), JSON),
        lambda: ("POST", "/api/search", b"[" * rng.randrange(60_000), JSON),
        lambda: ("POST", "/api/search", b'{"key": "x", "k": %d}' % rng.randrange(10**9), JSON),
        lambda: ("POST", "/api/search", b'{"handle": "%d"}' % rng.randrange(10**9), JSON),
        lambda: ("POST", "/api/detect", b"\xff\xd8" + rng.randbytes(rng.randrange(2000)), {}),
        lambda: ("POST", "/api/detect", b"\x89PNG\r\n\x1a\n" + rng.randbytes(300), {}),
        cut,
        lambda: ("GET", f"/api/photo/..%2f{rng.randbytes(4).hex()}%00", b"", {}),
        lambda: ("GET", f"/api/items/%{rng.randrange(256):02x}{rng.random()}", b"", {}),
        lambda: ("DELETE", "/api/items/x", b"", {}),
        lambda: ("GET", "/api/photo/x?size=" + "9" * rng.randrange(1000), b"", {}),
    ]
    for number in range(count):
        yield kinds[number % len(kinds)]()


def load(
    port: int, requests: list[Request], clients: int
) -> tuple[list[float], dict[str, int], float]:
    """Send requests over ``clients`` connections.

    Returns:
        (seconds of each request, number of responses by status, total seconds).
    """
    seconds: list[float] = []
    statuses: dict[str, int] = {}
    guard, waiting = threading.Lock(), iter(requests)

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            with guard:
                request = next(waiting, None)
            if request is None:
                return
            started = time.perf_counter()
            status = send(connection, *request)
            with guard:
                seconds.append(time.perf_counter() - started)
                statuses[status] = statuses.get(status, 0) + 1

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, dict(sorted(statuses.items())), time.perf_counter() - started


def send(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes, headers: dict
) -> str:
    """Send one request; returns the response's status, or the name of the connection's error."""
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
        return str(response.status)
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return type(error).__name__


def measure(case: str, port: int, requests: list[Request], clients: int) -> dict[str, Any]:
    """One row of the report."""
    seconds, statuses, total = load(port, requests, clients)
    cuts = statistics.quantiles(seconds, n=20, method="inclusive") if len(seconds) > 1 else seconds
    return {
        "case": case,
        "per_second": len(seconds) / total,
        "p50_ms": 1000 * statistics.median(seconds),
        "p95_ms": 1000 * cuts[-1],
        "failed": len(seconds) - statuses.get("200", 0),
    }


def resident_mib(process: subprocess.Popen) -> float:
    """The server's resident memory in MiB, without mapped files such as the vectors."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024
