"""In-shop and Consumer-to-shop on small hand-written examples."""

from pathlib import Path

import pytest

from engine.data.readers import deepfashion_retrieval
from engine.data.readers.deepfashion_common import image_folders
from engine.data.records import AttributeGroup, PhotoRecords
from engine.errors import InputError
from tests.datasets import write_photo

DRESS = "img/WOMEN/Dresses/id_00000002"
SHORTS = "img/MEN/Shorts/id_00000007"
INSHOP = {
    "Eval/list_eval_partition.txt": f"""5
image_name item_id evaluation_status
{DRESS}/02_1_front.jpg            id_00000002 train
{DRESS}/02_2_side.jpg             id_00000002 train
{SHORTS}/01_1_front.jpg           id_00000007 query
{SHORTS}/01_3_back.jpg            id_00000007 gallery
{SHORTS}/02_7_additional.jpg      id_00000007 gallery
""",
    "Anno/list_bbox_inshop.txt": f"""4
image_name clothes_type pose_type x_1 y_1 x_2 y_2
{SHORTS}/01_3_back.jpg   2 3 4 5 26 27
{DRESS}/02_1_front.jpg   3 1 1 2 30 20
{DRESS}/02_2_side.jpg    3 2 2 3 31 21
{SHORTS}/01_1_front.jpg  2 1 3 4 25 26
""",
    "Anno/list_landmarks_inshop.txt": f"""1
image_name clothes_type variation_type landmark_visibility_1 landmark_location_x_1 ...
{SHORTS}/01_1_front.jpg 2 1 0 7 8 1 9 10 2 0 0 0 3 3
""",
    "Anno/list_attr_cloth.txt": "3\nattribute_name\nsoft\nmade in usa\nknit\n",
    "Anno/list_attr_items.txt": "2\nitem_id labels\nid_00000007 1 -1 0\nid_00000002 0 0 1\n",
}

SKIRT = "img/DRESSES/Skirt/id_00000001"
COAT = "img/TOPS/Coat/id_00000003"
CONSUMER2SHOP = {
    "Eval/list_eval_partition.txt": f"""5
image_pair_name_1 image_pair_name_2 item_id evaluation_status
{SKIRT}/comsumer_01.jpg {SKIRT}/shop_01.jpg id_00000001 train
{SKIRT}/comsumer_02.jpg {SKIRT}/shop_01.jpg id_00000001 train
{COAT}/comsumer_01.jpg  {COAT}/shop_01.jpg id_00000003 test
{COAT}/comsumer_01.jpg  {COAT}/shop_02.jpg id_00000003 test
{COAT}/comsumer_03.jpg  {COAT}/shop_02.jpg id_00000003 val
""",
    "Anno/list_bbox_consumer2shop.txt": f"""1
image_name clothes_type source_type x_1 y_1 x_2 y_2
{COAT}/comsumer_01.jpg  1 2 4 5 26 27
""",
    "Anno/list_attr_cloth.txt": "3\nheader\n厚 thick fabric 2\n薄 thin 2\n红 red 1\n",
    "Anno/list_attr_type.txt": "2\nheader\n颜色 color 1\n厚度 cloth thickness 2\n",
    "Anno/list_attr_items.txt": "1\nitem_id attribute_labels\nid_00000003 1 -1 1\n",
}


def write(root: Path, files: dict[str, str]) -> Path:
    partition = files["Eval/list_eval_partition.txt"].split()
    for i, name in enumerate(sorted({word for word in partition if word.endswith(".jpg")})):
        write_photo(root / "Img" / name, 40, 30 + i, seed=i)
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_text(text)
    return root


def inshop(root: Path, split: str) -> PhotoRecords:
    write(root, INSHOP)
    return deepfashion_retrieval.read_inshop(root, image_folders(root), split)[0]


def consumer2shop(root: Path, split: str) -> PhotoRecords:
    write(root, CONSUMER2SHOP)
    return deepfashion_retrieval.read_consumer2shop(root, image_folders(root), split)[0]


def stems(records: PhotoRecords) -> list[str]:
    return [records.path(i).stem for i in range(len(records))]


