"""The demo's own errors; the commands that it runs are tested with their scripts."""

from pathlib import Path

import pytest

from tools.demo import main


def test_folder_that_cannot_be_created_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        main(["--output", str(tmp_path / "file")])
    assert capsys.readouterr().err.startswith("error: cannot make the folder")
