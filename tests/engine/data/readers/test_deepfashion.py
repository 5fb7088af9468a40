"""Coarse and fine labels of Category and Attribute Prediction, on hand-written examples."""

from pathlib import Path

import numpy as np
import pytest

from engine.data.readers import deepfashion, deepfashion_fine
from engine.data.readers.deepfashion_common import image_folders
from engine.data.records import AttributeGroup, PhotoRecords
from engine.errors import InputError
from tests.datasets import write_photo

A, B, C, D = (f"img/A_{kind}/img_0000000{i}.jpg" for i, kind in enumerate("abcd", 1))
COARSE = {
    "Eval/list_eval_partition.txt": f"""4
image_name evaluation_status
{A}      train
{B}      val
{C}      train
{D}      test
""",
    "Anno/list_category_cloth.txt": """4
category_name category_type
Tee            1
Button-Down    1
Chinos         2
Cape           3
""",
    "Anno/list_category_img.txt": f"""4
image_name category_label
{D}  1
{C}  3
{B}  2
{A}  1
""",
    "Anno/list_attr_cloth.txt": """5
attribute_name attribute_type
a-line                3
abstract chevron      1
acid wash             2
beach                 5
bird print            1
""",
    "Anno/list_attr_img.txt": f"""4
image_name attribute_labels
{A}     -1  1  0 -1 -1
{B}      1 -1 -1  1  0
{C}     -1 -1  1  0  1
{D}      0  0  0  0  0
""",
    "Anno/list_bbox.txt": f"""4
image_name x_1 y_1 x_2 y_2
{A}   1 2 30 20
{B}   3 3 9 9
{C}   5 6 41 29
{D}   0 0 43 30
""",
    "Anno/list_landmarks.txt": f"""4
image_name clothes_type landmark_visibility_1 landmark_location_x_1 landmark_location_y_1
{A} 1 0 3 4 1 5 6 2 7 8 0 0 0 0 1 2 0 3 4
{B} 3 0 1 1 0 2 2 0 3 3 0 4 4 0 5 5 0 6 6 0 7 7 0 8 8
{C} 2 0 9 8 1 7 6 2 0 0 0 5 5
{D} 2 0 9 8 1 7 6 2 0 0 0 5 5
""",
}
FINE = {
    "Anno_fine/list_category_cloth.txt": COARSE["Anno/list_category_cloth.txt"],
    "Anno_fine/train.txt": f"{A}\n{C}\n",
    "Anno_fine/train_cate.txt": "1\n4\n",
    "Anno_fine/train_attr.txt": """\
0 0 1 0 0 0 0  1 0 0  0 0 1  1 0 0 0  0 0 1 0 0 0  0 0 1
0 0 0 0 0 1 0  0 0 1  1 1 0  0 0 0 0  1 0 0 0 0 0  1 0 0
""",
    "Anno_fine/train_bbox.txt": "1 2 30 20\n5 6 41 29\n",
    "Anno_fine/train_landmards.txt": "1 2 3 4 5 6 7 8 0 0 0 0 0 0 0 0\n" * 2,
    "Anno_fine/val.txt": f"{B}\n",
}


def write(root: Path, files: dict[str, str]) -> Path:
    for i, name in enumerate((A, B, C, D)):
        write_photo(root / "Img" / name, 40 + i, 30, seed=i)
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return root


def coarse(root: Path, split: str = "train", **changed: str) -> PhotoRecords:
    files = {name: changed.get(Path(name).stem, text) for name, text in COARSE.items()}
    return deepfashion.read(write(root, files), image_folders(root), split)[0]


def fine(root: Path, split: str = "train", files: dict[str, str] = FINE) -> PhotoRecords:
    return deepfashion_fine.read(write(root, files), image_folders(root), split)[0]


def kinds(records: PhotoRecords) -> dict[str, int]:
    return {problem.kind: problem.count for problem in records.problems}


def test_coarse_labels_are_read(tmp_path: Path) -> None:
    records = coarse(tmp_path)
    assert not records.problems and records.format == "deepfashion"
    assert [records.file_name_of(i) for i in range(2)] == [A, C]
    assert records.image_ids.tolist() == [1, 3]
    assert records.path(0).is_file()
    # Numbers count from 1; the empty category (Cape) stays.
    assert records.categories == ["Tee", "Button-Down", "Chinos", "Cape"]
    assert records.category_ids == [1, 2, 3, 4]
    assert records.category_groups == ["upper", "upper", "lower", "full"]
    assert records.garment_category.tolist() == [0, 2]
    assert records.garment_box.tolist() == [[1, 2, 30, 20], [5, 6, 41, 29]]
    assert (records.garment_identity == -1).all()