def test_inshop_splits(tmp_path: Path) -> None:
    assert stems(inshop(tmp_path, "train")) == ["02_1_front", "02_2_side"]
    assert stems(inshop(tmp_path, "query")) == ["01_1_front"]
    assert stems(inshop(tmp_path, "gallery")) == ["01_3_back", "02_7_additional"]
    assert len(inshop(tmp_path, "test")) == 3
    with pytest.raises(InputError, match="choose one of train, query, gallery, test"):
        inshop(tmp_path, "val")


def test_inshop_labels(tmp_path: Path) -> None:
    train, query = inshop(tmp_path, "train"), inshop(tmp_path, "query")
    assert train.identities == query.identities == ["id_00000002", "id_00000007"]
    assert train.garment_identity.tolist() == [0, 0] and query.garment_identity.tolist() == [1]
    assert query.categories == ["Dresses", "Shorts"] and query.garment_category.tolist() == [1]
    assert train.garment_box.tolist() == [[1, 2, 30, 20], [2, 3, 31, 21]]
    landmarks = query[0].garments[0].landmarks
    assert landmarks.tolist() == [[7, 8, 2], [9, 10, 1], [0, 0, 0], [3, 3, 2]]
    assert train[0].garments[0].landmarks is None
    assert query.attributes == ["soft", "made in usa", "knit"]
    assert query.attribute_groups == [AttributeGroup("attribute", 0, 3, exclusive=False)]
    assert train.attribute_matrix.tolist() == [[0, 0, 1], [0, 0, 1]]
    assert query.attribute_matrix.tolist() == [[1, -1, 0]]
    gallery = inshop(tmp_path, "gallery")
    assert gallery.garment_box.tolist() == [[4, 5, 26, 27], [0, 0, 40, 32]]  # one is not listed
    assert set(gallery.image_ids.tolist()).isdisjoint(query.image_ids.tolist())


def test_inshop_attributes_may_be_in_their_own_folder(tmp_path: Path) -> None:
    files = {name.replace("Anno/list_attr", "Anno/attributes/list_attr"): text
             for name, text in INSHOP.items()}  # fmt: skip
    write(tmp_path, files)
    query = deepfashion_retrieval.read_inshop(tmp_path, image_folders(tmp_path), "query")[0]
    assert query.attributes == ["soft", "made in usa", "knit"]
    assert query.attribute_matrix.tolist() == [[1, -1, 0]]


def test_consumer2shop_splits(tmp_path: Path) -> None:
    train = consumer2shop(tmp_path, "train")
    assert stems(train) == ["comsumer_01", "shop_01", "comsumer_02"]  # each photo once
    assert [photo.source for photo in train] == ["user", "shop", "user"]
    assert stems(consumer2shop(tmp_path, "val")) == ["shop_02", "comsumer_03"]
    assert stems(consumer2shop(tmp_path, "test")) == ["comsumer_01", "shop_01", "shop_02"]
    assert stems(consumer2shop(tmp_path, "query")) == ["comsumer_01"]
    assert stems(consumer2shop(tmp_path, "gallery")) == ["shop_01", "shop_02"]


def test_consumer2shop_labels(tmp_path: Path) -> None:
    test = consumer2shop(tmp_path, "test")
    assert test.identities == ["id_00000001", "id_00000003"]
    assert test.garment_identity.tolist() == [1, 1, 1]
    assert test.categories == ["Coat", "Skirt"] and test.garment_category.tolist() == [0, 0, 0]
    assert test.garment_box[0].tolist() == [4, 5, 26, 27]
    assert test.garment_box[1].tolist() == [0, 0, 40, 35]
    assert test.attributes == ["red", "thick fabric", "thin"]
    assert test.attribute_groups == [
        AttributeGroup("color", 0, 1, exclusive=False),
        AttributeGroup("cloth thickness", 1, 3, exclusive=False),
    ]
    assert test.attribute_matrix.tolist() == [[1, 1, -1]] * 3
    assert consumer2shop(tmp_path, "train").attribute_matrix.tolist() == [[0, 0, 0]] * 3
