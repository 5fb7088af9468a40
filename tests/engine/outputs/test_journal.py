"""The journal: killed runs, order, several processes."""

import resource
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.outputs import journal


def add(folder: Path, rank: int, *records: dict) -> None:
    with journal.Appender(folder, rank) as appender:
        for record in records:
            appender.add(record)


def always(record: dict) -> bool:
    return True


def test_parts_are_merged_sorted_and_removed(tmp_path: Path) -> None:
    add(tmp_path, 1, {"photo": "b"}, {"photo": "é\n"})
    add(tmp_path, 0, {"photo": "c"}, {"photo": "a", "garments": [1.5]})
    assert journal.merge(tmp_path, always) == {"a", "b", "c", "é\n"}
    assert [r["photo"] for r in journal.read(tmp_path)] == ["a", "b", "c", "é\n"]
    assert next(journal.read(tmp_path))["garments"] == [1.5]
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]


def test_the_last_line_about_a_photo_counts(tmp_path: Path) -> None:
    add(tmp_path, 0, {"photo": "a", "n": 1}, {"photo": "b", "n": 1})
    journal.merge(tmp_path, always)
    add(tmp_path, 5, {"photo": "a", "n": 2}, {"photo": "a", "n": 3})
    journal.merge(tmp_path, always)
    assert [r["n"] for r in journal.read(tmp_path)] == [3, 1]


def test_an_outdated_last_line_does_not_bring_back_an_older_one(tmp_path: Path) -> None:
    add(tmp_path, 0, {"photo": "a", "n": 1}, {"photo": "b", "n": 1}, {"photo": "a", "n": 2})
    assert journal.merge(tmp_path, lambda record: record["n"] == 1) == {"b"}


@pytest.mark.parametrize(
    "torn",
    [
        b'{"photo": "c", "gar', b'{"photo": "c"}', b"\x00\x00\n", b"[1]\n", b"\n", b"\xff\n",
        b'{"n": 1}\n', b'{"photo": 3}\n',
    ],
)  # fmt: skip
def test_only_damaged_lines_are_lost(tmp_path: Path, torn: bytes, caplog) -> None:
    add(tmp_path, 0, {"photo": "a"}, {"photo": "b"})
    with (tmp_path / "rank-0.jsonl").open("ab") as file:
        file.write(torn)
    assert journal.merge(tmp_path, always) == {"a", "b"}
    assert [r.message.split(": ")[1][:15] for r in caplog.records] == ["1 damaged lines"]
    add(tmp_path, 0, {"photo": "c"})
    assert journal.merge(tmp_path, always) == {"a", "b", "c"}
    assert len(caplog.records) == 1


def test_lines_after_a_damaged_one_are_whole(tmp_path: Path) -> None:
    add(tmp_path, 0, {"photo": "b", "n": 1})
    with (tmp_path / "rank-0.jsonl").open("ab") as file:
        file.write(b"\xffnothing\n")
    add(tmp_path, 0, {"photo": "a", "n": 2})
    journal.merge(tmp_path, always)
    assert list(journal.read(tmp_path)) == [{"photo": "a", "n": 2}, {"photo": "b", "n": 1}]


def test_a_kill_while_merging_duplicates_no_line(tmp_path: Path) -> None:
    add(tmp_path, 0, {"photo": "a", "n": 1})
    part = (tmp_path / "rank-0.jsonl").read_bytes()
    journal.merge(tmp_path, always)
    (tmp_path / "rank-0.jsonl").write_bytes(part)
    journal.merge(tmp_path, always)
    assert list(journal.read(tmp_path)) == [{"photo": "a", "n": 1}]


def test_an_empty_journal_is_read(tmp_path: Path) -> None:
    assert journal.merge(tmp_path, always) == set()
    assert list(journal.read(tmp_path)) == []


def test_a_full_disk_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "rank-0.jsonl").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"cannot write .*rank-0.jsonl: No space left on device"):
        add(tmp_path, 0, {"photo": "a"})


def test_a_disk_that_fills_up_within_a_line_is_reported(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with journal.Appender(tmp_path, 0) as appender:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
        try:
            with pytest.raises(InputError, match=r"cannot write .*rank-0.jsonl"):
                appender.add({"photo": "a" * 200})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_an_unreadable_journal_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(InputError, match="cannot read"):
        journal.merge(tmp_path, always)
