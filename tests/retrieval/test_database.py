"""The local database: every store's contract, then files, processes and damage."""

from pathlib import Path

import pytest

from tests.retrieval.store_contract import StoreContract


class TestContract(StoreContract):
    @pytest.fixture
    def location(self, tmp_path: Path) -> str:
        return str(tmp_path / "database")
