"""In-shop and consumer-to-shop recall, worked by hand."""

import numpy as np
import pytest

from retrieval.protocols import image_recall


def at(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


# Gallery by angle: 0 A, 10 B, 20 B, 30 A, 40 A, 50 C.
GALLERY, PRODUCTS = at(0, 10, 20, 30, 40, 50), np.array([0, 1, 1, 0, 0, 2])


def test_recall_worked_by_hand() -> None:
    """Query A at 11°: B 10°, B 20°, A 0°, A 30°, A 40°, C. Query C at 44°: A 40°, C 50°, A 30° ...
    Query D at 0°: not in the gallery. The last one's product is unknown."""
    found = image_recall(at(11, 44, 0, 0), GALLERY, np.array([0, 2, 3, -1]), PRODUCTS, ks=(1, 2, 3))
    assert found["queries"] == 3
    assert found["without_match"] == 1
    assert [found[f"R@{k}"] for k in (1, 2, 3)] == pytest.approx([0, 1 / 3, 2 / 3])
    # A: precisions 1/3, 2/4, 3/5 at its three matches. C: 1/2.
    assert found["mAP"] == pytest.approx(((1 / 3 + 2 / 4 + 3 / 5) / 3 + 1 / 2) / 3)
    variants = found["variants"]
    # tp / |relevant|: A has 3 matches, one of them among the first three; C its only one.
    assert [variants[f"found_share@{k}"] for k in (2, 3)] == pytest.approx([1 / 3, (1 / 3 + 1) / 3])
    assert variants["precision@2"] == pytest.approx((0 + 1 / 2) / 3)
    assert "R@1_same_category" not in variants


def test_only_the_category_variant_restricts_the_gallery() -> None:
    """Query A at 11° and all As are tops; the Bs, its nearest, are not."""
    found = image_recall(
        at(11),
        GALLERY,
        np.array([0]),
        PRODUCTS,
        ks=(1,),
        query_categories=np.array([5]),
        gallery_categories=np.array([5, 6, 6, 5, 5, 5]),
    )
    assert found["R@1"] == 0
    assert found["variants"]["R@1_same_category"] == 1


@pytest.mark.filterwarnings("error")
def test_no_queries_give_nan() -> None:
    found = image_recall(at(), GALLERY, np.zeros(0, np.int64), PRODUCTS, ks=(1,))
    assert found["queries"] == 0
    assert np.isnan(found["R@1"])
