"""serve.py: access, requirements, and a whole server started from the command line."""

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch

from engine import model_flags
from engine.detection.finder import GarmentFinder
from engine.detection.predict import PredictSettings
from engine.errors import InputError
from retrieval.embedders import GarmentEmbedder
from retrieval.store import open_database
from tests.tools.server.world import make_database, photo_bytes
from tools import serve
from tools.server.limits import Limits, Refusal
from tools.server.vision import Vision

SCRIPT = Path(serve.__file__)


def arguments(*flags: str) -> argparse.Namespace:
    return serve.parse_arguments(["--database", "DB", *flags])


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.168.1.4", False), ("example.org", False)],
)  # fmt: skip
def test_only_loopback_needs_no_token(host: str, own: bool, monkeypatch) -> None:
    monkeypatch.delenv(serve.TOKEN, raising=False)
    if own:
        assert serve.read_token(arguments("--host", host)) is None
    else:
        with pytest.raises(InputError, match="--token"):
            serve.read_token(arguments("--host", host))
    assert serve.read_token(arguments("--host", host, "--token", "x" * 16)) == "x" * 16
    monkeypatch.setenv(serve.TOKEN, "y" * 20)
    assert serve.read_token(arguments("--host", host)) == "y" * 20


@pytest.mark.parametrize("token", ["short", "x" * 15, "ü" * 20, "line\nbreak" * 3])
def test_weak_tokens_are_refused(token: str) -> None:
    with pytest.raises(InputError, match="16 plain characters"):
        serve.read_token(arguments("--token", token))


def test_default_host_is_this_machine_only() -> None:
    assert arguments().host == "127.0.0.1"


def test_port_in_use_is_reported() -> None:
    with (
        serve.listen("127.0.0.1", 0) as taken,
        pytest.raises(InputError, match="cannot listen on 127"),
    ):
        serve.listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="port 70000"):
        serve.listen("127.0.0.1", 70_000)


