"""Tables of a checkup."""

import io

from rich.console import Console

from engine.data.readers.problems import Problems
from tools.checkup.tables import print_problems


def test_a_name_among_the_problems_commands_no_terminal() -> None:
    problems, printed = Problems(), io.StringIO()
    problems.add("unreadable photo", "\x1b[2J[red]\udcff.jpg: cut off")
    print_problems(Console(file=printed, width=120), {"train": problems.found()})
    assert "?[2J[red]?.jpg: cut off" in printed.getvalue()
