"""Photos in both training and validation data: equal files are found under any name."""

from pathlib import Path

from engine.data.hygiene import TAIL, find_leaks, report_leaks
from engine.data.records import Photo, PhotoRecords


def records_of(root: Path, files: dict[str, bytes | None]) -> PhotoRecords:
    """Records of files with the given content (need not be images); None: the file is missing."""
    root.mkdir(exist_ok=True)
    for name, data in files.items():
        if data is not None:
            (root / name).write_bytes(data)
    photos = [Photo(root / name, i, 9, 9) for i, name in enumerate(files)]
    about = {"format": "test", "categories": [], "category_ids": []}
    return PhotoRecords.from_photos(photos, root=root, **about)


def test_equal_files_are_found_under_other_names_in_other_datasets(tmp_path: Path, caplog) -> None:
    long = bytes(range(256)) * 40
    train = [
        records_of(tmp_path / "a", {"1.jpg": b"one", "2.jpg": b"two", "gone.jpg": None}),
        records_of(tmp_path / "b", {"3.jpg": long, "4.jpg": b"two"}),
    ]
    clean = records_of(tmp_path / "c", {"5.jpg": b"six", "6.jpg": b"four", "gone.jpg": None})
    leaky = records_of(tmp_path / "d", {"7.jpg": b"new", "8.jpg": b"two", "9.jpg": long})
    leaks = [
        (tmp_path / "d/8.jpg", tmp_path / "a/2.jpg"),
        (tmp_path / "d/9.jpg", tmp_path / "b/3.jpg"),
    ]
    assert find_leaks(train, [clean, leaky]) == [[], leaks]
    report_leaks(train, {"clean": clean, "leaky": leaky})
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("leaky: 2 of 3 validation photos are also in the training data")
    assert "d/8.jpg, the same as " in line and "a/2.jpg" in line


def test_files_of_equal_size_are_compared_by_their_ends(tmp_path: Path) -> None:
    first, second = b"x" * 2 * TAIL + b"a", b"x" * 2 * TAIL + b"b"
    train = records_of(tmp_path / "a", {"1.jpg": first})
    val = records_of(tmp_path / "b", {"1.jpg": second, "2.jpg": first})
    assert find_leaks([train], [val]) == [[(tmp_path / "b/2.jpg", tmp_path / "a/1.jpg")]]


def test_a_dataset_used_for_both_leaks_every_photo(tmp_path: Path) -> None:
    records = records_of(tmp_path / "a", {"1.jpg": b"one", "2.jpg": b"two"})
    (leaks,) = find_leaks([records], [records])
    assert all(val_photo == train_photo for val_photo, train_photo in leaks)
    assert len(leaks) == 2
    assert find_leaks([], [records]) == [[]] and find_leaks([records], []) == []
