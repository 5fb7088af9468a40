"""Files that are never half written, paths, and what identifies a file."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from engine.errors import InputError


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
        with temporary.open(mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or error
        sentence = f"cannot write {path}: {reason}; free space or choose another place"
        raise InputError(sentence) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def telling(path: Path, what: str) -> Iterator[None]:
    """Tell an error of the system about ``path`` as one sentence, which ``what`` begins.

    Raises:
        InputError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        sentence = f"{what} {path}: {reason}; free space or see to its permissions"
        raise InputError(sentence) from error


def make_folder(folder: Path) -> None:
    """Make a folder for results and all above it: before the work, not when it is done.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"cannot make the folder {folder}: {reason}; choose another place"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the move itself durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def absolute(path: str | Path) -> Path:
    """A path from the root, without ``..``; links stay, unlike with ``Path.resolve``."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def exists(path: str | Path) -> bool:
    """Whether something is seen there.

    No, rather than an error as from pathlib, in a locked folder or under too long a name.
    """
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: str | Path) -> bool:
    """Whether a file is seen there, as ``exists``."""
    return os.path.isfile(path)  # noqa: PTH113


def require_other(output: Path, sources: Iterable[Path], flag: str) -> None:
    """Refuse to write over what is read.

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
