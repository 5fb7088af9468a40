"""Loading datasets: what is found, what is refused, what is left out and said."""

import json
import logging
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from dataset_helpers import DATASETS, load_dataset, load_spec, parse_spec
from engine.data.records import AttributeGroup
from engine.errors import InputError
from tests.datasets import coco_document, write_coco, write_df2, write_photo


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def problems(records) -> dict[str, int]:
    return {problem.kind: problem.count for problem in records.problems}


def test_both_formats_load(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO, "weft")
    coco = load_dataset("coco", write_coco(tmp_path / "coco"))
    df2 = load_dataset("deepfashion2", write_df2(tmp_path / "df2"))
    assert (len(coco), coco.categories, coco.category_ids) == (3, ["top", "skirt"], [3, 8])
    assert (len(df2), len(df2.categories)) == (3, 13)
    assert coco.has_masks and df2.has_masks and not coco.problems and not df2.problems
    assert "coco train: 3 photos, 4 garments (with masks)" in caplog.text
    assert "coco train: 1 of them are crowds" in caplog.text
    assert "WARNING" not in caplog.text
    assert {coco.format, df2.format} < set(DATASETS)


def test_relative_paths_outlive_the_working_directory(tmp_path: Path, monkeypatch) -> None:
    write_coco(tmp_path / "a" / "data")
    monkeypatch.chdir(tmp_path / "a")
    load_dataset("coco", "data")
    monkeypatch.chdir(tmp_path)
    assert load_dataset("coco", "a/data").path(0).is_file()
    (tmp_path / "a/data/images").rename(tmp_path / "a/photos")
    for where in ("a", "."):
        monkeypatch.chdir(tmp_path / where)
        folder = "photos" if where == "a" else "a/photos"
        assert load_dataset("coco", tmp_path / "a/data", images=folder).path(0).is_file()


@pytest.mark.parametrize(
    "place", ["val.json", "annotations/val.json", "annotations/instances_val2017.json"]
)
def test_annotation_file_is_found(tmp_path: Path, place: str) -> None:
    write_coco(tmp_path)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / "train.json").rename(tmp_path / place)
    assert len(load_dataset("coco", tmp_path, split="val")) == 3
    with pytest.raises(InputError, match="name it explicitly"):
        load_dataset("coco", tmp_path, split="train")


def test_annotation_file_and_image_folder_can_be_named(tmp_path: Path, monkeypatch) -> None:
    write_coco(tmp_path / "data")
    (tmp_path / "data" / "images").rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    named = {"annotations": "train.json", "images": "elsewhere"}
    assert len(load_dataset("coco", "data", split="any", **named)) == 3
    with pytest.raises(InputError, match="no such image folder"):
        load_dataset("coco", "data", images="nowhere")
    with pytest.raises(
        InputError, match=r"its photos, such as '1\.jpg', are not in .*data.*; name"
    ):
        load_dataset("coco", "data")


def test_each_dataset_finds_its_own_image_folder(tmp_path: Path, monkeypatch) -> None:
    """Though one of the same name without its photos is reached from the working directory."""
    for place in ("here/photos", "here/now"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here/now")
    for name in ("a", "b"):
        write_coco(tmp_path / name / "data")
        (tmp_path / name / "data/images").rename(tmp_path / name / "photos")
        spec = parse_spec(f"coco:../../{name}/data:images=../photos")
        photo = load_spec(spec, "train").path(0)
        assert photo.samefile(tmp_path / name / "photos" / photo.name)


@pytest.mark.parametrize("folder", ["train", "train2017", "."])
def test_image_folder_is_the_one_that_holds_the_photos(tmp_path: Path, folder: str) -> None:
    write_coco(tmp_path)
    (tmp_path / folder).mkdir(exist_ok=True)
    for photo in (tmp_path / "images").glob("*"):
        photo.rename(tmp_path / folder / photo.name)
    assert len(load_dataset("coco", tmp_path)) == 3  # the empty images/ does not count


def test_an_export_of_roboflow_has_its_file_among_the_photos(tmp_path: Path) -> None:
    for folder in ("train", "valid"):
        write_coco(tmp_path)
        (tmp_path / "images").rename(tmp_path / folder)
        (tmp_path / "train.json").rename(tmp_path / folder / "_annotations.coco.json")
    for split, folder in (("train", "train"), ("val", "valid")):
        assert load_dataset("coco", tmp_path, split=split).root == tmp_path / folder
    named = "valid/_annotations.coco.json"
    assert load_dataset("coco", tmp_path, split="x", annotations=named).root == tmp_path / "valid"


def test_an_export_of_cvat_has_a_folder_of_photos_for_each_of_its_files(tmp_path: Path) -> None:
    for subset in ("train", "val"):
        write_coco(tmp_path)
        (tmp_path / "images").rename(tmp_path / subset)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "train.json").rename(tmp_path / f"annotations/instances_{subset}.json")
    (tmp_path / "images").mkdir()
    for subset in ("train", "val"):
        (tmp_path / subset).rename(tmp_path / "images" / subset)
    for subset in ("train", "val"):
        assert load_dataset("coco", tmp_path, split=subset).root == tmp_path / "images" / subset


