"""Finding photos: folders, patterns, links, unusual names."""

from pathlib import Path

import pytest

from engine.errors import InputError
from engine.pixels.find_photos import MARKER, find_photos


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_folders_are_searched_recursively_and_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "sub/deep/c.webp", "notes.txt", ".hidden.jpg", ".git/d.jpg")
    assert find_photos([str(tmp_path)]) == (tmp_path, ["a.png", "b.JPG", "sub/deep/c.webp"])


def test_folders_with_photos_of_the_same_name_do_not_collide(tmp_path: Path) -> None:
    touch(tmp_path, "x/shots/a.jpg", "y/shots/a.jpg")
    root, names = find_photos([str(tmp_path / "y/shots"), str(tmp_path / "x/shots")])
    assert (root, names) == (tmp_path, ["x/shots/a.jpg", "y/shots/a.jpg"])


def test_each_photo_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "p/a.jpg", "p/b.jpg")
    monkeypatch.chdir(tmp_path)
    given = ["p", "p/a.jpg", "p/../p/b.jpg", "p/*.jpg", str(tmp_path / "p")]
    assert find_photos(given) == (tmp_path / "p", ["a.jpg", "b.jpg"])


def test_patterns_and_names_that_look_like_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].jpg", "a1.jpg", "sub/c.jpg", "sub/d.txt")
    assert find_photos([str(tmp_path / "a[1].jpg")])[1] == ["a[1].jpg"]
    assert find_photos([str(tmp_path / "**/*.jpg")])[1] == ["a1.jpg", "a[1].jpg", "sub/c.jpg"]
    assert find_photos([str(tmp_path / "su?")])[1] == ["c.jpg"]


def test_an_explicitly_named_file_may_have_any_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "photo", "notes.txt")
    assert find_photos([str(tmp_path / "photo")]) == (tmp_path, ["photo"])


def test_link_loops_are_searched_once(tmp_path: Path) -> None:
    touch(tmp_path, "p/a.jpg", "p/sub/b.jpg", "elsewhere/c.jpg")
    (tmp_path / "p/sub/up").symlink_to("..")
    (tmp_path / "p/again").symlink_to(tmp_path / "p")
    (tmp_path / "p/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "p/broken.jpg").symlink_to("nowhere")
    names = find_photos([str(tmp_path / "p")])[1]
    assert names == ["a.jpg", "broken.jpg", "linked/c.jpg", "sub/b.jpg"]


def test_patterns_end_at_link_loops_and_count_linked_photos_once(tmp_path: Path) -> None:
    touch(tmp_path, "shots/a/x.jpg", "shots/b.c/deep/y.png", "shots/top.jpg")
    (tmp_path / "shots" / "me").symlink_to(".")
    (tmp_path / "shots" / "a" / "up").symlink_to("..")
    (tmp_path / "again").symlink_to("shots")
    shots = tmp_path / "shots"
    for pattern, names in {
        "**/*.jpg": ["a/x.jpg", "top.jpg"], "**/d??p": ["y.png"], "**/deep/*": ["y.png"],
        "b.c/**/y.*": ["y.png"], "**/b.c/": ["y.png"], "**/*.png": ["y.png"],
    }.items():  # fmt: skip
        assert find_photos([f"{shots}/{pattern}"])[1] == names
    assert len(find_photos([str(shots), str(tmp_path / "again")])[1]) == 3


def test_a_broken_link_does_not_stop_the_search(tmp_path: Path) -> None:
    touch(tmp_path, "good.jpg")
    (tmp_path / "bad.jpg").symlink_to("x" * 300)
    given = [str(tmp_path / "good.jpg"), str(tmp_path / "bad.jpg")]
    assert find_photos(given)[1] == ["bad.jpg", "good.jpg"]


def test_results_among_the_photos_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "overlays/b.jpg", f"out/{MARKER}/lock", "out/overlays/a.jpg.jpg")
    touch(tmp_path, "out/crops/a.jpg/1_top.jpg", "out/c.jpg")
    expected = ["a.jpg", "out/c.jpg", "overlays/b.jpg"]
    assert find_photos([str(tmp_path)])[1] == expected
    assert find_photos([str(tmp_path / "**/*.jpg")])[1] == expected
    with pytest.raises(InputError, match="no photos"):
        find_photos([str(tmp_path / "out/crops")])


@pytest.mark.parametrize("argument", ["missing.jpg", "missing/", "*.nothing"])
def test_an_argument_without_match_is_refused_by_name(tmp_path: Path, argument: str) -> None:
    with pytest.raises(InputError, match="no such file") as error:
        find_photos([str(tmp_path), str(tmp_path / argument)])
    assert argument.rstrip("/") in str(error.value)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photos in"):
        find_photos([str(tmp_path)])
