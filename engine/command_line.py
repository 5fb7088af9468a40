"""The command-line parser of all scripts, and types of flags."""

import argparse
import contextlib
from typing import Any


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that keeps a docstring's line breaks and does not accept abbreviated flags.

    With abbreviations, ``--backbone`` given to a script that lacks it would silently mean
    ``--backbone-lr-factor``. Subparsers are of this class as well.
    """

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)


def positive(text: str) -> int:
    """Type of a flag: a whole number from 1 to 2^31 - 1."""
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