def test_coarse_attributes_are_grouped_by_type(tmp_path: Path) -> None:
    records = coarse(tmp_path)
    names = ["abstract chevron", "bird print", "acid wash", "a-line", "beach"]
    assert records.attributes == names
    assert records.attribute_groups == [
        AttributeGroup("texture", 0, 2, exclusive=False),
        AttributeGroup("fabric", 2, 3, exclusive=False),
        AttributeGroup("shape", 3, 4, exclusive=False),
        AttributeGroup("style", 4, 5, exclusive=False),
    ]
    assert records.attribute_matrix.tolist() == [[1, -1, 0, -1, -1], [-1, 1, 1, -1, 0]]


def test_coarse_landmarks_have_their_visibility_converted(tmp_path: Path) -> None:
    first, second = (photo.garments[0].landmarks for photo in coarse(tmp_path))
    assert first.shape == (6, 3) and second.shape == (4, 3)
    assert second.tolist() == [[9, 8, 2], [7, 6, 1], [0, 0, 0], [5, 5, 2]]
    assert first[2].tolist() == [0, 0, 0]  # cut off, wherever it is said to be
    assert first[3].tolist() == [0, 0, 2]


@pytest.mark.parametrize(("split", "count"), [("train", 2), ("val", 1), ("test", 1)])
def test_coarse_splits_hold_their_own_photos(tmp_path: Path, split: str, count: int) -> None:
    assert len(coarse(tmp_path, split)) == count
    with pytest.raises(InputError, match="choose one of train, val, test"):
        coarse(tmp_path, "gallery")


def test_coarse_without_the_optional_lists(tmp_path: Path) -> None:
    only = {name: COARSE[name] for name in COARSE if "partition" in name}
    records, sources = deepfashion.read(write(tmp_path, only), image_folders(tmp_path), "train")
    assert kinds(records) == {"missing list": 6} and records.problems[0].is_note
    assert records.categories == records.attributes == records.attribute_groups == []
    assert records.garment_category.tolist() == [-1, -1]
    assert records.garment_box.tolist() == [[0, 0, 40, 30], [0, 0, 42, 30]]
    assert records[0].garments[0].landmarks is None
    assert any("list_bbox.txt" in path for path in sources)  # its appearance is a change
    (tmp_path / "Eval" / "list_eval_partition.txt").unlink()
    with pytest.raises(InputError, match=r"has no list_eval_partition.txt"):
        deepfashion.read(tmp_path, image_folders(tmp_path), "train")


