"""Reading a store, or vectors with a table, for evaluation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from retrieval.features import FeatureSchema
from retrieval.loaded_items import LoadedItems, from_files, from_store
from retrieval.store import Item, open_database

SCHEMA = FeatureSchema(1, (("item", 3), ("color", 2)), "test")


def items() -> list[Item]:
    return [
        Item("a.jpg#0", "a.jpg", 0, (1, 2, 3, 4), "coat", {"color": "red", "name": "x"}, "P1",
             {"source": "user"}),
        Item("b.jpg#0", "b.jpg", 0, None, None, {"color": "blue"}, None),
        Item("b.jpg#1", "b.jpg", 1, None, "dress", {}, "P1", {"source": "shop"}),
    ]  # fmt: skip


def unit(*shape: int) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def stored() -> LoadedItems:
    return LoadedItems(items(), np.concatenate([unit(3, 3), unit(3, 2)], axis=1), SCHEMA)


def test_weighted_products_are_weighted_scores() -> None:
    found = stored()
    item, color = found.aspect("item"), found.aspect("color")
    expected = (3 * item @ item.T + 1 * color @ color.T) / 4
    vectors = found.weighted({"item": 3, "color": 1})
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-6)
    assert vectors.dtype == np.float32
    with pytest.raises(InputError, match="smell"):
        found.weighted({"smell": 1})


def test_garment_table_of_items() -> None:
    table = stored().table()
    assert table.photo.tolist() == [0, 1, 1]
    assert table.identity.tolist() == [0, -1, 0]
    assert table.source.tolist() == [2, 0, 1]
    assert table.aspect_of_group == {"category": "shape", "color": "color"}
    assert table.values["color"] == ("blue", "red")
    assert table.labels["color"].tolist() == [1, 0, -1]
    assert stored().table(["name"]).aspect_of_group == {"name": ""}
    nameless = [replace(item, category=None) for item in items()]
    table = LoadedItems(nameless, stored().vectors, SCHEMA).table()
    assert table.aspect_of_group == {"color": "color"}, "of no category, nothing can be shared"
    with pytest.raises(InputError, match=r"--labels size.*category, color, name"):
        stored().table(["size"])


def test_whole_store_is_loaded(tmp_path: Path) -> None:
    with open_database(tmp_path / "db", schema=SCHEMA, create=True) as store:
        with pytest.raises(InputError, match="empty"):
            from_store(store)
        store.add(stored().items, stored().vectors)
        found = from_store(store)
    assert found.items == items()
    np.testing.assert_array_equal(found.vectors, stored().vectors)


def test_table_with_all_columns_gives_complete_items(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=unit(3, 4))
    (tmp_path / "t.csv").write_text(
        "key,photo,garment,x1,y1,x2,y2,category,identity,color,name,extra\n"
        'a.jpg#0,a.jpg,0,1,2,3,4,coat,P1,red,x,"{""source"": ""user""}"\n'
        "b.jpg#0,b.jpg,0,,,,,,,blue,,\n"
        'b.jpg#1,b.jpg,1,,,,,dress,P1,,,"{""source"": ""shop""}"\n'
    )
    read = from_files(tmp_path / "v.npz", tmp_path / "t.csv")
    assert read.items == items()
    assert read.schema.names == ("vectors",)


def test_vectors_are_normalized_and_photos_give_keys(tmp_path: Path) -> None:
    parts = {"color": unit(3, 2) * [[7], [0], [1]], "item": unit(3, 4).astype(np.float16)}
    others = {"photo": np.array(["a", "b", "c"]), "box": np.zeros((3, 4), np.int64)}
    np.savez(tmp_path / "v.npz", **others, **parts)
    (tmp_path / "t.csv").write_text(
        "\ufefffile_name,item_id,color,number\na.jpg,1,red\nb.jpg,,,2\nc.jpg,1,blue,\n"
    )  # as Excel writes it, with a mark
    found = from_files(tmp_path / "v.npz", tmp_path / "t.csv")
    assert found.schema.names == ("color", "item")
    np.testing.assert_allclose(np.linalg.norm(found.aspect("color"), axis=1), [1, 0, 1], atol=1e-6)
    assert [item.key for item in found.items] == ["a.jpg#0", "b.jpg#2", "c.jpg#0"]
    assert found.items[0].attributes == {"color": "red"}
    assert [item.identity for item in found.items] == ["1", None, "1"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file_name\na.jpg\n", "1 rows"),
        ("color\nred\nred\nred\n", "line 2.*no key, photo or file_name"),
        ("color,key\nred\nred,b#0\nred,c#0\n", "line 2.*no key, photo or file_name"),
        ("photo,garment\na,0\nb,x\nc,0\n", "line 3"),
        ("photo,extra\na,{\nb,\nc,\n", "line 2"),
        ("photo,x1,y1,x2,y2\na,1,2,3,4\nb,1,2,,4\nc,,,,\n", "line 3: a box needs"),
        (None, "no readable table"),
    ],
)
def test_bad_tables_are_refused_by_name(tmp_path: Path, table: str | None, message: str) -> None:
    np.savez(tmp_path / "v.npz", item=unit(3, 4))
    if table is not None:
        (tmp_path / "t.csv").write_text(table)
    with pytest.raises(InputError, match=f"t.csv.*{message}"):
        from_files(tmp_path / "v.npz", tmp_path / "t.csv")


def test_bad_vectors_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("photo\na.jpg\n")
    (tmp_path / "v.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"v\.npz: no readable .npz of vectors; infer\.py"):
        from_files(tmp_path / "v.npz", tmp_path / "t.csv")
    np.save(tmp_path / "v.npy", unit(1, 2))
    with pytest.raises(InputError, match=r"v\.npy: no readable .npz"):
        from_files(tmp_path / "v.npy", tmp_path / "t.csv")
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "v.npz", item=np.random.default_rng(0).random((100, 9)))
        whole = (tmp_path / "v.npz").read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 255
        for damaged in (whole[:300], bytes(flipped)):
            (tmp_path / "v.npz").write_bytes(damaged)
            with pytest.raises(InputError, match=r"v\.npz: no readable .npz"):
                from_files(tmp_path / "v.npz", tmp_path / "t.csv")
    np.savez(tmp_path / "v.npz", item=unit(1, 4), color=unit(2, 4))
    with pytest.raises(InputError, match=r"t\.csv: has 1 rows, .*v\.npz has \[1, 2\]"):
        from_files(tmp_path / "v.npz", tmp_path / "t.csv")
    for wrong in (np.zeros(3), np.zeros((0, 2)), np.full((1, 2), np.nan), np.array(["a"])):
        np.savez(tmp_path / "v.npz", item=wrong)
        with pytest.raises(InputError, match="holds no vectors"):
            from_files(tmp_path / "v.npz", tmp_path / "t.csv")