def test_fashionpedia_has_the_photos_of_val_in_test(tmp_path: Path) -> None:
    for split, folder in (("val", "test"), ("train", "train")):
        write_coco(tmp_path)
        (tmp_path / "images").rename(tmp_path / folder)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        listing = tmp_path / "annotations" / f"instances_attributes_{split}2020.json"
        (tmp_path / "train.json").rename(listing)
        assert load_dataset("coco", tmp_path, split=split).root == tmp_path / folder
    (tmp_path / "train").rename(tmp_path / "lost")  # a missing train is never test's photos
    with pytest.raises(InputError, match=r"its photos, such as .* are not in"):
        load_dataset("coco", tmp_path, split="train")


def test_a_path_that_the_system_refuses_is_one_sentence(tmp_path: Path) -> None:
    # Like a folder without permission, which cannot be tested as root: stat raises.
    long = "x" * 300
    with pytest.raises(InputError, match=rf"{long}: cannot be read \(File name too long\)"):
        load_dataset("coco", tmp_path / long)
    for format in ("coco", "deepfashion2"):
        with pytest.raises(InputError, match=rf"{long}.*: cannot be read \(File name too long\)"):
            load_dataset(format, tmp_path, split=long)


def test_weights_that_cannot_be_loaded_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_dataset("coco", tmp_path / "nothing")
    with pytest.raises(InputError, match="choose one of coco, deepfashion2"):
        load_dataset("imagenet", tmp_path)
    with pytest.raises(InputError, match="annos: no such folder"):
        load_dataset("deepfashion2", tmp_path)
    empty = coco_document() | {"images": [], "annotations": []}
    with pytest.raises(InputError, match="no usable photo"):
        load_dataset("coco", write_coco(tmp_path, empty))


def test_unreadable_photos_are_skipped_counted_and_listed(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.WARNING, "weft")
    document = coco_document()
    for i in range(4, 10):
        document["images"].append({"id": i, "file_name": f"{i}.jpg", "width": 30, "height": 20})
        write_photo(tmp_path / "images" / f"{i}.jpg", 30, 20, seed=i)
    whole = (tmp_path / "images" / "4.jpg").read_bytes()
    (tmp_path / "images" / "4.jpg").unlink()
    (tmp_path / "images" / "5.jpg").write_bytes(b"")
    (tmp_path / "images" / "6.jpg").write_bytes(whole[:-100])
    (tmp_path / "images" / "7.jpg").write_bytes(b"<html>not found</html>")
    write_photo(tmp_path / "images" / "8.jpg", 20, 30)
    records = load_dataset("coco", write_coco(tmp_path, document))
    assert sorted(records.image_ids.tolist()) == [1, 2, 3, 9]
    assert problems(records) == {
        "missing photo": 1,
        "empty photo": 1,
        "truncated photo": 1,
        "unreadable photo": 1,
        "photo size differs from its annotation": 1,
    }
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 5
    for line, name in zip(lines, ("4.jpg", "5.jpg", "6.jpg", "7.jpg", "8.jpg"), strict=True):
        assert name in line and "×1" in line and "photo left out" in line and "\n" not in line


def test_cached_problems_are_reported_again_and_fatal_when_strict(tmp_path: Path, caplog) -> None:
    document = coco_document()
    document["annotations"][0]["bbox"] = [4, 3, 0, 6]
    write_coco(tmp_path, document)
    with pytest.raises(InputError, match=r"degenerate box ×1.*annotations\[0\] on 1.jpg"):
        load_dataset("coco", tmp_path, strict=True)
    for _ in range(2):
        caplog.clear()
        records = load_dataset("coco", tmp_path)
        assert problems(records) == {"degenerate box": 1}
        assert "degenerate box" in caplog.text
    with pytest.raises(InputError, match="degenerate box"):
        load_dataset("coco", tmp_path, strict=True)


