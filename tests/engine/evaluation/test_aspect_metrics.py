"""Neighbors of aspect vectors on datasets small enough to rank by hand."""

import numpy as np
import pytest

from engine.data.packing import SOURCES
from engine.evaluation import aspect_metrics as am
from engine.evaluation.aspect_metrics import GarmentTable, ViewRoles, roles_of

ROLES = ViewRoles(queries=("back",), gallery="main")


def table_of(
    identity: list[int],
    *,
    photo: list[int] | None = None,
    source: list[str] | None = None,
    color: str | None = None,
    view: str | None = None,
) -> GarmentTable:
    """One letter per garment for colors and views (m main, b back); "." is unknown."""
    labels, values, aspect_of_group = {}, {}, {}
    if color is not None:
        labels["color"], values["color"] = np.array(["rgk".find(c) for c in color]), "rgk"
        aspect_of_group["color"] = "color"
    if view is not None:
        labels["view"], values["view"] = np.array(["mb".find(v) for v in view]), ("main", "back")
    count = len(identity)
    return GarmentTable(
        photo=np.array(photo or range(count)),
        identity=np.array(identity),
        source=np.array([SOURCES.index(s) for s in source or [""] * count]),
        labels=labels,
        values=values,
        aspect_of_group=aspect_of_group,
    )


def aspect_metrics(
    vectors: np.ndarray, table: GarmentTable, views: ViewRoles | None = None, **more
) -> dict:
    return am.aspect_metrics(vectors, table, roles_of(table, views), **more)


def at(*degrees: float) -> np.ndarray:
    """2D unit vectors at these angles, so that the nearest angle is the nearest neighbor."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_by_default_every_garment_searches_all_others() -> None:
    """Neighbors: 0° finds 10° (other product); 10° finds 0°; 25° finds 10°, its own product."""
    found = aspect_metrics(at(0, 10, 25, 90), table_of([1, 2, 2, -1]))
    assert found["queries"] == 2  # product 1 has nothing to find, the last is unknown
    assert found["R@1"] == 1 / 2
    assert found["R@5"] == 1
    assert found["MRR"] == pytest.approx((1 / 2 + 1) / 2)
    assert not any(name.startswith("P@10") for name in found)


def test_garments_on_the_same_photo_are_excluded() -> None:
    apart = aspect_metrics(at(0, 1, 60), table_of([1, 1, 1]))
    assert apart["queries"] == 3
    together = aspect_metrics(at(0, 1, 60), table_of([1, 1, 1], photo=[5, 5, 6]))
    assert together["R@1"] == 1
    assert "R@1" not in aspect_metrics(at(0, 1), table_of([1, 1], photo=[5, 5]))


def test_user_photos_search_shop_photos() -> None:
    sources = ["user", "user", "shop", "shop"]
    found = aspect_metrics(at(0, 1, 40, 3), table_of([1, 1, 1, 2], source=sources))
    assert found["queries"] == 2
    assert found["R@1"] == 0  # the other user photo doesn't count, shop photo 2 is nearer
    assert found["MRR"] == 1 / 2


def test_with_views_the_gallery_is_the_first_main_photo_of_each_product() -> None:
    vectors = at(0, 50, 2, 48, 49)
    table = table_of([1, 2, 2, 1, 2], view="mmmbb")
    found = aspect_metrics(vectors, table, views=ROLES)
    assert found["queries"] == 2
    # Gallery: 0° and 50° (2° is the second main photo of product 2). 48° -> product 2, wrong.
    assert found["R@1"] == 1 / 2
    without = aspect_metrics(vectors, table)
    assert without["queries"] == 5  # all search all
    assert aspect_metrics(vectors, table_of([1, 2, 2, 1, 2]), views=ROLES) == without


def test_label_precision_excludes_the_same_product_and_unlabelled_garments() -> None:
    table = table_of([1, 1, 2, 3, 4], color="rrrg.")
    found = aspect_metrics(at(0, 1, 2, 3, 1), table)
    # 0: finds 2 (r), 3 (g): 1/2. 1: the same. 2: finds 0, 1 (r), 3 (g): 2/3. 3: no green to find.
    assert found["P@10_color"] == pytest.approx((1 / 2 + 1 / 2 + 2 / 3) / 3)


def test_with_views_labels_are_compared_among_main_photos() -> None:
    table = table_of([1, 2, 3, 4], color="rrrr", view="mbmm")
    scores = aspect_metrics(at(0, 1, 2, 3), table_of([1, 2, 3, 4], color="rkrk", view="mbmm"))
    assert scores["P@10_color"] == pytest.approx(1 / 3)
    scores = aspect_metrics(
        at(0, 1, 2, 3), table_of([1, 2, 3, 4], color="rkrk", view="mbmm"), views=ROLES
    )
    assert scores["P@10_color"] == pytest.approx(1 / 2)  # 0 finds 2 among 2 and 3, 2 likewise
    assert aspect_metrics(at(0, 1, 2, 3), table, views=ROLES)["P@10_color"] == 1


def test_other_color_of_the_same_product_by_hand() -> None:
    """Main photos: product 1 red at 0° twice, green at 20°; product 2 at 15°."""
    table = table_of([1, 1, 1, 2], color="rrgk", view="mmmm")
    found = aspect_metrics(at(0, 1, 20, 15), table, views=ROLES)
    # Reds may not find each other: nearest is 15°, product 2. Green finds product 2, too.
    assert found["other_color_R@1"] == 0
    found = aspect_metrics(at(0, 1, 12, 15), table, views=ROLES)
    assert found["other_color_R@1"] == pytest.approx(2 / 3)  # the reds find 12°; green finds 15°
    assert "other_color_R@1" not in aspect_metrics(at(0, 1, 12, 15), table)
    unknown = table_of([1, 1, 1, 2], color="..gk", view="mmmm")  # may be two colors
    found = aspect_metrics(at(0, 1, 20, 15), unknown, views=ROLES)
    assert found["other_color_R@1"] == pytest.approx(2 / 3)  # 0° and 1° find each other


def test_queries_can_be_limited_and_intervals_added() -> None:
    rng = np.random.default_rng(0)
    vectors = at(*rng.uniform(0, 360, 40))
    table = table_of([i // 2 for i in range(40)])
    found = aspect_metrics(vectors, table, max_queries=7, intervals=True)
    assert found["queries"] == 7
    low, high = found["intervals"]["mAP"]
    assert low < found["mAP"] < high
    assert aspect_metrics(vectors, table, max_queries=40) == aspect_metrics(vectors, table)


def test_without_labels_nothing_is_measured() -> None:
    assert aspect_metrics(at(0, 1), table_of([-1, -1]), intervals=True) == {}
    assert aspect_metrics(np.zeros((0, 2)), table_of([])) == {}
