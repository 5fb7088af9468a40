"""Names and folders for results."""

from pathlib import Path

import pytest

from engine.errors import InputError
from engine.files import make_folder, plain_file_name


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()


@pytest.mark.parametrize("below", ["", "c"])
def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot make the folder .*file.*choose another place"):
        make_folder(tmp_path / "file" / below)


def test_texts_that_make_one_file_name_are_numbered() -> None:
    taken: set[str] = set()
    texts = ["a b", "a_b", "a/-b", "a_b-2", "a: b", "größe", "x" * 300, "x" * 301, ""]
    names = [plain_file_name(text, taken) for text in texts]
    long = "x" * 100
    assert names == ["a_b", "a_b-2", "a_-b", "a_b-2-2", "a_b-3", "größe", long, f"{long}-2", ""]
    assert taken == set(names)
