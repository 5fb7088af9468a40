"""infer.py from the command line on: continuing, sharing out, bad input.

A fake detector stands in; the real one has its test at the end.
"""

import json
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import infer
from engine import model_flags
from engine.data.labels import LabelGroup, LabelSpace, Source
from engine.description.multitask import build_multitask
from engine.detection import finder
from engine.detection.detector import build_detector
from tests import ranks
from tests.fake_detector import FakeDetector, make_photos, write_weights

FORKSERVER = multiprocessing.get_context("forkserver")  # tests.ranks has it import torch once
FINAL_FILES = ("garments.json", "garments.csv", "coco_results.json", "index.html")


def run(*arguments: object, fake: FakeDetector | None = None) -> FakeDetector:
    """Run the script's main in this process; its exit code must be 0."""
    fake = fake or FakeDetector()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["infer.py", *map(str, arguments)])
        # The shipped model would take half of the tests' time; tests that describe bring their own.
        patch.setattr(model_flags, "MULTITASK_WEIGHTS", Path("not shipped"))
        patch.setattr(finder, "build_from_checkpoint", lambda checkpoint: torch.nn.Identity())
        patch.setattr(finder, "detect_photos", fake.detect)
        with pytest.raises(SystemExit) as ended:
            infer.main()
    assert ended.value.code == 0
    return fake


