"""Names for terminals, numbers for sentences."""

import pytest

from engine.wording import counted, printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Hüte/é 中\u3000😀.jpg", "Hüte/é 中\u3000😀.jpg"),
        ("a\nb\r\t\0.jpg", "a?b???.jpg"),
        ("\x1b[2J\x9b31mred\x07\x7f.jpg", "?[2J?31mred??.jpg"),  # clears the screen, paints, rings
        ("latin\udce9.jpg", "latin?.jpg"),
    ],
)
def test_markup_in_names_is_printed_literally(name: str, shown: str) -> None:
    assert printable(name) == shown


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 photos"), (1, "1 photo"), (2, "2 photos"), (1234567, "1,234,567 photos")],
)
def test_a_number_of_things_is_said_in_words(number: int, words: str) -> None:
    assert counted(number, "photo") == words


def test_a_plural_of_its_own() -> None:
    assert counted(1, "query", "queries") == "1 query"
    assert counted(2, "query", "queries") == "2 queries"
