"""Atomic writes, OS errors as InputErrors, paths and digests."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import IO, Any

from engine.errors import InputError

LONGEST_PLAIN_NAME = 100  # characters


@contextmanager
def replacing(path: Path, mode: str = "wb") -> Iterator[IO]:
    """Open a temporary file that takes ``path``'s place when the block ends without an error.

    A kill at any moment leaves the old file or the new one. The temporary file lies in the same
    folder (a move across file systems is a copy) as ``.<name>.<process id>.tmp``.

    Raises:
        InputError: when the folder cannot be written (no permission, disk full).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with explain_os_errors(path, "cannot write", "free space or choose another place"):
            with temporary.open(mode) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


class JsonList:
    """Writes a JSON array element by element, one per line, since it may not fit in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.separator = file, b"[\n"

    def add(self, element: Any) -> None:
        """Write an element."""
        self.file.write(self.separator + json.dumps(element).encode())
        self.separator = b",\n"

    def close(self) -> None:
        """Write the end. The file stays open."""
        self.file.write(b"[]\n" if self.separator == b"[\n" else b"\n]\n")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of killed writers; no other process may be writing there."""
    for leftover in folder.glob(".*.[0-9]*.tmp"):
        leftover.unlink(missing_ok=True)


@contextmanager
def explain_os_errors(
    path: Path, what: str, advice: str = "free space or see to its permissions"
) -> Iterator[None]:
    """Turn an OSError raised in the block into an InputError "<what> <path>: <reason>; <advice>".

    Raises:
        InputError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{what} {path}: {error.strerror or error}; {advice}") from error


def make_folder(folder: Path) -> None:
    """Make a results folder and its parents. Call it before the work, so that errors come early.

    Raises:
        InputError: it cannot be made.
    """
    with explain_os_errors(folder, "cannot make the folder", "choose another place"):
        folder.mkdir(parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """fsync a folder, which makes a rename inside it durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def absolute(path: str | Path) -> Path:
    """An absolute path without ``..``; symbolic links are kept, unlike with ``Path.resolve``."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def exists(path: str | Path) -> bool:
    """Whether a path exists; False, where pathlib raises, for unreadable folders or long names."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: str | Path) -> bool:
    """Whether a path is a file; False where pathlib raises, as ``exists``."""
    return os.path.isfile(path)  # noqa: PTH113


def plain_file_name(text: str, taken: set[str]) -> str:
    """Any text as part of a file name, ``a b/c`` as ``a_b_c``; numbered if it is ``taken``.

    The name is added to ``taken``, the names that this function gave to other texts.
    """
    plain = re.sub(r"[^\w-]+", "_", text)[:LONGEST_PLAIN_NAME]
    numbered = (f"{plain}-{number}" for number in count(2))
    name = next(name for name in chain([plain], numbered) if name not in taken)
    taken.add(name)
    return name


def require_other(output: Path, sources: Iterable[Path], flag: str) -> None:
    """Refuse to overwrite an input file.

    Raises:
        InputError: ``output``, named by ``flag``, is the same file as one of the sources.
    """
    for source in sources:
        if exists(output) and exists(source) and output.samefile(source):
            raise InputError(f"{flag} {output}: is the file to be read; name another")


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
