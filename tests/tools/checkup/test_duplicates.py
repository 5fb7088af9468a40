"""Copies of a picture are found, different pictures are not."""

import cv2
import numpy as np
import pytest

from tools.checkup import duplicates
from tools.checkup.duplicates import THUMBNAIL, find_duplicates


def scene(seed: int) -> np.ndarray:
    """A picture with structure at all scales, like a photo: random boxes on a gradient."""
    rng = np.random.default_rng(seed)
    picture = np.add.outer(np.linspace(0, 90, 400), np.linspace(0, 90, 300)).astype(np.uint8)
    for _ in range(40):
        x, y = rng.integers(0, (300, 400))
        w, h = rng.integers(10, 90, 2)
        cv2.rectangle(
            picture, (int(x), int(y)), (int(x + w), int(y + h)), int(rng.integers(256)), -1
        )
    return picture


def thumbnail(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)


def digests(count: int) -> list[bytes]:
    return [bytes([i]) for i in range(count)]


COPIES = {
    "half size": lambda p: cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "recompressed": lambda p: cv2.imdecode(cv2.imencode(".jpg", p, [1, 15])[1], 0),
    "contrast": lambda p: np.uint8(p * 0.6 + 40),
    "gamma": lambda p: np.uint8(255 * (p / 255) ** 0.8),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_copies_are_found(copy) -> None:
    pictures = [scene(i) for i in range(6)]
    pictures.append(copy(pictures[2]))
    thumbnails = np.array([thumbnail(picture) for picture in pictures])
    (pair,) = find_duplicates(thumbnails, digests(7))
    assert pair[:2] == (2, 6) and pair.how == "same picture" and pair.similarity > 0.97


def test_mirrored_copies_are_found_and_named() -> None:
    thumbnails = np.array([thumbnail(scene(i)) for i in range(6)])
    thumbnails = np.concatenate([thumbnails, thumbnails[4:5, :, ::-1]])
    (pair,) = find_duplicates(thumbnails, digests(7))
    assert pair[:2] == (4, 6) and pair.how == "mirrored" and pair.similarity > 0.999


def test_symmetric_picture_is_no_pair() -> None:
    symmetric = scene(0)
    symmetric[:, 150:] = symmetric[:, 149::-1]
    assert find_duplicates(thumbnail(symmetric)[None], digests(1)) == []


def test_identical_files_are_chained_and_compared_once() -> None:
    a, b = thumbnail(scene(1)), thumbnail(scene(2))
    thumbnails = np.array([a, b, a, a, a])
    pairs = find_duplicates(thumbnails, [b"a", b"b", b"a", b"a", b"c"])
    assert [(p.first, p.second, p.how) for p in pairs] == [
        (0, 2, "same file"),
        (0, 4, "same picture"),
        (2, 3, "same file"),
    ]


def test_flat_pictures_match_nothing() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((5, THUMBNAIL, THUMBNAIL), 200, np.uint8)
    flat += (rng.random(flat.shape) < 0.1).astype(np.uint8)
    assert find_duplicates(flat, digests(5)) == []


def test_result_does_not_depend_on_block_size(monkeypatch) -> None:
    pictures = [thumbnail(scene(i % 9)) for i in range(23)]
    whole = find_duplicates(np.array(pictures), digests(23))
    assert len(whole) == sum(k * (k - 1) // 2 for k in [3] * 5 + [2] * 4)
    monkeypatch.setattr(duplicates, "BLOCK_ELEMENTS", 100)
    assert find_duplicates(np.array(pictures), digests(23)) == whole


def test_no_photos_give_no_pairs() -> None:
    assert find_duplicates(np.zeros((0, THUMBNAIL, THUMBNAIL), np.uint8), []) == []
