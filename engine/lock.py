"""One writer at a time."""

import fcntl
import logging
import os
import socket
import time
from pathlib import Path
from weakref import WeakValueDictionary

from engine.errors import InputError

logger = logging.getLogger("weft")
# By this process: its own locks would not stop it.
_held: "WeakValueDictionary[Path, Lock]" = WeakValueDictionary()


class Lock:
    """Held from creation until ``close``, or until it or the process ends in any way.

    A record lock: unlike ``flock`` it is not inherited, so loader processes that outlive a killed
    run for a moment don't block the next one.

    Args:
        path: of a file that exists to be locked.
        guarded: what it guards, for people.
        advice: what to do when another process holds it.
        patience: seconds to wait for that process, which may have been killed a moment ago.

    Raises:
        InputError: it is held, here or elsewhere, or the file cannot be written.
    """

    def __init__(self, path: Path, guarded: Path, advice: str, patience: float = 0) -> None:
        self.path = path.resolve()
        if self.path in _held:
            raise InputError(f"{guarded}: already open for writing in this process")
        try:
            self.file = self.path.open("a+")
            self._claim(guarded, advice, time.monotonic() + patience)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"{guarded}: cannot be written ({reason}); make it writable, or {advice}"
            ) from error
        _held[self.path] = self

    def _claim(self, guarded: Path, advice: str, deadline: float) -> None:
        told = False
        while not self._try(guarded):
            if time.monotonic() >= deadline:
                self.file.seek(0)
                who = self.file.read(200).strip() or "another process"
                self.file.close()
                raise InputError(f"{guarded}: {who} is writing to it; wait for it, or {advice}")
            if not told:
                logger.info("%s: waiting for another process that writes to it", guarded)
                told = True
            time.sleep(0.2)
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self.file.flush()

    def _try(self, guarded: Path) -> bool:
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:  # some network file systems know no locks
            logger.debug("no lock on %s: %s", guarded, error)
        return True

    def close(self) -> None:
        """Let the next one in."""
        if not self.file.closed:
            _held.pop(self.path, None)
            self.file.close()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