def fails(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """Run the script expecting exit code 2; returns its one line on stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["infer.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            infer.main()
    assert ended.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()
    assert len(message) == 1
    assert message[0].startswith("error: ")
    return message[0]


def finals(output: Path) -> dict[str, bytes]:
    files = {name: (output / name).read_bytes() for name in FINAL_FILES}
    pictures = [path for path in output.rglob("*.jpg") if path.is_file()]
    return files | {str(path.relative_to(output)): path.read_bytes() for path in pictures}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "w.pt")


def test_a_folder_becomes_all_outputs(tmp_path: Path, weights: Path, capsys) -> None:
    photos = make_photos(tmp_path / "photos", 7)
    (photos / "text.jpg").write_text("no photo")
    (photos / "zero.jpg").touch()
    output = tmp_path / "out"
    run(photos, "--output-dir", output, "--weights", weights)
    document = json.loads((output / "garments.json").read_text())
    names = [photo["photo"] for photo in document["photos"]]
    assert names == ["0.png", "1.png", "3.png", "4.png", "6.png", "sub/2.png", "sub/5.png"]
    assert [entry["photo"] for entry in document["unreadable"]] == ["text.jpg", "zero.jpg"]
    for photo in document["photos"]:
        assert (output / photo["overlay"]).exists()
        assert all((output / garment["crop"]).exists() for garment in photo["garments"])
    results = json.loads((output / "coco_results.json").read_text())
    assert {result["category_id"] for result in results} == {11, 12, 13}
    printed = capsys.readouterr().out
    assert "zero.jpg: the file is empty" in printed
    assert "9 photos, 9 of them now" in printed
    assert "2 unreadable" in printed


def test_only_changed_photos_are_processed_again(tmp_path: Path, weights: Path) -> None:
    photos, output = make_photos(tmp_path / "photos", 4), tmp_path / "out"
    command = (photos, "--output-dir", output, "--weights", weights)
    assert len(run(*command).seen) == 4
    before = finals(output)
    assert run(*command).seen == []
    assert finals(output) == before

    os.utime(photos / "1.png", ns=(1, 1))
    assert run(*command).seen == ["1.png"]
    (output / "overlays/0.png.jpg").unlink()
    assert run(*command).seen == ["0.png"]
    shutil.rmtree(output / "crops/sub")
    assert run(*command).seen == ["2.png"]
    assert finals(output).keys() == before.keys()
    make_photos(photos, 5)
    (photos / "3.png").unlink()
    assert set(run(*command).seen) == {"0.png", "1.png", "2.png", "4.png"}
    names = [p["photo"] for p in json.loads((output / "garments.json").read_text())["photos"]]
    assert names == ["0.png", "1.png", "4.png", "sub/2.png"]


def test_photos_of_earlier_runs_are_reported(tmp_path: Path, weights: Path, capsys) -> None:
    photos = make_photos(tmp_path / "photos", 4)
    output = ("--output-dir", tmp_path / "out", "--weights", weights)
    run(photos, *output)
    assert "earlier runs" not in capsys.readouterr().out
    (photos / "1.png").unlink()
    run(photos / "0.png", photos / "sub/2.png", *output)
    printed = capsys.readouterr().out
    assert "2 photos, 0 of them now" in printed
    assert "1 photo of earlier runs, not named now" in printed


@pytest.mark.parametrize(
    "change",
    [
        ("--score-threshold", "0.55"),
        ("--overlap", "0.9"),
        ("--short-side", "32"),
        ("--max-side", "80"),
        ("--precision", "bf16"),
        ("--no-pictures",),
    ],
)
def test_other_settings_process_everything_again(
    tmp_path: Path, weights: Path, change: tuple
) -> None:
    command = (make_photos(tmp_path / "photos", 2), "--output-dir", tmp_path / "out")
    run(*command, "--weights", weights)
    assert len(run(*command, "--weights", weights, *change).seen) == 2
    assert len(run(*command, "--weights", weights).seen) == 2, "results of other settings came back"


def test_other_weights_process_everything_again(tmp_path: Path, weights: Path) -> None:
    command = (make_photos(tmp_path / "photos", 2), "--output-dir", tmp_path / "out", "--weights")
    run(*command, weights)
    assert run(*command, shutil.copy(weights, tmp_path / "same.pt")).seen == []
    assert len(run(*command, write_weights(tmp_path / "other.pt", model={"x": 1})).seen) == 2


def test_settings_reach_the_detector(tmp_path: Path, weights: Path) -> None:
    command = (make_photos(tmp_path / "photos", 1), "--weights", weights, "--output-dir")
    trained = run(*command, tmp_path / "a").settings
    assert (trained.short_side, trained.max_side, trained.batch_size) == (64, 96, 1)
    assert (trained.score_threshold, trained.workers, trained.precision) == (
        model_flags.SCORE_THRESHOLD,
        4,
        "fp32",
    )
    flags = "--short-side 32 --max-side 50 -b 3 -j 2 --score-threshold 0.7 --precision bf16".split()  # noqa: SIM905
    chosen = run(*command, tmp_path / "b", *flags).settings
    assert (chosen.short_side, chosen.max_side, chosen.batch_size) == (32, 50, 3)
    assert (chosen.score_threshold, chosen.workers, chosen.precision) == (0.7, 2, "bf16")


def test_without_pictures_only_files_are_written(tmp_path: Path, weights: Path) -> None:
    photos, output = make_photos(tmp_path / "photos", 2), tmp_path / "out"
    run(photos, "--output-dir", output, "--weights", weights, "--no-pictures")
    expected = {".weft", "garments.json", "garments.csv", "coco_results.json"}
    assert {path.name for path in output.iterdir()} == expected


def test_results_inside_the_photos_are_no_photos(tmp_path: Path, weights: Path) -> None:
    photos = make_photos(tmp_path / "photos", 3)
    command = (photos, "--weights", weights, "--output-dir")
    run(*command, photos / "out")
    before = finals(photos / "out")
    assert run(*command, photos / "out").seen == []
    assert finals(photos / "out") == before
    assert len(run(*command, photos).seen) == 3
    assert run(*command, photos).seen == []


def test_files_that_no_run_wrote_are_not_overwritten(tmp_path: Path, weights: Path, capsys) -> None:
    photos = make_photos(tmp_path / "photos", 2)
    (tmp_path / "junk.pt").touch()  # never read
    command = (photos, "--weights", tmp_path / "junk.pt", "--no-pictures", "--output-dir")
    (tmp_path / "site").mkdir()
    page = tmp_path / "site" / "index.html"
    page.write_text("somebody's own")
    assert "site: holds index.html, which no run wrote" in fails(capsys, *command, page.parent)
    assert page.read_text() == "somebody's own" and [*page.parent.iterdir()] == [page]
    make_photos(photos / "crops", 2)  # a second run would take them for the first one's pictures
    assert "photos: holds crops, which no run wrote" in fails(capsys, *command, photos)
    command = (photos, "--weights", weights, "--no-pictures", "--output-dir", tmp_path / "out")
    assert len(run(*command).seen) == 4


def test_memory_is_bounded(tmp_path: Path, weights: Path, monkeypatch) -> None:
    """Photos in flight (detected, their journal line not written) stay few."""
    fake, most = FakeDetector(), 0
    write = infer.Appender.add

    def add(self, record: dict) -> None:
        nonlocal written, most
        most = max(most, len(fake.seen) - written)
        written += 1
        write(self, record)

    written = 0
    monkeypatch.setattr(infer.Appender, "add", add)
    photos = make_photos(tmp_path / "photos", 31)
    run(photos, "--output-dir", tmp_path / "o", "--weights", weights, "-j", 2, fake=fake)
    assert written == 31
    assert most <= 5


def run_and_maybe_die(arguments: list[str], kill_after: int | None, at_the_end: bool) -> None:
    if at_the_end:
        infer.assemble = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    run(*arguments, fake=FakeDetector(kill_after))


def killed(arguments: list[str], kill_after: int | None, at_the_end: bool = False) -> None:
    target = FORKSERVER.Process(target=run_and_maybe_die, args=(arguments, kill_after, at_the_end))
    target.start()
    target.join(600)
    assert target.exitcode == -signal.SIGKILL


def test_killed_anywhere_and_continued_loses_and_doubles_nothing(
    tmp_path: Path, weights: Path
) -> None:
    photos = make_photos(tmp_path / "photos", 23)
    command = [str(photos), "--weights", str(weights), "-j", "1", "--output-dir"]
    run(*command, tmp_path / "whole")
    output = tmp_path / "cut"
    killed([*command, str(output)], kill_after=9)
    with (output / ".weft/rank-0.jsonl").open("ab") as file:
        file.write(b'{"photo":"4.png","image_id":1,"garm')  # a line the kill cut off
    kept = (output / ".weft/rank-0.jsonl").read_bytes().count(b"\n")
    assert kept >= 5
    killed([*command, str(output)], kill_after=6)
    killed([*command, str(output)], kill_after=None, at_the_end=True)
    assert run(*command, output).seen == []
    assert finals(output) == finals(tmp_path / "whole")
    assert not list(output.glob(".*.tmp"))


def run_on_ranks(arguments: list[str]) -> int:
    return len(run(*arguments).seen)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_photos_and_agree_with_one(
    tmp_path: Path, weights: Path, world_size: int
) -> None:
    photos = make_photos(tmp_path / "photos", 7)
    command = [str(photos), "--weights", str(weights), "--device", "cpu", "--output-dir"]
    run(*command, tmp_path / "one")
    seen = ranks.run_ranks(world_size, run_on_ranks, [*command, str(tmp_path / "many")])
    assert sum(seen) == 7
    assert max(seen) - min(seen) <= 1
    assert finals(tmp_path / "many") == finals(tmp_path / "one")


def test_bad_input_is_one_sentence(tmp_path: Path, weights: Path, capsys, monkeypatch) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk.pt").write_bytes(b"junk")
    other = write_weights(tmp_path / "other.pt", kind="multitask")
    output = ("--output-dir", tmp_path / "out")
    assert "no photos in" in fails(capsys, tmp_path / "empty", *output, "--weights", weights)
    (tmp_path / "junk.pt").write_bytes(b"junk")
    command = [tmp_path / "gone", *output, "--weights", tmp_path / "junk.pt"]
    assert "no such file" in fails(capsys, *command), "told before any model is loaded"
    assert "no such weights" in fails(capsys, photos, *output, "--weights", tmp_path / "gone.pt")
    assert "junk.pt" in fails(capsys, photos, *output, "--weights", tmp_path / "junk.pt")
    assert "multitask" in fails(capsys, photos, *output, "--weights", other)
    for file in (tmp_path / "junk.pt", tmp_path / "junk.pt" / "out"):
        command = [photos, "--output-dir", file, "--weights", tmp_path / "junk.pt"]
        assert "cannot write" in fails(capsys, *command), "told before any model is loaded"
    assert not (tmp_path / "out").exists(), "a failed start left a folder behind"
    monkeypatch.setattr(model_flags, "DETECTOR_WEIGHTS", tmp_path / "detector.pt")
    assert "train.py detector" in fails(capsys, photos, *output)


def test_a_full_disk_is_one_sentence(tmp_path: Path, weights: Path, capsys, monkeypatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    photos = make_photos(tmp_path / "photos", 3)
    monkeypatch.setattr(finder, "build_from_checkpoint", lambda checkpoint: torch.nn.Identity())
    monkeypatch.setattr(finder, "detect_photos", FakeDetector().detect)
    monkeypatch.setattr(Path, "write_bytes", no_space)
    message = fails(capsys, photos, "--output-dir", tmp_path / "out", "--weights", weights)
    assert "No space left" in message


@pytest.mark.parametrize("flag", [("--score-threshold", "2"), ("-j", "0"), ("--short-side", "x")])
def test_flags_are_checked(tmp_path: Path, weights: Path, flag: tuple, capsys) -> None:
    with pytest.MonkeyPatch.context() as patch:
        arguments = [str(tmp_path), "--output-dir", "o", "--weights", str(weights), *flag]
        patch.setattr(sys, "argv", ["infer.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            infer.main()
    assert ended.value.code == 2
    assert flag[0] in capsys.readouterr().err


def write_multitask_weights(path: Path, *aspects: str) -> Path:
    """Untrained, small."""
    groups = LabelGroup("category", ("a", "b"), True), LabelGroup("color", ("red", "blue"), True)
    space = LabelSpace(groups, (Source("x", {"category": (0, 1), "color": (0, 1)}),))
    tasks = ("category", "attributes", "color", *aspects)
    model = build_multitask(space, trunk="resnet18", weights="none", tasks=tasks)
    config = {"trunk": "resnet18", "tasks": list(tasks), "crop_size": 32, "margin": 0.1}
    checkpoint = {"format": 1, "kind": "multitask", "config": config, "labels": space.to_plain()}
    torch.save(checkpoint | {"model": model.state_dict()}, path)
    return path


def test_described_photos_agree_on_any_number_of_processes(tmp_path: Path, weights: Path) -> None:
    photos = make_photos(tmp_path / "photos", 5)
    flags = ["--weights", weights, "--save-features", "--tta", "--multitask-weights",
             write_multitask_weights(tmp_path / "m.pt")]  # fmt: skip
    run(photos, "--output-dir", tmp_path / "one", *flags)
    document = json.loads((tmp_path / "one/garments.json").read_text())
    garment = document["photos"][0]["garments"][0]
    assert {entry["value"] for entry in garment["labels"]["color"]} == {"red", "blue"}
    assert garment["colors"][0] == {"name": "blue", "hex": "#0000ff", "share": 1.0}
    arguments = [str(a) for a in (photos, "--output-dir", tmp_path / "two", *flags)]
    ranks.run_ranks(2, run_on_ranks, arguments)
    assert finals(tmp_path / "one") == finals(tmp_path / "two")
    with (
        np.load(tmp_path / "one/features.npz") as one,
        np.load(tmp_path / "two/features.npz") as two,
    ):
        assert one["color"].shape == (5, 64)
        np.testing.assert_array_equal(one["color"], two["color"])
    assert not run(photos, "--output-dir", tmp_path / "one", *flags).seen
    again = run(photos, "--output-dir", tmp_path / "one", *flags, "--top-k", "1").seen
    assert len(again) == 5  # another setting


def test_the_real_networks_end_to_end(tmp_path: Path) -> None:
    """Untrained weights, so its garments mean nothing; photos of 1 to 20,000 pixels a side."""
    torch.manual_seed(0)
    config = {"arch": "maskrcnn", "backbone": "resnet18", "masks": True, "class_agnostic": False,
              "test_short_side": 64, "test_max_side": 96, "pyramid_channels": 16}  # fmt: skip
    detector = build_detector(
        num_classes=3, backbone="resnet18", weights="none", pyramid_channels=16
    )
    weights = write_weights(tmp_path / "w.pt", config=config, model=detector.state_dict(), ema=None)
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, (height, width) in {"a": (90, 60), "b": (1, 1), "c": (30, 20000)}.items():
        noise = np.random.default_rng(width).integers(0, 256, (height, width, 3))
        cv2.imwrite(str(photos / f"{name}.png"), noise.astype(np.uint8))
    describer = write_multitask_weights(tmp_path / "m.pt")
    arguments = [photos, "--weights", weights, "--score-threshold", 0.06, "--output-dir",
                 tmp_path / "out", "--multitask-weights", describer]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["infer.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            infer.main()
    assert ended.value.code == 0
    document = json.loads((tmp_path / "out/garments.json").read_text())
    assert document["summary"]["photos"] == 3
    assert document["summary"]["unreadable"] == 0
    assert document["summary"]["garments"] > 0
    for photo in document["photos"]:
        for garment in photo["garments"]:
            x1, y1, x2, y2 = garment["box"]
            assert 0 <= x1 < x2 <= photo["width"]
            assert 0 <= y1 < y2 <= photo["height"]
            assert garment["mask"]["size"] == [photo["height"], photo["width"]]
