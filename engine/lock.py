"""A lock file, so that only one process at a time writes to a folder."""

import fcntl
import logging
import os
import socket
import time
from pathlib import Path
from weakref import WeakValueDictionary

from engine.errors import InputError

logger = logging.getLogger("weft")
# Locks of this process: record locks do not exclude the process that holds them.
_held: "WeakValueDictionary[Path, Lock]" = WeakValueDictionary()


class Lock:
    """Held from creation until ``close``, garbage collection or the end of the process.

    A POSIX record lock (fcntl): unlike ``flock`` it is not inherited, so loader processes that
    briefly outlive a killed run don't block the next one.

    Args:
        path: of the lock file, created if missing.
        guarded: what it protects, for error messages.
        advice: what to do if another process holds it, for error messages.
        patience: seconds to wait for that process, which may just have been killed.

    Raises:
        InputError: it is held by this or another process, or the file cannot be written.
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
        logged = False
        while not self._try(guarded):
            if time.monotonic() >= deadline:
                self.file.seek(0)
                who = self.file.read(200).strip() or "another process"
                self.file.close()
                raise InputError(f"{guarded}: {who} is writing to it; wait for it, or {advice}")
            if not logged:
                logger.info("%s: waiting for another process that writes to it", guarded)
                logged = True
            time.sleep(0.2)
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self.file.flush()

    def _try(self, guarded: Path) -> bool:
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:  # some network file systems do not support locks: go on without
            logger.debug("no lock on %s: %s", guarded, error)
        return True

    def close(self) -> None:
        """Release the lock."""
        if not self.file.closed:
            _held.pop(self.path, None)
            self.file.close()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
