"""One writer at a time."""

import fcntl
import logging
import os
import socket
from pathlib import Path

from engine.errors import InputError

logger = logging.getLogger("weft")
_held: set[Path] = set()  # by this process: its own locks would not stop it


class Lock:
    """Held from creation until ``close``, or until the process ends in any way.

    A record lock: unlike ``flock`` it is not inherited, so loader processes that outlive a killed
    run for a moment don't block the next one.

    Args:
        path: of a file that exists to be locked.
        guarded: what it guards, for people.
        advice: what to do when another process holds it.

    Raises:
        InputError: it is held, here or elsewhere, or the file cannot be written.
    """

    def __init__(self, path: Path, guarded: Path, advice: str) -> None:
        self.path = path.resolve()
        if self.path in _held:
            raise InputError(f"{guarded}: already open for writing in this process")
        try:
            self.file = self.path.open("a+")
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{guarded}: cannot be written ({reason}); {advice}") from error
        self._claim(guarded, advice)
        _held.add(self.path)

    def _claim(self, guarded: Path, advice: str) -> None:
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self.file.seek(0)
            who = self.file.read(200).strip() or "another process"
            self.file.close()
            sentence = f"{guarded}: {who} is writing to it; wait for it, or {advice}"
            raise InputError(sentence) from None
        except OSError as error:  # some network file systems know no locks
            logger.debug("no lock on %s: %s", guarded, error)
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self.file.flush()

    def close(self) -> None:
        """Let the next one in."""
        if self.path in _held and not self.file.closed:
            _held.discard(self.path)
            self.file.close()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