def test_unusual_photos_are_counted_but_not_as_faults(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO, "weft")
    write_coco(tmp_path)
    gray = cv2.imread(str(tmp_path / "images" / "2.jpg"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(tmp_path / "images" / "2.jpg"), gray)
    records = load_dataset("coco", tmp_path, strict=True)
    assert problems(records) == {"photo grayscale": 1} and len(records) == 3
    assert "photo grayscale ×1 (read as RGB): 2.jpg" in caplog.text
    assert "WARNING" not in caplog.text


def test_names_never_lead_out_of_the_image_folder(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    write_photo(secret, 30, 20)
    images = tmp_path / "data" / "images"
    (images / "sub").mkdir(parents=True)
    (images / "link.jpg").symlink_to(secret)
    (images / "out").symlink_to(tmp_path)
    write_photo(images / "sub" / "in.jpg", 30, 20)
    (images / "fine.jpg").symlink_to(images / "sub" / "in.jpg")
    names = ["../../secret.jpg", str(secret), "link.jpg", "out/secret.jpg", "sub/../sub/in.jpg"]
    good = ["sub/in.jpg", "fine.jpg", "./sub//in.jpg"]
    document = coco_document()
    document["images"] += [{"id": 20 + i, "file_name": n} for i, n in enumerate(names + good)]
    records = load_dataset("coco", write_coco(tmp_path / "data", document))
    assert problems(records) == {"file name leaves the image folder": 5}
    assert records.image_ids.tolist() == [1, 2, 3, 25, 26, 27]


def test_cut_json_is_fatal_and_says_where(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "coco")
    text = json.dumps(coco_document(), indent=1)
    (root / "train.json").write_text(text[: len(text) // 2])
    line = text[: len(text) // 2].count("\n") + 1
    with pytest.raises(InputError, match=rf"train\.json: is not valid JSON at line {line} column"):
        load_dataset("coco", root)
    df2 = write_df2(tmp_path / "df2")
    file = df2 / "train" / "annos" / "000002.json"
    file.write_text(file.read_text()[:99])
    with pytest.raises(InputError, match=r"000002\.json: is not valid JSON at line 1 column"):
        load_dataset("deepfashion2", df2)


def test_split_val_is_deepfashion2s_validation(tmp_path: Path) -> None:
    write_df2(tmp_path, split="validation")
    assert len(load_dataset("deepfashion2", tmp_path, split="val")) == 3
    assert len(load_dataset("deepfashion2", tmp_path, split="validation")) == 3


def test_a_changed_dataset_is_read_again(tmp_path: Path) -> None:
    root = write_df2(tmp_path)
    assert len(load_dataset("deepfashion2", root).garment_category) == 4
    shutil.copy(root / "train/annos/000002.json", root / "train/annos/000011.json")
    assert problems(load_dataset("deepfashion2", root)) == {"missing photo": 1}
    write_photo(root / "train/image/000011.jpg", 40, 50)
    assert len(load_dataset("deepfashion2", root)) == 4
    (root / "train/annos/000001.json").unlink()
    assert len(load_dataset("deepfashion2", root)) == 3


def test_cached_records_equal_parsed_ones_and_are_mapped(tmp_path: Path, monkeypatch) -> None:
    root = write_coco(tmp_path / "data")
    load_dataset("coco", root)
    cached = load_dataset("coco", root)
    assert isinstance(cached.garment_box.base, np.memmap)
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)  # no place for a cache
    parsed = load_dataset("coco", root)
    assert not isinstance(parsed.garment_box.base, np.memmap)
    for name, column in parsed.columns.items():
        assert column.dtype == cached.columns[name].dtype
        np.testing.assert_array_equal(column, cached.columns[name])


def write_table(root: Path) -> Path:
    """Three photos in a table with splits, attributes and identities."""
    write_coco(root)
    lines = ["file_name,category,identity,color,fit,part", "1.jpg,dress,A,red,loose,train"]
    lines += ["2.jpg,coat,A,,loose,val", "3.jpg,,B,blue,,train"]
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def test_tables_load_from_the_cache_with_all_their_names(tmp_path: Path) -> None:
    root = write_table(tmp_path / "data")
    parsed, cached = (load_dataset("csv", root, attributes=["color"]) for _ in range(2))
    assert isinstance(cached.garment_box.base, np.memmap)
    for records in (parsed, cached):
        assert records.identities == ["A", "B"] and records.attributes == ["blue", "red"]
        assert records.attribute_groups == [AttributeGroup("color", 0, 2, exclusive=True)]
        assert records.attribute_matrix.tolist() == [[-1, 1], [0, 0], [1, -1]]
    # Other columns are another entry of the cache.
    assert load_dataset("csv", root, attributes=["fit"]).attributes == ["loose"]
    assert load_dataset("csv", root, category="color").categories == ["blue", "red"]


def test_every_format_has_a_reader(tmp_path: Path) -> None:
    for name in DATASETS:
        with pytest.raises(InputError) as caught:
            load_dataset(name, tmp_path)
        assert str(tmp_path) in str(caught.value)


def test_labels_that_are_not_wanted(tmp_path: Path) -> None:
    root = write_df2(tmp_path / "df2")
    records = load_dataset("deepfashion2", root, category="none", identity="none", masks=False)
    assert (records.garment_category == -1).all() and records.categories == []
    assert (records.garment_identity == -1).all()
    assert not records.garment_has_mask.any() and records[0].garments[0].segmentation is None
    for option in ({"category": "color"}, {"identity": "pair"}):
        with pytest.raises(InputError, match="names a column, which only works for csv"):
            load_dataset("deepfashion2", root, **option)
    with pytest.raises(InputError, match="no attribute group 'color'; there are: none"):
        load_dataset("deepfashion2", root, attributes=["color"])
    with pytest.raises(InputError, match="deepfashion2 has none to choose"):
        load_dataset("deepfashion2", root, annotations="x.json")
    with pytest.raises(InputError, match=r"^images=elsewhere: deepfashion2 has its photos in"):
        load_dataset("deepfashion2", root, images="elsewhere")


def test_spec_of_a_dataset_in_a_mix() -> None:
    spec = parse_spec("csv:../products:attributes=color,pattern:weight=2:val=test")
    assert (spec.format, spec.path, spec.title) == ("csv", "../products", "products")
    assert (spec.split, spec.val, spec.weight) == ("train", "test", 2.0)
    assert spec.options == {"attributes": "color,pattern", "weight": "2", "val": "test"}
    spec = parse_spec("inshop:/data/in-shop:name=shop")
    assert (spec.title, spec.split, spec.val, spec.weight) == ("shop", "train", "test", 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("products", "write FORMAT:PATH"),
        ("csv:", "write FORMAT:PATH"),
        ("excel:products", "FORMAT one of coco, deepfashion2, deepfashion,"),
        ("csv:C:\\products", r"'C|a path must not contain a colon"),
        ("csv:products:colour=red", "'colour=red' is not an option; options are"),
        ("csv:products:weight=0", "weight must be a number above 0"),
        ("csv:products:weight=nan", "weight must be a number above 0"),
        ("csv:products:weight=two", "weight must be a number above 0"),
        ("csv:products:mask=maybe", "mask is yes or no"),
    ],
)
def test_specs_that_are_none(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_spec(text)
    assert repr(text) in str(caught.value)


def test_loading_a_spec(tmp_path: Path) -> None:
    root = write_table(tmp_path / "data")
    records = load_spec(parse_spec(f"csv:{root}:attributes=:identity=none:split=a"), "a")
    assert records.attributes == [] and (records.garment_identity == -1).all()
    assert records.categories == ["coat", "dress"]
    shown = ["Closures, Fasteners", "fit", "color"]
    attributes = [{"id": i, "name": name, "supercategory": name} for i, name in enumerate(shown)]
    write_coco(tmp_path / "listed", coco_document() | {"attributes": attributes})
    wanted = 'attributes="closures, fasteners",fit'
    spec = parse_spec(f"coco:{tmp_path / 'listed'}:{wanted}")
    assert load_spec(spec, "train").attributes == ["Closures, Fasteners", "fit"]
    # COCO: crowds are no crops, masks can be ignored, a named file is the training's only.
    (root / "train.json").rename(root / "mine.json")
    (root / "val.json").write_text((root / "mine.json").read_text())
    spec = parse_spec(f"coco:{root}:annotations=mine.json:mask=no")
    for split in (spec.split, spec.val):
        records = load_spec(spec, split)
        assert len(records) == 3 and records.garment_annotation_id.tolist() == [11, 13, 14]
        assert not records.garment_has_mask.any()
    (root / "val.json").unlink()
    with pytest.raises(InputError, match=r"val\.json"):
        load_spec(spec, spec.val)
