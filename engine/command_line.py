"""How every script takes its command line."""

import argparse
from typing import Any


class Parser(argparse.ArgumentParser):
    """argparse's, which shows a script's docstring as written and takes flags in full only.

    A beginning of a flag would be guessed: one script's ``--backbone`` is how another's
    ``--backbone-lr-factor`` begins. The parsers of ``add_subparsers`` are of this class as well.
    """

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)
