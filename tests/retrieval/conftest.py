"""Fixtures: a local database's location, and files so small that a few items fill several."""

from pathlib import Path

import pytest

from retrieval import database
from tests.retrieval.builds import small_layout


@pytest.fixture
def location(tmp_path: Path) -> str:
    return str(tmp_path / "database")


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "Layout", small_layout)
    monkeypatch.setattr(database, "COPY_ROWS", 16)