def test_photos_missing_from_a_coarse_list_are_unknown(tmp_path: Path) -> None:
    changed = {
        "list_bbox": f"1\nheader\n{C} 5 6 41 29\n",
        "list_category_img": f"2\nheader\n{C} 3\n{A} 9\n",
        "list_attr_img": f"1\nheader\n{C} -1 -1 1 0 1\n",
        "list_landmarks": f"1\nheader\n{C} 2 0 9 8\n",
    }
    records = coarse(tmp_path, **changed)
    assert records.garment_box.tolist() == [[0, 0, 40, 30], [5, 6, 41, 29]]
    assert records.garment_category.tolist() == [-1, 2]
    assert records.attribute_matrix.tolist() == [[0] * 5, [-1, 1, 1, -1, 0]]
    assert records[0].garments[0].landmarks is None
    assert records[1].garments[0].landmarks.tolist() == [[9, 8, 2]]
    assert kinds(records) == {"category number out of range": 1}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"list_bbox": f"1\nheader\n{A} 1 2 3\n"}, r"list_bbox.txt: line 3 is not a name and 4"),
        ({"list_bbox": f"1\nheader\n{A} 1 2 3 x\n"}, r"list_bbox.txt: holds something"),
        ({"list_bbox": f"1\nheader\n{A} 1 2 3 4.5\n"}, r"list_bbox.txt: "),
        ({"list_attr_img": f"1\nheader\n{A} 1 0 0 0\n"}, r"list_attr_img.txt: line 3 is not"),
        ({"list_attr_img": f"1\nheader\n{A} 1 0 0 0 2\n"}, "line 3 is not a name and 5 values"),
        ({"list_attr_img": f"1\nheader\n{A} 1 0 0 0 x\n"}, "line 3"),
        ({"list_attr_img": f"1\nheader\n{A} 1 0 0 00\n"}, "line 3"),
        ({"list_landmarks": f"1\nheader\n{A} 1 0 3\n"}, "line 3 is not a name, 1 numbers"),
        ({"list_category_img": f"{A} 1\n"}, "first line must be the number of rows"),
        ({"list_eval_partition": "1\nheader\nlonely\n"}, "partition.txt: line 3"),
    ],
)
def test_damaged_lists_are_refused_by_name(
    tmp_path: Path, changed: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        coarse(tmp_path, **changed)


def test_a_list_of_another_length_than_stated_is_reported(tmp_path: Path) -> None:
    cut = COARSE["Anno/list_bbox.txt"].replace("4\n", "289222\n", 1)
    records = coarse(tmp_path, list_bbox=cut)
    assert kinds(records) == {"list of another length than announced": 1}
    assert "4 rows, its first line says 289222" in records.problems[0].line()


def test_fine_labels_are_read(tmp_path: Path) -> None:
    records = fine(tmp_path)
    assert len(records.attributes) == 26 and len(records.attribute_groups) == 6
    assert all(group.exclusive for group in records.attribute_groups)
    assert [g.stop for g in records.attribute_groups] == [7, 10, 13, 17, 23, 26]
    assert records.garment_category.tolist() == [0, 3]
    assert records.category_groups == ["upper", "upper", "lower", "full"]
    assert records.garment_box.tolist() == [[1, 2, 30, 20], [5, 6, 41, 29]]
    first, second = records.attribute_matrix
    names = np.array(records.attributes)
    expected = ["striped", "long_sleeve", "no_dress", "crew_neckline", "cotton", "conventional"]
    assert names[first == 1].tolist() == expected and (first != 0).all()
    # Two lengths contradict each other and no neckline is marked: both unknown, not negative.
    assert names[second == 1].tolist() == ["solid", "sleeveless", "denim", "tight"]
    assert (second[10:17] == 0).all() and (second[:10] != 0).all()
    assert kinds(records) == {"several answers where one is right": 1}
    assert records[0].garments[0].landmarks[3:5].tolist() == [[7, 8, 2], [0, 0, 0]]


def test_fine_landmarks_are_found_in_either_spelling(tmp_path: Path) -> None:
    files = dict(FINE)
    files["Anno_fine/train_landmarks.txt"] = files.pop("Anno_fine/train_landmards.txt")
    assert fine(tmp_path, files=files)[0].garments[0].landmarks.shape == (8, 3)


def test_a_fine_split_may_consist_of_names_only(tmp_path: Path) -> None:
    records = fine(tmp_path, "val")
    assert records.image_ids.tolist() == [3]  # after train's two
    assert records.attributes == records.attribute_groups == []
    assert records.garment_box.tolist() == [[0, 0, 41, 30]]
    assert records.garment_category.tolist() == [-1]
    with pytest.raises(InputError, match=r"has no test\.txt"):
        fine(tmp_path, "test")


def test_fine_files_of_another_length_are_refused(tmp_path: Path) -> None:
    files = FINE | {"Anno_fine/train_attr.txt": "0 1 0\n"}
    with pytest.raises(InputError, match="holds 3 numbers, but 2 photos need 26 each"):
        fine(tmp_path, files=files)


def test_mutated_lists_are_read_or_refused_but_never_crash(tmp_path: Path) -> None:
    write(tmp_path, COARSE | FINE)
    folders, rng, outcomes = image_folders(tmp_path), np.random.default_rng(0), set()
    for _ in range(60):
        name = str(rng.choice(list(COARSE | FINE)))
        file = tmp_path / name
        data = file.read_bytes()
        mutated = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            mutated[place] = rng.choice(list(b" \n\0-./9x\xff"))
        file.write_bytes(bytes(mutated))
        reader = deepfashion_fine.read if name in FINE else deepfashion.read
        try:
            outcomes.add(len(reader(tmp_path, folders, "train")[0]))
        except InputError:
            outcomes.add("refused")
        file.write_bytes(data)
    assert {"refused", 1, 2} <= outcomes
