"""The synthetic wardrobe: same bytes from the same seed, and correct annotations."""

import csv
import filecmp
import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from dataset_helpers import load_dataset
from engine.data.readers.deepfashion2 import LANDMARKS
from tools import make_wardrobe
from tools.wardrobe.annotate import annotate_item, outline_mask
from tools.wardrobe.canvas import Canvas, Light, owner_code
from tools.wardrobe.colors import NAMED, lab_to_rgb, rgb_to_lab
from tools.wardrobe.garments import CATEGORIES, draw_garment
from tools.wardrobe.patterns import Cut
from tools.wardrobe.scenes import outfit_of
from tools.wardrobe.shapes import Ribbon
from tools.wardrobe.textures import NAMES, Texture, paint_tile

SCRIPT = Path(make_wardrobe.__file__)
COUNT, VAL_COUNT, SIZE = 52, 6, 320


def run(*arguments: object) -> int:
    """Run the script in this process; returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        make_wardrobe.main([str(argument) for argument in arguments])
    return ended.value.code


@pytest.fixture(scope="module")
def wardrobe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wardrobe") / "set"
    sizes = ("--count", COUNT, "--val-count", VAL_COUNT, "--size", SIZE)
    assert run("--output", folder, *sizes) == 0
    return folder


@pytest.fixture(scope="module")
def items(wardrobe) -> list[tuple[Path, dict]]:
    """(photo, item) of every annotated garment in train."""
    found = []
    for path in sorted((wardrobe / "train" / "annos").glob("*.json")):
        photo = wardrobe / "train" / "image" / f"{path.stem}.jpg"
        annotation = json.loads(path.read_text())
        found += [(photo, item) for key, item in annotation.items() if key.startswith("item")]
    return found


def factor_rows(folder: Path) -> list[dict]:
    with (folder / "factors.csv").open() as file:
        return list(csv.DictReader(file))


def polygons_of(item: dict) -> list[np.ndarray]:
    return [np.array(flat).reshape(-1, 2) for flat in item["segmentation"]]


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def assert_same(one: Path, other: Path) -> None:
    names = files_of(one)
    assert names == files_of(other)
    assert filecmp.cmpfiles(one, other, names, shallow=False)[0] == names


def test_two_processes_write_the_same_bytes_as_one(tmp_path) -> None:
    sizes = ("--count", 11, "--val-count", 3, "--size", 97)
    assert run("--output", tmp_path / "one", *sizes) == 0
    command = [sys.executable, SCRIPT, "--output", tmp_path / "two", *sizes, "-j", 2]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    assert_same(tmp_path / "one", tmp_path / "two")
    assert run("--output", tmp_path / "other", *sizes, "--seed", 1) == 0
    first = Path("train/image/000001.jpg")
    assert not filecmp.cmp(tmp_path / "one" / first, tmp_path / "other" / first, shallow=False)


def test_larger_count_adds_photos_and_changes_none(tmp_path) -> None:
    for folder, counts in (("grown", (5, 9)), ("whole", (9,))):
        for count in counts:
            sizes = ("--count", count, "--val-count", 0, "--size", 64)
            assert run("--output", tmp_path / folder, *sizes) == 0
    assert_same(tmp_path / "grown", tmp_path / "whole")
    assert not (tmp_path / "whole" / "validation").exists()


def test_output_has_the_layout_and_all_categories(wardrobe, items) -> None:
    for split, count in (("train", COUNT), ("validation", VAL_COUNT)):
        for part, suffix in (("image", "jpg"), ("annos", "json")):
            names = [path.name for path in sorted((wardrobe / split / part).iterdir())]
            assert names == [f"{number:06d}.{suffix}" for number in range(1, count + 1)]
    assert {item["category_id"] for _, item in items} == set(range(1, 14))
    assert all(item["category_name"] == CATEGORIES[item["category_id"] - 1] for _, item in items)
    assert max(cv2.imread(str(items[0][0])).shape) == SIZE


def test_our_reader_finds_no_fault(wardrobe) -> None:
    records = load_dataset("deepfashion2", wardrobe, split="train", strict=True)
    assert len(records) == COUNT
    assert records.has_masks


def test_every_photo_shows_a_garment(wardrobe) -> None:
    for path in (wardrobe / "train" / "annos").iterdir():
        assert "item1" in json.loads(path.read_text()), path


def test_landmarks_have_deepfashion2s_counts_and_are_in_the_photo(items) -> None:
    seen = set()
    for photo, item in items:
        height, width = cv2.imread(str(photo)).shape[:2]
        x, y, v = np.array(item["landmarks"]).reshape(-1, 3).T
        assert len(v) == LANDMARKS[item["category_id"] - 1]
        assert ((x >= 0) & (x < width) & (y >= 0) & (y < height)).all()
        assert (x[v == 0] == 0).all()
        assert (y[v == 0] == 0).all()
        seen |= set(v.tolist())
    assert seen == {0, 1, 2}


def test_visible_landmarks_are_on_the_garment(items) -> None:
    near = []
    for photo, item in items:
        mask = np.zeros(cv2.imread(str(photo)).shape[:2], np.uint8)
        for polygon in polygons_of(item):
            cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 1)
        mask = cv2.dilate(mask, np.ones((9, 9)))
        landmarks = np.array(item["landmarks"]).reshape(-1, 3)
        near += [bool(mask[y, x]) for x, y, v in landmarks if v == 2]
    assert np.mean(near) > 0.99


def test_boxes_are_the_extent_of_polygons_inside_the_photo(items) -> None:
    for photo, item in items:
        height, width = cv2.imread(str(photo)).shape[:2]
        polygons = polygons_of(item)
        assert all(len(polygon) >= 3 for polygon in polygons)
        points = np.concatenate(polygons)
        assert (points >= 0).all()
        assert (points <= (width, height)).all()
        extent = [*points.min(axis=0), *points.max(axis=0)]
        assert np.abs(np.subtract(item["bounding_box"], extent)).max() <= 1


def test_solid_garments_have_their_color_inside_their_polygons(items) -> None:
    distances = []
    for photo, item in items:
        factors = item["factors"]
        if factors["texture"] != "solid" or item["occlusion"] > 1:
            continue
        rgb = cv2.cvtColor(cv2.imread(str(photo)), cv2.COLOR_BGR2RGB)
        mask = np.zeros(rgb.shape[:2], np.uint8)
        for polygon in polygons_of(item):
            cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 1)
        mask = cv2.erode(mask, np.ones((3, 3)))
        if mask.sum() > 200:
            found = np.median(rgb_to_lab(rgb[mask > 0]), axis=0)
            known = [factors[f"color_{channel}"] for channel in "Lab"]
            distances.append(float(np.linalg.norm(found - known)))
    assert len(distances) >= 5
    assert np.median(distances) < 8
    assert max(distances) < 25


def test_one_identity_keeps_its_factors_in_shop_and_user_photos(wardrobe) -> None:
    looks, sources = defaultdict(set), defaultdict(set)
    photo_only = {"file", "item", "source"}
    for row in factor_rows(wardrobe / "train"):
        if row["identity"]:
            assert row["identity"] == f"{row['pair_id']}_{row['style']}"
            looks[row["identity"]].add(
                tuple(sorted((k, v) for k, v in row.items() if k not in photo_only))
            )
            sources[row["identity"]].add(row["source"])
        else:
            assert row["style"] == "0"
    assert all(len(versions) == 1 for versions in looks.values())
    both = [identity for identity, found in sources.items() if found == {"shop", "user"}]
    assert len(both) >= 10


def test_factors_list_every_item_and_splits_share_no_identity(wardrobe, items) -> None:
    train, validation = (factor_rows(wardrobe / split) for split in ("train", "validation"))
    assert len(train) == len(items)
    assert set(train[0]) == set(make_wardrobe.FACTOR_COLUMNS)
    pairs = [{row["pair_id"] for row in rows} for rows in (train, validation)]
    assert not pairs[0] & pairs[1]


def test_only_the_same_seed_draws_the_same_outfit() -> None:
    assert outfit_of(3, 8) == outfit_of(3, 8)
    assert outfit_of(3, 8)[0].factors() != outfit_of(4, 8)[0].factors()


def test_color_texture_and_shape_are_varied_and_independent() -> None:
    rng = np.random.default_rng(0)
    garments = [draw_garment(rng, 1 + i % 13, 1, 1) for i in range(2600)]
    colors = {garment.color for garment in garments}
    assert colors == set(NAMED)
    assert len(colors) >= 20
    assert {garment.texture.name for garment in garments} == set(NAMES)
    assert len(NAMES) >= 8
    table = np.zeros((len(NAMED), len(NAMES)))
    for garment in garments:
        table[list(NAMED).index(garment.color), NAMES.index(garment.texture.name)] += 1
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    assert ((table - expected) ** 2 / expected).sum() < freedom + 4 * np.sqrt(2 * freedom)
    tops = [garment for garment in garments if garment.category == 2]
    columns = [
        [t.measures["length"], t.measures["width"], t.texture.fill, t.texture.first[0]]
        for t in tops
    ]
    correlation = np.corrcoef(np.array(columns).T) - np.eye(4)
    assert np.abs(correlation).max() < 0.25


def test_textures_repeat_seamlessly_and_mix_both_colors() -> None:
    first, second = (60.0, 40.0, 20.0), (30.0, -20.0, -30.0)
    for name in NAMES:
        tile, period = paint_tile(Texture(name, 6.0, 0.0, 0.5, first, second), density=8.0)
        assert tile.shape[0] == tile.shape[1]
        assert period >= 6.0
        steps = np.abs(np.diff(tile.astype(int), axis=0)).mean((1, 2))
        seam = np.abs(tile[0].astype(int) - tile[-1].astype(int)).mean()
        assert seam <= steps.max() + 1, name
        toward = np.linalg.norm(tile - lab_to_rgb(second), axis=2)
        plain = np.linalg.norm(lab_to_rgb(first) - lab_to_rgb(second))
        if name not in ("solid", "denim", "knit"):
            assert toward.min() < 0.6 * plain, name


def test_ribbon_locates_pixels_on_the_cloth() -> None:
    bend = np.linspace(0, 1.4, 9)
    center = np.stack([40 + 60 * np.sin(bend), 20 + 60 * bend], axis=1)
    across = np.stack([np.ones(9), -np.cos(bend)], axis=1)
    across *= 15 / np.linalg.norm(across, axis=1, keepdims=True)
    ribbon = Ribbon(center - across, center + across, np.arange(9.0) * 4, np.full(9, 10.0))
    s, row = ribbon.locate((0, 0, 140, 120), step=1)
    for at in (-0.8, 0.0, 0.6):
        for along in (3.0, 17.0, 29.5):
            x, y = np.rint(ribbon.at(at, along)).astype(int)
            assert abs(s[y, x] - at) < 0.08  # a pixel is 1/15 of the half width
            assert abs(row[y, x] * 4 - along) < 0.6


def test_outlines_cover_masks_with_holes_and_pieces() -> None:
    mask = np.zeros((83, 101), np.uint8)
    mask[10:70, 5:60] = 1
    mask[25:50, 20:40] = 0  # a hole
    mask[30:61, 71:97] = 1  # a second piece
    mask[2, 2] = 1  # a speck
    polygons = outline_mask(mask)
    assert len(polygons) == 3
    painted = np.zeros((830, 1010), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(painted, [np.round(polygon * 10 - 0.5).astype(np.int32)], 1)
    shown = painted.reshape(83, 10, 101, 10).mean((1, 3)) > 0.5
    mask[2, 2] = 0
    assert (shown & (mask > 0)).sum() / (shown | (mask > 0)).sum() > 0.97
    assert not outline_mask(np.zeros((5, 7), np.uint8))


@pytest.mark.parametrize(("hidden", "occlusion"), [(0, 1), (10, 1), (30, 2), (60, 3)])
def test_occlusion_flags_follow_from_hidden_parts(hidden: int, occlusion: int) -> None:
    canvas = Canvas(np.zeros((200, 200, 3), np.uint8), Light())
    garment = draw_garment(np.random.default_rng(0), 9, 1, 1)
    region, full = (40, 50, 140, 150), np.full((100, 100), 255, np.uint8)
    canvas.paint(region, full, np.zeros((100, 100, 3), np.uint8), owner_code(1, 1))
    if hidden:  # the garment's upper rows go under something
        cover = (40, 50, 140, 50 + hidden)
        canvas.paint(cover, full[:hidden], np.zeros((hidden, 100, 3), np.uint8), 0)
    points = [(90.0, 52.0), (90.0, 145.0), (300.0, 100.0)]
    cut = Cut(landmarks=[(np.array(point), (1,)) for point in points])
    item = annotate_item(canvas, 1, garment, cut, viewpoint=2)
    assert item["occlusion"] == occlusion
    assert item["bounding_box"] == [40, 50 + hidden, 140, 150]
    assert item["landmarks"] == [90, 52, 2 if hidden == 0 else 1, 90, 145, 2, 0, 0, 0]
    assert item["zoom_in"] == 2  # one point of three is outside the photo
    assert item["scale"] == 2  # a quarter of the photo, or 10 % of it at least
    assert item["viewpoint"] == 2


def test_almost_hidden_garment_is_not_annotated() -> None:
    canvas = Canvas(np.zeros((100, 100, 3), np.uint8), Light())
    color, full = np.zeros((60, 60, 3), np.uint8), np.full((60, 60), 255, np.uint8)
    canvas.paint((10, 10, 70, 70), full, color, owner_code(1, 0))
    canvas.paint((12, 10, 72, 70), full, color, owner_code(2, 0))
    garment = draw_garment(np.random.default_rng(0), 9, 1, 1)
    assert annotate_item(canvas, 1, garment, Cut(landmarks=[(np.zeros(2), ())]), 2) is None
    assert annotate_item(canvas, 2, garment, Cut(landmarks=[(np.zeros(2), ())]), 2) is not None


def test_killed_run_is_continued(wardrobe, tmp_path) -> None:
    folder = tmp_path / "set"
    sizes = ("--count", COUNT, "--val-count", VAL_COUNT, "--size", SIZE)
    command = [str(word) for word in (sys.executable, SCRIPT, "--output", folder, *sizes)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    annos = folder / "train" / "annos"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(annos.glob("[0-9]*.json"))) < 5:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = sorted(annos.glob("[0-9]*.json"))
    assert 5 <= len(finished) < COUNT
    for path in finished:
        assert json.loads(path.read_text())["pair_id"]
        assert cv2.imread(str(folder / "train" / "image" / f"{path.stem}.jpg")) is not None
    written = finished[0].stat().st_mtime_ns
    # A photo whose annotation is missing is unfinished, whatever else is there.
    finished[2].unlink()
    assert run("--output", folder, *sizes) == 0
    assert finished[0].stat().st_mtime_ns == written
    assert_same(folder, wardrobe)


def test_wrong_use_ends_with_one_sentence(wardrobe, tmp_path, capsys) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    a_file = tmp_path / "file"
    a_file.write_text("")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "wardrobe.json").write_text("{")
    for arguments, word in (
        (("--output", foreign), "not empty"),
        (("--output", a_file / "x"), "cannot make the folder"),
        (("--output", damaged), "damaged"),
        (("--output", wardrobe, "--size", 640), "size"),
        (("--output", wardrobe, "--size", SIZE, "--seed", 5), "seed"),
        (("--output", tmp_path / "new", "--size", 7), "--size 7"),
        (("--output", tmp_path / "new", "--size", 100_000), "--size"),
        (("--output", tmp_path / "new", "--count", 0), "--count 0"),
        (("--output", tmp_path / "new", "--val-count", -1), "--val-count"),
        (("--output", tmp_path / "new", "--seed", -1), "--seed"),
        (("--output", tmp_path / "new", "-j", 0), "-j 0"),
    ):
        assert run(*arguments) == 2
        message = capsys.readouterr().err
        assert word in message
        assert message.startswith("error: ")
        assert message.count("\n") == 1
    assert not (tmp_path / "new").exists()
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]
