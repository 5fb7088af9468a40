"""One writer at a time, in this process and in others, and none after a kill."""

import errno
import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.lock import Lock

HOLD = """
import sys
from pathlib import Path
from engine.lock import Lock
lock = Lock(Path(sys.argv[1]), Path("db"), "look elsewhere")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_exclusive_within_a_process(tmp_path: Path) -> None:
    with Lock(tmp_path / "lock", tmp_path, "wait"), pytest.raises(InputError, match="this process"):
        Lock(tmp_path / "lock", tmp_path, "wait")
    Lock(tmp_path / "lock", tmp_path, "wait").close()


def test_a_lock_is_freed_when_garbage_collected(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock", tmp_path, "wait")
    del lock
    Lock(tmp_path / "lock", tmp_path, "wait").close()


def test_a_held_lock_names_its_process_and_is_freed_by_its_death(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    root = Path(__file__).parents[2]
    other = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert other.stdout.readline() == "held\n"
    words = f"db: process {other.pid} on .* is writing to it; wait for it, or look elsewhere"
    with pytest.raises(InputError, match=words):
        Lock(tmp_path / "lock", Path("db"), "look elsewhere")
    threading.Timer(0.5, other.kill).start()
    Lock(tmp_path / "lock", Path("db"), "look elsewhere", patience=30).close()
    other.wait()


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="db: cannot be written"):
        Lock(tmp_path / "nowhere" / "lock", Path("db"), "look elsewhere")
    with pytest.raises(InputError, match="db: cannot be written"):
        Lock(Path("/dev/full"), Path("db"), "look elsewhere")


def test_works_on_a_file_system_without_locks(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with Lock(tmp_path / "lock", tmp_path, "wait"):
        assert "process" in (tmp_path / "lock").read_text()
