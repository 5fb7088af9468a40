"""Tables of photos: the meaning of columns, the rows that are read, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from engine.data.readers import csv_table
from engine.data.records import AttributeGroup, PhotoRecords
from engine.errors import InputError
from tests.datasets import write_photo

TABLE = """\
file_name,Category,item_id,color,kids,split
a.jpg,dress,D2,red,no,train
sub/b.jpg,,D1,,yes,train
c.jpg,coat,D2,blue,,val
d.jpg,dress,,red,no,train
"""


def write(root: Path, table: str | bytes = TABLE) -> Path:
    for i, name in enumerate(("a", "sub/b", "c", "d")):
        write_photo(root / "images" / f"{name}.jpg", 40 + i, 30, seed=i)
    data = table if isinstance(table, bytes) else table.encode()
    (root / "labels.csv").write_bytes(data)
    return root / "labels.csv"


def read(root: Path, table: str | bytes = TABLE, split: str = "train", **columns) -> PhotoRecords:
    return csv_table.read(write(root, table), [root / "images", root], split, **columns)[0]


def kinds(records: PhotoRecords) -> dict[str, int]:
    return {problem.kind: problem.count for problem in records.problems}


def test_columns_become_labels_and_identities(tmp_path: Path) -> None:
    records = read(tmp_path)
    assert [records.file_name_of(i) for i in range(len(records))] == ["a.jpg", "sub/b.jpg", "d.jpg"]
    assert records.image_ids.tolist() == [1, 2, 4]
    assert records.sizes.tolist() == [[40, 30], [41, 30], [43, 30]]
    assert records.categories == ["coat", "dress"] and records.category_ids == [1, 2]
    assert records.garment_category.tolist() == [1, -1, 1]
    assert records.identities == ["D1", "D2"]
    assert records.garment_identity.tolist() == [1, 0, -1]
    assert records.garment_box[1].tolist() == [0, 0, 41, 30]
    assert records.attributes == ["blue", "red", "no", "yes"]
    assert records.attribute_groups == [
        AttributeGroup("color", 0, 2, exclusive=True),
        AttributeGroup("kids", 2, 4, exclusive=True),
    ]
    matrix = [[-1, 1, 1, -1], [0, 0, -1, 1], [-1, 1, 1, -1]]
    assert records.attribute_matrix.tolist() == matrix
    assert records[1].garments[0].attributes.tolist() == matrix[1]
    assert not records.problems and not records.has_masks


def test_blanks_of_other_programs_are_unknown(tmp_path: Path) -> None:
    names = TABLE.replace("b.jpg,,D1,,", "b.jpg,nan,D1,<NA>,").replace("dress,,", "dress,NULL,")
    found, expected = read(tmp_path, names), read(tmp_path)
    for column, values in expected.columns.items():
        np.testing.assert_array_equal(found.columns[column], values)
    assert (found.categories, found.identities) == (expected.categories, expected.identities)


def test_splits_share_image_ids_and_label_names(tmp_path: Path) -> None:
    train, val = read(tmp_path), read(tmp_path, split="val")
    assert val.image_ids.tolist() == [3] and val.garment_identity.tolist() == [1]
    for name in ("categories", "attributes", "attribute_groups", "identities"):
        assert getattr(train, name) == getattr(val, name)
    assert len(read(tmp_path, split="validation")) == 1  # another name of val
    with pytest.raises(InputError, match=r"no row of split 'test'; its splits are train, val"):
        read(tmp_path, split="test")
    assert len(read(tmp_path, TABLE.replace("split", "part"), split="anything")) == 4


def test_columns_can_be_chosen_by_name(tmp_path: Path) -> None:
    records = read(tmp_path, category="Color", identity="kids", attributes=["item_id"])
    assert records.categories == ["blue", "red"] and records.identities == ["no", "yes"]
    assert records.attributes == ["D1", "D2"]
    records = read(tmp_path, category="none", identity="none", attributes=[])
    assert records.categories == records.identities == records.attributes == []
    assert (records.garment_category == -1).all() and (records.garment_identity == -1).all()
    assert records.attribute_matrix.shape == (3, 0)
    assert [g.name for g in read(tmp_path, category="none").attribute_groups] == ["color", "kids"]
    for option in ("category", "identity"):
        with pytest.raises(InputError, match=r"no column 'x'; its columns are file_name, category"):
            read(tmp_path, **{option: "x"})
    with pytest.raises(InputError, match="no column 'x'"):
        read(tmp_path, attributes=["color", "x"])


def test_rows_with_boxes_are_garments_of_one_photo(tmp_path: Path) -> None:
    table = """\
