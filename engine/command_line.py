"""How every script takes its command line."""

import argparse
import contextlib
from typing import Any


class Parser(argparse.ArgumentParser):
    """argparse's, which shows a script's docstring as written and takes flags in full only.

    A beginning of a flag would be guessed: one script's ``--backbone`` is how another's
    ``--backbone-lr-factor`` begins. The parsers of ``add_subparsers`` are of this class as well.
    """

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)


def positive(text: str) -> int:
    """Type of a flag: a whole number from 1 up, as far as counts of anything go."""
    with contextlib.suppress(ValueError):
        if 1 <= int(text) < 2**31:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 1 up")


def share(text: str) -> float:
    """Type of a flag: a number from 0 to 1."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text}: must be a number from 0 to 1")
