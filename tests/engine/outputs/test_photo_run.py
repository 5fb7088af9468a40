"""A results folder: pending photos, one run at a time, no overwriting of other files."""

import os
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.outputs.journal import Appender
from engine.outputs.photo_run import PhotoRun, check_folder, claim_folder, open_run

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
    """The pending photos of a run, and the number of photos of other runs."""
    run = opened(photos, names, **basis)
    run.close()
    return [name for name, _ in run.pending], run.others


def finish(run: PhotoRun, **more: dict) -> list[dict]:
    """Finish all pending photos without garments, updated with ``more``; returns the records."""
    with Appender(run.folder, 0) as appender:
        for name, stamp in run.pending:
            record = {"photo": name, "stamp": stamp, "garments": []}
            appender.add(record | more.get(name.removesuffix(".jpg"), {}))
    records = list(run.records())
    run.close()
    return records


def test_finished_photos_are_not_processed_again(photos: Path) -> None:
    assert left(photos) == (NAMES, 0)
    records = finish(opened(photos, ["a.jpg", "c.jpg"]), a={"n": 1})
    assert [record["photo"] for record in records] == ["a.jpg", "c.jpg"]
    assert left(photos) == (["b.jpg"], 0)
    records = finish(opened(photos))
    assert [record["photo"] for record in records] == NAMES and records[0]["n"] == 1
    assert left(photos) == ([], 0)


def test_changed_photos_and_settings_are_processed_again(photos: Path) -> None:
    finish(opened(photos, weights="w", size=3))
    assert left(photos, size=3, weights="w") == ([], 0)
    os.utime(photos / "b.jpg", ns=(1, 1))
    assert left(photos, weights="w", size=3) == (["b.jpg"], 0)
    # The line about b is gone by now; those about a and c are not of these settings.
    assert left(photos, weights="w", size=4) == (NAMES, 0)


def test_unreadable_photos_and_lost_pictures_are_processed_again(photos: Path) -> None:
    picture = photos.parent / "out" / "overlays" / "c.jpg.jpg"
    run = opened(photos)
    picture.parent.mkdir()
    picture.touch()
    finish(run, a={"kind": "truncated"}, c={"overlay": "overlays/c.jpg.jpg"})
    assert left(photos) == (["a.jpg"], 0)
    picture.unlink()
    assert left(photos) == (["a.jpg", "c.jpg"], 0)


def test_existing_photos_of_other_runs_are_kept_and_counted(photos: Path) -> None:
    finish(opened(photos))
    assert left(photos, ["b.jpg"]) == ([], 2)
    records = finish(opened(photos, ["b.jpg"]))
    assert [record["photo"] for record in records] == ["b.jpg"]
    (photos / "c.jpg").unlink()
    assert left(photos, ["b.jpg"]) == ([], 1)
    assert left(photos, NAMES) == (["c.jpg"], 0), "it is named, and gone: reading it will tell"


def test_a_photo_missing_from_the_journal_is_an_error(photos: Path) -> None:
    run = opened(photos)
    run.pending = run.pending[:2]
    with pytest.raises(AssertionError, match="lacks a photo"):
        finish(run)
    run.close()


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    folder, lock = claim_folder(tmp_path / "out", ("garments.json",))
    assert folder == tmp_path / "out" / ".weft" and folder.is_dir()
    for claim in (claim_folder, check_folder):
        with pytest.raises(InputError, match=r"out: already open for writing"):
            claim(tmp_path / "out", ("garments.json",))
    lock.close()
    claim_folder(tmp_path / "out", ("garments.json",))[1].close()


def test_leftovers_of_a_killed_run_are_removed_and_other_files_kept(tmp_path: Path) -> None:
    claim_folder(tmp_path, ())[1].close()
    for name in (".garments.json.123.tmp", ".notes.tmp", "garments.json"):
        (tmp_path / name).touch()
    claim_folder(tmp_path, ("garments.json",))[1].close()
    assert {path.name for path in tmp_path.iterdir()} == {".weft", ".notes.tmp", "garments.json"}


def test_overlays_and_crops_are_not_listed(tmp_path: Path, monkeypatch) -> None:
    """No temporary file is written there, and there may be a million pictures."""
    listed, glob = [], Path.glob
    monkeypatch.setattr(Path, "glob", lambda *call: listed.append(call[0].name) or glob(*call))
    claim_folder(tmp_path / "out", ())[1].close()
    assert sorted(listed) == [".weft", "out", "similar"]


def test_files_that_are_not_from_a_run_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "garments.json").touch()
    for claim in (claim_folder, check_folder):
        with pytest.raises(InputError, match=r"holds garments\.json, .* choose another --output-"):
            claim(tmp_path, ("garments.json",))
    assert not (tmp_path / ".weft").exists()


def test_a_folder_is_checked_without_making_it(tmp_path: Path, monkeypatch) -> None:
    check_folder(tmp_path / "a/b", ())
    check_folder(tmp_path, ())
    assert not any(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    check_folder(Path("a"), ())
    Path("file").touch()
    for path in ("file", "file/below"):
        with pytest.raises(InputError, match="file is not a folder; choose another --output-dir"):
            check_folder(Path(path), ())
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write to all
    with pytest.raises(InputError, match="is not writable; choose another --output-dir"):
        check_folder(tmp_path / "a", ())


@pytest.mark.parametrize("folder", ["", ".weft", "similar"])
def test_temporary_files_of_killed_runs_are_removed(photos: Path, folder: str) -> None:
    place = photos.parent / "out" / folder
    finish(opened(photos))
    place.mkdir(exist_ok=True)
    (place / ".some.json.123.tmp").touch()
    (place / "kept.jpg").touch()
    before = {path.name for path in place.iterdir()}
    left(photos)
    assert {path.name for path in place.iterdir()} == before - {".some.json.123.tmp"}