image;x1;y1;x2;y2;category
a.jpg;1;2;11.5;12;top
c.jpg;;;;;hat
a.jpg;3;4;20;30;skirt
a.jpg;9;9;9;12;flat
c.jpg;;;;;hat
d.jpg;1;x;5;5;word
d.jpg;1;2;;5;gap
d.jpg;30;20;99;99;far
"""
    records = read(tmp_path, table)
    assert np.diff(records.garment_offsets).tolist() == [2, 1, 1]
    boxes = [[1, 2, 11.5, 12], [3, 4, 20, 30], [0, 0, 42, 30], [30, 20, 43, 30]]
    assert records.garment_box.tolist() == boxes
    assert records.garment_area[0] == 105
    names = [records.categories[c] for c in records.garment_category]
    assert names == ["top", "skirt", "hat", "far"]
    assert kinds(records) == {
        "photo listed twice": 1,
        "degenerate box": 1,
        "box not finite": 2,
        "box reaches out of the photo": 1,
    }
    with pytest.raises(InputError, match="a column x1, but a box needs x1, y1, x2, y2"):
        read(tmp_path, "file,x1\na.jpg,3\n")
    with pytest.raises(InputError, match="a column y_max, but a box needs x_min, y_min"):
        read(tmp_path, "file,Y_MAX,x\na.jpg,3,4\n")


@pytest.mark.parametrize(
    ("names", "entries"),
    [("xmin,ymin,xmax,ymax", "1,2,11.5,12"), ("X_MIN,y_min,x_max,y_max", "1,2,11.5,12"),
     ("x,y,w,h", "1,2,10.5,10"), ("x,y,Width,height", "1,2,10.5,10"),
     ("bbox_x,bbox_y,bbox_w,bbox_h", "1,2,10.5,10")],
)  # fmt: skip
def test_box_columns_may_have_other_names(tmp_path: Path, names: str, entries: str) -> None:
    table = f"file,{names},color\na.jpg,{entries},red\nc.jpg,,,,,red\na.jpg,3,4,5,,red\n"
    records = read(tmp_path, table)
    assert records.garment_box.tolist() == [[1, 2, 11.5, 12], [0, 0, 42, 30]]
    assert records.attributes == ["red"], "a box is not an attribute"
    assert kinds(records) == {"box not finite": 1}


def test_width_and_height_alone_are_not_a_box(tmp_path: Path) -> None:
    records = read(tmp_path, "file,width,height,color\na.jpg,40,30,red\n")
    assert records.garment_box.tolist() == [[0, 0, 40, 30]]


def test_free_text_is_an_attribute_only_on_request(tmp_path: Path) -> None:
    lines = [f"a.jpg,{i},{i % 25},{i}" for i in range(60)]
    table = "\n".join(["path,name,number,few", *lines[:15], *lines])
    for name in "sub/b", "c", "d":
        write_photo(tmp_path / "images" / f"{name}.jpg", 9, 9)
    records = read(tmp_path, table.replace(",few", ",note"))
    assert [group.name for group in records.attribute_groups] == ["number"]
    assert kinds(records)["column of free text"] == 2
    note = next(problem for problem in records.problems if "free text" in problem.kind)
    assert note.is_note and "name: 60 values in 75 rows" in note.line()
    assert len(read(tmp_path, table, attributes=["name"]).attributes) == 60
    blank = "path,name\na.jpg,\nc.jpg,\n"
    assert read(tmp_path, blank).attributes == read(tmp_path, blank, attributes=["name"]).attributes
    short = "\n".join(["path,name", "a.jpg,one", "c.jpg,two"])
    assert read(tmp_path, short).attributes == ["one", "two"]  # too few rows to count as free text


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_are_read_as_spreadsheets_write_them(tmp_path: Path, separator: str) -> None:
    lines = [["File_Name ", "", "color"], ["a.jpg", "1", ' "dark" red '], ["c.jpg", "2", "é"]]
    text = "\r\n".join(separator.join(line) for line in lines) + "\r\n\r\n"
    records = read(tmp_path, text.encode("utf-8-sig"))
    assert len(records) == 2 and records.attributes == ['"dark" red', "é"]
    quoted = 'file,color\na.jpg,"red, dark\nor so"\n'
    assert read(tmp_path, quoted).attributes == ["red, dark\nor so"]


def test_unusable_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    table = TABLE + "e.jpg,dress,D9,red,no,train\n../f.jpg,dress,,,,train\ng.jpg,dress\n"
    table += ",dress,,,,train\nd.jpg,dress,D7,red,no,train\n"
    records = read(tmp_path, table)
    assert len(records) == 3
    assert kinds(records) == {
        "malformed row": 1,
        "photo listed twice": 1,
        "missing photo": 1,
        "file name leaves the image folder": 1,
        "malformed photo entry": 1,
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "is empty"),
        ("color,size\nred,1\n", "no column file_name; its columns are color, size"),
        ("file,color,Color\na.jpg,1,2\n", "column 'color' occurs twice"),
        (b"file,color\na.jpg,\xff\n", "is not UTF-8 at byte 17"),
        ("file,color\nnowhere.jpg,red\n", "its photos, such as 'nowhere.jpg', are not in"),
        ('file,color\na.jpg,"red\nb.jpg,blue\n', "a quote may not be closed"),
        ("file,color\na.jpg," + "x" * 200_000, "is not a readable table"),
    ],
)
def test_files_that_are_not_such_tables_are_refused(
    tmp_path: Path, table: str | bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, table)
    assert "labels.csv" in str(caught.value)


def test_finding_the_table(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(InputError, match=r"looked for .*labels\.csv"):
        csv_table.find_table(tmp_path, None)
    file = write(tmp_path)
    assert csv_table.find_table(tmp_path, None) == file
    other = file.rename(tmp_path / "other.csv")
    assert csv_table.find_table(tmp_path, "other.csv") == other
    monkeypatch.chdir(tmp_path)
    assert csv_table.find_table(tmp_path / "images", "other.csv").samefile(other)


def test_mutated_tables_are_read_or_refused_but_never_crash(tmp_path: Path) -> None:
    table = TABLE.replace("split", "x1,y1,x2,y2,split").replace(",train", ",1,2,30,20,train")
    data = table.replace(",val", ",,,,,val").encode()
    assert len(read(tmp_path, data)) == 3
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(80):
        mutated = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            mutated[place] = rng.choice(list(b',"\n\0.;-/9e\xff')) if rng.random() < 0.7 else 0x41
        (tmp_path / "labels.csv").write_bytes(bytes(mutated))
        try:
            folders = [tmp_path / "images", tmp_path]
            outcomes.add(len(csv_table.read(tmp_path / "labels.csv", folders, "train")[0]))
        except InputError:
            outcomes.add("refused")
    assert {"refused", 1, 2, 3} <= outcomes
