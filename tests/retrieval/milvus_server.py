"""A real Milvus server for the tests, out of the PyPI package ``milvus``, gone when they end.

The package carries the standalone server (etcd, storage and queue inside) for Linux on x86-64. It
is unpacked into a temporary folder (250 MB, a few seconds), started on free ports and stopped
with everything it started: at the end, on an error, and by the kernel where this process is
killed. It listens on all interfaces, which this version cannot be talked out of, for the seconds
that the tests take.
"""

import ctypes
import importlib.util
import json
import lzma
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

START_SECONDS = 120
# Standalone servers wait for their own clocks: ticking faster makes a test of 3 s one of 0.3 s.
FAST = {
    "PROXY_TIMETICKINTERVAL": "20",
    "QUERYCOORD_CHECKINTERVAL": "100",
    "QUERYCOORD_DISTPULLINTERVAL": "50",
}
PR_SET_PDEATHSIG = 1


class NoServer(Exception):
    """The server cannot run here; the message says why."""


@contextmanager
def milvus_server() -> Iterator[str]:
    """Run a server; yields its URI, ``http://127.0.0.1:port``. NoServer if it cannot run."""
    if importlib.util.find_spec("milvus") is None:
        raise NoServer("the package milvus is not installed (it exists for Linux on x86-64)")
    with tempfile.TemporaryDirectory(prefix="milvus-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            uri, health, environment = _prepare(folder)
            process = _start(folder, environment)
        except OSError as error:
            raise NoServer(f"the server could not be unpacked and started: {error}") from error
        try:
            _wait(process, health, folder / "server.log")
            yield uri
        finally:
            # The group: whatever the server may have started goes with it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _prepare(folder: Path) -> tuple[str, str, dict[str, str]]:
    """Unpack and configure; (URI, address of the health check, environment)."""
    from milvus import MilvusServerConfig

    _unpack(folder / "bin")
    config = MilvusServerConfig(data_dir=str(folder))
    names = [name for name in config.configurable_items if name.endswith("_port")]
    ports = _free_ports(len(names) + 3)
    config.update(**dict(zip(names, ports, strict=False)))
    for part in ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord"):
        config.set(f"{part}.ip", "127.0.0.1")
    config.resolve()
    health, client, peer = (f"http://127.0.0.1:{port}" for port in ports[-3:])
    etcd = folder / "etcd.json"
    etcd.write_text(json.dumps(_etcd(client, peer)))
    environment = (
        os.environ
        | FAST
        | {
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(ports[-3]),
            "MILVUS_RUN_DIR": str(folder / "run"),
            "LD_LIBRARY_PATH": str(folder / "bin"),
            "ETCD_CONFIG_PATH": str(etcd),
        }
    )
    return f"http://127.0.0.1:{config.get('proxy_port')}", f"{health}/healthz", environment


def _unpack(folder: Path) -> None:
    folder.mkdir()
    packed = Path(importlib.util.find_spec("milvus").origin).parent / "data" / "bin"
    for path in packed.glob("*.lzma"):
        with lzma.open(path) as source, (folder / path.stem).open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        (folder / path.stem).chmod(0o755)


def _free_ports(count: int) -> list[int]:
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in with_ports]
    for server in with_ports:
        server.close()
    return ports


def _etcd(client: str, peer: str) -> dict[str, str]:
    """etcd's configuration with free ports; the default ones may be taken by another server."""
    return {
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }


def _start(folder: Path, environment: dict[str, str]) -> subprocess.Popen:
    libc = ctypes.CDLL(None)
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(
            [folder / "bin" / "milvus", "run", "standalone"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # The kernel ends it where this process is killed and cannot.
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )


def _wait(process: subprocess.Popen, health: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), direct.open(health, timeout=2) as answer:
            if b"OK" in answer.read():
                return
        time.sleep(0.1)
    state = "is not ready" if process.poll() is None else f"ended with {process.returncode}"
    last = log.read_text(errors="replace").splitlines()[-1:]
    raise NoServer(f"the server {state} after {START_SECONDS} s at most; its log ends {last}")
