"""A results folder: one run at a time, and never over what is somebody's own."""

from pathlib import Path

import pytest

from engine.errors import InputError
from engine.outputs.photo_run import claim


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    folder, lock = claim(tmp_path / "out", ("garments.json",))
    assert folder == tmp_path / "out" / ".weft" and folder.is_dir()
    with pytest.raises(InputError, match=r"out: already open for writing"):
        claim(tmp_path / "out", ("garments.json",))
    lock.close()
    claim(tmp_path / "out", ("garments.json",))[1].close()


def test_what_a_killed_run_left_goes_and_other_hidden_files_stay(tmp_path: Path) -> None:
    claim(tmp_path, ())[1].close()
    for name in (".garments.json.123.tmp", ".notes.tmp", "garments.json"):
        (tmp_path / name).touch()
    claim(tmp_path, ("garments.json",))[1].close()
    assert {path.name for path in tmp_path.iterdir()} == {".weft", ".notes.tmp", "garments.json"}


def test_what_no_run_wrote_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "garments.json").touch()
    with pytest.raises(InputError, match=r"holds garments\.json, .* choose another --output-dir"):
        claim(tmp_path, ("garments.json",))
    assert not (tmp_path / ".weft").exists()
