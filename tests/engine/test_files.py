"""Folders for results, and files' names for people."""

from pathlib import Path

import pytest

from engine.errors import InputError
from engine.files import make_folder, printable


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()


@pytest.mark.parametrize("below", ["", "c"])
def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot make the folder .*file.*choose another place"):
        make_folder(tmp_path / "file" / below)


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
