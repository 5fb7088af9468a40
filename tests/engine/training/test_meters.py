"""What a training tells: which metrics its curves show."""

import pytest

from engine.training.meters import is_drawn


@pytest.mark.parametrize(
    ("metric", "drawn"),
    [("mask/AP", True), ("shop/category/top1", True), ("per_class/mask/hat/AP", False)],
)
def test_curves_show_main_metrics_only(metric: str, drawn: bool) -> None:
    assert is_drawn(metric) == drawn