def test_responses_are_sent_without_delay() -> None:
    with serve.listen("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_photo_root_comes_from_flag_or_database(tmp_path: Path) -> None:
    with open_database(make_database(tmp_path), read_only=True) as store:
        assert serve.photo_root(None, store) == tmp_path / "photos"
        assert serve.photo_root(tmp_path, store) == tmp_path
        with pytest.raises(InputError, match="no such folder"):
            serve.photo_root(tmp_path / "none", store)
        store.about.clear()
        assert serve.photo_root(None, store) is None


def test_database_of_other_features_is_refused(tmp_path: Path) -> None:
    flags = ("--multitask-weights", "none", "--whole-photo")
    with (
        open_database(make_database(tmp_path), read_only=True) as store,
        pytest.raises(InputError, match="--multitask-weights"),
    ):
        serve.build_vision(arguments(*flags), store, Limits())


def test_without_the_included_weights_only_stored_garments_are_searched(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    for name in ("DETECTOR_WEIGHTS", "MULTITASK_WEIGHTS"):
        monkeypatch.setattr(model_flags, name, tmp_path / f"{name}.pt")
    monkeypatch.setattr(serve, "DETECTOR_WEIGHTS", tmp_path / "DETECTOR_WEIGHTS.pt")
    with open_database(make_database(tmp_path), read_only=True) as store:
        assert serve.open_vision(arguments(), store, Limits()) is None
        assert "only stored garments" in caplog.text
        for flags in (
            ("--detector-weights", str(tmp_path / "none.pt")),
            ("--multitask-weights", str(tmp_path / "none.pt")),
            ("--whole-photo",),
        ):
            with pytest.raises(InputError):
                serve.open_vision(arguments(*flags), store, Limits())


class OneBox(torch.nn.Module):
    """A detector of every photo's middle, with a high score, and of a speck, with a low one."""

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        return [self.find(*image.shape[1:]) for image in images]

    def find(self, height: int, width: int) -> dict[str, torch.Tensor]:
        box = [width / 4, height / 6, width * 3 / 4, height * 5 / 6]
        return {
            "boxes": torch.tensor([box, [0, 0, 8, 8]]),
            "scores": torch.tensor([0.9, 0.3]),
            "labels": torch.tensor([2, 1]),
        }


def test_uploads_get_the_same_vectors_as_in_a_database(monkeypatch) -> None:
    finder = object.__new__(GarmentFinder)
    finder.model, finder.device = OneBox(), torch.device("cpu")
    finder.settings = PredictSettings(short_side=64, max_side=96, score_threshold=0.5)
    finder.overlap, finder.categories = 0.6, ["hat", "coat"]
    embedder = GarmentEmbedder(None, "descriptors")
    data = photo_bytes(240, 360, (200, 30, 40), "JPEG")
    described = Vision(finder, embedder, Limits()).describe(data)
    assert (described.categories, len(described.found)) == (["coat"], 1)
    assert described.found.boxes[0] == pytest.approx([60, 60, 180, 300], abs=2)
    assert described.descriptions[0].colors[0][0] in ("red", "crimson")
    assert described.vectors.shape == (1, embedder.schema.dim)
    finder.settings = PredictSettings(short_side=64, max_side=96, score_threshold=0.95)
    whole = Vision(finder, embedder, Limits()).describe(data)
    assert whole.categories == [] and whole.found.boxes.tolist() == [[0, 0, 240, 360]]
    with pytest.raises(Refusal, match="Not a photo"):
        Vision(None, embedder, Limits()).describe(b"text")


def test_server_started_from_the_shell(tmp_path: Path) -> None:
    location = make_database(tmp_path)
    command = [sys.executable, SCRIPT, "--database", location, "--browse-only", "--port", "0"]
    command += ["--max-upload", "3", "--max-pixels", "7"]
    environment = os.environ | {serve.TOKEN: "a token of some length"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline()
        assert line.startswith("40 garments; open http://127.0.0.1:")
        address = line.split()[-1]
        with urllib.request.urlopen(f"{address}/api/health", timeout=30) as answer:
            assert json.load(answer) == {"status": "ok", "items": 40}
            assert "server" not in answer.headers
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
        for method, place in [("HEAD", "/docs"), ("HEAD", "/api/health"), ("GET", "/api/health")]:
            connection.request(method, place)
            answer = connection.getresponse()
            size = int(answer.headers["Content-Length"])
            assert answer.status == 200 and size > 0
            assert len(answer.read()) == (size if method == "GET" else 0)
        connection.close()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{address}/api/stats", timeout=30)
        headers = {"Authorization": f"Bearer {environment[serve.TOKEN]}"}
        request = urllib.request.Request(f"{address}/api/stats", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            uploads = json.load(answer)["uploads"]
        assert (uploads["most_bytes"], uploads["most_pixels"]) == (3 << 20, 7_000_000)
        headers["Host"] = "shop.example"  # as a proxy passes it
        request = urllib.request.Request(f"{address}/api/stats", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["items"] == 40
        del headers["Authorization"]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(urllib.request.Request(request.full_url, headers=headers))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert process.returncode in (0, 130, -signal.SIGINT)


def test_idle_connections_are_closed(tmp_path: Path) -> None:
    """In a process of its own, since the timeout is shortened there only."""
    location = make_database(tmp_path)
    short = "import sys; from tools.server import idle_timeout; idle_timeout.IDLE_SECONDS = 1; "
    flags = ["--database", str(location), "--browse-only", "--port", "0"]
    code = f"{short}from tools import serve; serve.main({flags!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=SCRIPT.parents[1]
    )
    try:
        address = process.stdout.readline().split()[-1]
        place = ("127.0.0.1", int(address.rpartition(":")[2]))
        with socket.create_connection(place) as silent, socket.create_connection(place) as slow:
            slow.sendall(b"GET /api/health HTTP/1.1\r\nHost: local")
            for connection in (silent, slow):
                connection.settimeout(20)
                assert connection.recv(10) == b""
        for rest in (b"GET /api/health HTT", b"POST /api/detect HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Length: 999999999\r\n\r\nnot all of it"):  # fmt: skip
            with socket.create_connection(place) as connection:
                connection.settimeout(20)
                connection.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"200 OK" in connection.recv(10_000)
                connection.sendall(rest)
                while connection.recv(10_000):
                    pass
        with urllib.request.urlopen(f"{address}/api/health", timeout=30) as answer:
            assert answer.status == 200
        # It has no token, so it checks the host's name.
        rebound = urllib.request.Request(address, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(rebound, timeout=30)
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(place)
            # The responses take 30 MB, more than all buffers on their way.
            deaf.sendall(b"GET /page.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
            time.sleep(0.5)
            process.terminate()
            process.wait(20)  # a client that does not read cannot keep the server from ending
    finally:
        process.kill()
        process.wait(30)


def test_unusable_database_ends_with_one_sentence(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        serve.main(["--database", str(tmp_path / "none"), "--port", "0", "--browse-only"])
    assert ended.value.code == 2
    assert "no database there" in capsys.readouterr().err
