"""A training killed in the middle."""

import os
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def kill_at_step(command: list[str], log: Path, step: int) -> None:
    """Start the command in a group of its own and SIGKILL all of it once the step is logged."""
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while not (log.is_file() and f'"step": {step},' in log.read_text()):
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline, "the training never reached the step"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
