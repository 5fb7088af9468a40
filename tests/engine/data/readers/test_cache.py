"""The cache: rebuilt when outdated or damaged, and safe with several processes."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from engine.data.readers import cache
from engine.data.readers.cache import fingerprint, load_or_build
from engine.data.readers.problems import Problem
from engine.data.records import Photo, PhotoRecords

KEY = {"format": "test", "split": "train"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    (folder / "sub" / "b.txt").write_text("two")
    return folder


class Builder:
    """Builds records of one photo; counts its calls in a file, since it may run in any process."""

    def __init__(self, source: Path, seconds: float = 0.0) -> None:
        self.source = source
        self.seconds = seconds
        self.log = source.parent / "builds"

    def __call__(self) -> tuple[PhotoRecords, dict[str, str]]:
        sources = {str(self.source): fingerprint(self.source)}
        with self.log.open("a") as log:
            log.write("x")
        time.sleep(self.seconds)
        photo = Photo(self.source / "a.txt", self.builds, 3, 4)
        about = {"format": "test", "categories": ["ü"], "category_ids": [4], "root": self.source}
        problems = [Problem("empty mask", 2, ["there"])]
        return PhotoRecords.from_photos([photo], **about, problems=problems), sources

    @property
    def builds(self) -> int:
        return len(self.log.read_text()) if self.log.exists() else 0


def leftovers(tmp_path: Path) -> list[str]:
    return [p.name for p in (tmp_path / "cache").rglob("*.tmp-*")]


def entry_of(tmp_path: Path) -> Path:
    (entry,) = (p for p in (tmp_path / "cache/weft/datasets").iterdir() if p.is_dir())
    return entry


def test_a_dataset_is_built_once_and_then_mapped(tmp_path: Path, source: Path) -> None:
    build = Builder(source)
    for _ in range(3):
        records = load_or_build(KEY, build)
        assert records.image_ids.tolist() == [1]
        assert records[0] == Photo(source / "a.txt", 1, 3, 4)
        assert (records.format, records.root) == ("test", source)
        assert (records.categories, records.category_ids) == (["ü"], [4])
        assert records.problems == [Problem("empty mask", 2, ["there"])]
        assert isinstance(records.image_ids.base, np.memmap)
    assert build.builds == 1 and not leftovers(tmp_path)
    load_or_build(KEY | {"split": "val/../../x"}, build)
    assert build.builds == 2
    assert all(p.parent == entry_of_parent(tmp_path) for p in entry_of_parent(tmp_path).iterdir())


def entry_of_parent(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weft" / "datasets"


def change_content(source: Path) -> None:
    (source / "sub" / "b.txt").write_text("three")


def change_time_only(source: Path) -> None:
    os.utime(source / "a.txt", ns=(1, 1))


def add(source: Path) -> None:
    (source / "sub" / "c.txt").write_text("")


def remove(source: Path) -> None:
    (source / "a.txt").unlink()


def rename(source: Path) -> None:
    (source / "a.txt").rename(source / "z.txt")


def move_to_another_folder(source: Path) -> None:
    (source / "a.txt").rename(source / "sub" / "a.txt")


CHANGES = (change_content, change_time_only, add, remove, rename, move_to_another_folder)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_change_of_a_source_is_noticed(source: Path, change) -> None:
    build = Builder(source)
    load_or_build(KEY, build)
    before = fingerprint(source)
    assert fingerprint(source) == before
    change(source)
    assert fingerprint(source) != before
    load_or_build(KEY, build)
    load_or_build(KEY, build)
    assert build.builds == 2


def test_fingerprints_of_files_links_and_missing_files(tmp_path: Path, source: Path) -> None:
    (source / "dangling").symlink_to(tmp_path / "nothing")
    file = fingerprint(source / "a.txt")
    (source / ".hidden").mkdir()
    (source / ".hidden" / "x").write_text("")
    assert fingerprint(source) == fingerprint(source)
    (source / "a.txt").write_text("other")
    assert fingerprint(source / "a.txt") != file
    assert fingerprint(tmp_path / "nothing").startswith("unreadable")


def damage_cut(entry: Path) -> None:
    file = entry / "sizes.npy"
    file.write_bytes(file.read_bytes()[:-4])


def damage_missing(entry: Path) -> None:
    (entry / "sizes.npy").unlink()


def damage_layout(entry: Path) -> None:
    np.save(entry / "sizes.npy", np.zeros((1, 3), np.int32))


def damage_json(entry: Path) -> None:
    (entry / "records.json").write_text(json.dumps({"sources": {}}))


def damage_empty(entry: Path) -> None:
    (entry / "image_ids.npy").write_bytes(b"")


DAMAGES = (damage_cut, damage_missing, damage_layout, damage_json, damage_empty)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_entry_is_rebuilt(tmp_path: Path, source: Path, damage) -> None:
    build = Builder(source)
    load_or_build(KEY, build)
    damage(entry_of(tmp_path))
    assert load_or_build(KEY, build).image_ids.tolist() == [2]
    assert load_or_build(KEY, build).image_ids.tolist() == [2]
    assert build.builds == 2


def test_it_works_where_no_cache_can_be_written(tmp_path: Path, source: Path, monkeypatch) -> None:
    build = Builder(source)
    for place in (os.devnull, "/proc/nowhere"):
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        assert len(load_or_build(KEY, build)) == 1
    assert build.builds == 2


def test_it_works_for_a_user_without_a_home(source: Path, monkeypatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(cache.Path, "home", no_home)
    assert len(load_or_build(KEY, Builder(source))) == 1


def test_on_a_full_disk_the_dataset_is_still_read(
    tmp_path: Path, source: Path, monkeypatch
) -> None:
    def full(*_args, **_options) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "save", full)
    build = Builder(source)
    assert len(load_or_build(KEY, build)) == 1
    assert not leftovers(tmp_path)


def load_in_process(build: Builder, queue) -> None:
    records = load_or_build(KEY, build)
    queue.put(records.image_ids.tolist())


def test_processes_that_start_together_build_once(source: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    build = Builder(source, seconds=0.3)
    processes = [context.Process(target=load_in_process, args=(build, queue)) for _ in range(5)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=300) for _ in processes] == [[1]] * 5
    for process in processes:
        process.join()
    assert build.builds == 1


def test_a_killed_build_blocks_no_other_and_is_cleaned_up(tmp_path: Path, source: Path) -> None:
    build = Builder(source, seconds=60)
    process = multiprocessing.get_context("fork").Process(target=load_or_build, args=(KEY, build))
    process.start()
    while build.builds == 0:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    partial = next((tmp_path / "cache").rglob("*.lock")).with_suffix(".tmp-killed")
    partial.mkdir()  # what a kill during the writing leaves
    build.seconds = 0
    assert load_or_build(KEY, build).image_ids.tolist() == [2]
    assert not leftovers(tmp_path)
