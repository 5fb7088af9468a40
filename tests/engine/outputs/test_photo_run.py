"""A results folder: one run at a time, never over what is somebody's own; what is left to do."""

import os
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.outputs.journal import Appender
from engine.outputs.photo_run import PhotoRun, claim, open_run

NAMES = ["a.jpg", "b.jpg", "c.jpg"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_text(name)
    return tmp_path / "photos"


def opened(photos: Path, names: list[str] = NAMES, **basis: object) -> PhotoRun:
    return open_run(photos, names, photos.parent / "out", basis)


def left(photos: Path, names: list[str] = NAMES, **basis: object) -> tuple[list[str], int]:
    """What a run would do, and how many photos of other runs it would tell of."""
    run = opened(photos, names, **basis)
    run.close()
    return [name for name, _ in run.pending], run.others


def finish(run: PhotoRun, **more: dict) -> list[dict]:
    """Do all of it: each photo without garments, but what ``more`` says of some; the records."""
    with Appender(run.folder, 0) as appender:
        for name, stamp in run.pending:
            record = {"photo": name, "stamp": stamp, "garments": []}
            appender.add(record | more.get(name.removesuffix(".jpg"), {}))
    records = list(run.records())
    run.close()
    return records


def test_what_is_finished_is_not_done_again(photos: Path) -> None:
    assert left(photos) == (NAMES, 0)
    records = finish(opened(photos, ["a.jpg", "c.jpg"]), a={"n": 1})
    assert [record["photo"] for record in records] == ["a.jpg", "c.jpg"]
    assert left(photos) == (["b.jpg"], 0)
    records = finish(opened(photos))
    assert [record["photo"] for record in records] == NAMES and records[0]["n"] == 1
    assert left(photos) == ([], 0)


def test_a_photo_that_changed_and_other_settings_are_done_again(photos: Path) -> None:
    finish(opened(photos, weights="w", size=3))
    assert left(photos, size=3, weights="w") == ([], 0)
    os.utime(photos / "b.jpg", ns=(1, 1))
    assert left(photos, weights="w", size=3) == (["b.jpg"], 0)
    # The line about b is gone by now; those about a and c are not of these settings.
    assert left(photos, weights="w", size=4) == (NAMES, 0)


def test_unreadable_photos_and_lost_pictures_are_done_again(photos: Path) -> None:
    picture = photos.parent / "out" / "overlays" / "c.jpg.jpg"
    run = opened(photos)
    picture.parent.mkdir()
    picture.touch()
    finish(run, a={"kind": "truncated"}, c={"overlay": "overlays/c.jpg.jpg"})
    assert left(photos) == (["a.jpg"], 0)
    picture.unlink()
    assert left(photos) == (["a.jpg", "c.jpg"], 0)


def test_photos_of_other_runs_are_kept_and_told_while_they_are_there(photos: Path) -> None:
    finish(opened(photos))
    assert left(photos, ["b.jpg"]) == ([], 2)
    records = finish(opened(photos, ["b.jpg"]))
    assert [record["photo"] for record in records] == ["b.jpg"]
    (photos / "c.jpg").unlink()
    assert left(photos, ["b.jpg"]) == ([], 1)
    assert left(photos, NAMES) == (["c.jpg"], 0), "it is named, and gone: reading it will tell"


def test_a_photo_that_no_process_finished_is_missed(photos: Path) -> None:
    run = opened(photos)
    run.pending = run.pending[:2]
    with pytest.raises(AssertionError, match="lacks a photo"):
        finish(run)
    run.close()


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
