"""The tables of check_dataset.py."""

import io

from rich.console import Console

from engine.data.readers.problems import Problems
from tools.checkup.tables import print_problems


def test_control_characters_in_names_are_not_printed() -> None:
    problems, printed = Problems(), io.StringIO()
    problems.add("unreadable photo", "\x1b[2J[red]\udcff.jpg: cut off")
    print_problems(Console(file=printed, width=120), {"train": problems.found()})
    assert "?[2J[red]?.jpg: cut off" in printed.getvalue()
