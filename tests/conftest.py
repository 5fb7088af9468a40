"""Settings every test shares."""

import logging
import os
from collections.abc import Iterator

# Set before torch starts its pools: the suite shares two cores with the processes tests spawn.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _private_cache(tmp_path_factory, monkeypatch) -> None:
    """Keep the tests' packed datasets out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _captured_logger() -> Iterator[None]:
    """Undo what a script's ``configure_logging`` does to the logger in this process."""
    logger = logging.getLogger("weft")
    logger.handlers.clear()
    logger.propagate = True
    level = logger.level
    yield
    logger.setLevel(level)
