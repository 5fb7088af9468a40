"""Thumbnails: the right part of the right photo, and no photo outside the folder."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.store import Item
from tests.tools.server.world import photo_bytes
from tools.server import pictures as module
from tools.server.limits import Refusal
from tools.server.pictures import Pictures


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "a b").mkdir(parents=True)
    (folder / "a b" / "ü#1.png").write_bytes(photo_bytes(200, 300, (200, 0, 0)))
    (tmp_path / "secret.png").write_bytes(photo_bytes(50, 50))
    return folder


def item(photo: str, box: tuple[float, ...] | None = None) -> Item:
    return Item(f"{photo}#0", photo, 0, box)


def pixels(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return np.asarray(image)


def test_thumbnail_of_the_whole_photo_and_the_garment(root: Path) -> None:
    pictures = Pictures(root, 1 << 20)
    stored = item("a b/ü#1.png", (60, 60, 140, 140))
    assert pixels(pictures.thumbnail(stored, 160, True)).shape == (160, 107, 3)
    garment = pixels(pictures.thumbnail(stored, 160, False)).astype(int)
    # 80 and a border of 6 % on each side, and as much above and below as makes a card of it; no
    # enlargement.
    assert garment.shape == (pytest.approx(89.6 / 0.8, abs=2), pytest.approx(89.6, abs=2), 3)
    assert np.abs(garment[12:-12] - (200, 0, 0)).max() < 20
    assert (pixels(pictures.thumbnail(stored, 160, True))[2, 2] > 220).all()


def test_garments_of_one_photo_have_thumbnails_of_their_own(root: Path) -> None:
    pictures = Pictures(root, 1 << 20)
    boxes = [(0, 0, 50, 50), (60, 60, 140, 140)]
    one, other = (pixels(pictures.thumbnail(item("a b/ü#1.png", box), 160, False)) for box in boxes)
    assert one.shape != other.shape


def test_photos_of_one_time_have_thumbnails_of_their_own(root: Path) -> None:
    (root / "twin.png").write_bytes(photo_bytes(200, 100))
    pictures, names = Pictures(root, 1 << 20), ("a b/ü#1.png", "twin.png")
    for name in names:
        os.utime(root / name, (1, 1))
    one, other = (pixels(pictures.thumbnail(item(name), 160, True)) for name in names)
    assert one.shape != other.shape


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((50, 100, 150, 200), (44, 80, 156, 220)),  # wider than a card: 112 x 140
        ((90, 50, 110, 150), (55.2, 44, 144.8, 156)),  # narrower
        ((0, 0, 100, 100), (0, 0, 112, 140)),  # in a corner: moved, not cut
        ((0, 100, 200, 300), (0, 60, 200, 340)),  # as wide as the photo
        ((-50, 250, 100, 900), (0, 210, 112, 350)),  # reaches out of it
        ((10, 10, 11, 11), (9.94, 9.8, 11.06, 11.2)),  # a single pixel
    ],
)
def test_windows_have_the_shape_of_cards_if_possible(box: tuple, window: tuple) -> None:
    assert module.around(np.array(box, np.float64), 200, 350) == pytest.approx(window)


@pytest.mark.parametrize(
    "box", [(500, 500, 600, 600), (10, 10, 10, 10), (50, 30, 20, 60), (float("nan"),) * 4]
)
def test_invalid_box_shows_the_whole_photo(root: Path, box: tuple) -> None:
    picture = Pictures(root, 1 << 20).thumbnail(item("a b/ü#1.png", box), 160, False)
    assert pixels(picture).shape == (160, 107, 3)


@pytest.mark.parametrize(
    "photo",
    ["../secret.png", "a b/../../secret.png", "/etc/hostname", "", ".", "a b", "gone.png",
     "a b/\0.png", "//etc/hostname", "x" * 5000],
)  # fmt: skip
def test_names_outside_the_folder_or_missing_are_refused(root: Path, photo: str) -> None:
    with pytest.raises(Refusal) as refused:
        Pictures(root, 1 << 20).thumbnail(item(photo), 160, True)
    assert refused.value.status_code == 404
    assert str(root) not in refused.value.detail


def test_only_links_inside_the_folder_are_followed(root: Path) -> None:
    (root / "out.png").symlink_to(root.parent / "secret.png")
    (root / "up").symlink_to(root.parent)
    (root / "round.png").symlink_to(root / "round.png")
    (root / "in.png").symlink_to(root / "a b" / "ü#1.png")
    pictures = Pictures(root, 1 << 20)
    for photo in ("out.png", "up/secret.png", "round.png"):
        with pytest.raises(Refusal, match=r"No photo|no longer"):
            pictures.thumbnail(item(photo), 160, True)
    assert pictures.thumbnail(item("in.png"), 160, True)


def test_folder_may_be_a_link(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert Pictures(link, 1 << 20).thumbnail(item("a b/ü#1.png"), 160, True)


def test_pipes_and_other_files_are_refused(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    (root / "text.png").write_text("no photo at all")
    for photo in ("pipe.png", "text.png"):
        with pytest.raises(Refusal) as refused:
            Pictures(root, 1 << 20).thumbnail(item(photo), 160, True)
        assert refused.value.status_code == 404


@pytest.mark.parametrize("owner, name", [(Path, "stat"), (module, "draw")])
def test_a_photo_that_vanishes_at_any_moment_is_no_longer_there(
    root: Path, monkeypatch, owner: object, name: str
) -> None:
    photo, function = root / "a b" / "ü#1.png", getattr(owner, name)

    def vanish(path: Path, *arguments, **named):
        if path == photo:
            photo.unlink(missing_ok=True)
        return function(path, *arguments, **named)

    monkeypatch.setattr(owner, name, vanish)
    with pytest.raises(Refusal, match="The photo is no longer there") as refused:
        Pictures(root, 1 << 20).thumbnail(item("a b/ü#1.png"), 160, True)
    assert refused.value.status_code == 404


def test_no_pictures_without_a_folder() -> None:
    with pytest.raises(Refusal, match="--photos"):
        Pictures(None, 1 << 20).thumbnail(item("a.png"), 160, True)


def test_thumbnail_cache_is_bounded(root: Path, monkeypatch) -> None:
    drawn = []

    def draw(path: Path, box, size: int) -> bytes:
        drawn.append(size)
        return bytes(400)

    monkeypatch.setattr(module, "draw", draw)
    pictures = Pictures(root, 1000)
    for size in (160, 320, 160, 640, 160, 320):
        pictures.thumbnail(item("a b/ü#1.png"), size, True)
    assert drawn == [160, 320, 640, 320]  # 640 drove out 320, which was unused for longest
    pictures._keep(("other",), bytes(400))
    pictures._keep(("other",), bytes(400))  # drawn by two threads at a time
    assert len(pictures._kept) == 2
    os.utime(root / "a b" / "ü#1.png", (1, 1))
    pictures.thumbnail(item("a b/ü#1.png"), 320, True)
    assert drawn[-2:] == [320, 320]  # the photo has changed


def test_cache_may_be_full_and_makes_room_for_large_thumbnails(root: Path) -> None:
    pictures = Pictures(root, 1000)
    for name, size, kept in (("a", 600, "a"), ("b", 400, "ab"), ("c", 900, "c")):
        pictures._keep((name,), bytes(size))
        assert [*pictures._kept] == [(letter,) for letter in kept]
