"""User errors: reported as one sentence with exit code 2, never as a traceback."""

import functools
import os
import sys
from collections.abc import Callable

from engine.wording import printable


class InputError(Exception):
    """Bad input by the user; its text is one sentence that names the file and what to do."""


def exits_cleanly(main: Callable[..., int | None]) -> Callable[..., None]:
    """Wrap a script's ``main``: InputError -> one line on stderr and exit 2, Ctrl-C -> exit 130.

    A closed pipe (``... | head``) ends the script silently. Anything else is a bug of ours and
    keeps its traceback.
    """

    @functools.wraps(main)
    def run(*args, **kwargs) -> None:
        try:
            sys.exit(main(*args, **kwargs) or 0)
        except InputError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            # Python flushes stdout once more at exit; give it somewhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)

    return run
