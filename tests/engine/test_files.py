"""Files' names for people."""

import pytest

from engine.files import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Hüte/é 中\u3000😀.jpg", "Hüte/é 中\u3000😀.jpg"),
        ("a\nb\r\t\0.jpg", "a?b???.jpg"),
        ("\x1b[2J\x9b31mred\x07\x7f.jpg", "?[2J?31mred??.jpg"),  # clears the screen, paints, rings
        ("latin\udce9.jpg", "latin?.jpg"),
    ],
)
def test_a_name_is_printed_and_not_obeyed(name: str, shown: str) -> None:
    assert printable(name) == shown
