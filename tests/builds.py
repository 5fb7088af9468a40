"""Runs build_database.py in this process, and reads what it built."""

import csv
from pathlib import Path

import pytest
import torch

from engine.detection import finder
from retrieval.store import open_database
from tests.fake_detector import FakeDetector
from tools import build_database

NO_MODEL = ("--multitask-weights", "none", "--device", "cpu", "-j", "1")


def run(*arguments: object, fake: FakeDetector | None = None) -> FakeDetector:
    """Run the script's main in this process; its exit code must be 0."""
    fake = fake or FakeDetector()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finder, "build_from_checkpoint", lambda checkpoint: torch.nn.Identity())
        patch.setattr(finder, "detect_photos", fake.detect)
        with pytest.raises(SystemExit) as ended:
            build_database.main([*map(str, arguments), *NO_MODEL])
    assert ended.value.code == 0
    return fake


def fails(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """Run the script expecting exit code 2; returns its one line on stderr."""
    with pytest.raises(SystemExit) as ended:
        build_database.main([*map(str, arguments), *NO_MODEL])
    assert ended.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()
    assert len(message) == 1 and message[0].startswith("error: ")
    return message[0]


def contents(location: Path) -> dict[str, tuple]:
    with open_database(location, read_only=True) as store:
        assert store.verify() == []
        keys = store.keys()
        items = {item.key: item for item in store.get(keys)}
        vectors = dict(zip(keys, store.vectors(keys).tolist(), strict=True))
        return {key: (items[key], vectors[key]) for key in keys}


def states(location: Path) -> dict:
    with open_database(location, read_only=True) as store:
        return store.photos()


def write_table(folder: Path, rows: list[dict]) -> Path:
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder
