"""build_database.py from the command line on: what is stored, what is done again, kills, ranks.

Descriptors stand in for the network, a fake for the detector.
"""

import json
import multiprocessing
import os
import shutil
import signal
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dataset_helpers import parse_spec
from engine import model_flags
from engine.description.describer import CropSettings, Description
from engine.errors import InputError
from engine.model_flags import SCORE_THRESHOLD
from retrieval import build, embedders
from retrieval.store import open_database
from tests import ranks
from tests.builds import contents, fails, run, states, write_table
from tests.fake_detector import CATEGORIES, FakeDetector, make_photos, write_weights
from tools import build_database

FORKSERVER = multiprocessing.get_context("forkserver")  # tests.ranks has it import torch once


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "w.pt")


@pytest.fixture
def command(tmp_path: Path, weights: Path) -> tuple:
    photos = make_photos(tmp_path / "photos", 7)
    return photos, "--detector-weights", weights, "--database", tmp_path / "db"


def test_folder_of_photos_becomes_items(command: tuple, tmp_path: Path, capsys) -> None:
    (tmp_path / "photos/text.jpg").write_text("no photo")
    os.close(os.open(os.fsencode(tmp_path / "photos") + b"/\xff.png", os.O_CREAT))
    run(*command)
    stored = contents(tmp_path / "db")
    assert sorted(stored) == [f"{n}.png#1" for n in (0, 1, 3, 4, 6)] + [
        "sub/2.png#1",
        "sub/5.png#1",
    ]
    item = stored["sub/2.png#1"][0]
    assert (item.photo, item.garment, item.box) == ("sub/2.png", 1, (15, 10.5, 45, 31.5))
    assert item.category == CATEGORIES[40 % 3] and item.extra["score"] == 0.5781, "0.5 + 40 / 512"
    assert {color["name"] for color in item.extra["colors"]}
    printed = capsys.readouterr().out
    assert "unreadable: text.jpg: " in printed and "2 unreadable" in printed
    assert "8 photos, 8 of them now" in printed
    with open_database(tmp_path / "db", read_only=True) as store:
        assert store.about["root"] == str(tmp_path / "photos")


def test_photo_with_nan_vectors_does_not_stop_the_build(
    command: tuple, tmp_path: Path, capsys
) -> None:
    true, calls = embedders.GarmentEmbedder.describe, []

    def describe(self, *garments) -> tuple:
        calls.append(garments)
        if len(calls) == 4:
            raise InputError("features 'item' hold values that are not finite")
        return true(self, *garments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedders.GarmentEmbedder, "describe", describe)
        run(*command)
    assert len(contents(tmp_path / "db")) == 6
    assert "png: features 'item' hold values that are not finite" in capsys.readouterr().out
    assert len(run(*command).seen) == 1, "it gets another chance"
    assert len(contents(tmp_path / "db")) == 7


def test_damaged_vectors_are_read_again_on_request(command: tuple, tmp_path: Path, capsys) -> None:
    run(*command)
    before = contents(tmp_path / "db")
    (segment,) = (tmp_path / "db" / "segments").iterdir()
    with segment.open("r+b") as file:
        file.write(b"\xff\xff\xff\x7f")
    assert run(*command).seen == []
    assert len(run(*command, "--repair").seen) == 7  # all in one block
    assert "damaged" in capsys.readouterr().err
    assert contents(tmp_path / "db").keys() == before.keys()
    with open_database(tmp_path / "db", read_only=True) as store:
        assert store.verify() == []


def test_photos_outside_the_arguments_or_unreadable_are_kept(
    command: tuple, tmp_path: Path
) -> None:
    run(*command)
    before = contents(tmp_path / "db").keys()
    gone = ["photos/1.png/below", "photos/none.png", "photos/no/folder.png"]
    assert build_database.gone_photos(tmp_path, ["photos/1.png", "x" * 300, *gone]) == gone
    (tmp_path / "empty").mkdir()  # a second folder, so that photos are named from further above
    run(*command[:1], tmp_path / "empty", tmp_path / "photos/../photos/sub", *command[1:])
    assert contents(tmp_path / "db").keys() == before


def test_photos_of_a_disk_that_is_not_mounted_are_kept(
    command: tuple, tmp_path: Path, capsys
) -> None:
    run(*command)
    before = contents(tmp_path / "db").keys()
    (tmp_path / "photos/sub").rename(tmp_path / "elsewhere")
    (tmp_path / "photos/sub").mkdir()
    (tmp_path / "photos/1.png").unlink()
    run(*command)
    kept = before - {"1.png#1"}
    assert contents(tmp_path / "db").keys() == kept
    sentence = "photos/sub: empty, as if its disk were not mounted; the database keeps the photos"
    assert sentence in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    said = fails(capsys, tmp_path / "none", *command[1:])
    assert "no photos in" in said and "to forget them all, delete it" in said
    assert contents(tmp_path / "db").keys() == kept
    (tmp_path / "photos/sub").rmdir()
    run(*command)
    assert contents(tmp_path / "db").keys() == {key for key in kept if "sub" not in key}


def test_only_changed_photos_are_read_again(command: tuple, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    assert len(run(*command).seen) == 7
    before = contents(tmp_path / "db")
    assert run(*command).seen == []
    os.utime(photos / "1.png", ns=(1, 1))
    (photos / "3.png").unlink()
    (photos / "bad.png").touch()
    make_photos(tmp_path / "more", 8)
    shutil.copy(tmp_path / "more/7.png", photos / "7.png")
    assert sorted(run(*command).seen) == ["1.png", "7.png", "bad.png"]
    after = contents(tmp_path / "db")
    assert set(after) == (set(before) - {"3.png#1"}) | {"7.png#1"}
    assert all(after[key][0] == before[key][0] for key in set(before) & set(after))
    assert run(*command).seen == ["bad.png"], "an unreadable photo gets another chance"
    assert states(tmp_path / "db")["bad.png"].error == "the file is empty"


def test_photo_of_the_far_future_does_not_stop_the_build(command: tuple, tmp_path: Path) -> None:
    os.utime(tmp_path / "photos/1.png", ns=(0, 2**63))
    assert len(run(*command).seen) == len(contents(tmp_path / "db")) == 7
    assert run(*command).seen == []


def test_building_part_of_the_folder_keeps_the_rest(command: tuple, tmp_path: Path, capsys) -> None:
    run(*command)
    before = contents(tmp_path / "db")
    os.utime(tmp_path / "photos/sub/2.png", ns=(5, 5))
    assert run(tmp_path / "photos/sub", *command[1:]).seen == ["2.png"]
    assert set(contents(tmp_path / "db")) == set(before)
    elsewhere = make_photos(tmp_path / "elsewhere", 1)
    assert "--root" in fails(capsys, elsewhere, *command[1:])
    (tmp_path / "photos").rename(tmp_path / "moved")
    moved = (tmp_path / "moved", *command[1:], "--root", tmp_path / "moved")
    assert run(*moved).seen == []
    assert set(contents(tmp_path / "db")) == set(before)
    with open_database(tmp_path / "db", read_only=True) as store:
        assert store.about["root"] == str(tmp_path / "moved")
    assert run(*moved[:-2]).seen == [], "the database knows where its photos are now"


def test_other_settings_are_refused(command: tuple, tmp_path: Path, capsys) -> None:
    run(*command)
    message = fails(capsys, *command, "--score-threshold", "0.6")
    assert f"score_threshold {SCORE_THRESHOLD}, now it is 0.6" in message
    other = write_weights(tmp_path / "other.pt", model={"x": 1})
    assert "weights" in fails(capsys, *command, "--detector-weights", other)
    assert "garments" in fails(capsys, *command, "--whole-photo")
    assert run(*command).seen == []


def test_whole_photos_need_no_detector(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 4)
    (photos / "gone.png").symlink_to(tmp_path / "nowhere")
    assert run(photos, "--whole-photo", "--database", tmp_path / "db").seen == []
    stored = contents(tmp_path / "db")
    assert sorted(stored) == ["0.png#1", "1.png#1", "3.png#1", "sub/2.png#1"]
    assert all(item.box is None for item, _ in stored.values())
    assert states(tmp_path / "db")["gone.png"].error == "no such photo"


def test_bad_input_is_one_sentence(command: tuple, tmp_path: Path, capsys) -> None:
    photos, _, _, _, db = command
    assert "either PHOTOS or --dataset" in fails(capsys, "--database", db)
    annotated = ("--dataset", f"csv:{photos}", "--database", db)
    assert "either PHOTOS or --dataset" in fails(capsys, photos, *annotated)
    assert "--whole-photo: not with --dataset" in fails(capsys, *annotated, "--whole-photo")
    assert "no such weights" in fails(
        capsys, photos, "--detector-weights", tmp_path / "gone.pt", "--database", db
    )
    sentence = fails(capsys, *command, "--features", "both")
    assert "--multitask-weights" in sentence
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    assert "no database" in fails(capsys, *command[:3], "--database", tmp_path / "full")
    assert not db.exists(), "a failed start left a folder behind"


def test_missing_photos_and_invalid_locations_are_reported_before_loading_models(
    command: tuple, tmp_path: Path, capsys
) -> None:
    photos, _, _, _, db = command
    (tmp_path / "junk.pt").write_bytes(b"junk")
    junk = ("--detector-weights", tmp_path / "junk.pt", "--database")
    assert "junk.pt" in fails(capsys, photos, *junk, db)
    assert "as a pattern it matches none" in fails(capsys, f"{photos}/*.tif", *junk, db)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    assert "holds x but no database" in fails(capsys, photos, *junk, tmp_path / "full")
    assert "Not a directory" in fails(capsys, photos, *junk, tmp_path / "full/x")
    assert "no Milvus server" in fails(capsys, photos, *junk, "http://127.0.0.1:1#garments")
    run(*command)
    with open_database(db):
        assert "open for writing" in fails(capsys, photos, *junk, db)


def describes_nothing() -> SimpleNamespace:
    """A replacement for a multitask model."""
    return SimpleNamespace(
        groups={},
        cut=CropSettings(96, 0.1),
        describe=lambda photo, found, _: (found, [Description({}, [], {})] * len(found)),
    )


def test_other_precision_is_refused(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(model_flags, "build_describer", lambda *_: describes_nothing())
    photos, db = make_photos(tmp_path / "photos", 2), tmp_path / "db"
    command = (photos, "--whole-photo", "--features", "descriptors", "--database", db)
    run(*command)
    assert "precision fp32, now it is bf16" in fails(capsys, *command, "--precision", "bf16")
    with open_database(db) as store:  # as builds were before they noted it
        del store.about["made_by"]["precision"]
        store.set_about(store.about)
    run(*command, "--precision", "bf16")
    assert "precision bf16, now it is fp32" in fails(capsys, *command), "noted in passing"
    table = write_table(photos, [{"file_name": "0.png"}])
    embedder = SimpleNamespace(cut=None, describer=describes_nothing())
    dataset = [parse_spec(f"csv:{table}")]
    arguments = Namespace(dataset=dataset, workers=1, precision="fp16")
    _, made_by = build_database.open_source(arguments, embedder, None)
    assert made_by == {"garments": "given", "precision": "fp16"}


def slow_and_killed(arguments: list[str], kill_after: int | None) -> None:
    build.BATCH_SECONDS = 0  # each photo is handed over at once
    if kill_after is None:
        build_database.report = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    run(*arguments, fake=FakeDetector(kill_after))


def killed(arguments: list[object], kill_after: int | None) -> None:
    arguments = list(map(str, arguments))
    process = FORKSERVER.Process(target=slow_and_killed, args=(arguments, kill_after))
    process.start()
    process.join(600)
    assert process.exitcode == -signal.SIGKILL


def test_killed_and_continued_build_loses_and_doubles_nothing(
    command: tuple, tmp_path: Path
) -> None:
    make_photos(tmp_path / "photos", 23)
    run(*command)
    cut = (*command[:-1], tmp_path / "cut")
    for kill_after in (0, 5, 3):
        killed(cut, kill_after)
    with open_database(tmp_path / "cut", read_only=True) as store:
        assert store.verify() == []
        assert store.count() <= 8
    killed(cut, None)
    assert run(*cut).seen == []
    whole, continued = contents(tmp_path / "db"), contents(tmp_path / "cut")
    assert {key: item for key, (item, _) in whole.items()} == {
        key: item for key, (item, _) in continued.items()
    }
    for key, (_, vector) in whole.items():
        assert continued[key][1] == pytest.approx(vector, abs=1e-5)
    assert states(tmp_path / "db") == states(tmp_path / "cut")


def test_finished_photos_are_committed_from_time_to_time(monkeypatch) -> None:
    now, commits = [0.0], []
    monkeypatch.setattr(build_database.time, "monotonic", lambda: now[0])
    store = SimpleNamespace(absorb_shards=lambda: commits.append(now[0]))
    commit, without_store = build_database.committing(store), build_database.committing(None)
    for now[0] in (29.0, 30.0, 31.0, 59.0, 61.0):
        commit()
        without_store()
    assert commits == [30.0, 61.0]


def run_on_ranks(arguments: list[str]) -> int:
    return len(run(*arguments).seen)


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_processes_store_the_same_as_one(
    command: tuple, tmp_path: Path, world_size: int
) -> None:
    run(*command)
    many = [str(argument) for argument in (*command[:-1], tmp_path / "many")]
    seen = ranks.run_ranks(world_size, run_on_ranks, many)
    assert sum(seen) == 7 and max(seen) - min(seen) <= 1
    one, several = contents(tmp_path / "db"), contents(tmp_path / "many")
    assert {key: item for key, (item, _) in one.items()} == {
        key: item for key, (item, _) in several.items()
    }
    assert not list((tmp_path / "many/shards").iterdir())


def test_stored_settings_are_plain_json(command: tuple, tmp_path: Path) -> None:
    run(*command)
    about = json.loads((tmp_path / "db/database.json").read_text())["about"]
    assert about["made_by"]["garments"] == "detected"
    assert about["made_by"]["overlap"] == 0.4
