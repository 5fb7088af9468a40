"""Checks of raw values against pycocotools, whose decoder malformed masks must never reach."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine.data.readers import checks
from engine.data.readers.problems import CONSEQUENCES, BadRecord, Problems, shorten
from engine.errors import InputError


def test_good_rle_passes_in_both_forms() -> None:
    rng = np.random.default_rng(1)
    bitmap = np.asfortranarray((rng.random((31, 17)) < 0.3).astype(np.uint8))
    rle = coco_mask.encode(bitmap)
    raw = {"size": [31, 17], "counts": rle["counts"].decode()}
    assert checks.clean_rle(raw, 17, 31) == {"size": [31, 17], "counts": rle["counts"]}
    ends = np.flatnonzero(np.diff(bitmap.ravel(order="F"), prepend=0)).tolist()
    runs = {"size": [31, 17], "counts": np.diff([0, *ends, 31 * 17]).tolist()}
    np.testing.assert_array_equal(coco_mask.decode(checks.clean_rle(runs, 17, 31)), bitmap)


@pytest.mark.parametrize(
    ("counts", "kind"),
    [
        ([5, 5], "malformed mask"),  # runs end early
        ([5, 100], "malformed mask"),  # and late
        ([5, -5, 20], "malformed mask"),
        ([5.0, 15.0], "malformed mask"),
        ([True] * 20, "malformed mask"),
        ([20], "empty mask"),
        ([], "malformed mask"),
        ("", "malformed mask"),
        ("o" * 12, "malformed mask"),  # a number without an end
        ("\x00", "malformed mask"),
        ("é", "malformed mask"),
        ("5" * 500, "malformed mask"),
        ("d0" + "P" * 13 + "1", "malformed mask"),  # a bit past the machine word
        (None, "malformed mask"),
        (7, "malformed mask"),
    ],
)
def test_malformed_rle_is_refused(counts, kind: str) -> None:
    with pytest.raises(BadRecord) as caught:
        checks.clean_rle({"size": [4, 5], "counts": counts}, 5, 4)
    assert caught.value.kind == kind


def test_random_rle_text_decodes_inside_the_photo_or_is_refused() -> None:
    rng = np.random.default_rng(2)
    bitmap = np.add.outer(np.arange(40) ** 2, np.arange(30) ** 2) % 97 < 40
    whole = coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))["counts"]
    passed = 0
    for _ in range(500):
        counts = bytearray(whole)
        for position in rng.integers(len(counts), size=rng.integers(1, 3)):
            counts[position] = rng.integers(48, 112)
        try:
            rle = checks.clean_rle({"size": [40, 30], "counts": counts.decode()}, 30, 40)
        except BadRecord:
            continue
        passed += 1
        assert coco_mask.decode(rle).shape == (40, 30)
    assert passed < 100


def test_rle_of_another_size_is_refused() -> None:
    rle = coco_mask.encode(np.ones((4, 5), np.uint8, order="F"))
    raw = {"size": [4, 5], "counts": rle["counts"].decode()}
    for width, height in ((4, 5), (5, 5), (0, 0)):
        with pytest.raises(BadRecord, match="mask size"):
            checks.clean_rle(raw, width, height)


@pytest.mark.parametrize(
    ("corners", "kind"),
    [
        ([5, 5, 5, 9], "degenerate box"),
        ([5, 5, 4, 9], "degenerate box"),
        ([5, 9, 7, 9], "degenerate box"),
        ([-9, 0, 0, 9], "box outside the photo"),
        ([40, 0, 50, 9], "box outside the photo"),
        ([0, 30, 9, 31], "box outside the photo"),
        ([0, 0, float("nan"), 9], "box not finite"),
        ([0, 0, float("inf"), 9], "box not finite"),
    ],
)
def test_bad_boxes_are_refused(corners: list, kind: str) -> None:
    with pytest.raises(BadRecord) as caught:
        checks.clean_box(corners, 40, 30, Problems(), "here")
    assert caught.value.kind == kind


def test_boxes_are_clipped_only_past_the_tolerance() -> None:
    problems = Problems()
    for corners in ([0, 0, 40, 30], [-1.5, 0, 42, 30], [3.25, 4.5, 5, 6]):
        assert checks.clean_box(corners, 40, 30, problems, "here").tolist() == corners
    assert not problems.found()
    box = checks.clean_box([-5, 1, 41, 99], 40, 30, problems, "here")
    assert box.tolist() == [0, 1, 40, 30]
    (problem,) = problems.found()
    assert problem.kind == "box reaches out of the photo" and "here" in problem.line()


def test_polygons_are_cleaned() -> None:
    problems = Problems()
    polygons = [[0, 0, 5, 0, 5, 5.5], [1, 2, 3, 4], [], [9, 9, 8, 9, 8, 8, 9, 8]]
    cleaned = checks.clean_polygons(polygons, problems, "here")
    assert [p.tolist() for p in cleaned] == [
        [[0, 0], [5, 0], [5, 5.5]],
        [[9, 9], [8, 9], [8, 8], [9, 8]],
    ]
    assert [(p.kind, p.count) for p in problems.found()] == [("polygon of fewer than 3 points", 2)]
    assert checks.clean_polygons([], problems, "") is None
    with pytest.raises(BadRecord, match="no usable polygon"):
        checks.clean_polygons([[1, 2, 3, 4]], problems, "")
    bad = ([1, 2, 3], "abc", ["1"] * 6, [None] * 6, [1e30] * 6, [float("nan")] * 6, [[1, 2], [3]])
    for polygon in bad:
        with pytest.raises(BadRecord):
            checks.clean_polygons([polygon], problems, "")


def test_only_whole_numbers_count_as_integers() -> None:
    assert checks.clean_integer(3.0, "x") == 3 and checks.clean_integer(-7, "x") == -7
    for value in (True, "3", 3.5, None, 2**63, float("inf"), float("nan"), [3]):
        with pytest.raises(BadRecord):
            checks.clean_integer(value, "x")


def test_different_pairs_and_styles_give_different_identities() -> None:
    pairs = [(pair, style) for pair in (0, 1, 2, 40_000, 2**40) for style in range(1, 6)]
    assert len({checks.identity_of(*pair) for pair in pairs[:-5]}) == 20
    assert checks.identity_of(7, 0) == checks.identity_of(-1, 3) == -1


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b'{"a": 1', b'{"a": "\xff"}', b"[" * 100_000, b"1" * 10_000, b"\xff\xfe{\0"],
    ids=["empty", "open", "cut", "utf8", "deep", "number", "utf16"],
)
def test_files_that_are_not_json_are_refused(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(text)
    with pytest.raises(InputError, match=r"a\.json: is (not|nested too deeply)"):
        checks.load_json(file)


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"a": 1}), encoding="utf-8-sig")
    assert checks.load_json(tmp_path / "a.json") == {"a": 1}


def test_problems_merge_and_stay_short() -> None:
    one, two = Problems(), Problems()
    for i in range(9):
        one.add("degenerate box", f"one {i}")
        two.add("degenerate box", f"two {i}")
    two.add("empty mask", "there")
    one.merge(two.found())
    assert [(p.kind, p.count) for p in one.found()] == [("degenerate box", 18), ("empty mask", 1)]
    assert one.found()[0].examples == [f"one {i}" for i in range(5)]
    assert all(p.kind in CONSEQUENCES for p in one.found())


def test_messages_stay_short_whatever_the_value() -> None:
    deep: list = []
    for _ in range(50_000):
        deep = [deep]
    for value in (deep, "x" * 10_000, list(range(10_000)), {i: i for i in range(1000)}):
        assert len(shorten(value)) <= 60
